package contain

import (
	"context"
	"encoding/json"
	"sort"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
)

// quarantine creates, once per namespace, the NetworkPolicy that denies the
// suspects of this incident, and nobody else, everything.
type quarantine struct{ Options }

func (quarantine) Info() steps.Info {
	return steps.Info{Name: StepQuarantine, Phase: Phase,
		Why: "the policy must exist before the label that makes it bite, so that there is no gap"}
}

// PolicyName is the name of an incident's policy in every namespace.
func PolicyName(incident string) string { return "irctl-quarantine-" + incident }

func (q quarantine) Plan(_ context.Context, scene *steps.Scene) (steps.Plan, error) {
	var plan steps.Plan
	byNamespace := map[string][]string{}
	for _, t := range scene.Targets {
		if otherIncident(scene, t) != "" {
			continue // refused by detach, so the policy would select nothing
		}
		byNamespace[t.Pod.Namespace] = append(byNamespace[t.Pod.Namespace], t.Key())
	}
	for _, namespace := range sortedKeys(byNamespace) {
		want := q.policy(scene.Incident, namespace)
		action, needed := q.action(want, find(scene.Around[namespace], want.Name))
		if !needed {
			continue
		}
		action.Targets = byNamespace[namespace]
		plan.Actions = append(plan.Actions, action)
	}
	if q.AllowDNS && len(byNamespace) > 0 {
		plan.Warnings = append(plan.Warnings, steps.Warning{Code: "dns-allowed",
			Text: "DNS stays open as asked: data can leave through names that are looked up"})
	}
	return plan, nil
}

func find(ns *cluster.Namespace, policy string) *networkingv1.NetworkPolicy {
	if ns == nil {
		return nil
	}
	for i := range ns.Policies {
		if ns.Policies[i].Name == policy {
			return &ns.Policies[i]
		}
	}
	return nil
}

func (q quarantine) action(want, live *networkingv1.NetworkPolicy) (steps.Action, bool) {
	manifest := unstructuredOf(want)
	ref := cluster.NetworkPolicy.Named(want.Namespace, want.Name, "")
	a := steps.Action{ID: policyID(want.Namespace), Name: StepQuarantine}
	if live == nil {
		a.Summary = "create " + ref.String() + ": deny all ingress and egress of pods with " + selectorText(want)
		if rules := len(want.Spec.Ingress) + len(want.Spec.Egress); rules > 0 {
			a.Summary = "create " + ref.String() +
				": deny ingress and egress, but for what was asked for, of pods with " + selectorText(want)
		}
		a.Change = change.NewCreate(ref, manifest)
		a.Command = a.Change.Command()
		return a, true
	}
	// The policy is there: of an earlier run, perhaps with other options, or
	// opened by somebody since. What is not as wanted is set right.
	ref.UID = live.UID
	found := unstructuredOf(live)
	edit, needed := change.NewEdit(ref, "", live.ResourceVersion,
		change.Field{Path: []string{"metadata", "labels", IncidentLabel}, Before: anyOf(live.Labels, IncidentLabel),
			After: want.Labels[IncidentLabel]},
		change.Field{Path: []string{"spec"}, Before: found["spec"], After: manifest["spec"]})
	a.Summary = "set " + ref.String() + " to what the quarantine should be"
	a.Command = "printf %s " + change.ShellQuote(jsonText(manifest)) + " | kubectl apply -f -"
	a.Change = edit
	return a, needed
}

func policyID(namespace string) string { return "quarantine " + namespace }

// policy spells out what the server would default, since it is compared.
func (q quarantine) policy(incident, namespace string) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{
			Name: PolicyName(incident), Namespace: namespace,
			Labels: map[string]string{IncidentLabel: incident, "app.kubernetes.io/managed-by": "irctl"},
		},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{QuarantineLabel: QuarantineValue,
				IncidentLabel: incident}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
	var peers []networkingv1.NetworkPolicyPeer
	for _, ns := range q.AllowNamespaces {
		peers = append(peers, networkingv1.NetworkPolicyPeer{NamespaceSelector: namespaceNamed(ns)})
	}
	for _, cidr := range q.AllowCIDRs {
		peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}})
	}
	if peers != nil {
		p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers}}
		p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: peers}}
	}
	if q.AllowDNS {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{
			To:    []networkingv1.NetworkPolicyPeer{{NamespaceSelector: namespaceNamed(metav1.NamespaceSystem)}},
			Ports: []networkingv1.NetworkPolicyPort{port("UDP", 53), port("TCP", 53)},
		})
	}
	return p
}

// namespaceLabel is the label that the API server itself keeps on every
// namespace (KEP-2161), and which nobody can move to another.
const namespaceLabel = "kubernetes.io/metadata.name"

func namespaceNamed(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{namespaceLabel: name}}
}

func unstructuredOf(p *networkingv1.NetworkPolicy) map[string]any {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
	if err != nil {
		panic("a NetworkPolicy that is not convertible: " + err.Error()) // it is a plain struct of the API
	}
	return m
}

func jsonText(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic("a manifest that is not JSON: " + err.Error())
	}
	return string(data)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
