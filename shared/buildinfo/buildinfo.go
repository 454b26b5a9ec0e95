// Package buildinfo holds what the build says of itself.
package buildinfo

import "runtime/debug"

// Set by the linker: -X sidetone/shared/buildinfo.version=…
var (
	version = "dev"
	commit  = ""
	date    = ""
)

// Version is the release, or "dev".
func Version() string { return version }

// String is version, commit and date on one line.
func String() string {
	s := version
	if c := Commit(); c != "" {
		s += " (" + c + ")"
	}
	if date != "" {
		s += " " + date
	}
	return s
}

// Commit is the short revision that the program was built from, or "".
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return ""
}
