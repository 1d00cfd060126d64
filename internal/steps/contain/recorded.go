package contain

import (
	"encoding/json"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

// Recorded is a change of this phase that the journal says stands.
type Recorded struct {
	Step   string
	Change change.Change
}

// OptionsOf reads from what was done what was meant: the steps, whether the
// suspects were to keep their labels, and what the quarantine was to let through.
func OptionsOf(done []Recorded) Options {
	o := Options{KeepLabels: true}
	for _, r := range done {
		if !slices.Contains(AllSteps, r.Step) {
			continue // of another phase
		}
		if !slices.Contains(o.Steps, r.Step) {
			o.Steps = append(o.Steps, r.Step)
		}
		switch r.Step {
		case StepDetach:
			o.KeepLabels = o.KeepLabels && !Detaches(r.Change)
		case StepQuarantine:
			o.allow(quarantineSpec(r.Change))
		}
	}
	return o
}

// quarantineSpec is the policy that a change of the step quarantine made.
func quarantineSpec(c change.Change) networkingv1.NetworkPolicySpec {
	var raw any
	if c.IsCreate() {
		raw = c.Manifest["spec"]
	}
	for _, f := range c.Fields {
		if len(f.Path) == 1 && f.Path[0] == "spec" {
			raw = f.After
		}
	}
	var spec networkingv1.NetworkPolicySpec
	data, err := json.Marshal(raw)
	if err != nil || json.Unmarshal(data, &spec) != nil {
		return networkingv1.NetworkPolicySpec{} // it allows nothing: what is open then counts as open
	}
	return spec
}

// allow turns the rules that quarantine.policy makes back into the options that
// they were made from; the last policy written is the one that was meant.
func (o *Options) allow(spec networkingv1.NetworkPolicySpec) {
	o.AllowDNS, o.AllowNamespaces, o.AllowCIDRs = false, nil, nil
	for _, rule := range spec.Egress {
		o.AllowDNS = o.AllowDNS || len(rule.Ports) > 0
	}
	for _, rule := range spec.Ingress {
		for _, peer := range rule.From {
			switch {
			case peer.IPBlock != nil:
				o.AllowCIDRs = append(o.AllowCIDRs, peer.IPBlock.CIDR)
			case peer.NamespaceSelector != nil:
				o.AllowNamespaces = append(o.AllowNamespaces, peer.NamespaceSelector.MatchLabels[namespaceLabel])
			}
		}
	}
}

// intact names the incident's own policy if it is there as it was asked for,
// and nobody has opened it since; else "".
func (o Options) intact(incident, namespace string, policies []networkingv1.NetworkPolicy) string {
	want := quarantine{o}.policy(incident, namespace)
	live := find(&cluster.Namespace{Policies: policies}, want.Name)
	if live == nil || !equality.Semantic.DeepEqual(live.Spec, want.Spec) {
		return ""
	}
	return want.Name
}
