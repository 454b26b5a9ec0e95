package chengine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Classes of a statement, as the engine numbers them.
const (
	classReadOnly = 0
	classControl  = 3 // SET, USE, SYSTEM, KILL
	classUnknown  = 4
)

// session is what a connection was told last: settings and database outlive a
// statement, so each request says what it needs and only the difference is sent.
type session struct {
	settings map[string]string
	database string
	gone     bool // closed after it broke
}

// errSession marks a connection that did not take its settings: its state is unknown.
var errSession = errors.New("settings refused")

// prepare brings the connection to these settings and this database. With an empty
// database it is the product's own, or "default" before the first migration.
func (c *conn) prepare(settings map[string]string, database string) error {
	var set []string
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		if old, ok := c.settings[k]; !ok || old != settings[k] {
			set = append(set, k+" = "+quote(settings[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.settings)) {
		if _, ok := settings[k]; !ok {
			set = append(set, k+" = DEFAULT")
		}
	}
	if len(set) > 0 {
		c.settings = map[string]string{} // not known until the statement succeeded
		if err := c.query("SET "+strings.Join(set, ", "), "Null", nil, nil); err != nil {
			return fmt.Errorf("%w: %w", errSession, err)
		}
		c.settings = maps.Clone(settings)
	}
	return c.use(database)
}

const (
	ownDatabase   = "sidetone"
	emptyDatabase = "default"
)

const codeUnknownDatabase = 81

func (c *conn) use(database string) error {
	want := database
	if want == "" {
		want = ownDatabase
	}
	if c.database == want && want != emptyDatabase {
		return nil
	}
	err := c.query("USE "+quoteName(want), "Null", nil, nil)
	if ex, ok := err.(*Exception); ok && ex.Code == codeUnknownDatabase && database == "" {
		want = emptyDatabase
		err = c.query("USE "+quoteName(want), "Null", nil, nil)
	}
	if err != nil {
		c.database = ""
		return err
	}
	c.database = want
	return nil
}

// quote writes a string literal.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`, "\n", `\n`).Replace(s) + "'"
}

// quoteName writes an identifier.
func quoteName(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`", "\x00", `\0`).Replace(s) + "`"
}

// pool lends connections, each to one request at a time.
type pool struct {
	free chan *conn
	open func() (*conn, error)
}

func newPool(n int, open func() (*conn, error)) (*pool, error) {
	p := &pool{free: make(chan *conn, n), open: open}
	for range n {
		c, err := open()
		if err != nil {
			p.close()
			return nil, err
		}
		p.free <- c
	}
	return p, nil
}

func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case c := <-p.free:
		if c.gone {
			n, err := p.open()
			if err != nil {
				p.free <- c
				return nil, err
			}
			c = n
		}
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// give returns a connection; a broken one is replaced at its next use.
func (p *pool) give(c *conn, broken bool) {
	if broken && !c.gone {
		c.close()
		c.gone = true
	}
	p.free <- c
}

// close closes the connections that are not lent out: all of them, once the server
// in front has stopped.
func (p *pool) close() {
	for {
		select {
		case c := <-p.free:
			if !c.gone {
				c.close()
			}
		default:
			return
		}
	}
}
