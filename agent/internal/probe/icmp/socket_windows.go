package icmp

const advice = "run the program as a service or as an administrator"

// Windows has no unprivileged ICMP sockets.
func kinds(v6 bool) []kind { return []kind{rawKind(v6)} }
