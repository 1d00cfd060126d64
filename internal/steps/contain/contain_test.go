package contain_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"irctl/internal/change"
	"irctl/internal/cluster/apifake"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scenario is a cluster with a suspect, backend-1, and what is asked for.
type scenario struct {
	objects []runtime.Object
	options func(*contain.Options)
	// forbidden: requests whose path contains it are.
	forbidden string
	// remains: it cannot be contained fully, so nothing is waited for.
	remains bool
	// ends: what is asked for ends the suspect.
	ends bool
}

var scenarios = map[string]scenario{
	"deployment":       {objects: deployment()},
	"annotations-full": {objects: crammed()},
	"statefulset":      {objects: statefulSet("")},
	"statefulset-volumes": {objects: statefulSet(appsv1.DeletePersistentVolumeClaimRetentionPolicyType),
		remains: true},
	"statefulset-allowed": {objects: statefulSet(appsv1.DeletePersistentVolumeClaimRetentionPolicyType),
		options: func(o *contain.Options) { o.AllowEvidenceLoss = true }},
	"replicationcontroller": {objects: replicationController()},
	"daemonset":             {objects: daemonSet(nil)},
	"daemonset-empty":       {objects: daemonSet(&corev1.Affinity{})},
	"daemonset-affinity":    {objects: daemonSet(arm64Or("node-2"))},
	"job":                   {objects: job()},
	"cronjob": {objects: append(job(ownedBy("CronJob", "batch/v1", "nightly")...),
		&batchv1.CronJob{ObjectMeta: meta("CronJob", "nightly")})},
	"bare-pod":   {objects: []runtime.Object{pod("backend-1", nil)}},
	"static-pod": {objects: []runtime.Object{staticPod()}},
	"terminating": {objects: terminating(), options: func(o *contain.Options) {
		o.RemoveLabels = []string{"tier", "not-there"}
	}},
	"rollout":              {objects: rollout()},
	"rollout-forbidden":    {objects: rollout(), forbidden: "/rollouts/", remains: true},
	"rollout-scale-hidden": {objects: rollout(), forbidden: "/rollouts/backend/scale", remains: true},
	"custom-without-scale": {objects: podSet(), remains: true},
	"operator":             {objects: operated()},
	"allowances": {objects: deployment(), options: func(o *contain.Options) {
		o.AllowDNS, o.AllowNamespaces, o.AllowCIDRs = true, []string{"forensics"}, []string{"10.1.2.0/24"}
	}},
	"keep-labels": {objects: deployment(), options: func(o *contain.Options) {
		o.KeepLabels = true
	}, remains: true},
	"keep-labels-allowed": {objects: deployment(), options: func(o *contain.Options) {
		o.KeepLabels,
			o.AllowEvidenceLoss = true, true
	}, remains: true, ends: true},
	"scale-only": {objects: deployment(), options: func(o *contain.Options) {
		o.Steps = []string{contain.StepScale}
	}, remains: true},
	"broad-selectors":        {objects: append(deployment(), broad()...)},
	"selected-by-quarantine": {objects: append(deployment(), lure()...)},
	"suspend-controllers": {objects: opposed(), options: func(o *contain.Options) {
		o.Steps = append([]string{contain.StepSuspend}, contain.DefaultSteps...)
	}},
	"cordon": {objects: append(deployment(),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "node-uid"}}),
		options: func(o *contain.Options) {
			o.Steps = append(slices.Clone(contain.DefaultSteps), contain.StepCordon)
		}},
	"cordon-of-another": {objects: append(deployment(),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "node-uid",
			Labels: map[string]string{contain.IncidentLabel: "other"}}}),
		options: func(o *contain.Options) { o.Steps = []string{contain.StepCordon} }},
	"cordon-unreadable": {objects: deployment(), options: func(o *contain.Options) {
		o.Steps = []string{contain.StepCordon}
	}},
}

