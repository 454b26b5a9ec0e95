#!/usr/bin/env bash
# Runs the benchmarks of the hot paths and measures the built programs, prints tables and
# writes build/bench.json.
#   SIDETONE_BENCH           which benchmarks, a regular expression (.)
#   SIDETONE_BENCH_PROGRAMS  0 leaves the programs out (they take about five minutes)
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
export SIDETONE_ENGINE_LIB=$PWD/build/engine/libchdb.so
raw=build/bench.txt
go test -run '^$' -bench "${SIDETONE_BENCH:-.}" -benchmem -benchtime "${SIDETONE_BENCHTIME:-1s}" -timeout 20m \
	sidetone/shared/... sidetone/agent/internal/... sidetone/collector/internal/... 2>&1 | tee "$raw.all" | grep -E '^(pkg:|Benchmark|FAIL|panic)' >"$raw"
if grep -qE '^(FAIL|panic)' "$raw"; then
	tail -n 40 "$raw.all" >&2
	exit 1
fi
awk '
	/^pkg:/ { pkg = $2; sub(/^sidetone\//, "", pkg) }
	/^Benchmark/ {
		name = $1; sub(/^Benchmark/, "", name); sub(/-[0-9]+$/, "", name)
		printf "%s%s{\"package\":\"%s\",\"benchmark\":\"%s\",\"runs\":%s", (n++ ? ",\n  " : "[\n  "), "", pkg, name, $2
		for (i = 3; i < NF; i += 2) printf ",\"%s\":%s", $(i + 1), $i
		printf "}"
	}
	END { print "\n]" }' "$raw" >build/bench-go.json
awk '
	/^pkg:/ { pkg = $2; sub(/^sidetone\//, "", pkg) }
	/^Benchmark/ {
		name = $1; sub(/^Benchmark/, "", name); sub(/-[0-9]+$/, "", name)
		printf "%-36s %-44s", pkg, name
		for (i = 3; i < NF; i += 2) printf " %14s %-12s", $i, $(i + 1)
		print ""
	}' "$raw"
programs=null
if [ "${SIDETONE_BENCH_PROGRAMS:-1}" != 0 ]; then
	echo
	echo "measuring the programs …"
	scripts/bench-programs.sh build/bench-programs.json
	programs=$(cat build/bench-programs.json)
fi
printf '{"benchmarks": %s,\n"programs": %s}\n' "$(cat build/bench-go.json)" "$programs" >build/bench.json
echo
node scripts/bench-table.mjs build/bench.json
echo "written: build/bench.json"
