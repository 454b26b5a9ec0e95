#!/usr/bin/env bash
# The main job on one machine: a collector with the embedded ClickHouse, a simulated
# 3CX, and an enrolled agent that measures real targets here. Each program is started
# again when it ends by itself. Ctrl-C stops all of them; the data stays in .run/.
#
#   SIDETONE_RUN_DIR        where data and logs go          (.run)
#   SIDETONE_RUN_AGENTS     agents' address, UDP            (127.0.0.1:8443)
#   SIDETONE_RUN_WEB        address of the pages, TCP       (127.0.0.1:8443)
#   SIDETONE_RUN_REFLECTOR  STAMP and STUN, UDP             (127.0.0.1:8862)
#   SIDETONE_RUN_PBX        the simulated 3CX, TCP          (127.0.0.1:8501)
#   SIDETONE_RUN_CONFIG     further collector configuration (none)
#   SIDETONE_RUN_SCENARIO   what happens to the 3CX         (demo)
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${SIDETONE_RUN_DIR:-.run}
agents=${SIDETONE_RUN_AGENTS:-127.0.0.1:8443}
web=${SIDETONE_RUN_WEB:-127.0.0.1:8443}
reflector=${SIDETONE_RUN_REFLECTOR:-127.0.0.1:8862}
pbx=${SIDETONE_RUN_PBX:-127.0.0.1:8501}
scenario=${SIDETONE_RUN_SCENARIO:-demo}
email=owner@demo.example

mkdir -p "$dir/log"
dir=$(cd "$dir" && pwd)
bin=$PWD/bin
engine=$PWD/build/engine/libchdb.so

say() { printf '%s\n' "$*"; }
die() { printf 'sidetone: %s\n' "$*" >&2; exit 1; }

if [ -e "$dir/run.pid" ] && kill -0 "$(cat "$dir/run.pid")" 2>/dev/null; then
	die "another 'make run' (process $(cat "$dir/run.pid")) is using $dir. Stop it first, or set SIDETONE_RUN_DIR."
fi
echo $$ >"$dir/run.pid"

loops=()
stopping=

# keep NAME COMMAND…: runs the command in a session of its own, so that Ctrl-C reaches
# this script alone, and starts it again when it ends.
keep() {
	local name=$1
	shift
	rm -f "$dir/$name.ready"
	(
		trap 'stop=1; kill -TERM "$child" 2>/dev/null' TERM
		stop= child=
		while [ -z "$stop" ]; do
			setsid "$@" >>"$dir/log/$name.log" 2>&1 &
			child=$!
			echo "$child" >"$dir/$name.pid"
			wait "$child" && code=0 || code=$?
			# a trapped signal ends the first wait: the program may still be finishing
			while kill -0 "$child" 2>/dev/null; do wait "$child" && code=0 || code=$?; done
			rm -f "$dir/$name.pid"
			[ -n "$stop" ] && break
			printf '%s ended (status %s), starting it again\n' "$name" "$code" >&2
			sleep 1
		done
	) &
	loops+=($!)
}

