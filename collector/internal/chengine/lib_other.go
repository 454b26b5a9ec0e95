//go:build !linux

package chengine

import "errors"

var errPlatform = errors.New("the embedded engine runs on Linux only; use a ClickHouse server with --clickhouse clickhouse://…")

type library struct{}

func openLibrary(string) (*library, error) { return nil, errPlatform }

func (*library) open(string) (*conn, error) { return nil, errPlatform }

type conn struct{ session }

type param struct{ name, value string }

func (*conn) close()                                                      {}
func (*conn) query(string, string, []param, func([]byte) error) error     { return errPlatform }
func (*conn) stream(string, string, []param, func([]byte) error) error    { return errPlatform }
func (*conn) insert(string, func() ([]byte, error)) error                 { return errPlatform }
func (*conn) classify(string, string) (statements, class uint32, _ error) { return 0, 0, errPlatform }
