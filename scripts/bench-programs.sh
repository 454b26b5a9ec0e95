#!/usr/bin/env bash
# Measures the built programs: size, memory and processor time of an agent, and a
# collector under many agents. Writes JSON to FILE; what it starts runs on loopback, in a
# directory of its own, and ends with it.
#
#   scripts/bench-programs.sh FILE
#   SIDETONE_BENCH_AGENTS   simulated agents (200)
#   SIDETONE_BENCH_SECONDS  how long each measurement takes (60)
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 1 ] || { echo "usage: bench-programs.sh FILE" >&2; exit 2; }
out=$1
agents=${SIDETONE_BENCH_AGENTS:-200}
seconds=${SIDETONE_BENCH_SECONDS:-60}
bin=$PWD/bin
dir=$(mktemp -d)
pids=()
clean() {
	local p
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap clean EXIT
say() { printf '  %s\n' "$*" >&2; }

await() { # FILE
	local i
	for ((i = 0; i < 600; i++)); do
		[ -s "$1" ] && return
		sleep 0.1
	done
	echo "bench: $1 did not appear" >&2
	tail -n 20 "$dir"/*.log >&2
	exit 1
}

rss() { awk -v k="$2" '$1 == k":" { print $2 }' "/proc/$1/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# measure NAME PID: memory at the end of some time, processor time in it.
measure() {
	local before after hz
	hz=$(getconf CLK_TCK)
	before=$(ticks "$2")
	sleep "$seconds"
	after=$(ticks "$2")
	say "$1: $(rss "$2" VmRSS) KiB resident, $(rss "$2" RssAnon) KiB of it anonymous"
	awk -v n="$1" -v r="$(rss "$2" VmRSS)" -v a="$(rss "$2" RssAnon)" -v t=$((after - before)) -v hz="$hz" -v s="$seconds" \
		'BEGIN { printf "\"%s\": {\"rss_kib\": %d, \"anonymous_kib\": %d, \"cpu_percent\": %.3f, \"seconds\": %d}", n, r, a, 100 * t / hz / s, s }'
}

"$bin/sidetone-collector" serve --data-dir "$dir/collector" --agents 127.0.0.1:0 --web 127.0.0.1:0 --reflector 127.0.0.1:0 \
	--engine-lib build/engine/libchdb.so --config <(printf '[limits]\nenrols_per_minute = 100000\n') \
	--ready-file "$dir/collector.ready" >"$dir/collector.log" 2>&1 &
collector=$!
pids+=("$collector")
await "$dir/collector.ready"
address=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1])).agents' "$dir/collector.ready")
"$bin/pbxsim" --listen 127.0.0.1:0 --generation v20 --client-id sidetone --client-secret s --user 100 --password p \
	--ca-out "$dir/pbx-ca.pem" --ready-file "$dir/pbxsim.ready" >"$dir/pbxsim.log" 2>&1 &
pids+=($!)
await "$dir/pbxsim.ready"
pbx=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1])).url' "$dir/pbxsim.ready")

agent() { # NAME: starts an agent with the configuration on standard input
	local token
	cat >"$dir/$1.toml"
	token=$("$bin/sidetone-collector" token create --data-dir "$dir/collector" --agents "$address" \
		--tenant Bench --customer Bench --site "$1" --quiet)
	"$bin/sidetone-agent" enrol "$token" --state-dir "$dir/$1" >/dev/null
	"$bin/sidetone-agent" run --state-dir "$dir/$1" --config "$dir/$1.toml" --ready-file "$dir/$1.ready" >"$dir/$1.log" 2>&1 &
	pid=$!
	pids+=("$pid")
	await "$dir/$1.ready"
}

say "an agent with nothing to measure, connected"
agent idle <<<$'[agent]\ndefault_targets = false'
sleep 20
idle=$(measure agent_idle "$pid")
kill "$pid"

say "an agent with ten targets once a second and a 3CX every ten seconds"
agent loaded < <(
	printf '[agent]\ndefault_targets = false\n[pbx]\nurl = "%s"\nclient_id = "sidetone"\nclient_secret = "s"\nca_file = "%s"\n' "$pbx" "$dir/pbx-ca.pem"
	for i in 1 2 3 4 5 6 7 8 9 10; do
		printf '[[target]]\nname = "target %d"\nkind = "icmp"\naddress = "127.0.0.%d"\n' "$i" "$i"
	done
)
sleep 20
loaded=$(measure agent_loaded "$pid")
kill "$pid"

say "$agents agents at one collector"
"$bin/loadgen" enrol --data-dir "$dir/collector" --public "$address" --sites 20 --agents "$agents" --out "$dir/agents.json" >"$dir/enrol.log" 2>&1
"$bin/loadgen" run --agents "$dir/agents.json" --collector "$address" --duration "${seconds}s" \
	--ledger "$dir/ledger.json" --report "$dir/report.json" --pid "collector=$collector" >"$dir/loadgen.log" 2>&1
"$bin/loadgen" verify --ledger "$dir/ledger.json" --data-dir "$dir/collector" >"$dir/verify.log" 2>&1 ||
	{ cat "$dir/verify.log" >&2; exit 1; }

size() { stat -c %s "$bin/$1"; }
cat >"$out" <<JSON
{
"sizes_bytes": {"sidetone-agent": $(size sidetone-agent), "sidetone-collector": $(size sidetone-collector)},
$idle,
$loaded,
"load": $(cat "$dir/report.json")
}
JSON
