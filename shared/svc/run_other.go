//go:build !windows

package svc

import "context"

// Run calls main with a context that ends when the program shall stop, and returns its
// exit status. The name is that of the Windows service.
func Run(_ string, main func(ctx context.Context) int) int {
	ctx, stop := SignalContext(context.Background())
	defer stop()
	return main(ctx)
}
