package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// split takes one whole message apart.
func split(t testing.TB, b []byte) (Type, []byte) {
	t.Helper()
	typ, n, err := ParseHeader([HeaderLen]byte(b[:HeaderLen]))
	if err != nil {
		t.Fatal(err)
	}
	if n != len(b)-HeaderLen {
		t.Fatalf("length %d of a body of %d bytes", n, len(b)-HeaderLen)
	}
	return typ, b[HeaderLen:]
}

func messages(t testing.TB) []any {
	return []any{
		&Hello{Capability: 1, Version: "1.2.3", Epoch: 4, NextSeq: 5, Pending: 6, BootID: "b", Hostname: "h", OS: "linux", Arch: "arm64", NowMS: -7},
		&Welcome{Capability: 1, Version: "1.2.3", NowMS: 8, ReflectorPort: 862, Window: 256, Observed: "192.0.2.1:5"},
		frameOf(t),
		&Ack{Epoch: 1, Ranges: []Range{{1, 1}, {3, 1 << 60}}},
		&Defer{Epoch: 1, Ranges: []Range{{2, 2}}, RetryMS: 15000},
		&Reject{Epoch: 1, Seq: 9, Reason: "malformed"},
		&Drain{MaxDelayMS: 60000, Reason: "restart"},
		&RenewRequest{CSR: []byte{1, 2}},
		&RenewResponse{Chain: [][]byte{{1}, {2}}, Generation: 2, Error: "no"},
		&Close{Code: CloseReplaced, Reason: "newer"},
		&EnrolRequest{Token: "t", EnrolmentID: "e", CSR: []byte{1}, Hostname: "h", OS: "linux", Arch: "amd64", Version: "v"},
		&EnrolResponse{Chain: [][]byte{{1}}, Root: []byte{2}, Tenant: 3, Agent: 4, Generation: 5, Site: "s", Code: EnrolBusy, Error: "later"},
		bundleMessage(t),
		&Ping{Number: 7},
		&Pong{Number: 7},
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	all := messages(t)
	if len(all) != int(TypePong) {
		t.Errorf("%d messages of %d types", len(all), TypePong)
	}
	for _, m := range all {
		t.Run(reflect.TypeOf(m).Elem().Name(), func(t *testing.T) {
			b, err := AppendMessage([]byte("before"), m)
			if err != nil {
				t.Fatal(err)
			}
			byValue, err := AppendMessage(nil, reflect.ValueOf(m).Elem().Interface())
			if err != nil || string(byValue) != string(b[len("before"):]) {
				t.Fatalf("by value and by pointer differ: %v", err)
			}
			typ, body := split(t, byValue)
			got, err := DecodeMessage(typ, body)
			if err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("got %+v, %v; want %+v", got, err, m)
			}
		})
	}
}

func TestMessageGolden(t *testing.T) {
	path := filepath.Join("testdata", "frame-1.bin")
	golden(t, path, func() ([]byte, error) { return AppendMessage(nil, frameOf(t)) })
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	typ, body := split(t, b)
	got, err := DecodeMessage(typ, body)
	if err != nil {
		t.Fatalf("a frame of capability 1 must always be readable: %v", err)
	}
	if !reflect.DeepEqual(got, frameOf(t)) {
		t.Errorf("the golden frame reads as %+v", got)
	}
}

func TestHeaderLimits(t *testing.T) {
	cases := []struct {
		name string
		n    uint32
		typ  Type
		ok   bool
	}{
		{"nothing", 0, TypeHello, false},
		{"empty body", 1, TypeHello, true},
		{"hello at the limit", MaxMessage + 1, TypeHello, true},
		{"hello over it", MaxMessage + 2, TypeHello, false},
		{"frame at the limit", MaxFrame + 1, TypeFrame, true},
		{"frame over it", MaxFrame + 2, TypeFrame, false},
		{"4 GB", 0xffffffff, TypeFrame, false},
		{"a request for a web page", binary.BigEndian.Uint32([]byte("GET ")), '/', false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var h [HeaderLen]byte
			binary.BigEndian.PutUint32(h[:], c.n)
			h[4] = byte(c.typ)
			typ, n, err := ParseHeader(h)
			var mal *MalformedError
			if c.ok {
				if err != nil || typ != c.typ || n != int(c.n)-1 {
					t.Errorf("got %d, %d, %v", typ, n, err)
				}
			} else if !errors.As(err, &mal) || !mal.Fatal {
				t.Errorf("err = %v; want a fatal MalformedError", err)
			}
		})
	}
}

