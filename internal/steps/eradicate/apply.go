package eradicate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/rotate"
	"irctl/internal/steps"
)

// StepApply applies the team's manifests.
const StepApply = "apply"

// Applied is a workload that a manifest gives a new template.
type Applied struct {
	*Restart
	// Action is the ID of the one that applies it.
	Action string
}

// applier plans what manifests change.
type applier struct {
	*Radius
	Options
	// held are the fields of an object that the incident holds.
	held    func(cluster.Ref) [][]string
	plan    steps.Plan
	applied []*Applied
	kinds   kindsSeen
	seen    map[cluster.Ref]bool
}

// kindsSeen are the kinds that the server was asked about.
type kindsSeen map[schema.GroupVersionKind]kindOf

type kindOf struct {
	ref    cluster.Ref
	scoped bool // to the cluster
	err    error
}

// PlanManifests says what applying the manifests would change. Each that
// cannot be applied is refused by itself. A field that the incident holds, such
// as the replicas of a workload that is down, is left as it is.
func PlanManifests(ctx context.Context, r *Radius, o Options, held func(cluster.Ref) [][]string) (steps.Plan,
	[]*Applied) {
	a := &applier{Radius: r, Options: o, held: held, kinds: kindsSeen{}, seen: map[cluster.Ref]bool{}}
	for _, m := range o.Manifests {
		if err := a.one(ctx, m); err != nil {
			refusal := steps.Refusal{Action: StepApply, ID: StepApply + " " + m.Name(), Object: m.Name(),
				Reason: fmt.Sprintf("%v (%s)", err, m.Source)}
			var conflict *change.ConflictError
			if errors.As(err, &conflict) {
				refusal.Override = "--force-conflicts"
			}
			a.plan.Refusals = append(a.plan.Refusals, refusal)
		}
	}
	return a.plan, a.applied
}

func (a *applier) one(ctx context.Context, m Manifest) error {
	ref, err := a.refOf(ctx, m.Object)
	if err != nil {
		return err
	}
	config := m.Object.DeepCopy()
	config.SetNamespace(ref.Namespace)
	for _, path := range a.held(ref) {
		if _, found, _ := unstructured.NestedFieldNoCopy(config.Object, path...); found {
			unstructured.RemoveNestedField(config.Object, path...)
			a.warn("held", fmt.Sprintf("%s: %s stays as the incident holds it", ref, strings.Join(path, ".")),
				"it is put back with the recovery")
		}
	}
	c, needed, err := change.PlanApply(ctx, a.client.Dynamic, ref, config.Object, a.ForceConflicts)
	switch {
	case err != nil:
		return err
	case !needed:
		return nil
	case a.suspects[c.Object.UID]:
		return errors.New("it is a suspect, and stays as it is: evidence")
	case size(c) > maxConfig*4:
		return fmt.Errorf(
			"what it changes is more than the journal takes: apply it with kubectl, and note it: irctl timeline note")
	}
	if len(c.Apply.Taken) > 0 {
		a.warn("conflict", fmt.Sprintf("%s: fields are taken from others, who may put them back: %s", ref,
			strings.Join(c.Apply.Taken, ", ")), "change them where they are kept, too")
	}
	action := steps.Action{ID: StepApply + " " + m.Name(), Name: StepApply, Summary: summaryOf(c), Change: c,
		Command: commandOf(c, m.Source), Reveal: true}
	a.plan.Actions = append(a.plan.Actions, action)
	if w := templated(c); w != nil {
		a.applied = append(a.applied, &Applied{Restart: &Restart{Workload: w}, Action: action.ID})
	}
	return nil
}

func (a *applier) warn(code, text, fix string) {
	a.plan.Warnings = append(a.plan.Warnings, steps.Warning{Code: code, Text: text, Fix: fix})
}

// refOf is the object that a manifest is about.
func (a *applier) refOf(ctx context.Context, o *unstructured.Unstructured) (cluster.Ref, error) {
	ref, err := a.kinds.locate(ctx, a.client, o, a.Namespace)
	if err != nil {
		return ref, err
	}
	switch {
	case a.seen[ref]:
		return ref, errors.New("it is given twice")
	case slices.ContainsFunc(a.imaged, func(w *Workload) bool {
		return w.Kind == ref.Kind && w.Namespace == ref.Namespace && w.Name == ref.Name
	}):
		return ref, errors.New(
			"--image changes it, too: write the image into the manifest, or apply it in a run of its own")
	}
	a.seen[ref] = true
	if data, err := json.Marshal(o.Object); err != nil || len(data) > maxConfig {
		return ref, fmt.Errorf("it is larger than the %d bytes that the journal takes: apply it with kubectl, and "+
			"note it: irctl timeline note", maxConfig)
	}
	return ref, nil
}

