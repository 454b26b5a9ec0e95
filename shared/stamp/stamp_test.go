package stamp_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"sidetone/shared/stamp"
)

// The layouts of RFC 8762, figures 2 and 5, octet by octet, with the SSID of RFC
// 8972. The date is the well-known start of NTP's second half: 1968-01-20 03:14:08
// UTC has the seconds 0x80000000.
const (
	senderHex = "01020304" + // sequence number
		"80000000" + "40000000" + // timestamp: … .25 s
		"9901" + // error estimate: S=1, Z=0, scale 25, multiplier 1
		"abcd" + // SSID
		"00000000000000000000000000000000000000000000000000000000" // MBZ, 28 octets
	reflectorHex = "0a0b0c0d" + // the reflector's own number
		"80000000" + "c0000000" + // timestamp: … .75 s
		"1980" + // error estimate: S=0, scale 25, multiplier 128
		"abcd" + // SSID
		"80000000" + "80000000" + // receive timestamp: … .5 s
		"01020304" + // session-sender sequence number
		"80000000" + "40000000" + // session-sender timestamp
		"9901" + // session-sender error estimate
		"0000" + // MBZ
		"3f" + // session-sender TTL
		"000000" // MBZ
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSenderLayout(t *testing.T) {
	want := unhex(t, senderHex)
	p := stamp.SenderPacket{Seq: 0x01020304, Timestamp: 0x80000000_40000000, Error: 0x9901, SSID: 0xabcd}
	if got := p.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("Append:\n%x\nwant\n%x", got, want)
	}
	got, err := stamp.ParseSender(want)
	if err != nil || got != p {
		t.Errorf("ParseSender = %+v, %v; want %+v", got, err, p)
	}
	if len(want) != stamp.PacketLen {
		t.Errorf("the vector has %d octets", len(want))
	}
}

func TestReflectorLayout(t *testing.T) {
	want := unhex(t, reflectorHex)
	p := stamp.ReflectorPacket{
		Seq: 0x0a0b0c0d, Timestamp: 0x80000000_c0000000, Error: 0x1980, SSID: 0xabcd,
		Received: 0x80000000_80000000, SenderSeq: 0x01020304, SenderTimestamp: 0x80000000_40000000,
		SenderError: 0x9901, SenderTTL: 63,
	}
	if got := p.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("Append:\n%x\nwant\n%x", got, want)
	}
	got, err := stamp.ParseReflector(want)
	if err != nil || got != p {
		t.Errorf("ParseReflector = %+v, %v; want %+v", got, err, p)
	}
}

func TestReflect(t *testing.T) {
	received := time.Date(1968, 1, 20, 3, 14, 8, 5e8, time.UTC)
	request := unhex(t, senderHex)
	answer := unhex(t, reflectorHex)

	t.Run("base packet", func(t *testing.T) {
		got, err := stamp.Reflect([]byte("before"), request, received, 63, 0x0a0b0c0d)
		if err != nil {
			t.Fatal(err)
		}
		if string(got[:6]) != "before" {
			t.Error("what stood in dst is gone")
		}
		got = got[6:]
		if !bytes.Equal(got[4:12], got[16:24]) {
			t.Error("without SetTransmit both timestamps must be the time of receipt")
		}
		stamp.SetTransmit(got, received.Add(250*time.Millisecond))
		if !bytes.Equal(got, answer) {
			t.Errorf("got\n%x\nwant\n%x", got, answer)
		}
	})
	for name, n := range map[string]int{"TWAMP Light, 41": 41, "43": 43, "44": 44, "45": 45, "padded to 1400": 1400} {
		t.Run("as long as the request: "+name, func(t *testing.T) {
			pkt := append(bytes.Clone(request), bytes.Repeat([]byte{0xa5}, 2000)...)[:n]
			got, err := stamp.Reflect(nil, pkt, received, 63, 1)
			if err != nil || len(got) != n {
				t.Fatalf("%d octets, %v; want %d", len(got), err, n)
			}
			if n > stamp.PacketLen && !bytes.Equal(got[stamp.PacketLen:], pkt[stamp.PacketLen:]) {
				t.Error("the octets after the base packet changed")
			}
		})
	}
	for _, n := range []int{0, 1, 14, 40} {
		got, err := stamp.Reflect(nil, request[:n], received, 63, 1)
		if !errors.Is(err, stamp.ErrShort) || len(got) != 0 {
			t.Errorf("%d octets were answered with %d, %v", n, len(got), err)
		}
	}
}