// crammed: whoever may patch the suspect filled its annotations, so that the
// server takes no further one.
func crammed() []runtime.Object {
	list := deployment()
	for _, o := range list {
		if p, ok := o.(*corev1.Pod); ok && p.Name == "backend-1" {
			p.Annotations = map[string]string{"x": strings.Repeat("x", 256<<10-1)}
		}
	}
	return list
}

func replicationController() []runtime.Object {
	return []runtime.Object{&corev1.ReplicationController{ObjectMeta: meta("ReplicationController", "backend"),
		Spec: corev1.ReplicationControllerSpec{Replicas: number(1), Selector: map[string]string{"app": "backend"}}},
		pod("backend-1", map[string]string{"app": "backend"}, ownedBy("ReplicationController", "v1", "backend")...)}
}

// arm64Or is an affinity of two alternatives, one of which excludes a node already.
func arm64Or(node string) *corev1.Affinity {
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{},
		NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "arch", Operator: corev1.NodeSelectorOpIn,
					Values: []string{"arm64"}}}},
				{MatchFields: []corev1.NodeSelectorRequirement{
					{Key: "metadata.name", Operator: corev1.NodeSelectorOpNotIn,
						Values: []string{node}}}},
			}}}}
}

func staticPod() *corev1.Pod {
	p := pod("backend-1", map[string]string{"app": "backend"}, ownedBy("Node", "v1", "node-1")...)
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "hash"}
	return p
}

func terminating() []runtime.Object {
	p := pod("backend-1", map[string]string{"app": "backend", "tier": "api"})
	now := metav1.Now()
	p.DeletionTimestamp = &now
	return []runtime.Object{p}
}

func rollout() []runtime.Object {
	r := object("argoproj.io/v1alpha1", "Rollout", ns, "backend",
		map[string]any{"replicas": int64(2),
			"selector": map[string]any{"matchLabels": map[string]any{"app": "backend"}}})
	rs := &appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet", "backend-rs",
		ownedBy("Rollout", "argoproj.io/v1alpha1", "backend")...),
		Spec: appsv1.ReplicaSetSpec{Replicas: number(2),
			Selector: selector(map[string]string{"app": "backend", "pod-template-hash": "abc"})}}
	return []runtime.Object{r, rs, pod("backend-1", backendLabels(), ownedBy("ReplicaSet", "apps/v1", "backend-rs")...)}
}

func podSet() []runtime.Object {
	return []runtime.Object{object("core.strimzi.io/v1beta2", "StrimziPodSet", ns, "backend", map[string]any{}),
		pod("backend-1", map[string]string{"app": "backend"},
			ownedBy("StrimziPodSet", "core.strimzi.io/v1beta2", "backend")...)}
}

// operated is a Deployment that a custom resource of the whole cluster owns.
func operated() []runtime.Object {
	list := deployment()
	for _, o := range list {
		if d, ok := o.(*appsv1.Deployment); ok {
			d.OwnerReferences = ownedBy("Installation", "operator.example.com/v1", "default")
		}
	}
	return append(list, object("operator.example.com/v1", "Installation", "", "default", map[string]any{}))
}

// broad are controllers that would adopt the pod once its own has let go.
func broad() []runtime.Object {
	without := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "pod-template-hash",
		Operator: metav1.LabelSelectorOpDoesNotExist}}}
	return []runtime.Object{
		&appsv1.StatefulSet{ObjectMeta: meta("StatefulSet", "everything-api"),
			Spec: appsv1.StatefulSetSpec{Selector: selector(map[string]string{"tier": "api"})}},
		&appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet", "strays"), Spec: appsv1.ReplicaSetSpec{Selector: without}},
	}
}

// lure selects by the quarantine's own label, so that who takes off the labels
// that are selected by takes off the quarantine.
func lure() []runtime.Object {
	set := map[string]string{contain.QuarantineLabel: contain.QuarantineValue}
	return []runtime.Object{
		&corev1.Service{ObjectMeta: meta("Service", "lure"), Spec: corev1.ServiceSpec{Selector: set}},
		&appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet", "lure"),
			Spec: appsv1.ReplicaSetSpec{Selector: selector(set)}},
	}
}

