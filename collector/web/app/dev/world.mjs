// The invented fleet behind the mock: the same each time it starts.

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const CUSTOMERS = [
  ['Northlight IT', 'Hartwell Dental', ['Leeds', 'Harrogate', 'York']],
  ['Northlight IT', 'Brass & Byre Brewery', ['Sheffield', 'Brewery tap']],
  ['Northlight IT', 'Ouse Valley Solicitors', ['Head office', 'Selby', 'Goole']],
  ['Telefonbau Köhler', 'Stadtwerke Lindenau', ['Zentrale', 'Werk Süd', 'Leitstelle']],
  ['Telefonbau Köhler', 'Klinik am Park', ['Haupthaus', 'Ambulanz']],
  ['Comvoz', 'Hotel Miramar', ['Recepción', 'Anexo']],
  ['Comvoz', 'Transportes Ibarra', ['Bilbao', 'Vitoria', 'Burgos']],
];

const HOSTILE = [
  '<script>alert("x")</script><img src=x onerror=alert(1)>',
  'مستشفى السلام الدولي \u202E gnp.exe \u202C',
  'A' + 'a'.repeat(180),
  'Z̴̡̛̲̫͖͔͋͗̈́̚a̵̰͕̤̎́̀̇l̸͚̦̳̈́̌g̶̨̬̀̍o̸͙̅ ‮ "quoted\' & <b>bold</b>\n\tline',
];

const TARGETS = [
  ['stamp', 'Collector', 'collector.example.com:862', 14, 1.2],
  ['icmp', 'Default gateway', '192.168.10.1', 0.42, 0.08],
  ['icmp', 'Carrier SBC', '203.0.113.40', 18, 2.5],
  ['tls', 'PBX web client', 'pbx.example.com:443', 6.2, 0.9],
  ['dns', 'Resolver', '192.168.10.1:53', 2.1, 0.7],
  ['stun', 'Public address', 'collector.example.com:3478', 15, 1.5],
];

export class World {
  constructor({ sites, hostile, empty }) {
    this.start = Date.now();
    this.rows = [];
    if (empty) return;
    const rnd = random(7);
    for (let n = 0; n < sites; n++) {
      const [tenant, customer, places] = CUSTOMERS[n % CUSTOMERS.length];
      const round = Math.floor(n / CUSTOMERS.length);
      const name = hostile && n < 4 ? HOSTILE[n] : places[round % places.length] + (round >= places.length ? ` ${round}` : '');
      this.rows.push(this.row(n, tenant, customer, name, rnd));
    }
    if (hostile) this.rows[1].customer = HOSTILE[2];
    if (hostile) this.rows[2].pbx_fqdn = HOSTILE[2];
    this.order();
  }

  row(n, tenant, customer, site, rnd) {
    const kind = n === 0 ? 'down' : n === 3 ? 'no_data' : n === 5 || n === 1 ? 'degraded' : n === 12 ? 'no_data' : n === 17 ? 'down' : 'ok';
    const trunks = 1 + Math.floor(rnd() * 4);
    const row = {
      site_id: `s${1000 + n}`, tenant, customer, site, state: kind,
      since_ms: this.start - Math.floor((kind === 'ok' ? 9 * DAY : 50 * 60_000) * (0.1 + rnd())),
      open_incidents: kind === 'down' ? 2 : kind === 'degraded' ? 1 : 0,
      pbx_name: `PBX ${n}`, pbx_fqdn: `${customer.toLowerCase().replace(/[^a-z]+/g, '-')}-${n}.3cx.example`, pbx_version: '20.0.7.1080', pbx_state: 'ok',
      trunks_registered: trunks, trunks_total: trunks, calls_active: Math.floor(rnd() * 9), calls_max: 16,
      worst_loss_ratio: rnd() < 0.6 ? 0 : rnd() * 0.004, worst_rtt_p50_us: Math.floor(8000 + rnd() * 24000), worst_target: 'Carrier SBC',
      last_seen_ms: this.start - Math.floor(rnd() * 9000), agents_connected: 1, agents_total: 1,
    };
    if (n === 0) Object.assign(row, { reason: 'PBX unreachable: connection refused on 192.168.10.5:5001', pbx_state: 'unreachable', trunks_registered: undefined, calls_active: undefined });
    if (n === 17) Object.assign(row, { reason: 'All trunks unregistered', trunks_registered: 0 });
    if (n === 1) Object.assign(row, { reason: 'Packet loss 7.4 % to Carrier SBC for 6 min', worst_loss_ratio: 0.074, worst_rtt_p50_us: 148_200 });
    if (n === 5) Object.assign(row, { reason: 'Service 3CX Media Server stopped', pbx_state: 'ok' });
    if (kind === 'no_data') {
      Object.assign(row, { reason: 'Agent silent', agents_connected: 0, last_seen_ms: this.start - 47 * 60_000 });
      for (const k of ['pbx_state', 'trunks_registered', 'calls_active', 'worst_loss_ratio', 'worst_rtt_p50_us', 'worst_target']) delete row[k];
    }
    return row;
  }

