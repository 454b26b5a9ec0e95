package spool

import (
	"os/exec"
	"path/filepath"
	"testing"

	"sidetone/shared/wire"
)

// A disk that turned read-only: the spool starts, holds what comes in memory, and is
// whole again when the disk can be written.
func TestReadOnlyDisk(t *testing.T) {
	disk := smallFilesystem(t, "512m")
	cfg := Config{Dir: filepath.Join(disk, "spool"), MinFreeBytes: 1 << 20, NoBallast: true}
	s := open(t, cfg, testDeps(t))
	add(t, s, wire.ClassSample, "on disk")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(mode string) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+mode, disk).CombinedOutput(); err != nil {
			t.Skipf("remounting is not allowed here: %s", out)
		}
	}
	remount("ro")
	s = open(t, cfg, testDeps(t))
	if st := s.Status(); !st.Degraded {
		t.Errorf("status on a read-only disk: %+v", st)
	}
	epoch, seq := add(t, s, wire.ClassSample, "in memory")
	got, err := s.Read(seq-1, 10, 1<<20)
	if err != nil || len(got) != 1 || got[0].Epoch != epoch || string(got[0].Payload) != "in memory" {
		t.Errorf("read %v, %v", got, err)
	}
	if err := s.Ack(epoch, []wire.Range{{From: seq, To: seq}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Logf("close on a read-only disk: %v", err)
	}
	remount("rw")
	s = open(t, cfg, testDeps(t))
	defer s.Close()
	got, err = s.Read(0, 10, 1<<20)
	if err != nil || len(got) != 1 || string(got[0].Payload) != "on disk" {
		t.Errorf("after the disk came back: %v, %v", got, err)
	}
	next, _, err := s.Append(wire.ClassSample, []byte("again"))
	if err != nil || next == 0 || s.Status().Degraded {
		t.Errorf("append: %v, %+v", err, s.Status())
	}
}