// opposed is a Deployment that everything puts back.
func opposed() []runtime.Object {
	list := deployment()
	for _, o := range list {
		if d, ok := o.(*appsv1.Deployment); ok {
			d.Annotations = map[string]string{
				"argocd.argoproj.io/tracking-id": "argocd_shop:apps/Deployment:todo-app/backend"}
			d.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "apps",
				"kustomize.toolkit.fluxcd.io/namespace": "flux-system",
				"helm.toolkit.fluxcd.io/name":           "gone", "helm.toolkit.fluxcd.io/namespace": "flux-system"}
		}
	}
	return append(list,
		&autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: meta("HorizontalPodAutoscaler", "backend"),
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "backend"}}},
		object("keda.sh/v1alpha1", "ScaledObject", ns, "backend",
			map[string]any{"scaleTargetRef": map[string]any{"name": "backend"}}),
		object("argoproj.io/v1alpha1", "Application", "argocd", "shop",
			map[string]any{"syncPolicy": map[string]any{"automated": map[string]any{"selfHeal": true}}}),
		object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "flux-system", "apps",
			map[string]any{"suspend": false}))
}

func (s scenario) lab(t *testing.T) (*lab, contain.Options) {
	copies := make([]runtime.Object, len(s.objects))
	for i, o := range s.objects {
		copies[i] = o.DeepCopyObject()
	}
	l := newLab(t, copies...)
	if s.forbidden != "" {
		l.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
			if strings.Contains(r.URL.Path, s.forbidden) {
				apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "no right to do that")
				return
			}
			serve(w, r)
		}
	}
	o := all()
	if s.options != nil {
		s.options(&o)
	}
	return l, o
}

// plan makes the plans of all steps, as text for people to review.
func plan(t *testing.T, scene *steps.Scene, o contain.Options) ([]steps.Plan, string) {
	t.Helper()
	list, err := contain.Steps(o)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	var plans []steps.Plan
	for _, step := range list {
		p, err := step.Plan(bounded(t), scene)
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
		fmt.Fprintf(&text, "== %s\n", step.Info().Name)
		for _, a := range p.Actions {
			fmt.Fprintf(&text, "%s\n", a.Summary)
			for _, l := range a.Change.Diff() {
				fmt.Fprintf(&text, "  %s\n", l)
			}
			fmt.Fprintf(&text, "  $ %s\n", a.Command)
			if a.Needs != nil || a.Awaits != "" {
				fmt.Fprintf(&text, "  needs %q, awaits %s\n", a.Needs, a.Awaits)
			}
		}
		for _, r := range p.Refusals {
			fmt.Fprintf(&text, "refused %s of %s: %s (%s)\n", r.Action, r.Object, r.Reason, r.Override)
		}
		for _, w := range p.Warnings {
			fmt.Fprintf(&text, "warning %s: %s (%s)\n", w.Code, w.Text, w.Fix)
		}
	}
	return plans, text.String()
}

