package loadgen

import (
	"fmt"
	"strings"
	"time"
)

// Report is what a run has shown.
type Report struct {
	Transport string        `json:"transport"`
	Agents    int           `json:"agents"`
	Began     time.Time     `json:"began"`
	Interval  time.Duration `json:"interval_ns"`
	ProducedS float64       `json:"produced_s"` // how long
	SettledS  float64       `json:"settled_s"`  // how long the last answers took

	Connects     uint64            `json:"connects"`
	AllUpS       float64           `json:"all_up_s"`             // from the begin, ramp included
	ConnectsPeak uint64            `json:"connects_peak_per_s"`  // in one second
	Dial         Latencies         `json:"dial"`                 // to the welcome
	DialFailures uint64            `json:"dial_failures"`        //
	Lost         uint64            `json:"connections_lost"`     // without a word
	Closed       uint64            `json:"connections_closed"`   // by the collector
	Drained      uint64            `json:"connections_drained"`  //
	Reasons      map[string]uint64 `json:"reasons,omitempty"`    // of failures
	Storms       []Storm           `json:"storms,omitempty"`     //
	Renewed      uint64            `json:"certificates_renewed"` //

	Ack Latencies `json:"ack"`        // last sending to ack
	Age Latencies `json:"age_at_ack"` // making of the record to ack
	// AckCurve is Ack for each 30 s of producing.
	AckCurve []Latencies `json:"ack_curve"`

	Frames  uint64 `json:"frames"` // produced
	Sent    uint64 `json:"frames_sent"`
	Bundles uint64 `json:"bundles"`
	Acked   uint64 `json:"frames_acked"`
	Defers  uint64 `json:"deferred"`
	Rejects uint64 `json:"rejected"`
	Pending uint64 `json:"pending"`
	Gaps    uint64 `json:"records_lost"`

	Rows          uint64  `json:"rows"`
	AckedRows     uint64  `json:"rows_acked"`
	RowsPerS      float64 `json:"rows_per_s"`
	Values        uint64  `json:"values"`
	Bytes         uint64  `json:"bytes"` // of payloads
	BytesPerValue float64 `json:"bytes_per_value"`
	BytesPerRow   float64 `json:"bytes_per_row"`

	Processes []Usage `json:"processes"`
}

func (f *Fleet) report(l *Ledger, w *watcher) *Report {
	s := &f.stats
	r := &Report{
		Transport: f.cfg.Transport, Agents: len(f.agents), Began: s.began, Interval: f.cfg.Interval,
		ProducedS: s.stopped.Sub(s.began).Seconds(), SettledS: s.ended.Sub(s.stopped).Seconds(),
		Connects: s.connects.Load(), Dial: s.dial.latencies(), DialFailures: s.dialFails.Load(),
		Lost: s.lost.Load(), Closed: s.closed.Load(), Drained: s.drained.Load(), Renewed: s.renewed.Load(),
		Ack: s.ack.latencies(), Age: s.age.latencies(),
		Frames: s.frames.Load(), Sent: s.sent.Load(), Bundles: s.bundles.Load(), Acked: s.ackedFrames.Load(),
		Defers: s.deferred.Load(), Rejects: s.rejected.Load(),
		Rows: s.rows.Load(), AckedRows: s.ackedRows.Load(), Values: s.values.Load(), Bytes: s.bytes.Load(),
	}
	s.mu.Lock()
	if !s.allUp.IsZero() {
		r.AllUpS = s.allUp.Sub(s.began).Seconds()
	}
	r.ConnectsPeak, r.Reasons, r.Storms, r.AckCurve = s.peak, s.fails, s.storms, s.curve
	s.mu.Unlock()
	for i := range l.Agents {
		r.Pending += l.Agents[i].Pending
		for _, g := range l.Agents[i].Gaps {
			r.Gaps += g.To - g.From + 1
		}
	}
	r.RowsPerS = float64(r.Rows) / r.ProducedS
	if r.Values > 0 {
		r.BytesPerValue, r.BytesPerRow = float64(r.Bytes)/float64(r.Values), float64(r.Bytes)/float64(r.Rows)
	}
	r.Processes = w.usages(r.AckedRows, r.Agents)
	return r
}

// Write replaces the file at path.
func (r *Report) Write(path string) error { return writeJSON(path, r, 0o644) }

// Summary is the report in a few lines.
func (r *Report) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d agents over %s for %.0f s (settled in %.1f s): %d frames, %d rows (%.0f/s), %d values\n",
		r.Agents, r.Transport, r.ProducedS, r.SettledS, r.Frames, r.Rows, r.RowsPerS, r.Values)
	fmt.Fprintf(&b, "acked %d, deferred %d, rejected %d, pending %d, lost %d; %.2f bytes a value, %.1f a row\n",
		r.Acked, r.Defers, r.Rejects, r.Pending, r.Gaps, r.BytesPerValue, r.BytesPerRow)
	fmt.Fprintf(&b, "ack ms: p50 %.0f p95 %.0f p99 %.0f max %.0f; age at ack p99 %.0f; dial p50 %.0f p99 %.0f; %d connects, %d lost, %d closed",
		r.Ack.P50, r.Ack.P95, r.Ack.P99, r.Ack.Max, r.Age.P99, r.Dial.P50, r.Dial.P99, r.Connects, r.Lost, r.Closed)
	if len(r.AckCurve) > 1 {
		b.WriteString("\nack p99 of each 30 s, ms:")
		for _, l := range r.AckCurve {
			fmt.Fprintf(&b, " %.0f", l.P99)
		}
	}
	for _, s := range r.Storms {
		fmt.Fprintf(&b, "\nstorm: %d down, all back %.1f s after the loss, %.1f s after the first; backlog gone after %.1f s", s.Down, s.AllBackS, s.AfterFirstS, s.BacklogGoneS)
	}
	for _, p := range r.Processes {
		fmt.Fprintf(&b, "\n%-20s RSS MiB %.0f start, %.0f at 10 s, %.0f mid, %.0f end, %.0f max; CPU %.1f s, %.2f s a million rows; %.0f KiB an agent",
			p.Name, p.StartMiB, p.EarlyMiB, p.MidMiB, p.EndMiB, p.MaxMiB, p.CPUS, p.CPUPerMRows, p.KiBPerAgent)
	}
	return b.String()
}
