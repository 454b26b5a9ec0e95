#!/usr/bin/env bash
# Builds the deb packages of agent and collector into dist/ from what lies in bin/.
#   scripts/packages.sh [VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}
version=${version#v}
# a Debian version begins with a digit
[[ $version =~ ^[0-9]+\. ]] || version=0.0.0~$version
NFPM=v2.45.2
tool=build/tools/nfpm-$NFPM
if [ ! -x "$tool" ]; then
	GOBIN=$PWD/build/tools go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$NFPM
	mv build/tools/nfpm "$tool"
fi
mkdir -p dist
ARCH=$(go env GOARCH)
export ARCH VERSION=$version BIN=bin
for what in agent collector; do
	[ -x "bin/sidetone-$what" ] || { echo "sidetone: bin/sidetone-$what is not built; run 'make build' first" >&2; exit 1; }
	"$tool" package --config "installer/$what/nfpm.yaml" --packager deb --target dist/
done
