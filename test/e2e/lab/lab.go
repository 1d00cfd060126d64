// Package lab is the cluster with everything in it that tests and people need:
// policy enforcement, the gadget controller and the todo-app.
package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"irctl/test/e2e/cluster"
	"irctl/test/e2e/enforcer"
	"irctl/test/e2e/gadget"
	"irctl/test/e2e/manifest"
	"irctl/test/e2e/services"
	"irctl/test/e2e/todoapp"
	"irctl/test/e2e/volumes"
)

//go:embed agent.yaml
var agent []byte

// StaticPod is the name of the todo-app's static pod in the API.
const StaticPod = "static-node-1"

// Options say what a lab holds.
type Options struct {
	Cluster cluster.Options
	// Bare leaves the todo-app and the static pod out.
	Bare bool
}

// A Lab is a running cluster with its fixtures.
type Lab struct {
	*cluster.Cluster
	enforcer *enforcer.Enforcer
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// Start starts a cluster and everything that belongs to it.
func Start(ctx context.Context, options Options) (*Lab, error) {
	if options.Cluster.Log == nil {
		options.Cluster.Log = io.Discard
	}
	running, err := cluster.Start(ctx, options.Cluster)
	if err != nil {
		return nil, err
	}
	l := &Lab{Cluster: running, cancel: func() {}}
	if err := l.furnish(ctx, options); err != nil {
		return nil, errors.Join(fmt.Errorf("start lab: %w", err), l.Stop())
	}
	return l, nil
}

func (l *Lab) furnish(ctx context.Context, options Options) error {
	config, err := Config(l.Kubeconfig("admin"))
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(l.Dir(), "log", "fixtures.log"))
	if err != nil {
		return err
	}
	outside, _, err := net.SplitHostPort(l.OutsideAddr())
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// The fixtures live until Stop, however long ctx allows the start to take.
	background, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.enforcer, err = enforcer.Start(background, enforcer.Options{
		Client:  client,
		Command: l.NodeCommand,
		PodCIDR: l.PodCIDR(),
		Outside: []string{outside},
		Log:     log,
	})
	if err != nil {
		return err
	}
	if err := l.startServices(ctx, background, client, log); err != nil {
		return err
	}
	if err := volumes.Define(ctx, client); err != nil {
		return err
	}
	l.running.Go(func() { volumes.Run(background, client, filepath.Join(l.Dir(), "volumes"), log) })
	if err := StartGadgets(ctx, background, config, log, &l.running); err != nil {
		return err
	}
	if err := manifest.Apply(ctx, config, "", agent); err != nil {
		return err
	}
	if err := todoapp.AwaitPods(ctx, client, "kube-system", "app=kube-network-policies", 1); err != nil {
		return err
	}
	if options.Bare {
		return nil
	}
	if err := l.AddStaticPod("static", todoapp.Workload("static", todoapp.Namespace)); err != nil {
		return err
	}
	if err := todoapp.Deploy(ctx, config, todoapp.Namespace); err != nil {
		return err
	}
	// The mirror appears once its namespace exists.
	return todoapp.AwaitPods(ctx, client, todoapp.Namespace, "app=static", 1)
}

// startServices returns once the addresses of Services work.
func (l *Lab) startServices(ctx, background context.Context, client kubernetes.Interface, log io.Writer) error {
	begun, ended := make(chan struct{}), make(chan error, 1)
	l.running.Go(func() {
		err := services.Run(background, services.Options{Client: client, Command: l.NodeCommand, Log: log}, func() {
			close(begun)
		})
		if err != nil {
			fmt.Fprintln(log, err)
		}
		ended <- err
	})
	select {
	case <-begun:
		return nil
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop stops the fixtures and the cluster.
func (l *Lab) Stop() error {
	l.cancel()
	if l.enforcer != nil {
		l.enforcer.Stop()
		l.enforcer = nil
	}
	l.running.Wait()
	return l.Cluster.Stop()
}

// StartGadgets defines the gadgets in any cluster and runs their controller
// until background is done.
func StartGadgets(ctx, background context.Context, config *rest.Config, log io.Writer, running *sync.WaitGroup) error {
	if err := manifest.Apply(ctx, config, "", todoapp.GadgetDefinition()); err != nil {
		return err
	}
	running.Go(func() {
		if err := gadget.Run(background, config, log); err != nil {
			fmt.Fprintln(log, err)
		}
	})
	return nil
}

// Config reads a kubeconfig for use by tests. Many of them share a client, so it
// does not throttle: the server does, if need be.
func Config(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS = -1
	return config, nil
}
