package enforcer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// An end is one side of a connection: a pod, or an address outside.
type end struct {
	ip        string
	namespace string // "": outside
	peer      *matcher.TrafficPeer
	named     map[portKey]string
	identity  string // everything about it that a verdict can depend on
}

type portKey struct {
	protocol corev1.Protocol
	port     int
}

func (e end) isPod() bool { return e.namespace != "" }

func podEnd(pod *corev1.Pod, namespaceLabels map[string]string) end {
	named := namedPorts(pod)
	return end{
		ip:        pod.Status.PodIP,
		namespace: pod.Namespace,
		peer: &matcher.TrafficPeer{
			IP: pod.Status.PodIP,
			Internal: &matcher.InternalPeer{PodLabels: pod.Labels, Namespace: pod.Namespace,
				NamespaceLabels: namespaceLabels},
		},
		named: named,
		// fmt prints maps sorted.
		identity: fmt.Sprintf("%s %s %q %q %v", pod.Status.PodIP, pod.Namespace, pod.Labels, namespaceLabels, named),
	}
}

func outsideEnd(address string) end {
	return end{ip: address, peer: &matcher.TrafficPeer{IP: address}, identity: address}
}

type direction bool

const (
	ingress direction = true
	egress  direction = false
)

// A judge says what policies allow between two ends. It asks cyclonus, which is
// slow, only about pairs where something changed since it was asked last.
type judge struct {
	namespaces map[string]*namespaceRules
	known      map[string][]string // the verdicts of the last round
	used       map[string][]string // those of this round
}

// namespaceRules are the policies of one namespace. They alone bind its pods.
type namespaceRules struct {
	policy   *matcher.Policy
	bounds   []int
	revision string
}

var noRules = &namespaceRules{policy: matcher.NewPolicy(), bounds: policyBounds(nil)}

// read takes note of the present policies.
func (j *judge) read(policies []*networkingv1.NetworkPolicy) {
	j.namespaces, j.used = map[string]*namespaceRules{}, map[string][]string{}
	byNamespace := map[string][]*networkingv1.NetworkPolicy{}
	for _, policy := range policies {
		byNamespace[policy.Namespace] = append(byNamespace[policy.Namespace], policy)
	}
	for namespace, own := range byNamespace {
		slices.SortFunc(own, func(a, b *networkingv1.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
		var revision strings.Builder
		for _, policy := range own {
			fmt.Fprintf(&revision, "%s@%s ", policy.UID, policy.ResourceVersion)
		}
		j.namespaces[namespace] = &namespaceRules{
			policy:   matcher.BuildNetworkPolicies(false, own),
			bounds:   policyBounds(own),
			revision: revision.String(),
		}
	}
}

// forgetUnused drops the verdicts about pods and policies that are gone.
func (j *judge) forgetUnused() { j.known, j.used = j.used, nil }

func (j *judge) rules(e end) *namespaceRules {
	if rules := j.namespaces[e.namespace]; rules != nil {
		return rules
	}
	return noRules
}

// isolates tells whether a policy binds what an end sends or receives.
func (j *judge) isolates(e end, d direction) bool {
	return e.isPod() && len(j.rules(e).policy.TargetsApplyingToPod(bool(d), e.namespace, e.peer.Internal.PodLabels)) > 0
}

// binds tells whether a policy binds what flows from one end to the other.
func (j *judge) binds(from, to end) bool { return j.isolates(from, egress) || j.isolates(to, ingress) }

// allowed returns the iptables matches for what may flow from one end to the
// other. A single empty match stands for everything, ICMP included.
func (j *judge) allowed(from, to end) []string {
	key := strings.Join([]string{from.identity, j.rules(from).revision, to.identity, j.rules(to).revision}, "|")
	verdict, known := j.known[key]
	if !known {
		verdict = j.ask(from, to)
	}
	j.used[key] = verdict
	return verdict
}

func (j *judge) ask(from, to end) []string {
	var matches []string
	everything := true
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
		ranges := j.allowedPorts(from, to, protocol)
		everything = everything && slices.Equal(ranges, []string{"1:65535"})
		for _, ports := range ranges {
			matches = append(matches, fmt.Sprintf(" -p %s --dport %s", strings.ToLower(string(protocol)), ports))
		}
	}
	if everything {
		return []string{""}
	}
	return matches
}

// allowedPorts are the port ranges (FROM:TO) that may be dialled, merged.
func (j *judge) allowedPorts(from, to end, protocol corev1.Protocol) []string {
	bounds := slices.Concat(j.rules(from).bounds, j.rules(to).bounds)
	for key := range to.named {
		bounds = append(bounds, key.port, key.port+1)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)

	var ranges []string
	start := 0 // of the allowed range we are in, if any
	for i, port := range bounds {
		open := false
		if i < len(bounds)-1 { // the last bound is the end of all ports
			traffic := &matcher.Traffic{
				Source:           from.peer,
				Destination:      to.peer,
				ResolvedPort:     port,
				ResolvedPortName: to.named[portKey{protocol, port}],
				Protocol:         protocol,
			}
			open = j.rules(from).policy.IsIngressOrEgressAllowed(traffic, bool(egress)).IsAllowed() &&
				j.rules(to).policy.IsIngressOrEgressAllowed(traffic, bool(ingress)).IsAllowed()
		}
		switch {
		case open && start == 0:
			start = port
		case !open && start != 0:
			ranges = append(ranges, fmt.Sprintf("%d:%d", start, port-1))
			start = 0
		}
	}
	return ranges
}
