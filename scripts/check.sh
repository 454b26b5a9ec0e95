#!/usr/bin/env bash
# Format, vet for the systems we ship to, static checks, shell syntax.
set -euo pipefail
cd "$(dirname "$0")/.."
# As the programs are built, so that each package is compiled once for both.
export CGO_ENABLED=0 GOFLAGS=-trimpath

bad=$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l)
[ -z "$bad" ] || { printf 'gofmt would change:\n%s\n' "$bad" >&2; exit 1; }

go vet work
GOOS=windows go vet sidetone/shared/... sidetone/agent/...
(cd collector && go vet -tags e2e ./e2e/...)

STATICCHECK=v0.8.2
tool=build/tools/staticcheck-$STATICCHECK
if [ ! -x "$tool" ]; then
	GOBIN=$PWD/build/tools go install honnef.co/go/tools/cmd/staticcheck@$STATICCHECK
	mv build/tools/staticcheck "$tool"
fi
checks='all,-ST1000,-ST1003,-ST1020,-ST1021,-ST1022'
bad=0
for m in shared agent collector; do (cd $m && "../$tool" -checks "$checks" ./...) || bad=1; done
(cd collector && "../$tool" -tags e2e -checks "$checks" ./e2e/...) || bad=1
((bad == 0)) || exit 1

for f in scripts/*.sh .ci/run; do bash -n "$f"; done
