#!/bin/sh
set -e
if ! getent passwd sidetone-agent >/dev/null; then
	useradd --system --user-group --no-create-home --home-dir /var/lib/sidetone-agent --shell /usr/sbin/nologin sidetone-agent
fi
install -d -m 0700 -o sidetone-agent -g sidetone-agent /var/lib/sidetone-agent
chown root:sidetone-agent /etc/sidetone/agent.toml
chmod 0640 /etc/sidetone/agent.toml
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl enable sidetone-agent.service >/dev/null
	# an upgrade goes on with the new program; a first install waits for enrolment
	systemctl restart sidetone-agent.service || true
fi
if [ ! -e /var/lib/sidetone-agent/identity/current ]; then
	echo "sidetone-agent: installed. Next: sidetone-agent enrol TOKEN && systemctl start sidetone-agent"
fi
