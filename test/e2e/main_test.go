// Package e2e drives irctl against a real cluster, as a responder would: the
// program built from this checkout, its command line, the ClusterRoles it ships
// with. What it asserts is the JSON it prints, its exit code, and what has become
// of the cluster and of its packets; never its prose.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

var foreign = flag.String("kubeconfig", os.Getenv("IRCTL_E2E_KUBECONFIG"),
	"run against this cluster, as an administrator of it, instead of starting one")

// world is what all tests share.
var world *World

// startLimit bounds the start of the cluster, the first build of its binaries
// included.
const startLimit = 50 * time.Minute

// atATime is how many tests run side by side. They mostly wait for a cluster.
const atATime = "4"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		return m.Run() // no test will run
	}
	if given := flag.Lookup("test.parallel"); given.Value.String() == given.DefValue {
		if err := given.Value.Set(atATime); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	starting, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var err error
	if world, err = NewWorld(starting, *foreign, os.Getenv("IRCTL_E2E_DIR")); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	finished := make(chan int, 1)
	go func() { finished <- m.Run() }()
	var code int
	select {
	case code = <-finished:
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "e2e: interrupted")
		code = 130
	}
	if err := world.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return code
}
