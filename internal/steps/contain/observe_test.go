package contain_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/apifake"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

const policies = "networkpolicies.networking.k8s.io"

func TestTwoIncidentsInOneNamespaceKeepToThemselves(t *testing.T) {
	l := newLab(t, deployment()...)
	policiesOnly := contain.Options{Steps: []string{contain.StepQuarantine, contain.StepDetach}}
	run := func(incident, suspect string) []change.Change {
		plans, _ := plan(t, l.scene(incident, suspect), policiesOnly)
		return do(t, l, plans)
	}
	first := run("i-1", "backend-1")
	second := run("i-2", "backend-2")
	other := l.Object(policies, ns, contain.PolicyName("i-2"))
	for _, c := range slices.Backward(first) {
		if _, err := c.Undo(bounded(t), l.client.Dynamic); err != nil {
			t.Fatal(err)
		}
	}
	if l.Object(policies, ns, contain.PolicyName("i-1")) != nil {
		t.Error("the first incident's policy was not undone")
	}
	if diff := cmp.Diff(other, l.Object(policies, ns, contain.PolicyName("i-2"))); diff != "" {
		t.Errorf("the second incident's policy was touched:\n%s", diff)
	}
	selector, _ := other["spec"].(map[string]any)["podSelector"].(map[string]any)["matchLabels"].(map[string]any)
	if selector[contain.IncidentLabel] != "i-2" {
		t.Errorf("the policy selects by %v", selector)
	}
	if len(second) != 2 {
		t.Errorf("%d changes", len(second))
	}
}

func TestASuspectOfAnotherIncidentIsRefusedAndNothingElseIsDone(t *testing.T) {
	l := newLab(t, deployment()...)
	l.Edit("pods", ns, "backend-1", func(m map[string]any) {
		m["metadata"].(map[string]any)["labels"].(map[string]any)[contain.IncidentLabel] = "other"
	})
	_, text := plan(t, l.scene(incident, "backend-1"), all())
	want := "== quarantine\n== detach\nrefused detach of Pod todo-app/backend-1: the pod is contained in incident " +
		"other (--incident other)\n== scale\n"
	if diff := cmp.Diff(want, text); diff != "" {
		t.Error(diff)
	}
}

