package contain

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
)

// Opponent is a controller that would put back what containment changes.
type Opponent struct {
	cluster.Ref
	// Of are the workloads it acts on.
	Of string
	// Does says how it fights back.
	Does string
	// Harmless: it is there, but will not act on a workload at zero.
	Harmless bool
	// Err is why it could not be looked at.
	Err error
	// Suspend is the change that pauses it; nil where irctl knows none.
	Suspend *change.Change
	// Command is the kubectl equivalent of the suspension.
	Command string
}

// Opponents finds what would undo the containment of the scene's targets:
// autoscalers, GitOps controllers, and custom resources that own a workload.
func Opponents(ctx context.Context, scene *steps.Scene) []Opponent {
	var found []Opponent
	seen := map[string]bool{}
	chains := append([][]*cluster.Owner(nil), scene.Workloads...)
	for _, t := range scene.Targets {
		chains = append(chains, t.Owners)
	}
	var gitops []gitopsRef
	for _, chain := range chains {
		for i, o := range chain {
			if o.Object == nil || seen[string(o.UID)] {
				continue
			}
			seen[string(o.UID)] = true
			found = append(found, autoscalersOf(o, scene.Around[o.Namespace])...)
			gitops = append(gitops, gitopsOf(o)...)
			if o.Custom && i > 0 {
				found = append(found, Opponent{Ref: o.Ref, Of: chain[i-1].Ref.String(),
					Does: "is a custom resource that owns " + chain[i-1].Ref.String() +
						": its operator may set its replicas again"})
			}
		}
	}
	unique := map[string]gitopsRef{}
	for _, g := range gitops {
		unique[g.key()] = g
	}
	keys := sortedKeys(unique)
	answers := make([]*Opponent, len(keys))
	ctx, cancel := scene.Client.Briefly(ctx)
	defer cancel()
	cluster.Parallel(len(keys), func(i int) { answers[i] = unique[keys[i]].look(ctx, scene.Client) })
	for _, a := range answers {
		if a != nil {
			found = append(found, *a)
		}
	}
	return found
}

func autoscalersOf(o *cluster.Owner, around *cluster.Namespace) []Opponent {
	if around == nil {
		return nil
	}
	var found []Opponent
	for i := range around.Autoscalers {
		h := &around.Autoscalers[i]
		if h.Spec.ScaleTargetRef.Kind != o.Kind || h.Spec.ScaleTargetRef.Name != o.Name {
			continue
		}
		// https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#implicit-maintenance-mode-deactivation
		found = append(found, Opponent{Ref: cluster.HorizontalPodAutoscaler.Named(h.Namespace, h.Name, h.UID),
			Of: o.Ref.String(), Harmless: true,
			Does: "scales it, but pauses by itself while the replicas are 0"})
	}
	for i := range around.ScaledObjects {
		s := &around.ScaledObjects[i]
		kind, _ := nested(s.Object, "spec", "scaleTargetRef", "kind").(string)
		name, _ := nested(s.Object, "spec", "scaleTargetRef", "name").(string)
		if kind == "" {
			kind = cluster.Deployment.Kind // KEDA's default
		}
		if kind != o.Kind || name != o.Name {
			continue
		}
		ref := cluster.Ref{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects", Kind: "ScaledObject",
			Namespace: s.GetNamespace(), Name: s.GetName(), UID: s.GetUID()}
		op := Opponent{Ref: ref, Of: o.Ref.String(),
			Does: "KEDA: it scales the workload up from 0 when its trigger fires"}
		// https://keda.sh/docs/latest/concepts/scaling-deployments/#pausing-autoscaling
		pause(&op, s, change.Field{Path: []string{"metadata", "annotations", "autoscaling.keda.sh/paused"},
			Before: anyOf(s.GetAnnotations(), "autoscaling.keda.sh/paused"), After: "true"},
			kubectl("annotate", ref.KubectlName(), "-n", ref.Namespace, "--overwrite",
				"autoscaling.keda.sh/paused=true"))
		found = append(found, op)
	}
	return found
}

// pause records how to suspend an opponent, or that it is suspended already.
func pause(op *Opponent, live *unstructured.Unstructured, f change.Field, command string) {
	c, needed := change.NewEdit(op.Ref, "", live.GetResourceVersion(), f)
	if !needed {
		op.Harmless, op.Does = true, op.Does+" (it is suspended)"
		return
	}
	op.Suspend, op.Command = &c, command
}

// gitopsRef points at the object by which a GitOps controller manages a
// workload, as that controller marks it.
type gitopsRef struct {
	kind      string // argocd, kustomization, helmrelease
	namespace string // "" where the mark does not tell
	name      string
	of        string
	uncertain bool
}

func (g gitopsRef) key() string { return g.kind + "/" + g.namespace + "/" + g.name + "/" + g.of }

// gitopsOf reads the marks: Argo CD's tracking annotation or instance label,
// Flux's labels of kustomize- and helm-controller.
func gitopsOf(o *cluster.Owner) []gitopsRef {
	l, a := o.Object.GetLabels(), o.Object.GetAnnotations()
	var refs []gitopsRef
	if id := a["argocd.argoproj.io/tracking-id"]; id != "" {
		refs = append(refs, argoRef(beforeColon(id), o))
	} else if app := l["argocd.argoproj.io/instance"]; app != "" {
		refs = append(refs, argoRef(app, o))
	}
	if n := l["kustomize.toolkit.fluxcd.io/name"]; n != "" {
		refs = append(refs, gitopsRef{kind: "kustomization", namespace: l["kustomize.toolkit.fluxcd.io/namespace"],
			name: n, of: o.Ref.String()})
	}
	if n := l["helm.toolkit.fluxcd.io/name"]; n != "" {
		refs = append(refs, gitopsRef{kind: "helmrelease", namespace: l["helm.toolkit.fluxcd.io/namespace"], name: n,
			of: o.Ref.String()})
	}
	return refs
}

