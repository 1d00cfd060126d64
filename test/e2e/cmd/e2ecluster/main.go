// Command e2ecluster runs the end-to-end cluster for a person to play with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"irctl/test/e2e/cluster"
	"irctl/test/e2e/lab"
)

const usage = `usage:
  e2ecluster up [--dir DIR] [--no-app]   run the cluster until interrupted
  e2ecluster images [--dir DIR]          write the test pods' images as docker archives,
                                         to load into a cluster of another making`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2ecluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("no command\n" + usage)
	}
	flags := flag.NewFlagSet("e2ecluster "+args[0], flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), usage)
		flags.PrintDefaults()
	}
	dir := flags.String("dir", "", "folder for the files (default: a temporary one)")
	bare := flags.Bool("no-app", false, "start without the todo-app")
	err := flags.Parse(args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return up(ctx, *dir, *bare)
	case "images":
		return images(ctx, *dir)
	}
	return fmt.Errorf("unknown command %q\n%s", args[0], usage)
}

func up(ctx context.Context, dir string, bare bool) error {
	l, err := lab.Start(ctx, lab.Options{Cluster: cluster.Options{Dir: dir, Log: os.Stderr}, Bare: bare})
	if err != nil {
		return err
	}
	fmt.Printf(`
export KUBECONFIG=%[1]s
# or as one of %[2]v: %[3]s/kubeconfig/USER.yaml
# kubectl:         %[4]s
# audit log:       %[5]s
# component logs:  %[3]s/log
# run the tests against this cluster: IRCTL_E2E_DIR=%[3]s go test ./...
`, l.Kubeconfig("admin"), cluster.Users, l.Dir(), l.Kubectl(), l.AuditLog())
	<-ctx.Done()
	fmt.Fprintln(os.Stderr, "stopping")
	return l.Stop()
}

func images(ctx context.Context, dir string) error {
	if dir == "" {
		dir = "."
	}
	paths, err := cluster.WriteImages(ctx, dir, os.Stderr)
	if err != nil {
		return err
	}
	for _, path := range paths {
		fmt.Println(path)
	}
	return nil
}
