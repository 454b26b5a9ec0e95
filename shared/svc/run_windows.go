package svc

import (
	"context"

	"golang.org/x/sys/windows/svc"
)

// Run calls main with a context that ends when the program shall stop, and returns its
// exit status. Started by the service control manager, it speaks with that as the
// service of this name; otherwise signals end the context.
func Run(name string, main func(ctx context.Context) int) int {
	if service, err := svc.IsWindowsService(); err != nil || !service {
		ctx, stop := SignalContext(context.Background())
		defer stop()
		return main(ctx)
	}
	h := &handler{main: main}
	if err := svc.Run(name, h); err != nil && h.status == 0 {
		return 1
	}
	return h.status
}

type handler struct {
	main   func(ctx context.Context) int
	status int
}

// Execute is called by the service control manager's loop.
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (bool, uint32) {
	const accepts = svc.AcceptStop | svc.AcceptShutdown
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan int, 1)
	go func() { done <- h.main(ctx) }()
	status <- svc.Status{State: svc.Running, Accepts: accepts}
	for {
		select {
		case h.status = <-done:
			return true, uint32(h.status)
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending, WaitHint: 15_000}
				cancel()
			}
		}
	}
}
