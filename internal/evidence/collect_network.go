package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"irctl/internal/cluster/netpol"
)

// networkCollector takes what leads to the pods and what is let through: for
// each namespace all Services, EndpointSlices, Ingresses and NetworkPolicies,
// and for each pod which of them concern it, with the effective policy.
type networkCollector struct{ *inquiry }

func (c *networkCollector) Name() string { return "network" }

var (
	services        = core("services", "Service")
	endpointSlices  = grouped("discovery.k8s.io", "endpointslices", "EndpointSlice")
	ingresses       = grouped("networking.k8s.io", "ingresses", "Ingress")
	networkPolicies = grouped("networking.k8s.io", "networkpolicies", "NetworkPolicy")
)

func (c *networkCollector) Collect(ctx context.Context, out *Output) error {
	for _, ns := range c.namespaces() {
		n := &networkFacts{}
		lists := []error{
			out.List(ctx, listing{resource: services, namespace: ns}, keepParsed(n, n.service), "namespaces", ns,
				"services.json"),
			out.List(ctx, listing{resource: endpointSlices, namespace: ns}, keepParsed(n, n.slice), "namespaces", ns,
				"endpointslices.json"),
			out.List(ctx, listing{resource: ingresses, namespace: ns}, keepParsed(n, n.ingress), "namespaces", ns,
				"ingresses.json"),
			out.List(ctx, listing{resource: networkPolicies, namespace: ns}, keepParsed(n, n.policy), "namespaces", ns,
				"networkpolicies.json"),
		}
		if n.tooMuch {
			lists = append(lists, fmt.Errorf("%w: more than %d bytes of them in the namespace; not all were considered",
				ErrTruncated, maxNetworkFacts))
		}
		gaps := errors.Join(lists...)
		for p, facts := range c.podsIn(ctx, ns) {
			out.JSON("concluded from the lists of namespace "+ns, n.about(p, facts), gaps, "pods", ns, p.Name,
				"network.json")
		}
	}
	return nil
}

// networkFacts is what matters of a namespace's network, for as long as its
// pods are looked at.
type networkFacts struct {
	services  []serviceFacts
	slices    map[string][]string // pod → slices that list it
	ingresses []ingressFacts
	policies  []networkingv1.NetworkPolicy
	size      int
	tooMuch   bool
}

type serviceFacts struct {
	name, kind string
	selector   labels.Selector
}

type ingressFacts struct {
	name     string
	services []string
}

// maxNetworkFacts bounds what is kept of a namespace, in bytes of JSON.
const maxNetworkFacts = 8 << 20

// keepParsed keeps every item in the bag, and gives it to visit as far as there
// is room. What is no such object is kept, for a person to judge.
func keepParsed[T any](n *networkFacts, visit func(*T)) func(json.RawMessage) (bool, error) {
	return func(item json.RawMessage) (bool, error) {
		if n.size += len(item); n.size > maxNetworkFacts {
			n.tooMuch = true
			return true, nil
		}
		var object T
		if json.Unmarshal(item, &object) == nil {
			visit(&object)
		}
		return true, nil
	}
}

func (n *networkFacts) service(s *corev1.Service) {
	if len(s.Spec.Selector) > 0 {
		n.services = append(n.services, serviceFacts{s.Name, string(s.Spec.Type),
			labels.SelectorFromSet(s.Spec.Selector)})
	}
}

func (n *networkFacts) slice(s *discoveryv1.EndpointSlice) {
	if n.slices == nil {
		n.slices = map[string][]string{}
	}
	for _, e := range s.Endpoints {
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			n.slices[e.TargetRef.Name] = append(n.slices[e.TargetRef.Name], s.Name)
		}
	}
}

func (n *networkFacts) ingress(i *networkingv1.Ingress) {
	facts := ingressFacts{name: i.Name}
	add := func(b *networkingv1.IngressBackend) {
		if b != nil && b.Service != nil {
			facts.services = append(facts.services, b.Service.Name)
		}
	}
	add(i.Spec.DefaultBackend)
	for _, rule := range i.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for _, path := range rule.HTTP.Paths {
			add(&path.Backend)
		}
	}
	n.ingresses = append(n.ingresses, facts)
}

func (n *networkFacts) policy(p *networkingv1.NetworkPolicy) {
	p.ManagedFields = nil
	n.policies = append(n.policies, *p)
}

// networkOf is network.json.
type networkOf struct {
	Services       []string       `json:"services"`
	EndpointSlices []string       `json:"endpointSlices"`
	Ingresses      []string       `json:"ingresses"`
	HostNetwork    bool           `json:"hostNetwork"`
	Verdict        netpol.Verdict `json:"effectivePolicy"`
	Closed         bool           `json:"closed"`
	Note           string         `json:"note"`
}

const networkNote = "As the API describes it. NetworkPolicies are enforced by the network plugin, if by any; they do " +
	"not bind pods of the host's network, nor traffic from the pod's own node."

func (n *networkFacts) about(p *pod, facts *podFacts) networkOf {
	of := networkOf{Services: []string{}, EndpointSlices: n.slices[p.Name], Ingresses: []string{},
		HostNetwork: facts.hostNetwork, Note: networkNote}
	names := map[string]bool{}
	for _, s := range n.services {
		if s.selector.Matches(labels.Set(facts.labels)) {
			of.Services = append(of.Services, s.name+" ("+s.kind+")")
			names[s.name] = true
		}
	}
	for _, i := range n.ingresses {
		if slices.ContainsFunc(i.services, func(s string) bool { return names[s] }) {
			of.Ingresses = append(of.Ingresses, i.name)
		}
	}
	of.Verdict = netpol.Evaluate(netpol.Pod{Namespace: p.Namespace, Labels: facts.labels, IP: facts.ip,
		Ports: facts.ports}, n.policies)
	of.Closed = of.Verdict.Closed()
	return of
}
