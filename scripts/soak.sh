#!/usr/bin/env bash
# The long forms of the fault tests. Each prints its seed; SIDETONE_SEED repeats a run.
#   SIDETONE_SEED    seed of the random choices (the time)
#   SIDETONE_SOAK_E2E  which end-to-end tests (Kills|Engine|Damaged|DiskFull|Firewalls|Starved)
set -euo pipefail
cd "$(dirname "$0")/.."
export SIDETONE_SOAK=1 SIDETONE_ENGINE_LIB=$PWD/build/engine/libchdb.so

echo "== spool: model, kills, random corruptions"
go test -count=1 -timeout 60m -v -run 'Model|Crash|Kill|Corrupt|Churn' sidetone/agent/internal/spool | grep -E '^(=== RUN|---|ok|FAIL|panic|\s+\S+_test.go)' 
echo "== storage: kills, lost replies, overflown windows"
go test -count=1 -timeout 30m sidetone/collector/internal/batch sidetone/collector/internal/telemetrydb
echo "== the programs"
(cd collector && go test -tags e2e -timeout 120m -parallel 3 -count=1 -v -run "${SIDETONE_SOAK_E2E:-Kills|Engine|Damaged|DiskFull|Firewalls|Starved}" ./e2e)
echo "== a thousand agents"
scripts/soak-load.sh