func TestAPolicyThatWasOpenedIsSetRightAndRestoredByUndo(t *testing.T) {
	for name, open := range map[string]func(map[string]any){
		"a rule":         func(m map[string]any) { m["spec"].(map[string]any)["ingress"] = []any{map[string]any{}} },
		"a type less":    func(m map[string]any) { m["spec"].(map[string]any)["policyTypes"] = []any{"Ingress"} },
		"nobody's":       func(m map[string]any) { m["metadata"].(map[string]any)["labels"] = map[string]any{} },
		"another select": func(m map[string]any) { m["spec"].(map[string]any)["podSelector"] = map[string]any{} },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, deployment()...)
			o := contain.Options{Steps: []string{contain.StepQuarantine}}
			plans, _ := plan(t, l.scene(incident, "backend-1"), o)
			do(t, l, plans)
			want := l.Object(policies, ns, contain.PolicyName(incident))
			l.Edit(policies, ns, contain.PolicyName(incident), open)
			opened := l.State()
			plans, text := plan(t, l.scene(incident, "backend-1"), o)
			if !strings.Contains(text, "set NetworkPolicy") {
				t.Fatalf("planned:\n%s", text)
			}
			done := do(t, l, plans)
			got := l.Object(policies, ns, contain.PolicyName(incident))
			if diff := cmp.Diff(want["spec"], got["spec"]); diff != "" {
				t.Error(diff)
			}
			if _, err := done[0].Undo(bounded(t), l.client.Dynamic); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(opened, l.State()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// scaleAction detaches the suspects and returns the action that scales.
func scaleAction(t *testing.T, l *lab, scene *steps.Scene) steps.Action {
	t.Helper()
	plans, _ := plan(t, scene, all())
	do(t, l, plans[:2])
	return plans[2].Actions[0]
}

func TestScalingAwaitsTheReleaseOfEverySuspect(t *testing.T) {
	for name, c := range map[string]struct {
		suspects []string
		meddle   func(*lab)
		refused  bool
	}{
		"released":             {[]string{"backend-1"}, func(*lab) {}, false},
		"all released":         {[]string{"backend-1", "backend-2"}, func(*lab) {}, false},
		"gone":                 {[]string{"backend-1"}, func(l *lab) { l.Delete("pods", ns, "backend-1") }, false},
		"still owned":          {[]string{"backend-1"}, own, true},
		"one still owned":      {[]string{"backend-1", "backend-2"}, own, true},
		"owned and unlabelled": {[]string{"backend-1", "backend-2"}, func(l *lab) { own(l); unlabel(l) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, deployment()...)
			a := scaleAction(t, l, l.scene(incident, c.suspects...))
			c.meddle(l)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if !c.refused {
				ctx = bounded(t)
			}
			defer cancel()
			err := a.Guard(ctx)
			if c.refused && (err == nil || !strings.Contains(err.Error(),
				"ReplicaSet backend-rs has not released pod todo-app/backend-1")) {
				t.Errorf("got %v; want to be told who holds the pod", err)
			}
			if !c.refused && err != nil {
				t.Error(err)
			}
		})
	}
}

func own(l *lab) {
	l.Edit("pods", ns, "backend-1", func(m map[string]any) {
		m["metadata"].(map[string]any)["ownerReferences"] = []any{map[string]any{"apiVersion": "apps/v1",
			"kind": "ReplicaSet", "name": "backend-rs", "uid": "replicaset-backend-rs", "controller": true}}
	})
}

func unlabel(l *lab) {
	l.Edit("pods", ns, "backend-1", func(m map[string]any) { delete(m["metadata"].(map[string]any), "labels") })
}

func TestWhatIsNotSeenInTimeIsSaidAsItIs(t *testing.T) {
	l := newLab(t, deployment()...)
	l.frozen = true
	scene := l.scene(incident, "backend-1")
	plans, _ := plan(t, scene, contain.Options{Steps: contain.DefaultSteps[:2]})
	do(t, l, plans)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks := 0
	l.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if strings.HasSuffix(r.URL.Path, "/pods/backend-1") {
			if looks++; looks == 3 {
				cancel() // in the middle of a look
				return
			}
		}
		serve(w, r)
	}
	var progress []string
	a := contain.Assess(ctx, scene, contain.Options{Steps: contain.DefaultSteps[:2]}, &contain.Facts{}, func(p string) {
		progress = append(progress, p)
	})
	want := []contain.Check{
		{Code: "labels", OK: true, Text: "labelled quarantine=true and with the incident"},
		{Code: "released", Text: "ReplicaSet backend-rs still owns it"},
		{Code: "endpoints", Text: "still in EndpointSlice backend"},
	}
	if diff := cmp.Diff(want, a.Findings[0].Checks); diff != "" {
		t.Error(diff)
	}
	if a.Verdict != contain.NotContained {
		t.Errorf("verdict %q", a.Verdict)
	}
	if diff := cmp.Diff([]string{"todo-app/backend-1: ReplicaSet backend-rs still owns it"}, progress); diff != "" {
		t.Error(diff)
	}
}

