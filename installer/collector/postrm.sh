#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	# leave no trace: control store, keys, measurements and account go
	rm -rf /var/lib/sidetone-collector
	if getent passwd sidetone-collector >/dev/null; then
		userdel sidetone-collector || true
	fi
	rmdir /etc/sidetone 2>/dev/null || true
fi
