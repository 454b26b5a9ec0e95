package reflector

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/pion/stun/v2"
)

const (
	stunHeader = 20
	stunCookie = 0x2112A442
)

// isSTUN tells STUN from STAMP: the cookie stands where STAMP has the seconds of its
// timestamp, and they pass that value in 2053 at the earliest; type and length must
// agree, too.
func isSTUN(b []byte) bool {
	return len(b) >= stunHeader && b[0]>>6 == 0 &&
		binary.BigEndian.Uint32(b[4:]) == stunCookie &&
		int(binary.BigEndian.Uint16(b[2:])) == len(b)-stunHeader
}

// bind answers a binding request with the address that it came from.
func (r *Reflector) bind(b []byte, src netip.AddrPort, at time.Time) {
	if !r.stunners.allow(src.Addr(), at) {
		r.count.limited.Add(1)
		return
	}
	var m stun.Message
	m.Raw = b
	if m.Decode() != nil || m.Type != stun.BindingRequest {
		r.count.malformed.Add(1)
		return
	}
	ip := src.Addr().Unmap()
	answer, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess,
		&stun.XORMappedAddress{IP: ip.AsSlice(), Port: int(src.Port())})
	if err != nil {
		r.count.failed.Add(1)
		return
	}
	r.send(answer.Raw, src, &r.count.stun)
}
