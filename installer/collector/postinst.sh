#!/bin/sh
set -e

unit=sidetone-collector.service
user=sidetone-collector
state=/var/lib/sidetone-collector
conf=/etc/sidetone/collector.toml

overridden() { dpkg-statoverride --list "$1" >/dev/null 2>&1; }

case "$1" in
configure) ;;
abort-upgrade | abort-remove | abort-deconfigure)
	# the programs are as before: only start what prerm has stopped
	if [ -d /run/systemd/system ]; then
		deb-systemd-invoke start "$unit" >/dev/null || true
	fi
	exit 0
	;;
*)
	echo "postinst: called with unknown argument '$1'" >&2
	exit 1
	;;
esac

getent group "$user" >/dev/null || groupadd --system "$user"
getent passwd "$user" >/dev/null ||
	useradd --system --gid "$user" --no-create-home --home-dir "$state" --shell /usr/sbin/nologin "$user"

# what an operator has set by dpkg-statoverride, and a file that was removed, stay so
overridden "$state" || install -d -m 0700 -o "$user" -g "$user" "$state"
if [ -e "$conf" ] && ! overridden "$conf"; then
	chown "root:$user" "$conf"
	chmod 0640 "$conf"
fi

# Enables the unit once; one that an operator has disabled or masked stays so.
deb-systemd-helper unmask "$unit" >/dev/null || true
if deb-systemd-helper --quiet was-enabled "$unit"; then
	deb-systemd-helper enable "$unit" >/dev/null || true
else
	deb-systemd-helper update-state "$unit" >/dev/null || true
fi

engine=/usr/lib/sidetone/libchdb.so
startable=yes
if [ ! -e "$engine" ] && ! grep -Eqs '^[[:space:]]*(clickhouse|engine_lib)[[:space:]]*=' "$conf"; then
	startable=no
fi
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
	if [ "$startable" = yes ]; then
		deb-systemd-invoke restart "$unit" >/dev/null || true
	fi
fi
if [ "$startable" = no ]; then
	echo "sidetone-collector: installed. The embedded ClickHouse engine is not here yet."
	echo "  Fetch it (needs npm):  /usr/lib/sidetone/fetch-engine.sh /usr/lib/sidetone"
	echo "  or set clickhouse = \"clickhouse://…\" in $conf"
	echo "  then: systemctl restart sidetone-collector"
fi
