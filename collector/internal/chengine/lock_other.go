//go:build !linux

package chengine

import (
	"context"
	"os"
	"syscall"
	"time"
)

func lockDir(context.Context, string, time.Duration) (func(), error) { return nil, errPlatform }

func narrowUmask() (restore func()) { return func() {} }

func bindToParent() *syscall.SysProcAttr { return nil }

func ownedByUs(os.FileInfo) bool { return true }