stop_all() {
	[ -n "$stopping" ] && return
	stopping=1
	trap '' INT TERM
	say ""
	say "stopping …"
	local i
	for ((i = ${#loops[@]} - 1; i >= 0; i--)); do # agent, 3CX, collector
		kill -TERM "${loops[i]}" 2>/dev/null || continue
		wait "${loops[i]}" 2>/dev/null || true
	done
	rm -f "$dir/run.pid"
	say "stopped; the data is in $dir"
}
trap 'stop_all; exit 0' INT TERM
trap 'stop_all' EXIT

# wait_for SECONDS WHAT LOG COMMAND…: shows progress until the command succeeds.
wait_for() {
	local left=$1 what=$2 log=$3
	shift 3
	printf '  %s ' "$what"
	until "$@" >/dev/null 2>&1; do
		((left-- > 0)) || {
			printf '\n'
			tail -n 5 "$log" >&2 || true
			die "$what: not there in time; the log is $log"
		}
		printf '.'
		sleep 1
	done
	printf ' ok\n'
}

sql() { "$bin/sidetone-collector" sql --data-dir "$dir/collector" --format TSV "$1"; }
has_rows() { [ "$(sql "SELECT count() > 0 FROM sidetone.$1")" = 1 ]; }

say "starting Sidetone (data and logs: $dir)"
keep collector "$bin/sidetone-collector" serve --data-dir "$dir/collector" \
	--agents "$agents" --web "$web" --reflector "$reflector" --clickhouse embedded --control sqlite \
	--engine-lib "$engine" --ready-file "$dir/collector.ready" ${SIDETONE_RUN_CONFIG:+--config "$SIDETONE_RUN_CONFIG"}
wait_for 60 "collector" "$dir/log/collector.log" test -s "$dir/collector.ready"

keep pbxsim "$bin/pbxsim" --listen "$pbx" --generation v20 --client-id sidetone --client-secret demo-secret \
	--user 100 --password demo-password --scenario "$scenario" \
	--ca-out "$dir/pbx-ca.pem" --ready-file "$dir/pbxsim.ready"
wait_for 20 "simulated 3CX" "$dir/log/pbxsim.log" test -s "$dir/pbxsim.ready"

if [ ! -e "$dir/login" ]; then
	password=$(head -c 12 /dev/urandom | base64 | tr '+/' 'xy')
	NODE_EXTRA_CA_CERTS="$dir/collector/ca/root.crt.pem" node -e '
		const [url, code, email, password] = process.argv.slice(1);
		fetch(url, { method: "POST", headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ code, email, name: "Demo Owner", password }) })
			.then(async r => { if (!r.ok) throw new Error(await r.text()); })
			.catch(e => { console.error(String(e.cause ?? e)); process.exit(1); });
	' "https://$web/api/v1/setup" "$(cat "$dir/collector/setup-code")" "$email" "$password" ||
		die "the first sign-in could not be made; see $dir/log/collector.log"
	(umask 077 && echo "$password" >"$dir/login")
fi

if [ ! -e "$dir/agent/identity/current" ]; then
	token=$("$bin/sidetone-collector" token create --data-dir "$dir/collector" --agents "$agents" \
		--tenant "Demo MSP" --customer "Example Ltd" --site "Head office" --quiet)
	"$bin/sidetone-agent" enrol "$token" --state-dir "$dir/agent" >>"$dir/log/agent.log" 2>&1 ||
		die "the agent could not enrol; see $dir/log/agent.log"
fi
[ -e "$dir/agent.toml" ] || cat >"$dir/agent.toml" <<TOML
# Written by 'make run' once; edit it as you like.
[pbx]
url = "https://$pbx"
client_id = "sidetone"
client_secret = "demo-secret"
ca_file = "$dir/pbx-ca.pem"

[[target]]
name = "this machine"
kind = "icmp"
address = "127.0.0.1"
TOML
chmod 600 "$dir/agent.toml"
keep agent "$bin/sidetone-agent" run --state-dir "$dir/agent" --config "$dir/agent.toml" \
	--ready-file "$dir/agent.ready" --ledger "$dir/agent.ledger"
wait_for 20 "agent" "$dir/log/agent.log" test -s "$dir/agent.ready"
wait_for 60 "first PBX status in ClickHouse" "$dir/log/collector.log" has_rows pbx_status
wait_for 60 "first trunk states in ClickHouse" "$dir/log/collector.log" has_rows trunk_state
wait_for 60 "first probe windows in ClickHouse" "$dir/log/collector.log" has_rows probe_window

cat <<END

Sidetone is running.

  URL       https://$web/   (certificate of its own CA: $dir/collector/ca/root.crt.pem)
  sign in   $email
  password  $(cat "$dir/login")

  SQL       bin/sidetone-collector sql --data-dir $dir/collector "SELECT * FROM sidetone.probe_window LIMIT 5"
  logs      $dir/log/

Ctrl-C stops everything; the data stays.
END
echo running >"$dir/run.state"
while :; do wait "${loops[@]}" || true; done