func TestPlans(t *testing.T) {
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			l, o := s.lab(t)
			before := l.State()
			_, text := plan(t, l.scene(incident, "backend-1"), o)
			if l.State() != before {
				t.Error("planning wrote to the cluster")
			}
			golden(t, "plan-"+name+".txt", text)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// do does what is planned, and returns the changes that it made.
func do(t *testing.T, l *lab, plans []steps.Plan) []change.Change {
	t.Helper()
	var done []change.Change
	for _, p := range plans {
		for _, a := range p.Actions {
			if a.Guard != nil {
				if err := a.Guard(bounded(t)); err != nil {
					t.Fatalf("%s: %v", a.Summary, err)
				}
			}
			if err := a.Change.DryRun(bounded(t), l.client.Dynamic); err != nil {
				t.Errorf("dry run of %s: %v", a.Summary, err)
			}
			if _, err := a.Change.Do(bounded(t), l.client.Dynamic); err != nil {
				t.Fatalf("%s: %v", a.Summary, err)
			}
			done = append(done, a.Change)
		}
	}
	return done
}

// Whoever carries out the commands that are printed gets what irctl does.
func TestThePrintedCommandDoesTheSame(t *testing.T) {
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			by, hand := s.pair(t)
			plans, _ := plan(t, by.scene(incident, "backend-1"), by.options)
			do(t, by.lab, plans)
			plans, _ = plan(t, hand.scene(incident, "backend-1"), hand.options)
			for _, p := range plans {
				for _, a := range p.Actions {
					if a.Guard != nil {
						if err := a.Guard(bounded(t)); err != nil {
							t.Fatalf("%s: %v", a.Summary, err)
						}
					}
					if err := apifake.Kubectl(bounded(t), hand.Config(), a.Command); err != nil {
						t.Fatalf("%s: %v", a.Summary, err)
					}
				}
			}
			if diff := cmp.Diff(specs(t, by.State()), specs(t, hand.State())); diff != "" {
				t.Errorf("irctl does otherwise than its commands (-irctl +by hand):\n%s", diff)
			}
		})
	}
}

type played struct {
	*lab
	options contain.Options
}

// pair is a scenario twice.
func (s scenario) pair(t *testing.T) (one, other played) {
	one.lab, one.options = s.lab(t)
	other.lab, other.options = s.lab(t)
	return one, other
}

func TestWhatIsPlannedIsDoneOnceAndUndone(t *testing.T) {
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			l, o := s.lab(t)
			before := l.State()
			scene := l.scene(incident, "backend-1")
			plans, _ := plan(t, scene, o)
			done := do(t, l, plans)
			if !s.remains {
				a := contain.Assess(bounded(t), scene, o, &contain.Facts{}, func(string) {})
				for _, c := range a.Findings[0].Checks {
					if !c.OK {
						t.Errorf("%s: %s", c.Code, c.Text)
					}
				}
			}
			if ended := l.Object("pods", ns, "backend-1") == nil; ended != s.ends {
				t.Errorf("the suspect ended: %t", ended)
			}
			if !s.ends {
				again, _ := plan(t, l.scene(incident, "backend-1"), o)
				for _, p := range again {
					for _, a := range p.Actions {
						if a.Name != contain.StepScale { // its owner is in the incident's record alone
							t.Errorf("done already, and planned again: %s", a.Summary)
						}
					}
				}
			}
			l.frozen = true // the controllers of the lab do not start pods again
			for _, c := range slices.Backward(done) {
				if _, err := c.Undo(bounded(t), l.client.Dynamic); err != nil {
					t.Errorf("undoing %s: %v", c.Object, err)
				}
			}
			was, is := specs(t, before), specs(t, l.State())
			if s.ends {
				delete(was, "pods. todo-app/backend-1")
			}
			if diff := cmp.Diff(was, is); diff != "" {
				t.Errorf("undo did not restore what was there:\n%s", diff)
			}
		})
	}
}

// specs is the state without what the lab's controllers did of their own:
// status, endpoints, releases, and the pods that they ended.
func specs(t *testing.T, state string) map[string]any {
	t.Helper()
	var all map[string]map[string]any
	if err := json.Unmarshal([]byte(state), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for k, m := range all {
		delete(m, "status")
		delete(m, "endpoints")
		u := unstructured.Unstructured{Object: m}
		u.SetOwnerReferences(nil)
		if len(u.GetLabels()) == 0 {
			u.SetLabels(nil)
		}
		if len(u.GetAnnotations()) == 0 {
			u.SetAnnotations(nil)
		}
		if u.GetKind() != "Pod" || u.GetName() == "backend-1" {
			out[k] = m
		}
	}
	return out
}