// argoRef: with applications in any namespace, the mark is namespace_name.
func argoRef(app string, o *cluster.Owner) gitopsRef {
	for i := range app {
		if app[i] == '_' {
			return gitopsRef{kind: "argocd", namespace: app[:i], name: app[i+1:], of: o.Ref.String()}
		}
	}
	return gitopsRef{kind: "argocd", namespace: "argocd", name: app, of: o.Ref.String(), uncertain: true}
}

func beforeColon(s string) string {
	for i := range s {
		if s[i] == ':' {
			return s[:i]
		}
	}
	return s
}

// look reads the object and tells whether it reconciles by itself.
func (g gitopsRef) look(ctx context.Context, client *cluster.Client) *Opponent {
	refs, suspension := g.candidates()
	var lastErr error
	for _, ref := range refs {
		live, err := client.Dynamic.Resource(ref.GVR()).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) && lastErr == nil || apierrors.IsForbidden(err) && !client.Serves(ctx, ref.Group) {
			continue // this version is not served, or the mark is stale
		}
		if err != nil {
			lastErr = err
			continue
		}
		ref.UID = live.GetUID()
		op := &Opponent{Ref: ref, Of: g.of, Does: g.title() + ": it puts the workload back as it is in its source"}
		suspension(op, live)
		return op
	}
	op := &Opponent{Ref: refs[0], Of: g.of, Err: lastErr, Does: g.title() +
		": by its marks it manages the workload, and would put it back"}
	if lastErr == nil {
		op.Does += "; but no such object was found (" + refs[0].String() + ")"
	}
	return op
}

func (g gitopsRef) title() string {
	return map[string]string{"argocd": "Argo CD", "kustomization": "Flux", "helmrelease": "Flux"}[g.kind]
}

func (g gitopsRef) candidates() ([]cluster.Ref, func(*Opponent, *unstructured.Unstructured)) {
	ref := func(gv schema.GroupVersion, resource, kind string) cluster.Ref {
		return cluster.Ref{Group: gv.Group, Version: gv.Version, Resource: resource, Kind: kind, Namespace: g.namespace,
			Name: g.name}
	}
	suspendField := func(op *Opponent, live *unstructured.Unstructured) {
		pause(op, live, change.Field{Path: []string{"spec", "suspend"}, Before: nested(live.Object, "spec", "suspend"),
			After: true},
			kubectl("patch", op.KubectlName(), "-n", op.Namespace, "--type=merge", "-p", `{"spec":{"suspend":true}}`))
	}
	switch g.kind {
	case "kustomization":
		return []cluster.Ref{ref(schema.GroupVersion{Group: "kustomize.toolkit.fluxcd.io", Version: "v1"},
			"kustomizations", "Kustomization")}, suspendField
	case "helmrelease":
		return []cluster.Ref{ref(schema.GroupVersion{Group: "helm.toolkit.fluxcd.io", Version: "v2"}, "helmreleases",
			"HelmRelease")}, suspendField
	}
	argo := ref(schema.GroupVersion{Group: "argoproj.io", Version: "v1alpha1"}, "applications", "Application")
	return []cluster.Ref{argo}, func(op *Opponent, live *unstructured.Unstructured) {
		automated := nested(live.Object, "spec", "syncPolicy", "automated")
		enabled, says := nested(live.Object, "spec", "syncPolicy", "automated", "enabled").(bool)
		if automated == nil || says && !enabled {
			op.Harmless, op.Does = true, "Argo CD: it manages the workload, without automated sync"
			return
		}
		pause(op, live, change.Field{Path: []string{"spec", "syncPolicy", "automated"}, Before: automated, After: nil},
			kubectl("patch", op.KubectlName(), "-n", op.Namespace, "--type=merge", "-p",
				`{"spec":{"syncPolicy":{"automated":null}}}`))
	}
}

// Warning is how the opponent is shown in a plan.
func (o Opponent) Warning() steps.Warning {
	w := steps.Warning{Code: "controller", Text: fmt.Sprintf("%s, of %s: %s", o.Ref, o.Of, o.Does)}
	if o.Harmless {
		w.Code = "controller-paused"
		return w
	}
	if o.Err != nil {
		w.Text += fmt.Sprintf(" (it could not be read: %v)", o.Err)
	}
	if o.Suspend != nil {
		w.Fix = "--suspend-controllers, or: " + o.Command
	}
	return w
}

// suspendControllers pauses what would undo the containment.
type suspendControllers struct{}

func (suspendControllers) Info() steps.Info {
	return steps.Info{Name: StepSuspend, Phase: Phase,
		Why: "a controller that puts the workload back would undo the containment"}
}

func (suspendControllers) Plan(ctx context.Context, scene *steps.Scene) (steps.Plan, error) {
	var plan steps.Plan
	for _, o := range Opponents(ctx, scene) {
		if o.Suspend == nil {
			continue
		}
		plan.Actions = append(plan.Actions, steps.Action{ID: "suspend " + o.Ref.String(), Name: StepSuspend,
			Summary: "suspend " + o.Ref.String() + ", which manages " + o.Of, Command: o.Command, Change: *o.Suspend})
	}
	return plan, nil
}
