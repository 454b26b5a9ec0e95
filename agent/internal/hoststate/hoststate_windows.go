package hoststate

import (
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// memoryCounters is PROCESS_MEMORY_COUNTERS of psapi.h.
type memoryCounters struct {
	size               uint32
	pageFaults         uint32
	peakWorkingSet     uintptr
	workingSet         uintptr
	quotaPeakPaged     uintptr
	quotaPaged         uintptr
	quotaPeakNonPaged  uintptr
	quotaNonPaged      uintptr
	pagefileUsage      uintptr
	peakPagefileUsages uintptr
}

// memoryStatus is MEMORYSTATUSEX of sysinfoapi.h.
type memoryStatus struct {
	length            uint32
	load              uint32
	totalPhys         uint64
	availPhys         uint64
	totalPageFile     uint64
	availPageFile     uint64
	totalVirtual      uint64
	availVirtual      uint64
	availExtendedVirt uint64
}

func (s *State) read(diskPath string) {
	kernel := windows.NewLazySystemDLL("kernel32.dll")
	process := windows.CurrentProcess()

	mc := memoryCounters{size: uint32(unsafe.Sizeof(memoryCounters{}))}
	if ok, _, _ := kernel.NewProc("K32GetProcessMemoryInfo").Call(uintptr(process), uintptr(unsafe.Pointer(&mc)), uintptr(mc.size)); ok != 0 {
		s.RSS = uint64(mc.workingSet)
	}
	ms := memoryStatus{length: uint32(unsafe.Sizeof(memoryStatus{}))}
	if ok, _, _ := kernel.NewProc("GlobalMemoryStatusEx").Call(uintptr(unsafe.Pointer(&ms))); ok != 0 {
		s.MemoryFree = ms.availPhys
	}
	var created, ended, inKernel, inUser windows.Filetime
	if windows.GetProcessTimes(process, &created, &ended, &inKernel, &inUser) == nil {
		s.CPU = ticks(inKernel) + ticks(inUser)
	}
	if p, err := windows.UTF16PtrFromString(diskPath); err == nil {
		var free, total, all uint64
		if windows.GetDiskFreeSpaceEx(p, &free, &total, &all) == nil {
			s.DiskFree = free
		}
	}
}

// ticks converts a duration in units of 100 ns.
func ticks(f windows.Filetime) time.Duration {
	return time.Duration(uint64(f.HighDateTime)<<32|uint64(f.LowDateTime)) * 100
}

// BootID is new at each start of the machine; empty where it is not known.
func BootID() string { return "" }
