//go:build webui

package web

import (
	"embed"
	"io/fs"
)

const built = true

// dist is what `npm run build` made of web/app.
//
//go:embed all:dist
var dist embed.FS

func content() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic("web: " + err.Error()) // only a malformed constant path could do this
	}
	return sub
}
