package demo

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

const (
	// readHeaderTimeout bounds how long a client may take to say what it wants.
	readHeaderTimeout = 10 * time.Second

	// shutdownTimeout bounds how long Serve waits for answers under way.
	shutdownTimeout = 3 * time.Second
)

// Serve answers connections of ln with h until ctx ends, then closes them all.
// It returns nil after such a stop.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		// Open event streams end with ctx; else a shutdown would wait for them.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if served := <-failed; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	return err
}
