//go:build !webui

package web

import (
	"embed"
	"io/fs"
)

const built = false

//go:embed placeholder
var placeholder embed.FS

func content() fs.FS {
	sub, err := fs.Sub(placeholder, "placeholder")
	if err != nil {
		panic("web: " + err.Error()) // only a malformed constant path could do this
	}
	return sub
}