  order() {
    const rank = { down: 0, degraded: 1, no_data: 2, ok: 3 };
    this.rows.sort((a, b) => rank[a.state] - rank[b.state] || b.open_incidents - a.open_incidents);
  }

  add({ tenant, customer, site }) {
    const row = { site_id: 'new' + this.rows.length, tenant, customer, site, state: 'no_data', reason: 'Waiting for the first data', since_ms: Date.now(), open_incidents: 0, last_seen_ms: Date.now(), agents_connected: 1, agents_total: 1 };
    this.rows.push(row);
    return row;
  }

  fleet(storage) {
    const counts = { ok: 0, degraded: 0, down: 0, no_data: 0 };
    for (const r of this.rows) counts[r.state]++;
    for (const r of this.rows) if (r.agents_connected) r.last_seen_ms = Date.now() - 2000;
    return { generated_ms: Date.now(), storage, counts, sites: this.rows };
  }

  drift() {
    const live = this.rows.filter((r) => r.agents_connected && r.calls_active !== undefined);
    const r = live[Math.floor(Math.random() * live.length)];
    if (!r) return [];
    r.calls_active = Math.max(0, Math.min(16, r.calls_active + (Math.random() < 0.5 ? -1 : 1)));
    r.last_seen_ms = Date.now();
    return [r];
  }

  tree() {
    const tenants = new Map();
    for (const r of this.rows) {
      const t = tenants.get(r.tenant) ?? { tenant_id: r.tenant, name: r.tenant, customers: [] };
      tenants.set(r.tenant, t);
      let c = t.customers.find((x) => x.name === r.customer);
      if (!c) t.customers.push((c = { customer_id: r.customer, name: r.customer, sites: [] }));
      c.sites.push({ site_id: r.site_id, name: r.site });
    }
    return { tenants: [...tenants.values()] };
  }

  targets(row) {
    const list = row.state === 'no_data' ? TARGETS.slice(0, 3) : TARGETS;
    return list.map(([method, name, address], i) => ({ item_id: `${row.site_id}-t${i}`, agent_id: 'a1', method, name, address, last: this.window(row, i, Date.now()) }));
  }

  /** One window of a target at an instant: a pure function of both. */
  window(row, i, at, step = 10_000) {
    const [method, , , base, spread] = TARGETS[i];
    const slot = Math.floor(at / step);
    const rnd = random(slot * 31 + i * 977 + Number(row.site_id.replace(/\D/g, '')));
    const age = (this.start - at) / 60_000; // minutes before the start
    if (row.state === 'no_data' && age < 47) return null;
    if (age > 31 && age < 36.5 && i !== 1) return null; // the agent was restarted
    const bad = row.state === 'degraded' && i === 2 && age < 9;
    const wave = 1 + 0.12 * Math.sin(at / 700_000) + (bad ? 3 : 0);
    const p50 = base * wave + spread * (rnd() - 0.5) * (bad ? 12 : 1);
    const width = spread * (0.6 + rnd()) * (bad ? 7 : 1);
    const spike = rnd() < 0.04 ? spread * 9 * rnd() : 0;
    const sent = Math.round(step / 1000);
    let ratio = rnd() < 0.03 ? 1 / Math.max(10, sent) : 0;
    if (bad) ratio = 0.02 + rnd() * 0.2;
    if (row.state === 'down' && i === 3 && age < 25) ratio = 1;
    const lost = Math.round(ratio * sent);
    const us = (ms) => Math.round(Math.max(0.01, ms) * 1000);
    const delays = ratio === 1 ? {} : {
      rtt_min_us: us(p50 - width * 0.7), rtt_p10_us: us(p50 - width * 0.4), rtt_p50_us: us(p50), rtt_p90_us: us(p50 + width * 0.8), rtt_max_us: us(p50 + width * 1.5 + spike),
      ...(method === 'icmp' || method === 'stamp' ? { jitter_us: us(width * 0.35) } : {}),
    };
    return { observed_ms: slot * step, length_ms: 10_000, sent, received: sent - lost, lost, loss_ratio: ratio, ...delays,
      ...(ratio === 1 ? { fault: 'timeout', detail: 'connect: connection refused' } : {}) };
  }