func TestDecodeMessageRefuses(t *testing.T) {
	enc := func(v any) []byte {
		b, err := encMode.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cases := []struct {
		name string
		typ  Type
		body []byte
	}{
		{"empty", TypeHello, nil},
		{"type 0", 0, []byte{0xa0}},
		{"unknown type", 200, []byte{0xa0}},
		{"text for a number", TypeHello, enc(map[int]any{3: "x"})},
		{"number below zero", TypeHello, enc(map[int]any{3: -1})},
		{"fraction", TypeHello, enc(map[int]any{3: 1.5})},
		{"33 bits", TypeHello, enc(map[int]any{1: 1 << 33})},
		{"long text", TypeHello, enc(Hello{Hostname: strings.Repeat("a", MaxText+1)})},
		{"duplicate key", TypeHello, []byte{0xa2, 0x01, 0x01, 0x01, 0x02}},
		{"bytes behind", TypeHello, []byte{0xa0, 0x00}},
		{"deep nesting", TypeHello, append([]byte{0xa1, 0x18, 99}, append(bytes.Repeat([]byte{0x81}, 40), 0)...)},
		{"too many keys", TypeHello, enc(func() map[int]int {
			m := map[int]int{}
			for i := range 65 {
				m[100+i] = i
			}
			return m
		}())},
		{"no class", TypeFrame, enc(Frame{Epoch: 1, Seq: 1})},
		{"payload over the limit", TypeFrame, enc(Frame{Class: 1, Payload: make([]byte, MaxPayload+1)})},
		{"range backwards", TypeAck, enc(Ack{Ranges: []Range{{2, 1}}})},
		{"too many ranges", TypeAck, enc(Ack{Ranges: make([]Range, MaxRanges+1)})},
		{"too long a chain", TypeRenewResponse, enc(RenewResponse{Chain: make([][]byte, MaxChain+1)})},
		{"over the size", TypeRenewRequest, enc(RenewRequest{CSR: make([]byte, MaxMessage)})},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m, err := DecodeMessage(c.typ, c.body)
			var mal *MalformedError
			if !errors.As(err, &mal) || mal.Fatal {
				t.Errorf("got %+v, %v; want a MalformedError that is not fatal", m, err)
			}
		})
	}
}

// TestNewerPeer: fields and types of messages that came later do no harm.
func TestNewerPeer(t *testing.T) {
	for _, m := range messages(t) {
		b, err := AppendMessage(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		typ, body := split(t, b)
		if body[0]&0xe0 != 0xa0 || body[0]&0x1f > 22 {
			t.Fatalf("message %d begins with %x", typ, body[0])
		}
		later := append([]byte{body[0] + 1}, body[1:]...)
		later = append(later, 0x18, 200, 0x82, 0x01, 0x61, 'x') // 200: [1, "x"]
		got, err := DecodeMessage(typ, later)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("message %d with a field more: %+v, %v", typ, got, err)
		}
	}
	// A type that is not known here is told apart from what ends the conversation.
	typ, n, err := ParseHeader([HeaderLen]byte{0, 0, 0, 2, 200})
	if err != nil || n != 1 {
		t.Fatalf("header of a newer type: %v", err)
	}
	var mal *MalformedError
	if _, err := DecodeMessage(typ, []byte{0xa0}); !errors.As(err, &mal) || mal.Fatal {
		t.Errorf("err = %v; want a MalformedError that is not fatal", err)
	}
}

func TestAppendMessageLimits(t *testing.T) {
	h := &Hello{Hostname: strings.Repeat("é", MaxText), Version: "a\xffb"}
	b, err := AppendMessage(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	typ, body := split(t, b)
	if _, err := DecodeMessage(typ, body); err != nil {
		t.Errorf("what was encoded cannot be read: %v", err)
	}
	if len(h.Hostname) != 2*MaxText {
		t.Error("the caller's message was changed")
	}
	if _, err := AppendMessage(nil, &Frame{Class: 1, Payload: make([]byte, MaxPayload)}); err != nil {
		t.Errorf("payload at the limit: %v", err)
	}
	for name, m := range map[string]any{
		"payload over the limit": &Frame{Class: 1, Payload: make([]byte, MaxPayload+1)},
		"too many ranges":        Ack{Ranges: make([]Range, MaxRanges+1)},
		"too many bytes":         &RenewRequest{CSR: make([]byte, MaxMessage)},
		"no message":             "hello",
		"nil":                    nil,
	} {
		if _, err := AppendMessage(nil, m); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for _, m := range messages(f) {
		b, err := AppendMessage(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderLen {
			return
		}
		typ, n, err := ParseHeader([HeaderLen]byte(b[:HeaderLen]))
		if err != nil || n > len(b)-HeaderLen {
			return
		}
		m, err := DecodeMessage(typ, b[HeaderLen:HeaderLen+n])
		if err != nil {
			return
		}
		again, err := AppendMessage(nil, m)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		typ, body := split(t, again)
		got, err := DecodeMessage(typ, body)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if third, err := AppendMessage(nil, got); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("%+v became %+v", m, got)
		}
	})
}
