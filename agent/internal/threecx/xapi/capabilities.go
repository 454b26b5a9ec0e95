package xapi

import (
	"sync"
	"time"

	"sidetone/agent/internal/threecx"
)

// refusalMemory is how long a path that was refused is left alone.
const refusalMemory = time.Hour

// capabilities remembers what this PBX does not offer us. It is bounded by the
// allow-list of paths.
type capabilities struct {
	mu   sync.Mutex
	gone map[threecx.Path]refusal // guarded by mu
	// version of the PBX that refused; guarded by mu
	version string
}

type refusal struct {
	until  time.Time
	reason string
}

func newCapabilities() *capabilities {
	return &capabilities{gone: map[threecx.Path]refusal{}}
}

// refused gives the reason why p is not to be asked for now, or "".
func (c *capabilities) refused(p threecx.Path) (time.Time, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.gone[p]
	if !ok {
		return time.Time{}, ""
	}
	if !time.Now().Before(r.until) {
		delete(c.gone, p)
		return time.Time{}, ""
	}
	return r.until, r.reason
}

func (c *capabilities) refuse(p threecx.Path, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone[p] = refusal{until: time.Now().Add(refusalMemory), reason: reason}
}

// forget makes everything be asked for again: after an update of the PBX, or when
// the rights of our token changed.
func (c *capabilities) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.gone)
}

// sawVersion forgets the refusals of another version.
func (c *capabilities) sawVersion(version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version != "" && c.version != version {
		clear(c.gone)
	}
	c.version = version
}