  windows(siteId) {
    const row = this.rows.find((r) => r.site_id === siteId);
    if (!row) return [];
    return this.targets(row).filter((t) => t.last).map((t) => ({ site_id: siteId, item_id: t.item_id, window: t.last }));
  }

  series(siteId, itemId, from, to) {
    const row = this.rows.find((r) => r.site_id === siteId);
    const target = row && this.targets(row).find((t) => t.item_id === itemId);
    if (!target) return null;
    const i = Number(itemId.split('-t')[1]);
    const step = [10_000, 60_000, 300_000, 1_200_000, 3_600_000].find((s) => (to - from) / s <= 600) ?? DAY;
    const out = { target, from_ms: from, to_ms: to, step_ms: step, t_ms: [], rtt_min_us: [], rtt_p10_us: [], rtt_p50_us: [], rtt_p90_us: [], rtt_max_us: [], jitter_us: [], loss_ratio: [], sent: [] };
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      const w = t < this.start - 5 * DAY ? null : this.window(row, i, t, step);
      out.t_ms.push(t);
      for (const k of Object.keys(out)) if (Array.isArray(out[k]) && k !== 't_ms') out[k].push(w?.[k] ?? null);
    }
    return out;
  }

  incidents(state) {
    const list = this.rows.flatMap((r) => this.incidentsOf(r));
    return state === 'open' ? list.filter((i) => i.state === 'open') : list;
  }

  incidentsOf(r) {
    const id = Number(r.site_id.replace(/\D/g, ''));
    const base = { tenant: r.tenant, customer: r.customer, site: r.site, site_id: r.site_id };
    const list = [];
    if (r.state === 'down') {
      list.push({ ...base, incident_id: id * 10, rule: 'pbx_unreachable', title: 'PBX unreachable', severity: 'critical', subject: r.pbx_fqdn, state: 'open', opened_ms: r.since_ms,
        summary: 'The agent is connected but the PBX does not answer its API. Phones may be down too.', advice: 'Check that the 3CX service runs and that port 5001 is open from the agent’s machine; run sidetone-agent doctor there.',
        evidence: [{ label: 'Last answer', value: '24 min ago' }, { label: 'Error', value: 'dial tcp 192.168.10.5:5001: connection refused' }, { label: 'Agent', value: 'connected over QUIC' }],
        messages: [{ channel: 'NOC mail', kind: 'opened', state: 'sent', at_ms: r.since_ms + 1200 }, { channel: 'Ticket webhook', kind: 'opened', state: 'failed', at_ms: r.since_ms + 2400, error: '503 Service Unavailable, next try in 40 s' }] });
    }
    if (r.state === 'degraded') {
      list.push({ ...base, incident_id: id * 10 + 1, rule: 'packet_loss', title: 'Packet loss to Carrier SBC', severity: 'warning', subject: 'Carrier SBC', state: 'open', opened_ms: this.start - 6 * 60_000,
        summary: 'Packet loss above 3 % for more than 60 s. The default gateway shows none: the loss is beyond the site.', advice: 'Compare with the other targets of the site; if only this one loses, tell the carrier.',
        evidence: [{ label: 'Packet loss', value: '7.4 % over 60 s' }, { label: 'RTT median', value: '148 ms (usual 18 ms)' }, { label: 'Default gateway', value: '0 % loss, 0.42 ms' }],
        messages: [{ channel: 'NOC mail', kind: 'opened', state: 'sent', at_ms: this.start - 6 * 60_000 + 900 }] });
    }
    if (r.state !== 'no_data' && id % 3 === 0) {
      list.push({ ...base, incident_id: id * 10 + 2, rule: 'trunk_unregistered', title: 'Trunk 10001 unregistered', severity: 'critical', subject: '10001', state: 'resolved', opened_ms: this.start - 26 * HOUR, resolved_ms: this.start - 25.6 * HOUR,
        summary: 'The trunk lost its registration and came back.', evidence: [], messages: [{ channel: 'NOC mail', kind: 'opened', state: 'sent', at_ms: this.start - 26 * HOUR }, { channel: 'NOC mail', kind: 'resolved', state: 'sent', at_ms: this.start - 25.6 * HOUR }] });
    }
    return list;
  }

  site(id) {
    const row = this.rows.find((r) => r.site_id === id);
    if (!row) return null;
    const now = Date.now();
    if (id.startsWith('new')) return { row, agents: [], trunks: [], sbcs: [], services: [], targets: [], incidents: [], changes: [] };
    const down = row.state === 'down';
    const trunk = (n, over) => ({ item_id: `k${n}`, observed_ms: now - 4000, number: String(10000 + n), name: `SIP trunk ${n}`, host: 'sip.carrier.example', kind: 'provider', registered: true, registration_needed: true, configuration_issue: false, channels_max: 10, calls_active: n, since_ms: now - n * 9 * DAY, ...over });
    const services = ['Phone System', 'Media Server', 'Gateway Service', 'Management Console', 'Queue Manager', 'IVR', 'Database', 'Nginx', 'Event Notification', 'Tunnel'].map((n, i) => ({ item_id: `v${i}`, observed_ms: now - 4000, name: `3CX${n.replaceAll(' ', '')}`, title: `3CX ${n}`, status: 'Running', memory_bytes: 21e6 * (i + 1) }));
    if (row.state === 'degraded') services[1].status = 'Stopped';
    return {
      row,
      agents: [{ agent_id: 'a1', hostname: 'leeds-neighbour-01', os: 'linux', arch: 'amd64', version: '0.1.0', connected: row.agents_connected > 0, since_ms: now - 3 * DAY, transport: 'quic', remote: '198.51.100.23:51820', last_seen_ms: row.last_seen_ms, spool_records: row.state === 'degraded' ? 214 : 0, spool_bytes: row.state === 'degraded' ? 1_840_000 : 0, ...(row.state === 'degraded' ? { spool_oldest_ms: now - 340_000 } : {}), spool_degraded: false, rss_bytes: 31_400_000, certificate_expires_ms: now + 4.6 * DAY, clock_offset_ms: 12 }],
      pbx: row.state === 'no_data' ? null : {
        observed_ms: now - 4000, state: row.pbx_state, ...(down ? { detail: 'dial tcp 192.168.10.5:5001: connection refused' } : {}), answer_ms: 41, fqdn: row.pbx_fqdn, version: row.pbx_version, os: 'Debian 12', calls_active: row.calls_active, calls_max: 16,
        extensions_registered: 41, extensions_total: 48, disk_used_percent: row.state === 'degraded' ? 91 : 37, disk_free_bytes: 151.2e9, disk_total_bytes: 240e9, recording_used_bytes: 8.1e9, recording_quota_bytes: 20e9,
        backup_scheduled: true, last_backup_ms: now - (row.state === 'degraded' ? 3.2 : 0.4) * DAY, backup_count: 7, backup_newest_size_bytes: 412e6, licence_product: '3CX Enterprise', licence_active: true, licence_expires_ms: now + 210 * DAY, maintenance_expires_ms: now + 19 * DAY, support: true, auto_update: true, audit_log: true },
      trunks: row.state === 'no_data' ? [] : [
        trunk(1), trunk(2, { name: row.site.length > 60 ? row.site : 'Emergency trunk', registered: false, fail_code: 403, since_ms: now - 18 * 60_000, calls_active: 0 }),
        trunk(3, { name: 'Bridge to Harrogate', kind: 'bridge', registration_needed: false, registered: false, host: '10.20.0.5' }), trunk(4, { configuration_issue: true, calls_active: undefined }),
      ],
      sbcs: row.state === 'no_data' ? [] : [
        { item_id: 'b1', observed_ms: now - 4000, name: 'Workshop', connected: true, version: '20.0.0.3', latency_ms: 22, calls_active: 1, phones_registered: 12 },
        { item_id: 'b2', observed_ms: now - 4000, name: 'Warehouse', connected: row.state === 'ok', version: '20.0.0.3', phones_registered: 4 },
      ],
      services: row.state === 'no_data' ? [] : services,
      targets: this.targets(row),
      incidents: this.incidentsOf(row),
      changes: Array.from({ length: 17 }, (_, i) => ({ observed_ms: now - (i + 1) * (i + 1) * 9 * 60_000, subject: ['trunk', 'service', 'pbx', 'agent'][i % 4], name: ['10002 Emergency trunk', '3CX Media Server', row.pbx_fqdn, 'leeds-neighbour-01'][i % 4], from: ['registered', 'Running', 'ok', 'connected'][i % 4], to: ['unregistered', 'Stopped', 'unreachable', 'disconnected'][i % 4], ...(i === 2 ? { detail: 'dial tcp 192.168.10.5:5001: connection refused' } : {}) })),
    };
  }
}
