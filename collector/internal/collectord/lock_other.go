//go:build !unix

package collectord

import "os"

// lockData does nothing here: the collector is made for unix systems.
func lockData(string) (*os.File, error) { return nil, nil }
