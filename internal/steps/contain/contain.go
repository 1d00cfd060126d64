// Package contain cuts a suspect pod off, keeps it alive for forensics, and
// takes its workload down.
//
// The order is what makes it safe: the quarantine policy exists before the
// label by which it selects; the pod is detached, and seen to be released by
// its controller, before the workload is scaled, since scaling would
// otherwise destroy the evidence.
package contain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
)

// Phase is the name of this phase in the journal.
const Phase = "contain"

// The labels and the annotation by which a contained pod is marked. The
// policy selects by both labels: the first is the customary one, the second
// only the suspects of one incident carry.
const (
	QuarantineLabel    = "quarantine"
	QuarantineValue    = "true"
	IncidentLabel      = change.IncidentLabel
	DetachedAnnotation = "irctl/detached"
)

// The names of the steps, in the order in which they run.
const (
	StepSuspend    = "suspend-controllers"
	StepQuarantine = "quarantine"
	StepDetach     = "detach"
	StepScale      = "scale"
	StepCordon     = "cordon"
)

// Options say what to do, and how far.
type Options struct {
	// Steps are the names of the steps to run.
	Steps []string
	// KeepLabels marks the pod but leaves it with its controllers and Services.
	KeepLabels bool
	// Isolated are suspects, by their UIDs, of workloads that are not to be
	// touched: they keep their labels, so that their controller starts no other
	// pod in their place, and it is not scaled.
	Isolated map[types.UID]bool
	// RemoveLabels are further label keys to take off, because a policy that
	// allows selects by them, say.
	RemoveLabels []string
	// AllowEvidenceLoss scales down even if that destroys a suspect.
	AllowEvidenceLoss bool
	// AllowDNS lets the pod reach the cluster's DNS.
	AllowDNS bool
	// AllowNamespaces and AllowCIDRs may reach the pod, and be reached by it, for forensics.
	AllowNamespaces []string
	AllowCIDRs      []string
}

// keepsLabels reports whether a suspect stays with its controllers and Services.
func (o Options) keepsLabels(pod types.UID) bool { return o.KeepLabels || o.Isolated[pod] }

// DefaultSteps are what contain does unless told otherwise.
var DefaultSteps = []string{StepQuarantine, StepDetach, StepScale}

// AllSteps are all there are, in order.
var AllSteps = []string{StepSuspend, StepQuarantine, StepDetach, StepScale, StepCordon}

// Validate tells what is wrong with the options before anything is read or
// written.
func (o Options) Validate() error {
	for _, name := range o.Steps {
		if !slices.Contains(AllSteps, name) {
			return fmt.Errorf("no step %q: there are %s", name, strings.Join(AllSteps, ", "))
		}
	}
	for _, key := range o.RemoveLabels {
		if msgs := validation.IsQualifiedName(key); len(msgs) > 0 {
			return fmt.Errorf("label %q: %s", key, strings.Join(msgs, "; "))
		}
		if key == QuarantineLabel || key == IncidentLabel {
			return fmt.Errorf("label %s is what the quarantine selects by; it cannot be taken off", key)
		}
	}
	for _, ns := range o.AllowNamespaces {
		if msgs := validation.IsDNS1123Label(ns); len(msgs) > 0 {
			return fmt.Errorf("namespace %q: %s", ns, strings.Join(msgs, "; "))
		}
	}
	for _, cidr := range o.AllowCIDRs {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			return fmt.Errorf("%q is not an address range such as 10.1.2.0/24: %w", cidr, err)
		}
	}
	return nil
}

// Steps makes the steps of the options, in the order in which they must run.
func Steps(o Options) ([]steps.Step, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	all := map[string]steps.Step{
		StepSuspend:    suspendControllers{},
		StepQuarantine: quarantine{o},
		StepDetach:     detach{o},
		StepScale:      stop{o},
		StepCordon:     cordon{},
	}
	var list []steps.Step
	for _, name := range AllSteps {
		if slices.Contains(o.Steps, name) {
			list = append(list, all[name])
		}
	}
	return list, nil
}

// Stoppable are the controllers of a chain that the step scale takes down.
func Stoppable(chain []*cluster.Owner) []*cluster.Owner {
	owners, _ := toStop(chain) // its plan has warned of what cannot be stopped
	return owners
}
