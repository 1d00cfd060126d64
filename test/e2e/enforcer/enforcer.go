// Package enforcer makes NetworkPolicies bite on the test node.
//
// The usual enforcers need kernel features that test machines lack, so this is a
// fixture: it watches pods, namespaces and policies, asks an independent
// implementation of the policy semantics (cyclonus) about every pair of pods, and
// writes the verdicts as iptables rules. It knows nothing of irctl, on purpose.
package enforcer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

// Options say what to enforce, and where.
type Options struct {
	Client kubernetes.Interface
	// Command prepares a command that runs in the node's network namespace.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd
	// PodCIDR is the range of pod addresses. Packets of others pass.
	PodCIDR string
	// Outside are addresses beyond the cluster that pods may talk to when their
	// policies allow it. Everything else beyond the cluster is out of reach.
	Outside []string
	Log     io.Writer
}

// An Enforcer keeps the node's packet filter in line with the policies.
type Enforcer struct {
	options    Options
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister
	changed    chan struct{}
	stop       context.CancelFunc
	done       chan struct{}

	judge   judge
	applied ruleset
}

// settle lets a burst of changes (a rollout, say) end before rules are made.
const settle = 50 * time.Millisecond

// Start begins to enforce and returns when the present policies are in force.
func Start(ctx context.Context, options Options) (*Enforcer, error) {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactory(options.Client, 0)
	e := &Enforcer{
		options:    options,
		pods:       factory.Core().V1().Pods().Lister(),
		namespaces: factory.Core().V1().Namespaces().Lister(),
		policies:   factory.Networking().V1().NetworkPolicies().Lister(),
		changed:    make(chan struct{}, 1),
		stop:       cancel,
		done:       make(chan struct{}),
	}
	note := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { e.note() },
		UpdateFunc: func(any, any) { e.note() },
		DeleteFunc: func(any) { e.note() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Namespaces().Informer(),
		factory.Networking().V1().NetworkPolicies().Informer(),
	} {
		if _, err := informer.AddEventHandler(note); err != nil {
			cancel()
			return nil, fmt.Errorf("start enforcer: %w", err)
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			cancel()
			return nil, fmt.Errorf("start enforcer: no list of %s", kind)
		}
	}
	if err := e.hook(ctx); err != nil {
		cancel()
		return nil, fmt.Errorf("start enforcer: %w", err)
	}
	if err := e.enforce(ctx); err != nil {
		cancel()
		return nil, fmt.Errorf("start enforcer: %w", err)
	}
	go e.run(ctx)
	return e, nil
}

// Stop stops watching. The rules stay, as they do when a real agent dies.
func (e *Enforcer) Stop() {
	e.stop()
	<-e.done
}

func (e *Enforcer) note() {
	select {
	case e.changed <- struct{}{}:
	default: // one is pending already
	}
}

func (e *Enforcer) run(ctx context.Context) {
	defer close(e.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.changed:
		}
		time.Sleep(settle)
		if err := e.enforce(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(e.options.Log, "enforcer:", err)
			time.Sleep(settle)
			e.note() // try again
		}
	}
}

// hook sends all forwarded packets through the enforcer's chain.
func (e *Enforcer) hook(ctx context.Context) error {
	rules := fmt.Sprintf("*filter\n:%[1]s - [0:0]\n-A FORWARD -j %[1]s\nCOMMIT\n", chain)
	return e.command(ctx, rules, "iptables-restore", "--noflush", "--wait")
}

// enforce brings the rules in line with the present policies.
func (e *Enforcer) enforce(ctx context.Context) error {
	pods, err := e.pods.List(labels.Everything())
	if err != nil {
		return err
	}
	namespaces, err := e.namespaces.List(labels.Everything())
	if err != nil {
		return err
	}
	policies, err := e.policies.List(labels.Everything())
	if err != nil {
		return err
	}
	began := time.Now()
	rules := makeRules(e.options, &e.judge, pods, namespaces, policies)
	if rules.text == e.applied.text {
		return nil
	}
	// One transaction: no packet sees a half-written chain.
	if err := e.command(ctx, rules.text, "iptables-restore", "--noflush", "--wait"); err != nil {
		return err
	}
	stale := rules.lostSince(e.applied)
	e.applied = rules
	for _, who := range stale {
		if err := e.cut(ctx, who); err != nil {
			return err
		}
	}
	fmt.Fprintf(e.options.Log, "enforcer: %d rules for %d pods and %d policies in %s; connections cut of %v\n",
		strings.Count(rules.text, "-A "), len(rules.pods), len(policies), time.Since(began).Round(time.Millisecond),
		stale)
	return nil
}

// cut makes the kernel forget the connections of a pair. Their next packets are
// judged like those of new ones.
func (e *Enforcer) cut(ctx context.Context, who pair) error {
	err := e.command(ctx, "", "conntrack", "-D", "--orig-src", who.from, "--orig-dst", who.to)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil // there was none to forget
	}
	return err
}

func (e *Enforcer) command(ctx context.Context, input, name string, args ...string) error {
	command := e.options.Command(ctx, name, args...)
	command.Stdin = strings.NewReader(input)
	var problems bytes.Buffer
	command.Stderr = &problems
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, problems.String())
	}
	return nil
}
