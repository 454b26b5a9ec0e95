#!/usr/bin/env bash
# Many agents at one collector over the real link: first without a fault, then with the
# collector killed and started again in the middle. Each time everything that was produced
# must be in ClickHouse once.
#   SIDETONE_SOAK_AGENTS   simulated agents (1000)
#   SIDETONE_SOAK_SECONDS  length of the first run (300)
set -euo pipefail
cd "$(dirname "$0")/.."
agents=${SIDETONE_SOAK_AGENTS:-1000}
seconds=${SIDETONE_SOAK_SECONDS:-300}
bin=$PWD/bin
dir=$(mktemp -d)
trap 'kill "$(cat "$dir/pid")" 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT

free_port() { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'; }
address=127.0.0.1:$(free_port)
web=127.0.0.1:$(free_port)
printf '[limits]\nenrols_per_minute = 100000\nconns_per_address = %d\n' $((agents * 2 + 100)) >"$dir/limits.toml"

serve() {
	rm -f "$dir/ready"
	"$bin/sidetone-collector" serve --config "$dir/limits.toml" --data-dir "$dir/collector" --agents "$address" --web "$web" \
		--reflector 127.0.0.1:0 --engine-lib build/engine/libchdb.so --ready-file "$dir/ready" >>"$dir/collector.log" 2>&1 &
	echo $! >"$dir/pid"
	for ((i = 0; i < 600; i++)); do
		[ -s "$dir/ready" ] && return
		sleep 0.1
	done
	tail -n 20 "$dir/collector.log" >&2
	exit 1
}

run() { # NAME SECONDS
	"$bin/loadgen" run --agents "$dir/agents.json" --collector "$address" --duration "$2s" --settle 120s --ready-file "$dir/up" \
		--ledger "$dir/$1.ledger" --report "build/soak-$1.json" --pid "collector=@$dir/pid" 2>"$dir/$1.log" ||
		{ tail -n 20 "$dir/$1.log" >&2; exit 1; }
}

show() { # NAME
	"$bin/loadgen" verify --ledger "$dir/$1.ledger" --data-dir "$dir/collector"
	node -e '
		const r = JSON.parse(require("fs").readFileSync(process.argv[1]));
		console.log(`${r.agents} agents, ${r.rows} rows, ack ms p50 ${r.ack.p50_ms} p99 ${r.ack.p99_ms} max ${r.ack.max_ms}`);
		for (const s of r.storms ?? []) console.log(`connections lost: ${s.down} at most; all back ${s.all_back_s} s after the first loss`);
		for (const p of r.processes ?? []) console.log(`${p.name}: ${p.cpu_s_per_million_rows} CPU-s a million rows; MiB resident each 30 s: ${p.rss_curve_mib.map(Math.round).join(" ")}`);
	' "build/soak-$1.json"
}

serve
"$bin/loadgen" enrol --data-dir "$dir/collector" --public "$address" --sites $(((agents + 9) / 10)) --agents "$agents" --out "$dir/agents.json" 2>"$dir/enrol.log"
echo "-- $agents agents for $seconds s"
run calm "$seconds"
show calm

echo "-- the same, the collector is killed in the middle"
run storm 120 &
runner=$!
sleep 60
kill -9 "$(cat "$dir/pid")"
sleep 3
serve
wait "$runner"
show storm
