#!/usr/bin/env bash
# Fetches the embedded ClickHouse engine (libchdb.so) through npm, once.
#
#   scripts/fetch-engine.sh DIR      puts it at DIR/libchdb.so
#
# The version and the checksum of the package are pinned here; both change together.
# Where no checksum is known yet (arm64), SIDETONE_ENGINE_SHA256 must give one.
set -euo pipefail

version=26.7.3-stable.1
declare -A sums=(
	[x64]=c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad
)

say() { printf 'engine: %s\n' "$*"; }
die() { printf 'sidetone: %s\n' "$*" >&2; exit 1; }

[ $# = 1 ] || die "usage: fetch-engine.sh DIR"
[ "$(uname -s)" = Linux ] || die "the embedded engine runs on Linux only; give the collector a ClickHouse server with --clickhouse clickhouse://…"
case $(uname -m) in
x86_64) arch=x64 ;;
aarch64 | arm64) arch=arm64 ;;
*) die "there is no embedded engine for $(uname -m); give the collector a ClickHouse server with --clickhouse clickhouse://…" ;;
esac
package=@chdb/lib-linux-$arch-gnu@$version
sum=${SIDETONE_ENGINE_SHA256:-${sums[$arch]:-}}
[ -n "$sum" ] || die "no checksum of $package is pinned in this script: set SIDETONE_ENGINE_SHA256 to the SHA-256 of the archive that 'npm pack $package' makes and you trust, or give the collector a ClickHouse server with --clickhouse clickhouse://…"

mkdir -p "$1"
dir=$(cd "$1" && pwd)
lib=$dir/libchdb.so
marker=$dir/libchdb.version # "<package> <checksum of the package> <size of the library>"

current() {
	[ -f "$lib" ] && [ -f "$marker" ] &&
		[ "$(cat "$marker")" = "$package $sum $(stat -c %s "$lib")" ]
}

exec 9>"$dir/.lock"
flock 9 # two builds at once: the second finds the work done
if current; then
	say "$lib is there ($version)"
	exit 0
fi
command -v npm >/dev/null || die "npm is not installed, and the embedded engine comes as an npm package ($package). Install Node.js 20.19 or newer, or put libchdb.so into $dir by hand."

tmp=$(mktemp -d "$dir/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
say "fetching $package (about 180 MB) …"
(cd "$tmp" && npm pack --silent "$package" >/dev/null) ||
	die "npm could not fetch $package. Check the network and npm's registry setting (npm config get registry)."
tarball=$(find "$tmp" -maxdepth 1 -name '*.tgz' -print -quit)
[ -n "$tarball" ] || die "npm fetched $package but left no archive"

got=$(sha256sum "$tarball" | cut -d' ' -f1)
[ "$got" = "$sum" ] || die "$package has checksum $got, not the pinned $sum: it is damaged or not the one we know. Nothing was installed."

say "unpacking libchdb.so (about 570 MB) …"
member=$(tar -tzf "$tarball" | grep -E '(^|/)libchdb\.so$' | head -n 1) || die "$package holds no libchdb.so"
tar -xzf "$tarball" -C "$tmp" "$member"
chmod 0644 "$tmp/$member"
rm -f "$marker"
mv -f "$tmp/$member" "$lib"
printf '%s\n' "$package $sum $(stat -c %s "$lib")" >"$tmp/marker"
mv -f "$tmp/marker" "$marker"
say "$lib is ready ($version)"
