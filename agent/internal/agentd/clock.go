package agentd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"sidetone/shared/wire"
)

// ClockFile is where in the state directory the last comparison of clocks lies.
const ClockFile = "clock.json"

// Clock is the agent's clock against the collector's, taken when the link came up. It is
// as exact as the time of that exchange: enough to say that a clock is wrong.
type Clock struct {
	At       time.Time `json:"at"` // agent's clock
	OffsetMS int64     `json:"offset_ms"`
}

// ReadClock gives the last comparison, if there was one.
func ReadClock(stateDir string) (c Clock, ok bool) {
	b, err := os.ReadFile(filepath.Join(stateDir, ClockFile))
	if err != nil || json.Unmarshal(b, &c) != nil || c.At.IsZero() {
		return Clock{}, false
	}
	return c, true
}

// noteClock keeps the comparison for doctor, which cannot ask the collector itself: a
// second hello would take the connection from the running agent.
func (a *Agent) noteClock(w wire.Welcome) {
	now := time.Now()
	c := Clock{At: now.UTC(), OffsetMS: now.UnixMilli() - w.NowMS}
	if off := time.Duration(c.OffsetMS) * time.Millisecond; w.NowMS == 0 || off.Abs() > 10*time.Second {
		a.log.Warn().Int64("dur_ms", c.OffsetMS).Msg("this machine's clock is wrong: times of measurements are, too")
	}
	text, err := json.Marshal(c)
	if err == nil {
		path := filepath.Join(a.opts.StateDir, ClockFile)
		if err = os.WriteFile(path+".tmp", append(text, '\n'), 0o600); err == nil {
			err = os.Rename(path+".tmp", path)
		}
	}
	if err != nil {
		a.log.Debug().Err(err).Msg("keep the comparison of clocks")
	}
}
