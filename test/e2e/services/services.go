// Package services makes the addresses of Services work on the test node.
//
// It stands for kube-proxy, and does the least that the tests need: TCP to the
// address of a Service goes to one of its ready endpoints. It is built on the
// same objects and the same kind of rules; policies judge a packet after it, as
// they do with kube-proxy.
package services

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Options say whose Services, and where.
type Options struct {
	Client kubernetes.Interface
	// Command prepares a command that runs in the node's network namespace.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd
	Log     io.Writer
}

// chain holds the rules.
const chain = "IRCTL-E2E-SERVICES"

// settle lets a burst of changes end before rules are made.
const settle = 50 * time.Millisecond

// Run keeps the rules in line with the Services until ctx is done. It calls
// ready when it has begun.
func Run(ctx context.Context, options Options, ready func()) error {
	factory := informers.NewSharedInformerFactory(options.Client, 0)
	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default: // one is pending already
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { note() },
		UpdateFunc: func(any, any) { note() },
		DeleteFunc: func(any) { note() },
	}
	services, endpointSlices := factory.Core().V1().Services(), factory.Discovery().V1().EndpointSlices()
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), endpointSlices.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("services: %w", err)
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	hook := fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-A PREROUTING -j %[1]s\n-A OUTPUT -j %[1]s\nCOMMIT\n", chain)
	if err := restore(ctx, options, hook); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	ready()
	var applied string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		time.Sleep(settle)
		all, err := services.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("services: %w", err)
		}
		endpoints, err := endpointSlices.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("services: %w", err)
		}
		text := rules(all, endpoints)
		if text == applied {
			continue
		}
		if err := restore(ctx, options, text); err != nil {
			if ctx.Err() == nil {
				fmt.Fprintln(options.Log, "services:", err)
				time.Sleep(settle)
				note() // try again
			}
			continue
		}
		applied = text
	}
}

// rules are the contents of the chain, in the order that does not depend on
// that of the lists.
func rules(services []*corev1.Service, endpoints []*discoveryv1.EndpointSlice) string {
	var lines []string
	for _, service := range services {
		if net.ParseIP(service.Spec.ClusterIP) == nil {
			continue // headless
		}
		for _, port := range service.Spec.Ports {
			if port.Protocol == corev1.ProtocolTCP {
				lines = append(lines, toPort(service, port, endpoints)...)
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(address(a), address(b)) })
	return fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-F %[1]s\n%[2]sCOMMIT\n", chain, strings.Join(lines, ""))
}

// address is what two rules of one port have in common.
func address(rule string) string {
	before, _, _ := strings.Cut(rule, " -m ")
	before, _, _ = strings.Cut(before, " -j ")
	return before
}

// toPort sends what comes to a port of a Service to each of its endpoints with
// the same probability.
func toPort(service *corev1.Service, port corev1.ServicePort, endpoints []*discoveryv1.EndpointSlice) []string {
	var to []string
	for _, slice := range endpoints {
		if slice.Namespace != service.Namespace || slice.Labels[discoveryv1.LabelServiceName] != service.Name {
			continue
		}
		for _, target := range slice.Ports {
			if target.Port == nil || target.Name != nil && *target.Name != port.Name {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready && len(endpoint.Addresses) > 0 {
					to = append(to, net.JoinHostPort(endpoint.Addresses[0], strconv.Itoa(int(*target.Port))))
				}
			}
		}
	}
	slices.Sort(to)
	var lines []string
	for n, target := range to {
		share := ""
		if rest := len(to) - n; rest > 1 {
			share = fmt.Sprintf(" -m statistic --mode random --probability %.5f", 1/float64(rest))
		}
		lines = append(lines, fmt.Sprintf("-A %s -d %s/32 -p tcp --dport %d%s -j DNAT --to-destination %s\n", chain,
			service.Spec.ClusterIP, port.Port, share, target))
	}
	return lines
}

func restore(ctx context.Context, options Options, rules string) error {
	command := options.Command(ctx, "iptables-restore", "--noflush", "--wait")
	command.Stdin = strings.NewReader(rules)
	var problems bytes.Buffer
	command.Stderr = &problems
	if err := command.Run(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, problems.String())
	}
	return nil
}
