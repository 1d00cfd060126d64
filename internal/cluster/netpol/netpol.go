// Package netpol evaluates NetworkPolicies for one pod: which of them select
// it, and what they together still let in and out. It is pure: objects in,
// verdict out.
//
// The semantics are those of the API's own documentation
// (https://kubernetes.io/docs/concepts/services-networking/network-policies/
// and the comments of k8s.io/api/networking/v1): a pod is isolated in a
// direction as soon as one policy that selects it has that policy type, and
// then what any rule of any such policy allows is allowed. Policies add up;
// none can take away.
package netpol

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Verdict is the effective policy of one pod.
type Verdict struct {
	// Selecting are the policies that select the pod, by name.
	Selecting []string
	// Unreadable are those whose selector is malformed. What they would let
	// through is unknown, so each counts as an opening in both directions.
	Unreadable []string
	Ingress    Direction
	Egress     Direction
}

// Direction is what passes one way.
type Direction struct {
	// Isolated: some policy governs this direction. Otherwise all passes.
	Isolated bool
	// Open are the rules that let something pass.
	Open []Opening
}

// Closed reports that nothing passes.
func (d Direction) Closed() bool { return d.Isolated && len(d.Open) == 0 }

// Opening is one rule that lets something pass.
type Opening struct {
	Policy string
	// Rule is the index of the rule in the policy's list of that direction.
	Rule int
	// Peers and Ports are for people, bounded in length.
	Peers, Ports string
	// SelectedBy is the policy's pod selector; LabelKeys are the labels of the
	// pod without which it would not select the pod. None: it would still.
	SelectedBy string
	LabelKeys  []string
	// Selector is the policy's pod selector itself.
	Selector metav1.LabelSelector

	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

// Pod is what of a pod matters to policies.
type Pod struct {
	Namespace       string
	NamespaceLabels map[string]string
	Labels          map[string]string
	IP              string
	// Ports are the container ports, by which rules may name a port.
	Ports []corev1.ContainerPort
}

// PodOf takes from a pod what matters. Its namespace's labels, needed only of
// peers, the caller adds.
func PodOf(p *corev1.Pod) Pod {
	out := Pod{Namespace: p.Namespace, Labels: p.Labels, IP: p.Status.PodIP}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		out.Ports = append(out.Ports, c.Ports...)
	}
	return out
}

// Evaluate finds the effective policy of a pod. Policies of other namespaces
// are passed over.
func Evaluate(pod Pod, policies []networkingv1.NetworkPolicy) Verdict {
	var v Verdict
	for i := range policies {
		p := &policies[i]
		if p.Namespace != pod.Namespace {
			continue
		}
		sel, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if err != nil {
			v.unreadable(p, err)
			continue
		}
		if !sel.Matches(labels.Set(pod.Labels)) {
			continue
		}
		v.Selecting = append(v.Selecting, p.Name)
		keys, ok := KeysToRemove(sel, pod.Labels)
		if !ok {
			keys = nil
		}
		by := "every pod of the namespace"
		if !sel.Empty() {
			by = short(sel.String())
		}
		ingress, egress := Types(p)
		if ingress {
			v.Ingress.Isolated = true
			for n, r := range p.Spec.Ingress {
				v.Ingress.Open = append(v.Ingress.Open, opening(p, n, by, keys, r.From, r.Ports))
			}
		}
		if egress {
			v.Egress.Isolated = true
			for n, r := range p.Spec.Egress {
				v.Egress.Open = append(v.Egress.Open, opening(p, n, by, keys, r.To, r.Ports))
			}
		}
	}
	sort.Strings(v.Selecting)
	return v
}

// Types are the directions that a policy governs. Where policyTypes is empty:
// ingress always, egress if there are egress rules.
func Types(p *networkingv1.NetworkPolicy) (ingress, egress bool) {
	if len(p.Spec.PolicyTypes) == 0 {
		return true, len(p.Spec.Egress) > 0
	}
	return slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress),
		slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

func (v *Verdict) unreadable(p *networkingv1.NetworkPolicy, err error) {
	v.Unreadable = append(v.Unreadable, p.Name)
	o := Opening{Policy: p.Name, Peers: "unknown peers", Ports: "unknown ports",
		SelectedBy: short("a selector that cannot be read: " + err.Error())}
	v.Ingress.Open = append(v.Ingress.Open, o)
	v.Egress.Open = append(v.Egress.Open, o)
}

func opening(p *networkingv1.NetworkPolicy, rule int, by string, keys []string, peers []networkingv1.NetworkPolicyPeer,
	ports []networkingv1.NetworkPolicyPort) Opening {
	return Opening{Policy: p.Name, Rule: rule, SelectedBy: by, LabelKeys: keys, Selector: p.Spec.PodSelector,
		Peers: peersText(p.Namespace, peers), Ports: portsText(ports), peers: peers, ports: ports}
}

// Closed reports that nothing passes in either direction.
func (v Verdict) Closed() bool { return v.Ingress.Closed() && v.Egress.Closed() }

