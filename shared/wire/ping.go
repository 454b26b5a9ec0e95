package wire

// Ping asks for a Pong at once. The agent sends it when nothing came for a while: an
// answer to a frame may rightly take long, but a path that is dead must be left soon.
// QUIC's own idle time grows with the delays it has seen, and TCP behind a proxy never
// notices. Capability 2.
type Ping struct {
	Number uint64 `cbor:"1,keyasint,omitempty"`
}

// Pong answers a Ping with its number.
type Pong struct {
	Number uint64 `cbor:"1,keyasint,omitempty"`
}

func (*Ping) check() error     { return nil }
func (*Ping) texts() []*string { return nil }
func (*Pong) check() error     { return nil }
func (*Pong) texts() []*string { return nil }
