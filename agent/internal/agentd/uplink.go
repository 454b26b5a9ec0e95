package agentd

import (
	"os"
	"runtime"

	"sidetone/agent/internal/hoststate"
	"sidetone/agent/internal/spool"
	"sidetone/agent/internal/uplink"
	"sidetone/shared/buildinfo"
)

// spoolForUplink is the spool in the uplink's own types.
type spoolForUplink struct{ *spool.Spool }

// Read converts the records.
func (s spoolForUplink) Read(afterSeq uint64, maxRecords, maxBytes int) ([]uplink.Record, error) {
	rs, err := s.Spool.Read(afterSeq, maxRecords, maxBytes)
	out := make([]uplink.Record, len(rs))
	for i, r := range rs {
		out[i] = uplink.Record(r)
	}
	return out, err
}

// Status picks what the uplink asks for.
func (s spoolForUplink) Status() uplink.Status {
	st := s.Spool.Status()
	return uplink.Status{Epoch: st.Epoch, NextSeq: st.NextSeq, Records: st.Records}
}

func thisHost() uplink.Host {
	name, _ := os.Hostname() // only shown
	return uplink.Host{
		Version: buildinfo.Version(), BootID: hoststate.BootID(), Hostname: name,
		OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
}
