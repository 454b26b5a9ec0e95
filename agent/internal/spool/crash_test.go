package spool

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"sidetone/shared/wire"
)

const childDir = "SIDETONE_TEST_SPOOL_CHILD"

func childPayload(seq uint64) string {
	return fmt.Sprintf("%d:%s", seq, strings.Repeat("c", int(seq*7919%3000)))
}

// child appends until it is killed and says on standard output what it was promised:
// "+ epoch seq" after an append, "- epoch seq" before an ack.
func child() {
	s, err := Open(Config{Dir: os.Getenv(childDir)}, Deps{Log: zerolog.Nop(), FreeSpace: plenty})
	if err != nil {
		fmt.Println("! ", err)
		return
	}
	for {
		next := s.Status().NextSeq
		epoch, seq, err := s.Append(wire.ClassSample, []byte(childPayload(next)))
		if err != nil || seq != next {
			fmt.Println("! ", seq, next, err)
			return
		}
		fmt.Println("+", epoch, seq)
		if seq%3 == 0 {
			first := s.Status().FirstSeq
			fmt.Println("-", epoch, first)
			if err := s.Ack(epoch, []wire.Range{{From: first, To: first}}); err != nil {
				fmt.Println("! ", err)
				return
			}
		}
	}
}

// TestKill kills a real process at random moments, again and again on the same
// directory. Whatever it was promised must be there, once, byte for byte.
func TestKill(t *testing.T) {
	rounds := 20
	if os.Getenv("SIDETONE_SOAK") != "" {
		rounds = 200
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	type id struct{ epoch, seq uint64 }
	given, acked := map[id]bool{}, map[id]bool{}
	for round := range rounds {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until := 1 + rand.IntN(60)
		sc := bufio.NewScanner(out)
		for lines := 0; sc.Scan(); lines++ {
			if lines == until {
				// The pipe still holds what it said before it died: read on.
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			var what string
			var i id
			if _, err := fmt.Sscan(sc.Text(), &what, &i.epoch, &i.seq); err != nil || what == "!" {
				t.Fatalf("child said %q", sc.Text())
			}
			if what == "-" {
				acked[i] = true
				continue
			}
			if given[i] {
				t.Fatalf("round %d: number %v was given twice", round, i)
			}
			given[i] = true
		}
		_ = cmd.Wait() // it was killed

		s := open(t, Config{Dir: dir}, testDeps(t))
		found := map[id]bool{}
		for _, r := range readAll(t, s) {
			i := id{r.Epoch, r.Seq}
			found[i] = true
			given[i] = true // appended, killed before it could say so
			if string(r.Payload) != childPayload(r.Seq) {
				t.Fatalf("round %d: record %d came back different", round, r.Seq)
			}
		}
		for i := range given {
			if !found[i] && !acked[i] {
				t.Fatalf("round %d: record %v is gone", round, i)
			}
		}
		if gs := s.TakeGaps(10); len(gs) > 0 {
			t.Fatalf("round %d: gaps without damage: %s", round, gapText(gs))
		}
		closeIt(t, s)
	}
	if len(given) < rounds {
		t.Fatalf("only %d records in %d rounds", len(given), rounds)
	}
	t.Logf("%d records, %d acked, %d kills", len(given), len(acked), rounds)
}
