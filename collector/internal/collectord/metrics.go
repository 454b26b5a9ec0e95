package collectord

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sidetone/shared/buildinfo"
	"sidetone/shared/link"
)

// registry gathers our own metrics. Names carry the unit; nothing in them names a
// customer.
func (d *Daemon) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string, f func() float64, labels ...string) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sidetone_" + name, Help: help, ConstLabels: pairs(labels)}, f))
	}
	gauge := func(name, help string, f func() float64, labels ...string) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sidetone_" + name, Help: help, ConstLabels: pairs(labels)}, f))
	}
	gauge("build_info", "1, with the version as label.", func() float64 { return 1 }, "version", buildinfo.Version())
	gauge("agents_connected", "Agents with a live connection.", func() float64 { return float64(d.fleet.ConnectedCount()) })
	gauge("dashboards_open", "Pages that listen to the stream.", func() float64 { return float64(d.live.Listeners()) })
	gauge("storage_ok", "1 when measurements reach ClickHouse.", func() float64 {
		if d.storage().OK {
			return 1
		}
		return 0
	})
	in := d.ingest.Stats
	counter("frames_total", "Frames that arrived sound.", func() float64 { return float64(in().Frames) })
	counter("frame_bytes_total", "Bytes of payloads that arrived.", func() float64 { return float64(in().Bytes) })
	counter("frames_acked_total", "Frames acknowledged after their insert.", func() float64 { return float64(in().Acked) })
	counter("frames_deferred_total", "Frames that agents keep for later.", func() float64 { return float64(in().Deferred) })
	counter("frames_rejected_total", "Frames refused for good.", func() float64 { return float64(in().RejectedChecksum) }, "reason", "checksum")
	counter("frames_rejected_total", "Frames refused for good.", func() float64 { return float64(in().RejectedMalformed) }, "reason", "malformed")
	counter("frames_rejected_total", "Frames refused for good.", func() float64 { return float64(in().RejectedStorage) }, "reason", "storage")
	counter("bundles_total", "Messages of several frames, from a backlog.", func() float64 { return float64(in().Bundles) })
	counter("frames_over_quota_total", "Frames deferred because their agent sent more than its quota.", func() float64 { return float64(in().OverQuota) })
	counter("connections_turned_away_total", "Connections that were not let in.", func() float64 { return float64(in().TurnedAway) })
	counter("live_refused_total", "Rows that found no room in the live state.", func() float64 { return float64(d.live.Refused()) })
	counter("rows_inserted_total", "Rows that ClickHouse accepted.", func() float64 { return float64(d.batch.Stats().Rows) })
	counter("batches_total", "Batches that ClickHouse accepted.", func() float64 { return float64(d.batch.Stats().Batches) })
	counter("insert_retries_total", "Inserts that were tried again.", func() float64 { return float64(d.batch.Stats().Retries) })
	gauge("alerts_firing", "Rules that fire now.", func() float64 { return float64(d.alert.Stats().Firing) })
	counter("alert_observations_refused_total", "Observations that found no room.", func() float64 { return float64(d.alert.Stats().Refused) })
	d.linkMetrics(counter, gauge)
	counter("reflector_stamp_total", "STAMP packets answered.", func() float64 { return float64(d.reflector.Stats().STAMP) })
	counter("reflector_stun_total", "STUN requests answered.", func() float64 { return float64(d.reflector.Stats().STUN) })
	return r
}

// linkMetrics tell how the agents' connections come in and which of them do not.
func (d *Daemon) linkMetrics(counter, gauge func(name, help string, f func() float64, labels ...string)) {
	st := d.listener.Stats
	for transport, of := range map[string]func() link.TransportStats{
		"quic": func() link.TransportStats { return st().QUIC },
		"tcp":  func() link.TransportStats { return st().TCP },
	} {
		gauge("link_connections", "Connections of agents, handshakes included.", func() float64 { return float64(of().Live) }, "transport", transport)
		counter("link_accepted_total", "Connections that were opened.", func() float64 { return float64(of().Accepted) }, "transport", transport)
		counter("link_refused_total", "Connections refused for want of room.", func() float64 { return float64(of().Refused + of().RefusedAddr + of().Busy) }, "transport", transport)
		counter("link_failed_total", "Connections whose handshake or first stream failed.", func() float64 { return float64(of().Failed + of().WithoutHello) }, "transport", transport)
	}
	counter("link_retries_total", "Handshakes that had to prove their address first.", func() float64 { return float64(st().Retries) })
	gauge("link_window_bytes", "By how much the receive windows have grown, all together.", func() float64 { return float64(st().WindowBytes) })
	counter("link_windows_denied_total", "Receive windows that were not allowed to grow.", func() float64 { return float64(st().WindowsDenied) })
}

func pairs(labels []string) prometheus.Labels {
	l := prometheus.Labels{}
	for i := 0; i+1 < len(labels); i += 2 {
		l[labels[i]] = labels[i+1]
	}
	return l
}
