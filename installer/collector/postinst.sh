#!/bin/sh
set -e
if ! getent passwd sidetone-collector >/dev/null; then
	useradd --system --user-group --no-create-home --home-dir /var/lib/sidetone-collector --shell /usr/sbin/nologin sidetone-collector
fi
install -d -m 0700 -o sidetone-collector -g sidetone-collector /var/lib/sidetone-collector
chown root:sidetone-collector /etc/sidetone/collector.toml
chmod 0640 /etc/sidetone/collector.toml
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl enable sidetone-collector.service >/dev/null
	systemctl restart sidetone-collector.service || true
fi
if [ ! -e /usr/lib/sidetone/libchdb.so ]; then
	echo "sidetone-collector: the embedded ClickHouse engine is not here yet."
	echo "  Fetch it (needs npm):  /usr/lib/sidetone/fetch-engine.sh /usr/lib/sidetone"
	echo "  or set clickhouse = \"clickhouse://…\" in /etc/sidetone/collector.toml"
	echo "  then: systemctl restart sidetone-collector"
fi
