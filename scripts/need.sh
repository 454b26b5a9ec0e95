#!/usr/bin/env bash
# Checks that programs are there, in the version that the build wants.
set -euo pipefail

missing() { printf 'sidetone: %s\n' "$1" >&2; exit 1; }

for p in "$@"; do
	case $p in
	go)
		command -v go >/dev/null || missing "Go is not installed. Install Go 1.26 or newer from go.dev and put it on the PATH."
		v=$(go env GOVERSION | sed -E 's/^go([0-9]+)\.([0-9]+).*/\1 \2/')
		read -r major minor <<<"$v"
		((major > 1 || minor >= 26)) || missing "Go $(go env GOVERSION) is too old: 1.26 or newer is needed."
		;;
	node)
		command -v node >/dev/null || missing "Node.js is not installed. Install Node.js 20.19 or newer (it brings npm)."
		node -e 'const [a,b]=process.versions.node.split(".").map(Number); process.exit(a>20||(a===20&&b>=19)?0:1)' ||
			missing "Node.js $(node --version) is too old: 20.19 or newer is needed."
		;;
	*)
		command -v "$p" >/dev/null || missing "$p is not installed, and this step needs it."
		;;
	esac
done