// Nothing on the path of a packet may allocate.
func TestNoAllocation(t *testing.T) {
	request, answer := unhex(t, senderHex), unhex(t, reflectorHex)
	buf := make([]byte, 0, 64)
	now := time.Now()
	got := testing.AllocsPerRun(100, func() {
		buf = stamp.SenderPacket{Seq: 7}.Append(buf[:0])
		buf, _ = stamp.Reflect(buf[:0], request, now, 64, 7)
		stamp.SetTransmit(buf, now)
		_, _ = stamp.ParseReflector(answer)
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestTimestamp(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	cases := []struct {
		name string
		at   time.Time
		want stamp.Timestamp
	}{
		// RFC 5905, figure 4: dates of eras and the start of UNIX time.
		{"UNIX epoch", time.Unix(0, 0), 2208988800 << 32},
		{"last day of NTP era 0", time.Date(2036, 2, 7, 6, 28, 15, 0, time.UTC), 0xffffffff_00000000},
		{"first of NTP era 1", time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC), 0},
		{"half a second", time.Unix(0, 5e8), 2208988800<<32 | 1<<31},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := stamp.NTP(c.at); got != c.want {
				t.Errorf("NTP = %016x, want %016x", uint64(got), uint64(c.want))
			}
			if got := c.want.NTPTime(c.at.Add(time.Hour)); !got.Equal(c.at) {
				t.Errorf("back: %s, want %s", got, c.at)
			}
		})
	}
	t.Run("nanoseconds survive", func(t *testing.T) {
		for _, ns := range []int64{0, 1, 2, 3, 999, 123456789, 999999998, 999999999} {
			at := now.Add(time.Duration(ns))
			if got := stamp.NTP(at).NTPTime(now); !got.Equal(at) {
				t.Errorf("%d ns came back as %s", ns, got.Sub(now))
			}
		}
	})
	t.Run("an era is chosen near the reference", func(t *testing.T) {
		at := time.Date(2036, 2, 7, 6, 28, 20, 0, time.UTC) // era 1
		if got := stamp.NTP(at).NTPTime(at.Add(-time.Minute)); !got.Equal(at) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("truncated PTP by the Z bit", func(t *testing.T) {
		const z = 1 << 14
		ts := stamp.Timestamp(uint64(now.Unix())<<32 | 123456789)
		if got := ts.Time(z, now); !got.Equal(now.Add(123456789)) {
			t.Errorf("got %s", got)
		}
		if got := stamp.NTP(now).Time(0, now); !got.Equal(now) {
			t.Errorf("NTP: got %s", got)
		}
	})
}

func TestErrorEstimate(t *testing.T) {
	cases := []struct {
		name string
		sync bool
		err  time.Duration
		want stamp.ErrorEstimate
	}{
		{"one second is 128 × 2^25 × 2^-32", false, time.Second, 25<<8 | 128},
		{"synchronised", true, time.Second, 1<<15 | 25<<8 | 128},
		{"zero becomes the least, never multiplier 0", true, 0, 1<<15 | 5},
		{"one nanosecond is 5 units of 233 ps", false, 1, 5},
		{"longest", false, 1<<63 - 1, 1 << 15}, // only its value matters, below
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := stamp.MakeErrorEstimate(c.sync, c.err)
			if e&0xff == 0 {
				t.Error("multiplier is 0")
			}
			if c.name == "longest" {
				if e.Duration() < 1<<60 {
					t.Errorf("%04x is %s", uint16(e), e.Duration())
				}
				return
			}
			if e != c.want {
				t.Errorf("%04x, want %04x", uint16(e), uint16(c.want))
			}
			if e.Synchronised() != c.sync || e.PTP() {
				t.Error("flags")
			}
			if d := e.Duration(); d < c.err || c.err > 100 && d > c.err+c.err/64 {
				t.Errorf("%s stands for %s", d, c.err)
			}
		})
	}
	if stamp.UnknownError != stamp.MakeErrorEstimate(false, time.Second) {
		t.Error("UnknownError is not what its comment says")
	}
	for e := range 1 << 16 {
		if stamp.ErrorEstimate(e).Duration() < 0 {
			t.Fatalf("%04x is negative", e)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, senderHex))
	f.Add(unhex(f, reflectorHex))
	f.Add(unhex(f, reflectorHex)[:41])
	f.Add([]byte(strings.Repeat("\xff", 60)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, errS := stamp.ParseSender(b)
		r, errR := stamp.ParseReflector(b)
		if (errS == nil) != (len(b) >= stamp.MinPacketLen) || (errR == nil) != (errS == nil) {
			t.Fatalf("%d octets: %v, %v", len(b), errS, errR)
		}
		out, err := stamp.Reflect(nil, b, time.Unix(0, 0), 1, 2)
		if err != nil {
			return
		}
		if len(out) != len(b) {
			t.Fatalf("%d octets answered with %d", len(b), len(out))
		}
		got, err := stamp.ParseReflector(out)
		if err != nil || got.SenderSeq != s.Seq || got.SenderTimestamp != s.Timestamp || got.Seq != 2 || got.SenderTTL != 1 {
			t.Fatalf("%+v of %+v: %v", got, s, err)
		}
		if n := binary.BigEndian.Uint32(b); s.Seq != n || r.Seq != n {
			t.Fatalf("sequence number %d read as %d", n, s.Seq)
		}
		_ = r.Received.Time(r.Error, time.Unix(0, 0))
	})
}

func BenchmarkReflect(b *testing.B) {
	request := unhex(b, senderHex)
	out := make([]byte, 0, 64)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		out, _ = stamp.Reflect(out[:0], request, now, 64, 1)
		stamp.SetTransmit(out, now)
	}
}
