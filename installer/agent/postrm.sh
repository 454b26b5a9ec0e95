#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	# leave no trace: identity, spool and account go
	rm -rf /var/lib/sidetone-agent
	if getent passwd sidetone-agent >/dev/null; then
		userdel sidetone-agent || true
	fi
	rmdir /etc/sidetone 2>/dev/null || true
fi
