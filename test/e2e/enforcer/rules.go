package enforcer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// The chain that judges every forwarded packet, and the one it sends those to
// whose sender no policy binds.
const (
	chain     = "IRCTL-E2E-POLICY"
	freeChain = "IRCTL-E2E-FREE"
)

// A ruleset is the content of both chains, and what they permit.
type ruleset struct {
	text    string
	permits map[string]pair // by the rule that says it
	pods    map[string]bool // by address
}

// A pair is who may dial whom.
type pair struct{ from, to string }

// lostSince returns the pairs that had a permission before which they have no
// longer, although both still exist.
func (r ruleset) lostSince(before ruleset) []pair {
	lost := map[pair]bool{}
	for rule, who := range before.permits {
		if _, still := r.permits[rule]; !still && r.exists(who.from, before) && r.exists(who.to, before) {
			lost[who] = true
		}
	}
	return slices.SortedFunc(maps.Keys(lost), func(a, b pair) int { return strings.Compare(a.from+a.to, b.from+b.to) })
}

// exists tells whether an address is not one of a pod that is gone.
func (r ruleset) exists(address string, before ruleset) bool {
	return r.pods[address] || !before.pods[address]
}

// makeRules turns policies into the rules that permit what they allow.
func makeRules(options Options, j *judge, pods []*corev1.Pod, namespaces []*corev1.Namespace,
	policies []*networkingv1.NetworkPolicy) ruleset {
	j.read(policies)
	inside := podEnds(pods, namespaces)
	ends := append(slices.Clone(inside), outsideEnds(options.Outside)...)

	rules := ruleset{permits: map[string]pair{}, pods: map[string]bool{}}
	for _, pod := range inside {
		rules.pods[pod.ip] = true
	}
	var particular []string
	for _, from := range ends {
		for _, to := range ends {
			if from.ip == to.ip || !from.isPod() && !to.isPod() {
				continue
			}
			bound := j.binds(from, to)
			matches := []string{""} // everything
			if bound {
				matches = j.allowed(from, to)
			}
			for _, match := range matches {
				rule := fmt.Sprintf("-A %s -s %s/32 -d %s/32%s -j ACCEPT", chain, from.ip, to.ip, match)
				rules.permits[rule] = pair{from.ip, to.ip}
				if bound {
					particular = append(particular, rule)
				}
			}
		}
	}
	j.forgetUnused()

	var text strings.Builder
	fmt.Fprintf(&text, "*filter\n:%s - [0:0]\n:%s - [0:0]\n", chain, freeChain)
	// Answers belong to connections that were permitted when they began. Those
	// that no longer are get cut: see Enforcer.cut.
	fmt.Fprintf(&text, "-A %s -m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY -j ACCEPT\n", chain)
	for _, rule := range particular {
		fmt.Fprintln(&text, rule)
	}
	// Most pods of a cluster are bound by nothing. A rule for each, rather than
	// for each pair, keeps the chains short.
	for _, each := range ends {
		if !j.isolates(each, egress) {
			fmt.Fprintf(&text, "-A %s -s %s/32 -j %s\n", chain, each.ip, freeChain)
		}
		if !j.isolates(each, ingress) {
			fmt.Fprintf(&text, "-A %s -d %s/32 -j ACCEPT\n", freeChain, each.ip)
		}
	}
	// What no rule permits, and what comes from pods not known yet.
	fmt.Fprintf(&text, "-A %s -s %s -j DROP\n-A %s -d %s -j DROP\nCOMMIT\n", chain, options.PodCIDR, chain,
		options.PodCIDR)
	rules.text = text.String()
	return rules
}

// podEnds are the pods that policies bind: those with an address of their own.
func podEnds(pods []*corev1.Pod, namespaces []*corev1.Namespace) []end {
	labels := map[string]map[string]string{}
	for _, namespace := range namespaces {
		labels[namespace.Name] = namespace.Labels
	}
	var ends []end
	for _, pod := range pods {
		over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if pod.Spec.HostNetwork || pod.Status.PodIP == "" || over {
			continue // an address may already belong to another pod
		}
		ends = append(ends, podEnd(pod, labels[pod.Namespace]))
	}
	slices.SortFunc(ends, func(a, b end) int { return strings.Compare(a.ip, b.ip) })
	return ends
}

func outsideEnds(addresses []string) []end {
	var ends []end
	for _, address := range addresses {
		ends = append(ends, outsideEnd(address))
	}
	return ends
}

func namedPorts(pod *corev1.Pod) map[portKey]string {
	named := map[portKey]string{}
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			protocol := port.Protocol
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			named[portKey{protocol, int(port.ContainerPort)}] = port.Name
		}
	}
	return named
}

// policyBounds are the ports at which a verdict of these policies may change:
// between two of them it cannot, so one question answers for all.
func policyBounds(policies []*networkingv1.NetworkPolicy) []int {
	bounds := map[int]bool{1: true, 65536: true}
	addAll := func(ports []networkingv1.NetworkPolicyPort) {
		for _, port := range ports {
			if port.Port == nil || port.Port.IntValue() == 0 {
				continue // every port, or a name: names are the pods'
			}
			to := port.Port.IntValue()
			if port.EndPort != nil {
				to = int(*port.EndPort)
			}
			bounds[port.Port.IntValue()], bounds[to+1] = true, true
		}
	}
	for _, policy := range policies {
		for _, rule := range policy.Spec.Ingress {
			addAll(rule.Ports)
		}
		for _, rule := range policy.Spec.Egress {
			addAll(rule.Ports)
		}
	}
	return slices.Sorted(maps.Keys(bounds))
}
