#!/usr/bin/env bash
# Runs the tests. "all" installs what they need first (Debian packages by name, npm and
# Go modules) and fails when a real peer is missing; "fast" uses what is there and skips
# what needs a peer, the engine or a browser.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-all}
mkdir -p artifacts
started=$SECONDS

step() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }

packages=(chromium clickhouse-server curl ca-certificates gcc libc6-dev dpkg procps systemd)

install_packages() {
	local missing=() p
	for p in "${packages[@]}"; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
	done
	((${#missing[@]})) || return 0
	if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
		echo "sidetone: the tests need these Debian packages: ${missing[*]}. Install them, run as root, or use 'make test-fast'." >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >artifacts/apt.log 2>&1 ||
		{ tail -n 20 artifacts/apt.log >&2; exit 1; }
}

step "prerequisites"
scripts/need.sh go node npm
if [ "$mode" = all ]; then
	install_packages
	scripts/fetch-engine.sh build/engine
	export SIDETONE_REQUIRE_ENGINE=1 SIDETONE_REQUIRE_CLICKHOUSE=1
	export SIDETONE_ENGINE_LIB=$PWD/build/engine/libchdb.so
fi

step "web pages: build, types, tests"
make --no-print-directory web
(cd collector/web/app && npm run --silent check && npm test --silent)

step "Go tests, race detector on"
go test -race -vet=off -timeout 12m work # check.sh vets

# The rest compiles a lot and waits for nothing, the end-to-end tests mostly wait: on two
# cores they go together, the compiling at the lowest priority.
rest() {
	step "format, vet, static checks"
	scripts/check.sh
	step "modules by themselves (workspace off)"
	local m target
	for m in shared agent collector; do (cd $m && GOWORK=off CGO_ENABLED=0 go build -trimpath ./...); done
	step "cross-builds of the agent"
	for target in windows/amd64 linux/arm64; do
		GOOS=${target%/*} GOARCH=${target#*/} CGO_ENABLED=0 go build -trimpath -o /dev/null ./agent/cmd/sidetone-agent
		echo "  $target ok"
	done
}

if [ "$mode" = all ]; then
	step "programs and packages"
	make --no-print-directory build
	scripts/packages.sh
	(
		renice -n 19 "$BASHPID" >/dev/null
		rest
	) >artifacts/checks.log 2>&1 &
	checks=$!
	trap 'kill "$checks" 2>/dev/null || true' EXIT
	step "end to end"
	# They mostly wait, so more of them run at once than there are cores.
	(cd collector && go test -tags e2e -vet=off -timeout 15m -parallel 6 -count=1 -v ./e2e) || failed=1
	wait "$checks" || failed=1
	trap - EXIT
	cat artifacts/checks.log
else
	rest
fi
[ -z "${failed:-}" ] || { echo "sidetone: tests failed, see above" >&2; exit 1; }
step "done"
