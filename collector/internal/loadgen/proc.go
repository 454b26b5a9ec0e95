package loadgen

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Process is one to watch, with its direct children: the collector's is the embedded
// engine. PIDFile is read again at each look, so that a process that was started again
// is followed.
type Process struct {
	Name    string
	PID     int
	PIDFile string
}

// ParseProcess reads NAME=PID or NAME=@PIDFILE.
func ParseProcess(text string) (Process, error) {
	name, at, ok := strings.Cut(text, "=")
	if file, is := strings.CutPrefix(at, "@"); ok && name != "" && is && file != "" {
		return Process{Name: name, PIDFile: file}, nil
	}
	pid, err := strconv.Atoi(at)
	if !ok || name == "" || err != nil || pid <= 0 {
		return Process{}, fmt.Errorf("%q is neither NAME=PID nor NAME=@FILE", text)
	}
	return Process{Name: name, PID: pid}, nil
}

func (p Process) pid() int {
	if p.PIDFile == "" {
		return p.PID
	}
	text, err := os.ReadFile(p.PIDFile)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// usage is what one process has used.
type usage struct {
	rss, anon uint64 // bytes
	cpu       time.Duration
}

// When samples are taken.
const (
	watchStart = iota // before the first connection
	watchEarly        // after 10 s
	watchMid
	watchEnd // of producing
	watchOther
)

// Usage is a process over the run.
type Usage struct {
	Name string `json:"name"`
	// RSS in MiB: before the first agent, after 10 s, in the middle, when producing ended.
	StartMiB float64 `json:"rss_start_mib"`
	EarlyMiB float64 `json:"rss_10s_mib"`
	MidMiB   float64 `json:"rss_mid_mib"`
	EndMiB   float64 `json:"rss_end_mib"`
	MaxMiB   float64 `json:"rss_max_mib"`
	// CurveMiB is RSS each 30 s.
	CurveMiB []float64 `json:"rss_curve_mib"`
	// AnonymousMiB is the part of EndMiB that is not of files.
	AnonymousMiB float64 `json:"anonymous_end_mib"`
	CPUS         float64 `json:"cpu_s"`
	CPUPerMRows  float64 `json:"cpu_s_per_million_rows"`
	KiBPerAgent  float64 `json:"kib_per_agent"` // growth from before the first agent to 10 s
	pids         map[int]span
	curveAt      time.Duration
}

// span is the CPU time of a process when it was seen first and last.
type span struct{ first, last time.Duration }

// watcher records processes. It is used by one goroutine at a time.
type watcher struct {
	what  []Process
	by    map[string]*Usage
	names []string
	done  [watchOther]bool
}

func newWatcher(what []Process) *watcher {
	what = append(slices.Clone(what), Process{Name: "loadgen", PID: os.Getpid()})
	return &watcher{what: what, by: map[string]*Usage{}}
}

// tick samples, as the run is so old.
func (w *watcher) tick(age, duration time.Duration) {
	when := watchOther
	switch {
	case age >= 10*time.Second && !w.done[watchEarly]:
		when = watchEarly
	case duration > 0 && age >= duration/2 && !w.done[watchMid]:
		when = watchMid
	}
	if w.done[watchEnd] {
		return
	}
	w.sample(when)
	for _, u := range w.by {
		if age >= u.curveAt {
			u.curveAt += 30 * time.Second
			u.CurveMiB = append(u.CurveMiB, u.EndMiB)
		}
	}
}

func (w *watcher) sample(when int) {
	if when < watchOther {
		w.done[when] = true
	}
	for _, p := range w.what {
		pid := p.pid()
		if pid == 0 {
			continue
		}
		w.one(p.Name, when, []int{pid})
		if kids := children(pid); len(kids) > 0 {
			w.one(p.Name+" children", when, kids)
		}
	}
}

func (w *watcher) one(name string, when int, pids []int) {
	u := w.by[name]
	if u == nil {
		u = &Usage{Name: name, pids: map[int]span{}}
		w.by[name], w.names = u, append(w.names, name)
	}
	var rss, anon float64
	for _, pid := range pids {
		now, ok := read(pid)
		if !ok {
			continue
		}
		rss += float64(now.rss) / (1 << 20)
		anon += float64(now.anon) / (1 << 20)
		s, known := u.pids[pid]
		if !known && when == watchStart {
			s.first = now.cpu // one that appears later began at 0
		}
		s.last = now.cpu
		u.pids[pid] = s
	}
	if rss == 0 {
		return
	}
	u.MaxMiB = max(u.MaxMiB, rss)
	u.EndMiB, u.AnonymousMiB = rss, anon
	switch when {
	case watchStart:
		u.StartMiB = rss
	case watchEarly:
		u.EarlyMiB = rss
	case watchMid:
		u.MidMiB = rss
	}
}

// usages is the result, for so many rows and agents.
func (w *watcher) usages(rows uint64, agents int) []Usage {
	var out []Usage
	for _, name := range w.names {
		u := *w.by[name]
		for _, s := range u.pids {
			u.CPUS += (s.last - s.first).Seconds()
		}
		if rows > 0 {
			u.CPUPerMRows = u.CPUS / float64(rows) * 1e6
		}
		if u.EarlyMiB > 0 && u.StartMiB > 0 {
			u.KiBPerAgent = (u.EarlyMiB - u.StartMiB) * 1024 / float64(agents)
		}
		out = append(out, u)
	}
	return out
}