func TestASecondLookSaysWhatWasPutBack(t *testing.T) {
	for name, c := range map[string]struct {
		meddle func(*lab)
		want   []string
	}{
		"nothing": {func(*lab) {}, nil},
		"labels": {func(l *lab) {
			l.Edit("pods", ns, "backend-1", func(m map[string]any) {
				m["metadata"].(map[string]any)["labels"].(map[string]any)[contain.QuarantineLabel] = "false"
			})
		}, []string{"todo-app/backend-1: no NetworkPolicy isolates the pod: everything is let in",
			"todo-app/backend-1: no NetworkPolicy isolates the pod: everything is let out",
			"todo-app/backend-1: the quarantine labels are not on the pod"}},
		"owner": {own, []string{"todo-app/backend-1: ReplicaSet backend-rs still owns it"}},
		"replicas": {func(l *lab) {
			l.Edit("deployments.apps", ns, "backend", func(m map[string]any) {
				m["spec"].(map[string]any)["replicas"] = 3
			})
		}, []string{"todo-app/backend-1: Deployment todo-app/backend has replicas 3, not 0"}},
		"an allowing policy": {func(l *lab) {
			l.Add(l.t, &networkingv1.NetworkPolicy{ObjectMeta: meta("NetworkPolicy", "allow"),
				Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}})
		}, []string{"todo-app/backend-1: NetworkPolicy allow still lets in: everyone, all ports; it selects the pod " +
			"by every pod of the namespace"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, deployment()...)
			scene := l.scene(incident, "backend-1")
			plans, _ := plan(t, scene, all())
			do(t, l, plans)
			first := contain.Assess(bounded(t), scene, all(), &contain.Facts{}, func(string) {})
			l.frozen = true
			c.meddle(l)
			second := contain.SecondLook(bounded(t), scene, all(), &contain.Facts{}, time.Millisecond, first)
			if diff := cmp.Diff(c.want, second.PutBack); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWorkloadsWithoutSuspects(t *testing.T) {
	l := newLab(t, append(daemonSet(nil)[:1], deployment()...)...)
	chains := func(kinds ...cluster.Ref) [][]*cluster.Owner {
		var list [][]*cluster.Owner
		for _, k := range kinds {
			chain, err := l.client.Owner(bounded(t), k.Named(ns, "backend", ""))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, chain)
		}
		return list
	}
	scene := l.scene(incident)
	scene.Workloads = chains(cluster.Deployment, cluster.DaemonSet)
	plans, text := plan(t, scene, contain.Options{Steps: []string{contain.StepScale}})
	want := "== scale\nscale Deployment todo-app/backend from 2 to 0\n  - spec.replicas: 2\n  + spec.replicas: 0\n  " +
		"$ kubectl scale deployment/backend -n todo-app --replicas=0\n" +
		"warning unscalable: DaemonSet todo-app/backend is not taken down: a DaemonSet can only be kept off the " +
		"nodes of suspects, and it has none ()\n"
	if diff := cmp.Diff(want, text); diff != "" {
		t.Error(diff)
	}
	before := contain.Look(bounded(t), scene, all(), &contain.Facts{})
	if before.Verdict != contain.NotContained || before.Workloads[0].OK {
		t.Errorf("before: %+v", before)
	}
	do(t, l, plans)
	a := contain.Assess(bounded(t), scene, all(), &contain.Facts{}, func(string) {})
	if diff := cmp.Diff([]contain.Check{{Code: "workload", OK: true, Text: "Deployment todo-app/backend is down",
		Object: "Deployment todo-app/backend"},
		{Code: "workload", OK: true, Text: "DaemonSet todo-app/backend is down", Object: "DaemonSet todo-app/backend"}},
		a.Workloads); diff != "" {
		t.Error(diff)
	}
	if a.Verdict != contain.Undetermined {
		t.Errorf("a workload without suspects is down: verdict %q", a.Verdict)
	}
}

func TestWorkloadsWithoutSuspectsAreWaitedFor(t *testing.T) {
	l := newLab(t, deployment()...)
	chain, err := l.client.Owner(bounded(t), cluster.Deployment.Named(ns, "backend", ""))
	if err != nil {
		t.Fatal(err)
	}
	scene := l.scene(incident)
	scene.Workloads = [][]*cluster.Owner{chain}
	l.frozen = true // until it is waited for
	plans, _ := plan(t, scene, contain.Options{Steps: []string{contain.StepScale}})
	do(t, l, plans)
	waited := ""
	a := contain.Assess(bounded(t), scene, all(), &contain.Facts{}, func(p string) {
		waited = p
		l.frozen = false
		l.reconcile()
	})
	if want := "Deployment todo-app/backend: pods are left: backend-1, backend-2"; waited != want {
		t.Errorf("waited for %q, expected %q", waited, want)
	}
	if len(a.Workloads) != 1 || !a.Workloads[0].OK {
		t.Errorf("%+v", a.Workloads)
	}
}

// A controller that still counts pods is not down, whether or not they can be
// found by its selector.
func TestReplicasThatAreStillCountedKeepAWorkloadUp(t *testing.T) {
	l := newLab(t, deployment()...)
	scene := l.scene(incident, "backend-1")
	plans, _ := plan(t, scene, all())
	do(t, l, plans)
	l.Edit("deployments.apps", ns, "backend", func(m map[string]any) { m["status"] = map[string]any{"replicas": 1} })
	f := contain.Look(bounded(t), scene, all(), &contain.Facts{}).Findings[0]
	want := contain.Check{Code: "workload", Text: "Deployment todo-app/backend still has 1 pods",
		Object: "Deployment todo-app/backend"}
	if !slices.Contains(f.Checks, want) || f.Verdict != contain.NotContained {
		t.Errorf("%q: %+v", f.Verdict, f.Checks)
	}
}

func TestEachSuspectIsJudgedByThePoliciesOfItsNamespace(t *testing.T) {
	other := func(o runtime.Object) runtime.Object {
		o.(metav1.Object).SetNamespace("a-shop") // before todo-app
		return o
	}
	l := newLab(t, pod("backend-1", nil), other(pod("backend-2", nil)))
	scene := l.scene(incident, "backend-1")
	target, err := l.client.GetTarget(bounded(t), "a-shop", "backend-2")
	if err != nil {
		t.Fatal(err)
	}
	scene.Targets = append(scene.Targets, target)
	scene.Around = l.client.Survey(bounded(t), []string{ns, "a-shop"})
	o := contain.Options{Steps: contain.DefaultSteps[:2]}
	plans, _ := plan(t, scene, o)
	do(t, l, plans)
	l.Delete(policies, "a-shop", contain.PolicyName(incident))
	verdicts := map[string]contain.Verdict{}
	for _, f := range contain.Look(bounded(t), scene, o, &contain.Facts{Enforcers: []string{"x"}}).Findings {
		verdicts[f.Pod] = f.Verdict
	}
	if diff := cmp.Diff(map[string]contain.Verdict{"backend-1": contain.Contained, "backend-2": contain.NotContained},
		verdicts); diff != "" {
		t.Error(diff)
	}
}

// What cannot be read weighs: without the suspect and its NetworkPolicies there
// is no verdict, and the rest is at best a risk. What was seen to be open is so.
func TestWhatCouldNotBeReadWeighs(t *testing.T) {
	ready := appsv1.DaemonSetStatus{NumberReady: 1}
	enforcer := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "calico-node"},
		Status: ready}
	open := func(l *lab) {
		l.Edit("pods", ns, "backend-1", func(m map[string]any) {
			m["metadata"].(map[string]any)["labels"].(map[string]any)[contain.QuarantineLabel] = "false"
		})
	}
	argo := func(l *lab) {
		l.Edit("deployments.apps", ns, "backend", func(m map[string]any) {
			m["metadata"].(map[string]any)["annotations"] = map[string]any{
				"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:todo-app/backend"}
		})
	}
	for name, c := range map[string]struct {
		unread string // suffix of the paths that cannot be read
		meddle func(*lab)
		want   contain.Verdict
		says   string
	}{
		"everything is read": {"/none", nil, contain.Contained, ""},
		"the suspect": {"/pods/backend-1", nil, contain.Undetermined,
			"the pod could not be read: no right"},
		"NetworkPolicies": {"/networkpolicies", nil, contain.Undetermined, "no right"},
		"NetworkPolicies, and it is open": {"/networkpolicies", open, contain.NotContained,
			"the quarantine labels are not on the pod"},
		"policies of another kind": {"/ciliumnetworkpolicies", nil, contain.Exposed,
			"looking for policies of other kinds"},
		"the workload": {"/deployments/backend", nil, contain.Exposed,
			"reading Deployment todo-app/backend"},
		"the workload's other pods": {"/namespaces/" + ns + "/pods", nil, contain.Exposed,
			"listing the pods of Deployment todo-app/backend"},
		"endpoints": {"/endpointslices", nil, contain.Exposed, "listing endpoint slices"},
		"autoscalers": {"/horizontalpodautoscalers", nil, contain.Exposed,
			"listing autoscalers"},
		"KEDA's autoscalers": {"/scaledobjects", nil, contain.Exposed, "listing KEDA scaled objects"},
		"the GitOps controller": {"/applications/shop", argo, contain.Exposed,
			"Application argocd/shop, which would put back Deployment todo-app/backend"},
		"Services": {"/services", nil, contain.Exposed, "listing services"},
		"what enforces policies": {"/daemonsets", nil, contain.Exposed,
			"what enforces NetworkPolicy could not be looked for"},
		"the account": {"/serviceaccounts/default", nil, contain.Exposed,
			"reading ServiceAccount todo-app/default"},
		"something else, and it is contained": {"/clusterroles", nil, contain.Contained, ""}, // it holds no token
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, append(deployment(), enforcer.DeepCopy())...)
			scene := l.scene(incident, "backend-1")
			plans, _ := plan(t, scene, all())
			do(t, l, plans)
			if c.meddle != nil {
				c.meddle(l)
			}
			owners := scene.Targets[0].Owners
			l.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				if strings.HasSuffix(r.URL.Path, c.unread) {
					apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "no right")
					return
				}
				serve(w, r)
			}
			if c.meddle != nil { // as status does: the controllers as they are now
				scene.Targets[0] = l.client.WithOwners(bounded(t), scene.Targets[0].Pod,
					[]cluster.Ref{owners[0].Ref, owners[1].Ref})
			}
			scene.Around = l.client.Survey(bounded(t), []string{ns})
			a := contain.Look(bounded(t), scene, all(), contain.Gather(bounded(t), scene, "v1.37.2"))
			text := fmt.Sprintf("%+v %+v", a.Findings[0].Checks, a.Findings[0].Exposures)
			if a.Verdict != c.want || a.Findings[0].Verdict != c.want || !strings.Contains(text, c.says) {
				t.Errorf("verdict %q, expected %q, with %q in %s", a.Verdict, c.want, c.says, text)
			}
		})
	}
}

