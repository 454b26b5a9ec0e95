// Package hoststate reads how this process and the machine it runs on are doing. What
// the system does not tell is zero.
package hoststate

import (
	"runtime"
	"time"
)

// State is one reading.
type State struct {
	RSS uint64 // bytes
	// CPU is user and system time of this process since its start.
	CPU        time.Duration
	Goroutines int
	Load1      float64
	MemoryFree uint64 // bytes that programs could still get
	DiskFree   uint64 // bytes that an ordinary user could still write
}

// Read takes a reading; diskPath lies on the filesystem whose free space is wanted.
func Read(diskPath string) State {
	s := State{Goroutines: runtime.NumGoroutine()}
	s.read(diskPath)
	return s
}
