//go:build !linux && !windows

package hoststate

func (s *State) read(string) {}

// BootID is new at each start of the machine; empty where it is not known.
func BootID() string { return "" }
