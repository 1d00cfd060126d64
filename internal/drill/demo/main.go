// Command demo contains a pod of the todo-app on a simulated cluster, shows
// what was recorded, and puts everything back: irctl's own command line, a
// real journal, no cluster, no network, no rights. It is `make demo`.
package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"irctl/internal/cli"
	"irctl/internal/drill/sim"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cluster, err := sim.New(sim.Options{Now: time.Now})
	if err != nil {
		return err
	}
	if err := cluster.Apply(sim.TodoApp); err != nil {
		return err
	}
	server := httptest.NewServer(cluster.Server(nil))
	defer server.Close()
	dir, err := os.MkdirTemp("", "irctl-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is below the temporary directory
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(cluster.Kubeconfig(server.URL, "")), 0o600); err != nil {
		return err
	}
	d := &demo{cluster: cluster, kubeconfig: kubeconfig, state: filepath.Join(dir, "state")}
	return d.play(ctx)
}

// demo is a terminal on which irctl's commands are typed.
type demo struct {
	cluster           *sim.Cluster
	kubeconfig, state string
}

func (d *demo) play(ctx context.Context) error {
	suspect := ""
	for _, p := range d.cluster.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), "backend-") {
			suspect = p.GetName()
		}
	}
	d.say("A simulated cluster with the todo-app. An alert says that " + suspect + " talks to a mining pool.")
	d.pods()
	d.say("Cut it off, keep it alive as evidence, take its workload down:")
	// The demo's pod holds a token that may read secrets: that is an exposure, not a failure.
	if err := d.irctl(ctx, cli.ExitNotContained, "contain", "--pod", suspect, "-n", "todo-app", "--yes"); err != nil {
		return err
	}
	d.pods()
	d.say("What was done, by whom, when; and that nothing of it was changed since:")
	if err := d.irctl(ctx, cli.ExitDone, "timeline", "show"); err != nil {
		return err
	}
	if err := d.irctl(ctx, cli.ExitDone, "timeline", "verify"); err != nil {
		return err
	}
	d.say("A false alarm after all. Put everything back as it was:")
	if err := d.irctl(ctx, cli.ExitDone, "undo", "--all", "--yes"); err != nil {
		return err
	}
	d.pods()
	return nil
}

func (d *demo) say(text string) { fmt.Printf("\n# %s\n", text) }

func (d *demo) irctl(ctx context.Context, want int, args ...string) error {
	fmt.Printf("\n$ irctl %s\n", strings.Join(args, " "))
	streams := cli.System()
	streams.In, streams.InTerminal = strings.NewReader(""), false
	all := append([]string{"--kubeconfig", d.kubeconfig, "--state-dir", d.state}, args...)
	if code := cli.Main(ctx, all, streams, os.Getenv); code != want {
		return fmt.Errorf("irctl %s ended with exit code %d, not %d", strings.Join(args, " "), code, want)
	}
	return nil
}

func (d *demo) pods() {
	fmt.Printf("\n%-30s %-9s %s\n", "POD", "STATUS", "LABELS")
	for _, p := range d.cluster.List(sim.Pods, "todo-app") {
		var labels []string
		for k, v := range p.GetLabels() {
			labels = append(labels, k+"="+v)
		}
		phase, _ := p.Object["status"].(map[string]any)["phase"].(string)
		slices.Sort(labels)
		fmt.Printf("%-30s %-9s %s\n", p.GetName(), phase, strings.Join(labels, ","))
	}
}
