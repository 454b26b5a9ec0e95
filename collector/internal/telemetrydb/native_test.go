package telemetrydb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidetone/collector/internal/telemetrydb"
)

// freePorts finds loopback ports that are free now. The server cannot be asked for
// port 0, so another process may take one in between; startServer tries again.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		out = append(out, ln.Addr().(*net.TCPAddr).Port)
	}
	return out
}

const serverConfig = `<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>%d</tcp_port><http_port>%d</http_port><interserver_http_port>%d</interserver_http_port>
  <path>%[4]s/data/</path><tmp_path>%[4]s/tmp/</tmp_path>
  <users_config>%[4]s/users.xml</users_config>
  <default_profile>default</default_profile><default_database>default</default_database>
  <mark_cache_size>67108864</mark_cache_size>
</yandex>`

const serverUsers = `<yandex>
  <profiles><default/><reader><readonly>1</readonly></reader></profiles><quotas><default/></quotas>
  <users>
    <default><password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default>
    <reader><password>look</password><networks><ip>127.0.0.1</ip></networks><profile>reader</profile><quota>default</quota></reader>
  </users>
</yandex>`

// startServer runs a real clickhouse-server and returns host:port of its native port.
func startServer(t *testing.T) string {
	t.Helper()
	exe, err := exec.LookPath("clickhouse-server")
	if err != nil {
		if os.Getenv("SIDETONE_REQUIRE_CLICKHOUSE") != "" {
			t.Fatalf("SIDETONE_REQUIRE_CLICKHOUSE is set, but: %v", err)
		}
		t.Skip("clickhouse-server is not installed (Debian package clickhouse-server)")
	}
	for range 3 {
		if addr, ok := tryServer(t, exe); ok {
			return addr
		}
	}
	t.Fatal("clickhouse-server did not start")
	return ""
}

func tryServer(t *testing.T, exe string) (string, bool) {
	dir := t.TempDir()
	p := freePorts(t, 3)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config.xml", fmt.Sprintf(serverConfig, p[0], p[1], p[2], dir))
	write("users.xml", serverUsers)
	var out bytes.Buffer
	cmd := exec.Command(exe, "--config-file="+filepath.Join(dir, "config.xml"))
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	stop := func() {
		cmd.Process.Kill() // this is not a test of its stopping
		<-exited
	}
	addr := fmt.Sprintf("127.0.0.1:%d", p[0])
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for {
		select {
		case err := <-exited:
			t.Logf("clickhouse-server ended: %v\n%s", err, out.String())
			return "", false
		case <-late:
			stop()
			t.Logf("clickhouse-server does not answer\n%s", out.String())
			return "", false
		case <-tick.C:
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				t.Cleanup(stop)
				return addr, true
			}
		}
	}
}

