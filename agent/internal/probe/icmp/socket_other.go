//go:build !linux && !windows

package icmp

const advice = "run the program as root"

func kinds(v6 bool) []kind { return []kind{unprivilegedKind(v6), rawKind(v6)} }
