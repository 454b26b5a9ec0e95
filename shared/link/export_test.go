package link

import "crypto/tls"

// WriteRaw sends bytes that need not be messages.
func (c *Conn) WriteRaw(b []byte) error {
	_, err := c.c.Write(b)
	return err
}

// CutOff ends the connection without a word, as a process that dies.
func (c *Conn) CutOff() { c.shut("", "") }

func testTLS() *tls.Config { return &tls.Config{ServerName: "x"} }