func TestAWorkloadWithoutSuspectsThatCannotBeReadIsNotJudged(t *testing.T) {
	l := newLab(t, append(deployment(), pod("lone", nil))...)
	chain, err := l.client.Owner(bounded(t), cluster.Deployment.Named(ns, "backend", ""))
	if err != nil {
		t.Fatal(err)
	}
	o := contain.Options{Steps: contain.DefaultSteps}
	scene := l.scene(incident, "lone")
	plans, _ := plan(t, scene, o)
	do(t, l, plans)
	scene.Workloads = [][]*cluster.Owner{chain}
	l.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if strings.HasSuffix(r.URL.Path, "/deployments/backend") {
			apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "no right")
			return
		}
		serve(w, r)
	}
	a := contain.Look(bounded(t), scene, o, &contain.Facts{Enforcers: []string{"x"}})
	if a.Findings[0].Verdict != contain.Contained || a.Verdict != contain.Undetermined {
		t.Errorf("the suspect is %q, all is %q", a.Findings[0].Verdict, a.Verdict)
	}
}

func TestExposures(t *testing.T) {
	yes := true
	ready := appsv1.DaemonSetStatus{NumberReady: 1, DesiredNumberScheduled: 1}
	enforcer := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "calico-node"},
		Status: ready}
	token := corev1.Volume{Name: "token",
		VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}}}
	holdsToken := func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{token} }
	now := time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC)
	endedBy := func(end time.Time) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			holdsToken(p)
			p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: end}, []string{"example.com/stays"}
		}
	}
	account := func(annotations map[string]string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default",
			Annotations: annotations}}
	}
	binding := func(kind, role string) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"},
			RoleRef:  rbacv1.RoleRef{Kind: kind, Name: role},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: ns, Name: "default"}}}
	}
	for name, c := range map[string]struct {
		pod     func(*corev1.Pod)
		objects []runtime.Object
		options func(*contain.Options)
	}{
		"none":        {objects: []runtime.Object{enforcer}},
		"no-enforcer": {},
		"enforcer-down": {objects: []runtime.Object{
			&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "calico-node"}},
			&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-flannel"},
				Status: ready}}},
		"host-network": {pod: func(p *corev1.Pod) { p.Spec.HostNetwork = true }},
		"node": {pod: func(p *corev1.Pod) {
			p.Spec.HostPID, p.Spec.HostIPC = true, true
			p.Spec.Volumes = []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{
					HostPath: &corev1.HostPathVolumeSource{Path: "/var/run/docker.sock"}}}}
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes,
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"CAP_SYS_ADMIN", "CHOWN"}}}
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 8080, ContainerPort: 80}}
		}, objects: []runtime.Object{enforcer}},
		"services": {objects: []runtime.Object{enforcer,
			&corev1.Service{ObjectMeta: meta("Service", "public"),
				Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer,
					Selector: map[string]string{"app": "backend"}}},
			&corev1.Service{ObjectMeta: meta("Service", "internal"),
				Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "backend"}}}}},
		"services-kept": {options: func(o *contain.Options) { o.KeepLabels = true }, objects: []runtime.Object{enforcer,
			&corev1.Service{ObjectMeta: meta("Service", "public"),
				Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort,
					Selector: map[string]string{"app": "backend"}}}}},
		"policies": {objects: []runtime.Object{enforcer,
			policyFor("by-tier", selector(map[string]string{"tier": "api"})),
			policyFor("everything", &metav1.LabelSelector{}),
			policyFor("forensics", selector(map[string]string{contain.QuarantineLabel: contain.QuarantineValue})),
			policyFor("detached", selector(map[string]string{"app": "backend"}))}},
		"allowed": {options: func(o *contain.Options) { o.AllowDNS = true }, objects: []runtime.Object{enforcer}},
		"other-policies": {objects: []runtime.Object{enforcer, object("cilium.io/v2", "CiliumNetworkPolicy", ns, "here",
			nil), object("cilium.io/v2", "CiliumNetworkPolicy", "elsewhere", "there", nil),
			object("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "", "everywhere", nil)}},
		"token-of-nothing": {pod: holdsToken, objects: []runtime.Object{enforcer, account(nil)}},
		"token-of-admin": {pod: holdsToken, objects: []runtime.Object{enforcer, account(nil),
			binding("ClusterRole", "admin"),
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "admin"},
				Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"},
					Resources: []string{"*"}}}}}},
		"token-of-a-role-to-come": {pod: holdsToken,
			objects: []runtime.Object{enforcer, account(nil), binding("ClusterRole", "not-there")}},
		"token-of-an-account-that-is-gone": {pod: holdsToken,
			objects: []runtime.Object{enforcer, binding("ClusterRole", "not-there")}},
		"token-of-an-account-made-anew": {pod: holdsToken,
			objects: []runtime.Object{enforcer, binding("ClusterRole", "not-there"),
				&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default",
					CreationTimestamp: metav1.Time{Time: now}}}}},
		"token-of-a-terminating-pod": {pod: endedBy(now.Add(time.Minute)),
			objects: []runtime.Object{enforcer, account(nil), binding("ClusterRole", "not-there")}},
		"token-of-a-pod-past-its-end": {pod: endedBy(now.Add(-61 * time.Second)),
			objects: []runtime.Object{enforcer, account(nil), binding("ClusterRole", "not-there")}},
		"token-of-a-pod-just-ended": {pod: endedBy(now.Add(-59 * time.Second)),
			objects: []runtime.Object{enforcer, account(nil), binding("ClusterRole", "not-there")}},
		"cloud-by-pod-identity": {objects: []runtime.Object{enforcer, account(nil)}, pod: func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "eks-pod-identity-token", VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
					ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "pods.eks.amazonaws.com"}}}}}}}
		}},
		"cloud": {objects: []runtime.Object{enforcer,
			account(map[string]string{"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/path/back end",
				"iam.gke.io/gcp-service-account":    "x@p.iam.gserviceaccount.com",
				"azure.workload.identity/client-id": "1-2-3"})}},
	} {
		t.Run(name, func(t *testing.T) {
			objects := deployment()
			for _, o := range objects {
				if p, ok := o.(*corev1.Pod); ok && p.Name == "backend-1" && c.pod != nil {
					c.pod(p)
				}
			}
			for _, o := range c.objects {
				objects = append(objects, o.DeepCopyObject())
			}
			l := newLab(t, objects...)
			o := contain.Options{Steps: contain.DefaultSteps[:2]}
			if c.options != nil {
				c.options(&o)
			}
			scene := l.scene(incident, "backend-1")
			scene.Now = func() time.Time { return now }
			facts := contain.Gather(bounded(t), scene, "v1.37.2")
			plans, _ := plan(t, scene, o)
			do(t, l, plans)
			f := contain.Look(bounded(t), scene, o, facts).Findings[0]
			var text strings.Builder
			fmt.Fprintf(&text, "%s\n", f.Verdict)
			for _, e := range f.Exposures {
				fmt.Fprintf(&text, "%s (%s): %s\n", e.Code, e.Severity, e.Text)
				if e.Close != "" {
					fmt.Fprintf(&text, "  to close it: %s\n", e.Close)
				}
			}
			golden(t, "exposures-"+name+".txt", text.String())
		})
	}
}

