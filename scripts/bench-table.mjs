// Prints what `make bench` measured beside the targets, and the peer or the limit of the
// same run where there is one. Usage: node bench-table.mjs build/bench.json
import { readFileSync } from 'node:fs';

const { benchmarks, programs } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const mib = (kib) => kib / 1024;
const find = (pkg, name) => benchmarks.find((b) => b.package.endsWith(pkg) && b.benchmark === name);
const of = (pkg, name, unit) => find(pkg, name)?.[unit];

const rows = [];
// better is 'least' or 'most'; target and beside may be missing.
function row(what, unit, value, better, target, beside, whose) {
	if (value === undefined || Number.isNaN(value)) return;
	const met = target === undefined ? '' : (better === 'least' ? value <= target : value >= target) ? 'met' : 'MISSED';
	rows.push([what, num(value) + ' ' + unit, target === undefined ? '' : (better === 'least' ? '≤ ' : '≥ ') + num(target), met,
		beside === undefined ? '' : `${num(beside)} ${whose}`]);
}
function num(v) {
	if (v >= 1000) return Math.round(v).toLocaleString('en');
	return v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
}

if (programs) {
	row('agent program', 'MB', programs.sizes_bytes['sidetone-agent'] / 1e6, 'least', 14);
	row('agent idle, resident', 'MiB', mib(programs.agent_idle.rss_kib), 'least', 13);
	row('agent with 10 targets and a 3CX, resident', 'MiB', mib(programs.agent_loaded.rss_kib), 'least', 18);
	row('  of it anonymous', 'MiB', mib(programs.agent_loaded.anonymous_kib), 'least', 10);
	row('  processor', '% of a core', programs.agent_loaded.cpu_percent, 'least', 0.5);
}
for (const [age, target] of [['10s', 2.4], ['60s', 0.6]]) {
	row(`wire, a self-contained frame of ${age}`, 'B/sample', of('shared/wire', `Frame/${age}/encode/schema2`, 'B/sample'), 'least', target,
		of('shared/wire', `Frame/${age}/encode/schema1`, 'B/sample'), 'schema 1');
}
row('wire, backlog in bundles', 'B/sample', of('shared/wire', 'Bundle/pack/schema2', 'B/sample'), 'least', 0.9);
row('  encode, 60 s', 'ns/sample', of('shared/wire', 'Frame/60s/encode/schema2', 'ns/sample'), 'least', 40, of('shared/wire', 'Frame/60s/encode/schema1', 'ns/sample'), 'schema 1');
row('  decode, 60 s', 'ns/sample', of('shared/wire', 'Frame/60s/decode/schema2', 'ns/sample'), 'least', 30, of('shared/wire', 'Frame/60s/decode/schema1', 'ns/sample'), 'schema 1');
row('spool, 1 KB, flushed each', 'records/s', of('internal/spool', 'Append/spool', 'records/s'), 'most', 2000, of('internal/spool', 'Append/file', 'records/s'), 'plain file');
row('spool, 1 KB, 50 at a time', 'records/s', of('internal/spool', 'AppendBatch/spool', 'records/s'), 'most', 25000, of('internal/spool', 'AppendBatch/file', 'records/s'), 'plain file');
row('insert of wide rows', 'CPU-s/M rows', of('telemetrydb', 'Insert/telemetrydb', 'cpu-s/Mrow'), 'least', 2.6, of('telemetrydb', 'Insert/engine_alone', 'cpu-s/Mrow'), 'engine alone');
row('  beside the driver', 'CPU-s/M rows', of('telemetrydb', 'Insert/telemetrydb', 'cpu-s/Mrow'), 'least', undefined, of('telemetrydb', 'Insert/clickhouse-go_alone', 'cpu-s/Mrow'), 'clickhouse-go');
row('  rows', 'rows/s', of('telemetrydb', 'Insert/telemetrydb', 'rows/s'), 'most', 700000, of('telemetrydb', 'Insert/engine_alone', 'rows/s'), 'engine alone');
row('small frame and its ack, QUIC', 'µs', of('shared/link', 'SmallFrame/quic', 'ns/op') / 1e3, 'least', undefined, of('shared/link', 'SmallFrame/tcp', 'ns/op') / 1e3, 'TLS/TCP');
row('mTLS connections, QUIC, both ends', '/s', of('shared/link', 'Handshake/quic', 'conns/s'), 'most', undefined, of('shared/link', 'Handshake/tcp', 'conns/s'), 'TLS/TCP');
row('memory of a connection, QUIC, both ends', 'KiB', of('shared/link', 'Memory/quic', 'KiB-rss/conn'), 'least', undefined, of('shared/link', 'Memory/tcp', 'KiB-rss/conn'), 'TLS/TCP');
if (programs?.load) {
	const l = programs.load;
	row(`${l.agents} agents: ack, 99th percentile`, 's', l.ack.p99_ms / 1e3, 'least', 3);
	row('  records lost', '', l.records_lost + l.pending, 'least', 0);
	row('  payload', 'B/value', l.bytes_per_value, 'least');
	for (const p of l.processes ?? []) {
		row(`  ${p.name}: processor`, 'CPU-s/M rows', p.cpu_s_per_million_rows, 'least');
		row(`  ${p.name}: memory of an agent`, 'KiB', p.kib_per_agent, 'least', p.name === 'collector' ? 90 : undefined);
		row(`  ${p.name}: resident at the end`, 'MiB', p.rss_end_mib, 'least', undefined, p.rss_10s_mib, 'MiB after 10 s');
	}
}

const head = ['figure', 'ours', 'target', '', 'in the same run'];
const width = head.map((h, i) => Math.max(h.length, ...rows.map((r) => [...r[i]].length)));
for (const r of [head, width.map((w) => '-'.repeat(w)), ...rows]) {
	console.log(r.map((c, i) => c + ' '.repeat(width[i] - [...c].length)).join('  ').trimEnd());
}
