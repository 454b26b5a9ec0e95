package pbxsim

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// tick is the step in which a box lives.
const tick = time.Second

// live lets calls come and go and the event log grow.
func (s *Sim) live(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.mu.Lock()
			s.box.step(time.Now())
			s.mu.Unlock()
		}
	}
}

// step moves the box on to now.
func (b *box) step(now time.Time) {
	b.calls = slices.DeleteFunc(b.calls, func(c *call) bool {
		t := b.trunk(c.trunk)
		return !now.Before(c.ends) || c.trunk != "" && (t == nil || !t.online)
	})
	for _, c := range b.calls {
		if c.status == "Routing" && now.Sub(c.changed) > 6*time.Second {
			c.status, c.changed, c.established = "Talking", now, now
		}
	}
	switch {
	case b.pinned >= 0:
		for len(b.calls) < b.pinned {
			b.startCall(now)
			b.calls[len(b.calls)-1].ends = now.Add(24 * time.Hour)
		}
		b.calls = b.calls[:b.pinned]
	case len(b.calls) < 2 || len(b.calls) < 14 && b.rng.IntN(12) == 0:
		b.startCall(now)
	}
	if now.After(b.nextNoise) {
		b.nextNoise = now.Add(time.Duration(15+b.rng.IntN(30)) * time.Second)
		b.noise(now)
	}
	if now.After(b.nextBackup) {
		b.nextBackup = now.Add(24 * time.Hour)
		b.backupNow(now)
	}
	for _, l := range b.sbcs {
		l.latency = max(5, l.latency+b.rng.IntN(5)-2)
	}
}

// startCall begins a call: from a trunk, to a trunk, or inside.
func (b *box) startCall(now time.Time) {
	b.lastCall++
	n := b.rng.IntN(90)
	inside := fmt.Sprintf("%d %s %d", 110+n%28, baitPerson, n)
	c := &call{
		id: b.lastCall, status: "Routing", changed: now,
		ends: now.Add(time.Duration(20+b.rng.IntN(180)) * time.Second),
	}
	var open []*trunk
	for _, t := range b.trunks {
		if t.online && t.kind == "Provider" {
			open = append(open, t)
		}
	}
	if len(open) == 0 || b.rng.IntN(4) == 0 {
		c.caller, c.callee = inside, fmt.Sprintf("%d %s %d", 140+n%20, baitPerson, n+1)
	} else {
		t := open[b.rng.IntN(len(open))]
		outside := fmt.Sprintf("%s %s (%s%02d)", t.number, t.name, baitNumber, n)
		c.trunk = t.number
		c.caller, c.callee = outside, inside
		if b.rng.IntN(2) == 0 {
			c.caller, c.callee = inside, outside
		}
	}
	if time.Since(now) > 6*time.Second {
		c.status, c.established = "Talking", now
		c.ends = time.Now().Add(time.Duration(20+b.rng.IntN(180)) * time.Second)
	}
	b.calls = append(b.calls, c)
}

// noise is what every log is full of.
func (b *box) noise(now time.Time) {
	switch b.rng.IntN(5) {
	case 0:
		b.log(now, 12291, "Warning", "3CX PhoneSystem 01 SIP Server", "SIP request refused")
	case 1:
		b.log(now, 30051, "Info", "3CX PhoneSystem 01 SIP Server", "Incoming call not matched to a trunk")
	case 2:
		b.log(now, 12294, "Warning", "3CX PhoneSystem 01 SIP Server", "Call failed", "Provider A", "486")
	case 3:
		b.log(now, 10029, "Info", "3CX Management Console", "Provisioning done")
	default:
		b.log(now, 105, "Info", "3CX PhoneSystem 01 Queue Manager Server", "Lost call in queue", "800")
	}
}

func (b *box) backupNow(now time.Time) {
	if b.backupFail {
		b.log(now, 50022, "Error", "3CX PhoneSystem 01 System Server", "Backup failed", "Sftp")
		return
	}
	b.addBackup(now)
	b.log(now, 10031, "Info", "3CX PhoneSystem 01 System Server", "Backup done")
}