// locate is the object that a manifest is about; namespace is where it is if
// the manifest does not say.
func (seen kindsSeen) locate(ctx context.Context, client *cluster.Client, o *unstructured.Unstructured,
	namespace string) (cluster.Ref, error) {
	gvk := o.GroupVersionKind()
	k, known := seen[gvk]
	if !known {
		k.ref, k.scoped, k.err = client.KindOf(ctx, gvk)
		seen[gvk] = k
	}
	if k.err != nil {
		return cluster.Ref{}, k.err
	}
	if ns := o.GetNamespace(); ns != "" || k.scoped {
		namespace = ns
	}
	ref := k.ref.Named(namespace, o.GetName(), "")
	switch {
	case ref.Group == rotate.SecretRef.Group && ref.Kind == rotate.SecretRef.Kind:
		return ref, errors.New(
			"the values of a Secret have no place in the journal: irctl eradicate --secret replaces them")
	case k.scoped && namespace != "":
		return ref, errors.New("it has a namespace, and this kind is of the whole cluster: take the namespace out")
	case !k.scoped && namespace == "":
		return ref, errors.New("it has no namespace: write it into the manifest, or give -n NAMESPACE")
	}
	return ref, nil
}

// VerbsToApply are what it takes to apply an object server-side, whether it is
// there or not, and to undo that.
var VerbsToApply = []string{"get", "patch", "create", "delete"}

// AccessToApply is what it takes to apply manifests, each right once, and why
// it is not known of some of them. namespace is where objects are that do not say.
func AccessToApply(ctx context.Context, client *cluster.Client, manifests []Manifest,
	namespace string) (list []cluster.Access, errs []error) {
	kinds, seen := kindsSeen{}, map[cluster.Access]bool{}
	for _, m := range manifests {
		ref, err := kinds.locate(ctx, client, m.Object, namespace)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w (%s)", m.Name(), err, m.Source))
			continue
		}
		for _, verb := range VerbsToApply {
			if q := (cluster.Access{Verb: verb, Group: ref.Group, Resource: ref.Resource,
				Namespace: ref.Namespace}); !seen[q] {
				seen[q] = true
				list = append(list, q)
			}
		}
	}
	return list, errs
}

func size(c change.Change) int {
	data, err := json.Marshal(c)
	if err != nil {
		return maxConfig * 8
	}
	return len(data)
}

func summaryOf(c change.Change) string {
	if c.IsCreate() {
		return "create " + c.Object.String() + " as the team wrote it"
	}
	names := make([]string, 0, len(c.Fields))
	for _, f := range c.Fields {
		names = append(names, f.Name())
	}
	const most = 5
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("and %d more", more))
	}
	return "change " + c.Object.String() + " to what the team wrote: " + strings.Join(names, ", ")
}

func commandOf(c change.Change, source string) string {
	words := "kubectl apply --server-side --field-manager=" + change.FieldManager
	if c.Apply.Force {
		words += " --force-conflicts"
	}
	if c.Object.Namespace != "" {
		words += " -n " + change.ShellQuote(c.Object.Namespace)
	}
	return words + " -f " + change.ShellQuote(source)
}

// templated is the workload whose template a change is about; nil: none that
// irctl can see rolled out.
func templated(c change.Change) *Workload {
	for _, k := range kinds {
		if k.Kind != c.Object.Kind || k.Group != c.Object.Group || k.template == nil {
			continue
		}
		w := &Workload{Ref: c.Object, template: k.template}
		about := c.IsCreate() || slices.ContainsFunc(c.Fields, func(f change.Field) bool {
			return len(f.Path) >= len(k.template) && slices.Equal(f.Path[:len(k.template)], k.template)
		})
		if w.rolls() && about {
			return w
		}
	}
	return nil
}

// VerifyApplied waits until the workload runs what was applied, and nothing of
// before. why says why it does not now; keeps: some pods go on as they were.
func (x *Applied) VerifyApplied(ctx context.Context, client *cluster.Client, tell func(string)) (why string, keeps bool,
	err error) {
	w, err := x.reload(ctx, client)
	if err != nil {
		return "", false, err
	}
	if why, keeps = w.stays(); why != "" {
		return why, keeps, nil
	}
	return "", false, await(ctx, tell, func() (string, error) {
		w, err := x.reload(ctx, client)
		if err != nil {
			return "", err
		}
		return w.rollout(), nil
	})
}

// rollout says what the rollout waits for, by what its controller says, as
// kubectl rollout status does; "": it is done.
func (w *Workload) rollout() string {
	status := func(name string) int64 {
		n, _, _ := unstructured.NestedInt64(w.object.Object, "status", name)
		return n
	}
	total, updated, ready := status("replicas"), status("updatedReplicas"), status("availableReplicas")
	if w.Kind == cluster.DaemonSet.Kind {
		total, updated, ready = status("currentNumberScheduled"), status("updatedNumberScheduled"),
			status("numberAvailable")
	}
	want := w.desired()
	switch {
	case status("observedGeneration") < w.object.GetGeneration():
		return fmt.Sprintf("%s: its controller has not seen the change yet", w.Ref)
	case updated < want:
		return fmt.Sprintf("%s: %d of %d pods are of the new version", w.Ref, updated, want)
	case total > updated:
		return fmt.Sprintf("%s: %d pods are still of before", w.Ref, total-updated)
	case ready < want:
		return fmt.Sprintf("%s: %d of %d pods are ready", w.Ref, ready, want)
	}
	return ""
}