func policyFor(name string, pods *metav1.LabelSelector) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: meta("NetworkPolicy", name),
		Spec: networkingv1.NetworkPolicySpec{PodSelector: *pods,
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}}}}}
}

func TestFactsThatCannotBeReadAreGaps(t *testing.T) {
	l := newLab(t, deployment()...)
	scene := l.scene(incident, "backend-1")
	s := scenario{forbidden: "/cilium.io/"}
	blind, _ := s.lab(t)
	scene.Client = blind.client
	var text []string
	for _, g := range contain.Gather(bounded(t), scene, "v1").Gaps {
		text = append(text, g.String())
	}
	if len(text) != 1 || !strings.Contains(text[0],
		"looking for policies of other kinds: listing ciliumnetworkpolicies.cilium.io") {
		t.Errorf("gaps: %q", text)
	}
}

func TestEnforcers(t *testing.T) {
	ready := appsv1.DaemonSetStatus{NumberReady: 1}
	args := func(a ...string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "aws-eks-nodeagent", Args: a}}}}
	}
	for name, c := range map[string]struct {
		set     *appsv1.DaemonSet
		version string
		want    []string
	}{
		"k3s": {version: "v1.37.2+k3s1", want: []string{"the network policy controller inside k3s"}},
		"cilium": {set: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "cilium"}, Status: ready},
			want: []string{"Cilium"}},
		"with a prefix": {set: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "rke2-canal"},
			Status: ready}, want: []string{"Canal"}},
		"flannel": {set: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "kube-flannel-ds"},
			Status: ready}, want: []string{}},
		"not running": {set: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "cilium"}},
			want: []string{}},
		"vpc cni": {set: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "aws-node"}, Status: ready,
			Spec: appsv1.DaemonSetSpec{Template: args("--enable-network-policy=true")}},
			want: []string{"Amazon VPC CNI"}},
		"vpc cni, turned off": {set: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "aws-node"}, Status: ready,
			Spec: appsv1.DaemonSetSpec{Template: args("--enable-network-policy=false")}}, want: []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if c.set != nil {
				c.set.Namespace = "kube-system"
				l.Add(t, c.set)
			}
			got, err := contain.Enforcers(bounded(t), l.client, c.version)
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

