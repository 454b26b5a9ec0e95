#!/bin/sh
set -e

unit=sidetone-collector.service
user=sidetone-collector
state=/var/lib/sidetone-collector
engine=/usr/lib/sidetone

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
fi

if [ "$1" = purge ]; then
	# Leave no trace: control store, keys, measurements, the fetched engine and account go. What cannot
	# be removed, a state directory that is a mount point for one, is no reason to fail.
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge "$unit" >/dev/null || true
		deb-systemd-helper unmask "$unit" >/dev/null || true
	fi
	rm -rf "$state" "$engine" || true
	if getent passwd "$user" >/dev/null; then
		userdel "$user" >/dev/null 2>&1 || echo "$unit: user $user could not be removed" >&2
	fi
	if getent group "$user" >/dev/null; then
		groupdel "$user" >/dev/null 2>&1 || echo "$unit: group $user could not be removed" >&2
	fi
	# The other program and operators keep files here, too: goes only when empty.
	rmdir /etc/sidetone 2>/dev/null || true
fi
