package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// outsidePort is one that the todo-app's policies let the backend reach.
const outsidePort = "443"

// outside is the world beyond the cluster: a web server on the machine's end of
// the node's cable. To pods it is as foreign as any address on the internet.
type outside struct{ server *http.Server }

func startOutside(ctx context.Context, address string) (*outside, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("outside server: %w", err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "hello from outside")
		}),
	}
	go server.Serve(listener) //nolint:errcheck // it ends with stop
	return &outside{server: server}, nil
}

func (o *outside) stop() error {
	if err := o.server.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("outside server: %w", err)
	}
	return nil
}
