package icmp

const advice = "give the program the capability cap_net_raw (the packaged service has it), " +
	"or add its group to the sysctl net.ipv4.ping_group_range"

func kinds(v6 bool) []kind { return []kind{rawKind(v6), unprivilegedKind(v6)} }
