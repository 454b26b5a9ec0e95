package collectord

import (
	"strings"
	"testing"
)

func TestOneCollectorServesADirectory(t *testing.T) {
	dir := t.TempDir()
	first, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), "another collector serves") {
		t.Fatalf("second collector: %v", err)
	}
	first.Close()
	again, err := lockData(dir)
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	again.Close()
}
