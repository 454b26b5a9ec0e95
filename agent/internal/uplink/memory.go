package uplink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"sidetone/shared/link"
)

const (
	// maxLost QUIC connections that die within lostWithin have QUIC held back.
	maxLost    = 3
	lostWithin = 5 * time.Minute
	// holdTime is how long at most: no rung is given up for ever.
	holdTime = 10 * time.Minute

	maxNetworks  = 16
	maxMemory    = 16 << 10 // bytes of the file
	keepNetworks = 30 * 24 * time.Hour
)

// network is what was learnt on one network.
type network struct {
	Rung   string    `json:"rung"`                // that worked last
	Reason string    `json:"reason,omitempty"`    // why not a higher one
	Held   time.Time `json:"held_until,omitzero"` // before, QUIC is the last to be tried
	Seen   time.Time `json:"seen"`

	lost      []time.Time // when QUIC connections died
	probation bool        // since QUIC was held: the next death holds it again
}

// memory is what was learnt on the networks of this machine, each known by the address
// that the machine has on it. It outlives a restart if there is a file for it.
type memory struct {
	file string
	nets map[string]*network
}

// openMemory never fails: what cannot be read is learnt again.
func openMemory(file string) *memory {
	m := &memory{file: file, nets: map[string]*network{}}
	if file == "" {
		return m
	}
	f, err := os.Open(file)
	if err != nil {
		return m
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxMemory))
	var nets map[string]*network
	if err != nil || json.Unmarshal(b, &nets) != nil || len(nets) > maxNetworks {
		return m
	}
	now := time.Now()
	for addr, n := range nets {
		if n == nil || now.Sub(n.Seen) > keepNetworks {
			continue
		}
		if n.Held.After(now.Add(holdTime)) { // the clock was changed
			n.Held = time.Time{}
		}
		m.nets[addr] = n
	}
	return m
}

// at gives the network with this address; addr "" is "no network", and one like others.
func (m *memory) at(addr string) *network {
	n := m.nets[addr]
	if n == nil {
		if len(m.nets) >= maxNetworks {
			m.forget()
		}
		n = &network{}
		m.nets[addr] = n
	}
	n.Seen = time.Now()
	return n
}

// forget drops the network that was not seen for longest.
func (m *memory) forget() {
	var oldest string
	first := true
	for addr, n := range m.nets {
		if first || n.Seen.Before(m.nets[oldest].Seen) {
			oldest, first = addr, false
		}
	}
	delete(m.nets, oldest)
}

// won notes what worked; it reports whether that is news.
func (n *network) won(rung, reason string) bool {
	news := n.Rung != rung || n.Reason != reason
	n.Rung, n.Reason = rung, reason
	return news
}

// hold has QUIC tried last for a while.
func (n *network) hold(now time.Time) {
	n.Held = now.Add(holdTime*4/5 + rand.N(holdTime/5))
	n.lost, n.probation = nil, true
}

// died notes that a QUIC connection was lost; it reports whether QUIC is held now.
func (n *network) died(now time.Time) bool {
	kept := n.lost[:0]
	for _, t := range n.lost {
		if now.Sub(t) < lostWithin {
			kept = append(kept, t)
		}
	}
	n.lost = append(kept, now)
	if n.probation || len(n.lost) >= maxLost {
		n.hold(now)
		n.Reason = why(link.TransportQUIC, errUnstable)
		return true
	}
	return false
}

// lived notes that a QUIC connection has been up for long.
func (n *network) lived() { n.lost, n.probation = nil, false }

func (n *network) held(now time.Time) bool { return now.Before(n.Held) }

func (m *memory) save() error {
	if m.file == "" {
		return nil
	}
	b, err := json.Marshal(m.nets)
	if err != nil {
		return err
	}
	tmp := m.file + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("remember the way to the collector: %w", err)
	}
	if err := os.Rename(tmp, m.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remember the way to the collector: %w", err)
	}
	return nil
}
