package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/rotate"
	"irctl/internal/steps/contain"
)

// Stray is an object that carries an incident's label, and of which the incident's
// journal knows nothing that stands: the journal has lost entries, or somebody copied
// the label. Its JSON form is documented and stable.
type Stray struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Object    string `json:"object"`
	// Undo is the command that takes it back by hand.
	Undo string `json:"undo"`
	// Accepted: somebody took it upon himself, and it weighs no more.
	Accepted *record.Accepted `json:"accepted,omitempty"`
}

// labelled are the kinds of objects that irctl creates or marks with an incident's
// label. Those of containment come first.
var labelled = []cluster.Ref{cluster.Pod, cluster.NetworkPolicy, cluster.Node, rotate.SecretRef, rotate.AccountRef}

// containing is how many of them are of containment.
const containing = 3

// reach is of which kinds it matters that they could not be looked at.
type reach int

const (
	ofContainment reach = iota // an answer about containment needs no more
	ofAll
)

// strays looks in the whole cluster for what carries an incident's label and is not
// among what its journal says that stands; if that may not be read, in the incident's
// namespaces. gaps are what could not be looked at.
func (e *Engine) strays(ctx context.Context, i incident.Incident, told *casefile.Case, far reach) (list []Stray,
	gaps []string) {
	known, accepted := knownObjects(told), acceptedIn(told)
	found, failed := make([][]Stray, len(labelled)), make([]error, len(labelled))
	cluster.Parallel(len(labelled), func(n int) {
		var objects []metav1.PartialObjectMetadata
		objects, failed[n] = e.carriers(ctx, labelled[n], i)
		for _, o := range objects {
			if ref := labelled[n].Named(o.GetNamespace(), o.GetName(), o.GetUID()); !known[keyOf(ref)] {
				found[n] = append(found[n], Stray{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name,
					UID:    string(ref.UID),
					Object: ref.String(), Undo: byHand(ref, &o), Accepted: accepted(casefile.Stray, ref.String())})
			}
		}
	})
	for n, err := range failed {
		if err != nil && (n < containing || far == ofAll) {
			gaps = append(gaps, "whether more carries the incident's label is not known: "+err.Error())
		}
	}
	return slices.Concat(found...), gaps
}

// keyOf names an object; one that the journal knows without its UID is any of its name.
func keyOf(r cluster.Ref) string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// knownObjects are those that stand changed, or were made, by the journal.
func knownObjects(told *casefile.Case) map[string]bool {
	known := map[string]bool{}
	for _, s := range standing(told) {
		known[keyOf(s.change.Object)] = true
	}
	for _, m := range madeBy(told) {
		known[keyOf(m.ref)] = true
	}
	return known
}

// carriers are the objects of a kind that carry an incident's label.
func (e *Engine) carriers(ctx context.Context, kind cluster.Ref, i incident.Incident) ([]metav1.PartialObjectMetadata,
	error) {
	selector := contain.IncidentLabel + "=" + string(i.ID)
	all, err := e.Client.ListMetadata(ctx, kind, "", selector)
	if err == nil || kind.Kind == cluster.Node.Kind {
		return all, err
	}
	namespaces := map[string]bool{}
	for _, t := range i.Targets {
		namespaces[t.Namespace] = true
	}
	for _, ns := range sorted(namespaces) {
		more, inside := e.Client.ListMetadata(ctx, kind, ns, selector)
		if inside != nil {
			return all, inside
		}
		all = append(all, more...)
	}
	return all, err
}

// byHand is the command that takes back what irctl has done to an object, as far as
// the object itself remembers it. What it remembers may be an attacker's: a label
// that is none is left out.
func byHand(ref cluster.Ref, o metav1.Object) string {
	name, ns := change.ShellQuote(ref.Name), change.ShellQuote(ref.Namespace)
	switch ref.Kind {
	case cluster.Node.Kind:
		return fmt.Sprintf("kubectl uncordon %s && kubectl label node %s %s-", name, name, contain.IncidentLabel)
	case cluster.NetworkPolicy.Kind:
		return fmt.Sprintf("kubectl delete networkpolicy %s -n %s", name, ns)
	}
	if ref.Kind != cluster.Pod.Kind { // what uses it needs it
		return fmt.Sprintf("kubectl label %s -n %s %s-", change.ShellQuote(ref.KubectlName()), ns,
			contain.IncidentLabel)
	}
	words := fmt.Sprintf("kubectl label pod %s -n %s --overwrite %s- %s-", name, ns, contain.QuarantineLabel,
		contain.IncidentLabel)
	m, _ := contain.MemoryOf(o.GetAnnotations()) // what cannot be read is not remembered
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		if len(validation.IsQualifiedName(k)) == 0 && len(validation.IsValidLabelValue(m.Labels[k])) == 0 {
			words += " " + change.ShellQuote(k+"="+m.Labels[k])
		}
	}
	if _, ok := o.GetAnnotations()[contain.DetachedAnnotation]; ok {
		// Before the labels: a controller that takes the pod back may end it.
		return fmt.Sprintf("kubectl annotate pod %s -n %s %s- && %s", name, ns, contain.DetachedAnnotation, words)
	}
	return words
}

// doubtful are the doubts that there are about an incident: of its files, of the place,
// and of what carries its label.
type doubtful struct {
	Doubts []string `json:"doubts,omitempty"`
	// Strays carry the incident's label, and its journal does not know them.
	Strays []Stray `json:"strays,omitempty"`

	weighs bool
}

// doubtsOf adds to them what the cluster has of the incident that its journal does not
// know. What could not be looked at matters where the journal may not be whole.
func (e *Engine) doubtsOf(ctx context.Context, i incident.Incident, told *casefile.Case, far reach) doubtful {
	u := doubtful{Doubts: incident.Doubts(i.Doubts), weighs: incident.Weighs(i.Doubts)}
	if err := e.notHere(i); err != nil {
		return doubtful{Doubts: append(u.Doubts, strings.TrimPrefix(err.Error(), ErrUndetermined.Error()+": ")),
			weighs: true}
	}
	var gaps []string
	u.Strays, gaps = e.strays(ctx, i, told, far)
	u.weighs = u.weighs || len(u.open()) > 0
	u.Doubts = append(u.Doubts, gaps...)
	return u
}

// open are the strays that nobody has accepted.
func (u doubtful) open() []Stray {
	return slices.DeleteFunc(slices.Clone(u.Strays), func(s Stray) bool { return s.Accepted != nil })
}

// Weighs: because of a doubt nobody can tell how the incident stands.
func (u doubtful) Weighs() bool { return u.weighs }
