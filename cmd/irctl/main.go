// Command irctl automates incident response for Kubernetes.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	// The authentication plugins that kubeconfigs name.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"irctl/internal/cli"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first Ctrl-C ends things in order, the journal intact; a second one at once.
	context.AfterFunc(ctx, stop)
	return cli.Main(ctx, os.Args[1:], cli.System(), os.Getenv)
}
