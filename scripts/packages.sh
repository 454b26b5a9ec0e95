#!/usr/bin/env bash
# Builds the deb packages of agent and collector into dist/ from what lies in bin/.
#   scripts/packages.sh [VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."

# A Debian version begins with a digit, and a later commit must sort above an earlier
# one: "v1.2.3-4-gabc" (four commits after the tag) is 1.2.3+4.gabc, and a commit
# without a tag is 0.0.0~<its time>.<hash>.
debian_version() {
	local v=${1#v} dirty=
	[[ $v == *-dirty ]] && dirty=+dirty
	v=${v%-dirty}
	if [[ $v =~ ^([0-9]+\..*)-([0-9]+)-(g[0-9a-f]+)$ ]]; then
		v=${BASH_REMATCH[1]//-/\~}+${BASH_REMATCH[2]}.${BASH_REMATCH[3]}
	elif [[ $v =~ ^[0-9]+\. ]]; then
		v=${v//-/\~} # 1.2.3-rc1 is before 1.2.3
	else
		v=0.0.0~$(git log -1 --format=%cd --date=format:%Y%m%d%H%M%S 2>/dev/null || echo 0).${v//[^A-Za-z0-9]/.}
	fi
	echo "$v$dirty"
}

version=$(debian_version "${1:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}")
NFPM=v2.45.2
tool=build/tools/nfpm-$NFPM
if [ ! -x "$tool" ]; then
	GOBIN=$PWD/build/tools go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$NFPM
	mv build/tools/nfpm "$tool"
fi
mkdir -p dist
ARCH=$(go env GOARCH)
export ARCH VERSION=$version BIN=bin
# the same commit makes the same package
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
for what in agent collector; do
	[ -x "bin/sidetone-$what" ] || { echo "sidetone: bin/sidetone-$what is not built; run 'make build' first" >&2; exit 1; }
done
for what in agent collector; do
	rm -f "dist/sidetone-${what}_"*"_$ARCH.deb" # dist/*.deb is one version
	"$tool" package --config "installer/$what/nfpm.yaml" --packager deb --target dist/
done
