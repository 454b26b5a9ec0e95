//go:build !linux

package chengine

import (
	"context"
	"syscall"
	"time"
)

func lockDir(context.Context, string, time.Duration) (func(), error) { return nil, errPlatform }

func narrowUmask() (restore func()) { return func() {} }

func bindToParent() *syscall.SysProcAttr { return nil }