func TestOpponents(t *testing.T) {
	l := newLab(t, opposed()...)
	var text strings.Builder
	for _, o := range contain.Opponents(bounded(t), l.scene(incident, "backend-1")) {
		w := o.Warning()
		fmt.Fprintf(&text, "%s: %s\n  %s\n", w.Code, w.Text, w.Fix)
	}
	golden(t, "opponents.txt", text.String())
}

func TestWorst(t *testing.T) {
	c, e, n := contain.Finding{Verdict: contain.Contained}, contain.Finding{Verdict: contain.Exposed},
		contain.Finding{Verdict: contain.NotContained}
	u := contain.Finding{Verdict: contain.Undetermined}
	for _, x := range []struct {
		list []contain.Finding
		want contain.Verdict
	}{
		{nil, contain.Undetermined}, {[]contain.Finding{c, c}, contain.Contained},
		{[]contain.Finding{c, e}, contain.Exposed}, {[]contain.Finding{e, c}, contain.Exposed},
		{[]contain.Finding{e, u, c}, contain.Undetermined}, {[]contain.Finding{u, e}, contain.Undetermined},
		{[]contain.Finding{u, n, u}, contain.NotContained},
		{[]contain.Finding{n, e, c}, contain.NotContained}, {[]contain.Finding{e, n}, contain.NotContained},
	} {
		if got := contain.Worst(x.list); got != x.want {
			t.Errorf("%v: %q", x.list, got)
		}
	}
}

func TestOptionsAreValidatedBeforeAnythingIsRead(t *testing.T) {
	for want, o := range map[string]contain.Options{
		`no step "explode"`: {Steps: []string{"explode"}},
		`label "a b"`:       {RemoveLabels: []string{"a b"}},
		"label quarantine is what the quarantine selects":   {RemoveLabels: []string{contain.QuarantineLabel}},
		"label irctl/incident is what the quarantine selec": {RemoveLabels: []string{contain.IncidentLabel}},
		`namespace "Not_One"`:                               {AllowNamespaces: []string{"Not_One"}},
		`"10.0.0.1" is not an address range`:                {AllowCIDRs: []string{"10.0.0.1"}},
	} {
		if _, err := contain.Steps(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %s", err, want)
		}
	}
	list, err := contain.Steps(contain.Options{Steps: []string{contain.StepScale, contain.StepSuspend,
		contain.StepQuarantine}})
	if err != nil || len(list) != 3 || list[0].Info().Name != contain.StepSuspend || list[2].Info().
		Name != contain.StepScale {
		t.Errorf("%v, %v", list, err)
	}
}