func openDSN(t *testing.T, dsn string) *telemetrydb.DB {
	t.Helper()
	db, err := telemetrydb.Open(t.Context(), telemetrydb.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// simpleBlock has the types that every version of the server has.
func simpleBlock(n int, from uint32) *telemetrydb.Block {
	var id []uint32
	var big []uint64
	var text []string
	var maybe []*uint32
	var list [][]uint32
	for i := range uint32(n) {
		id = append(id, from+i)
		big = append(big, uint64(from+i)<<33)
		text = append(text, fmt.Sprintf("it's %d \\ \n", i))
		if i%2 == 0 {
			maybe = append(maybe, &id[i])
		} else {
			maybe = append(maybe, nil)
		}
		list = append(list, []uint32{i, i + 1}[:i%3%2+1])
	}
	return &telemetrydb.Block{Table: "native_proof", Rows: n, Columns: []telemetrydb.Column{
		{Name: "text", Type: "String", Values: text}, {Name: "id", Type: "UInt32", Values: id}, // not the table's order
		{Name: "big", Type: "UInt64", Values: big}, {Name: "maybe", Type: "Nullable(UInt32)", Values: maybe}, {Name: "list", Type: "Array(UInt32)", Values: list},
	}}
}

const simpleTable = "CREATE TABLE sidetone.native_proof (id UInt32, big UInt64, text String, maybe Nullable(UInt32), list Array(UInt32)) ENGINE = MergeTree ORDER BY id"

// insertContract is what InsertBlock must do with any engine.
func insertContract(t *testing.T, db *telemetrydb.DB, readBig string) {
	for _, sql := range []string{"CREATE DATABASE IF NOT EXISTS sidetone", simpleTable} {
		if err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.InsertBlock(t.Context(), simpleBlock(70_000, 0), "a"); err != nil {
		t.Fatal(err)
	}
	if got := one(t, db, "SELECT count(), uniqExact(id), sum(big), countIf(maybe IS NULL), sum(length(list)), countIf(text LIKE 'it\\'s % \\\\\\\\ \\n') FROM sidetone.native_proof"); got != readBig {
		t.Errorf("read back %q, want %q", got, readBig)
	}
	if got := one(t, db, "SELECT id, text, maybe, list FROM sidetone.native_proof WHERE id IN (0, 1) ORDER BY id"); got != "0\tit\\'s 0 \\\\ \\n\t0\t[0]\n1\tit\\'s 1 \\\\ \\n\t\\N\t[1,2]" && got != "0\tit's 0 \\\\ \\n\t0\t[0]\n1\tit's 1 \\\\ \\n\t\\N\t[1,2]" {
		t.Errorf("rows %q", got)
	}
	uneven := simpleBlock(3, 0)
	uneven.Columns[1].Values = []uint32{1}
	wrong := simpleBlock(3, 0)
	wrong.Columns[0].Values = []float64{1, 2, 3}
	for name, b := range map[string]*telemetrydb.Block{"uneven columns": uneven, "wrong type": wrong} {
		if err := db.InsertBlock(t.Context(), b, name); !telemetrydb.IsPoison(err) {
			t.Errorf("%s: %v is no poison", name, err)
		}
	}
	gone := simpleBlock(3, 0)
	gone.Table = "not_there"
	if err := db.InsertBlock(t.Context(), gone, "gone"); err == nil || telemetrydb.IsPoison(err) {
		t.Errorf("a missing table is mended and tried again, not poison: %v", err)
	}
	if got := one(t, db, "SELECT count() FROM sidetone.native_proof"); got != "70000" {
		t.Errorf("rows after refusals: %s", got)
	}
	if _, err := db.Query(t.Context(), "DROP TABLE sidetone.native_proof"); err == nil {
		t.Error("Query lets a statement write")
	}
}

// The sum of the ids 0…69999, shifted by 33 bits, modulo 2^64; 35,000 NULLs; lists of 1, 2, 1 values.
const simpleRead = "70000\t70000\t2598295028979728384\t35000\t93333\t70000"

func TestInsertContract(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { insertContract(t, open(t), simpleRead) })
	t.Run("native protocol", func(t *testing.T) {
		addr := startServer(t)
		// the first host is down: the driver goes on to the second
		insertContract(t, openDSN(t, "clickhouse://default:secret@127.0.0.1:1,"+addr+"/default"), simpleRead)

		t.Run("read-only user", func(t *testing.T) {
			if got := one(t, openDSN(t, "clickhouse://reader:look@"+addr), "SELECT count() FROM sidetone.native_proof"); got != "70000" {
				t.Error(got)
			}
		})
		t.Run("wrong password", func(t *testing.T) {
			if err := openDSN(t, "clickhouse://default:wrong@"+addr).Ping(t.Context()); err == nil || strings.Contains(err.Error(), "wrong@") {
				t.Errorf("got %v", err)
			}
		})
	})
}

func TestUnreachable(t *testing.T) {
	for name, cfg := range map[string]telemetrydb.Config{
		"socket": {Socket: filepath.Join(t.TempDir(), "none")}, "server": {DSN: "clickhouse://127.0.0.1:1"},
	} {
		db, err := telemetrydb.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := db.InsertBlock(ctx, simpleBlock(1, 0), "x"); err == nil || telemetrydb.IsPoison(err) {
			t.Errorf("%s: insert gives %v", name, err)
		}
		if err := db.Migrate(ctx); err == nil {
			t.Errorf("%s: migrates", name)
		}
	}
	for name, cfg := range map[string]telemetrydb.Config{"nothing": {}, "both": {Socket: "a", DSN: "clickhouse://b"}, "no DSN": {DSN: "::"}} {
		if _, err := telemetrydb.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opens", name)
		}
	}
	var p *telemetrydb.PoisonError
	if errors.As(fmt.Errorf("x: %w", &telemetrydb.PoisonError{Table: "t", Err: errors.New("y")}), &p); p == nil || p.Table != "t" {
		t.Error("PoisonError is lost in a chain")
	}
}
