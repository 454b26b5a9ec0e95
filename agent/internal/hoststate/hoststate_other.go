//go:build !linux && !windows

package hoststate

func (s *State) read(string) {}
