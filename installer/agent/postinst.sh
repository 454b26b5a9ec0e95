#!/bin/sh
set -e

unit=sidetone-agent.service
user=sidetone-agent
state=/var/lib/sidetone-agent
conf=/etc/sidetone/agent.toml

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
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
	# An upgrade goes on with the new program. Before enrolment the unit's condition
	# keeps it from starting, and that is not a fault.
	deb-systemd-invoke restart "$unit" >/dev/null || true
fi
if [ ! -e "$state/identity/current" ]; then
	echo "sidetone-agent: installed. Next: sidetone-agent enrol TOKEN && systemctl start sidetone-agent"
fi
