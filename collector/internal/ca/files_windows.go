package ca

import "io/fs"

// readableByOthers has no answer in the mode bits of Windows; there the directory's
// access list, which the service's own account owns, is the guard.
func readableByOthers(fs.FileInfo) bool { return false }

// syncDir does nothing: NTFS journals directory entries.
func syncDir(string) error { return nil }
