package contain

import (
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"irctl/internal/change"
)

// kubectl joins the words of a command, each quoted.
func kubectl(words ...string) string {
	for i, w := range words {
		words[i] = change.ShellQuote(w)
	}
	return "kubectl " + strings.Join(words, " ")
}

func selectorText(p *networkingv1.NetworkPolicy) string {
	var parts []string
	for k, v := range p.Spec.PodSelector.MatchLabels {
		parts = append(parts, k+"="+v)
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}

func port(protocol corev1.Protocol, number int32) networkingv1.NetworkPolicyPort {
	n := intstr.FromInt32(number)
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &n}
}

// anyOf is the value of a key, or nil: a change tells "" from absent.
func anyOf(m map[string]string, key string) any {
	if v, ok := m[key]; ok {
		return v
	}
	return nil
}

func join(list []string) string { return strings.Join(list, ", ") }