// Admits reports whether peer may connect to the pod at a port.
func (v Verdict) Admits(pod, peer Pod, protocol corev1.Protocol, port int32) bool {
	return v.Ingress.passes(pod.Namespace, peer, pod.Ports, protocol, port)
}

// Reaches reports whether the pod may connect to a port of the peer. Whether
// the peer lets it in is the peer's own verdict.
func (v Verdict) Reaches(pod, peer Pod, protocol corev1.Protocol, port int32) bool {
	return v.Egress.passes(pod.Namespace, peer, peer.Ports, protocol, port)
}

// passes: named is the pod that is connected to, whose container ports the
// names of ports mean.
func (d Direction) passes(namespace string, peer Pod, named []corev1.ContainerPort, protocol corev1.Protocol,
	port int32) bool {
	if !d.Isolated {
		return true
	}
	for _, o := range d.Open {
		if matchesPeer(namespace, o.peers, peer) && matchesPort(o.ports, named, protocol, port) {
			return true
		}
	}
	return false
}

func matchesPeer(namespace string, peers []networkingv1.NetworkPolicyPeer, peer Pod) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			return inBlock(p.IPBlock, peer.IP)
		}
		if peer.Namespace == "" || p.NamespaceSelector == nil && peer.Namespace != namespace {
			return false // an address that is no pod's is in no namespace
		}
		return selects(p.NamespaceSelector, peer.NamespaceLabels) && selects(p.PodSelector, peer.Labels)
	})
}

// selects: a selector that is absent says nothing, one that is malformed
// is taken for one that matches, since it must never be read as closed.
func selects(s *metav1.LabelSelector, set map[string]string) bool {
	if s == nil {
		return true
	}
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err != nil || sel.Matches(labels.Set(set))
}

func inBlock(b *networkingv1.IPBlock, ip string) bool {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return false
	}
	if block, err := netip.ParsePrefix(b.CIDR); err != nil || !block.Contains(addr) {
		return false
	}
	return !slices.ContainsFunc(b.Except, func(e string) bool {
		except, err := netip.ParsePrefix(e)
		return err == nil && except.Contains(addr)
	})
}

func matchesPort(ports []networkingv1.NetworkPolicyPort, named []corev1.ContainerPort, protocol corev1.Protocol,
	port int32) bool {
	if len(ports) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		want := corev1.ProtocolTCP
		if p.Protocol != nil {
			want = *p.Protocol
		}
		if want != protocol {
			return false
		}
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			return slices.ContainsFunc(named, func(c corev1.ContainerPort) bool {
				served := c.Protocol
				if served == "" {
					served = corev1.ProtocolTCP
				}
				return c.Name == p.Port.StrVal && c.ContainerPort == port && served == protocol
			})
		case p.EndPort != nil:
			return port >= p.Port.IntVal && port <= *p.EndPort
		}
		return p.Port.IntVal == port
	})
}

// most bounds how many peers, ports or exceptions a text lists, and maxText
// its length in runes.
const (
	most    = 6
	maxText = 300
)

func short(s string) string {
	r := []rune(s)
	if len(r) <= maxText {
		return s
	}
	return string(r[:maxText]) + "…"
}

func list(parts []string) string {
	if len(parts) > most {
		parts = append(slices.Clone(parts[:most]), fmt.Sprintf("and %d more", len(parts)-most))
	}
	return short(strings.Join(parts, ", "))
}

func peersText(namespace string, peers []networkingv1.NetworkPolicyPeer) string {
	if len(peers) == 0 {
		return "everyone"
	}
	var parts []string
	for _, p := range peers {
		parts = append(parts, peerText(namespace, p))
	}
	return list(parts)
}

func peerText(namespace string, p networkingv1.NetworkPolicyPeer) string {
	if p.IPBlock != nil {
		if len(p.IPBlock.Except) > 0 {
			return p.IPBlock.CIDR + " except " + list(p.IPBlock.Except)
		}
		return p.IPBlock.CIDR
	}
	pods := "all pods"
	if p.PodSelector != nil && selectorText(p.PodSelector) != "" {
		pods = "pods " + selectorText(p.PodSelector)
	}
	switch {
	case p.NamespaceSelector == nil:
		return pods + " in namespace " + namespace
	case selectorText(p.NamespaceSelector) == "":
		return pods + " in any namespace"
	}
	return pods + " in namespaces " + selectorText(p.NamespaceSelector)
}

func selectorText(s *metav1.LabelSelector) string {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "(unreadable selector)"
	}
	return short(sel.String())
}

func portsText(ports []networkingv1.NetworkPolicyPort) string {
	if len(ports) == 0 {
		return "all ports"
	}
	var parts []string
	for _, p := range ports {
		protocol := "TCP"
		if p.Protocol != nil {
			protocol = string(*p.Protocol)
		}
		switch {
		case p.Port == nil:
			parts = append(parts, protocol+", every port")
		case p.EndPort != nil:
			parts = append(parts, fmt.Sprintf("%s/%s-%d", protocol, p.Port.String(), *p.EndPort))
		default:
			parts = append(parts, protocol+"/"+p.Port.String())
		}
	}
	return list(parts)
}
