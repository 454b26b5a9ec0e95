#!/bin/sh
set -e

# An upgrade leaves the old program running; postinst restarts it as the new one.
case "$1" in
remove | deconfigure)
	if [ -d /run/systemd/system ]; then
		deb-systemd-invoke stop sidetone-agent.service >/dev/null || true
	fi
	;;
upgrade | failed-upgrade) ;;
*)
	echo "prerm: called with unknown argument '$1'" >&2
	exit 1
	;;
esac
