package change_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
)

// The kinds of these tests that a plain simulated cluster does not serve.
var (
	definitions = sim.Kind{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
		Kind: "CustomResourceDefinition", Cluster: true}
	endpoints = sim.Kind{Version: "v1", Resource: "endpoints", Kind: "Endpoints"}
	claims    = sim.Kind{Version: "v1", Resource: "persistentvolumeclaims", Kind: "PersistentVolumeClaim"}
)

// made is a cluster in which irctl has created an object.
type made struct {
	*sim.Cluster
	client *cluster.Client
	change change.Change
}

// withTodoApp is the cluster that all of them are copies of.
var withTodoApp = sync.OnceValues(func() (*sim.Cluster, error) {
	c, err := sim.New(sim.Options{Kinds: []sim.Kind{sim.Gadget, definitions, endpoints, claims}})
	if err == nil {
		err = c.Apply(sim.TodoApp)
	}
	return c, err
})

// makeIt applies a manifest server-side, or creates what it describes.
func makeIt(t *testing.T, manifest string, faults func(sim.Request) sim.Fault) *made {
	t.Helper()
	todo, err := withTodoApp()
	if err != nil {
		t.Fatal(err)
	}
	c, err := todo.Clone()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c.Server(faults))
	t.Cleanup(server.Close)
	m := &made{Cluster: c}
	if m.client, err = cluster.New(&rest.Config{Host: server.URL}); err != nil {
		t.Fatal(err)
	}
	m.change = m.makes(t, manifest)
	return m
}

// makes creates another object.
func (m *made) makes(t *testing.T, manifest string) change.Change {
	t.Helper()
	o := unstructured.Unstructured{Object: config(t, manifest)}
	ref, _, err := m.client.KindOf(bounded(t), o.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	ref = ref.Named(o.GetNamespace(), o.GetName(), "")
	c := change.NewCreate(ref, o.Object)
	if o.GetAnnotations()["test"] != "posted" {
		if c, _, err = change.PlanApply(bounded(t), m.client.Dynamic, ref, o.Object, false); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, change.Done)(c.Do(bounded(t), m.client.Dynamic))
	return c
}

// as writes to the object, as a field manager.
func (m *made) as(t *testing.T, manager string, kind types.PatchType, patch string, sub ...string) {
	t.Helper()
	force := true
	o := metav1.PatchOptions{FieldManager: manager}
	if kind == types.ApplyPatchType {
		o.Force = &force
	}
	body, err := yaml.YAMLToJSON([]byte(patch))
	if err == nil {
		ref := m.change.Object
		_, err = m.client.Dynamic.Resource(ref.GVR()).Namespace(ref.Namespace).
			Patch(bounded(t), ref.Name, kind, body, o, sub...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *made) there() bool {
	_, err := m.Get(m.change.Object.GVR(), m.change.Object.Namespace, m.change.Object.Name)
	return err == nil
}

func (m *made) undo(t *testing.T, ours ...change.Change) (change.Result, error) {
	t.Helper()
	guard := change.Contents(m.client, append(ours, m.change))
	before := snapshot(m.Cluster)
	dry := m.change.DryRunUndo(bounded(t), m.client.Dynamic, guard)
	if snapshot(m.Cluster) != before {
		t.Error("the dry run wrote")
	}
	result, err := m.change.Undo(bounded(t), m.client.Dynamic, guard)
	if fmt.Sprint(dry) != fmt.Sprint(err) {
		t.Errorf("the dry run says %v, the undo %v", dry, err)
	}
	return result, err
}

// What irctl makes in these tests. The first is made by a POST.
const (
	posted = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: q, namespace: todo-app, " +
		"labels: {a: b}, annotations: {test: posted}}, spec: {podSelector: {matchLabels: {a: b}}, policyTypes: " +
		"[Ingress]}}"
	secret = "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: todo-app, annotations: {test: " +
		"posted}}, type: Opaque, data: {k: dg==}}"
	settings = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: todo-app, labels: {a: b}}, data: " +
		"{x: why}}"
	account  = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: todo-app}}"
	workload = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: todo-app}, spec: {replicas: " +
		"2, selector: {matchLabels: {d: d}}, template: {metadata: {labels: {d: d}}, spec: {containers: [{name: m, " +
		"image: i}]}}}}"
	namespace  = "{apiVersion: v1, kind: Namespace, metadata: {name: clean-room, labels: {team: web}}}"
	aggregated = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r}, " +
		"aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}}"
	gadgets = "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: " +
		"gadgets.example.com}, spec: {group: example.com, scope: Namespaced, " +
		"names: {kind: Gadget, plural: gadgets}, versions: [{name: v0, served: false, storage: false}, {name: v1, " +
		"served: true, storage: true}]}}"
	claim = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: p, namespace: todo-app}, spec: " +
		"{accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}"
)

// What irctl made is deleted while it is as irctl made it; what somebody else
// has set in it since keeps it, with the field and who that was.
func TestWhatWasMadeIsDeletedOnlyWhileItIsAsItWasMade(t *testing.T) {
	const merge, apply = types.MergePatchType, types.ApplyPatchType
	for name, tc := range map[string]struct {
		object  string
		manager string
		kind    types.PatchType
		patch   string
		sub     string
		want    string // of the refusal; "": it is deleted
	}{
		"nothing was done: posted":     {object: posted},
		"nothing was done: a secret":   {object: secret},
		"nothing was done: applied":    {object: settings},
		"nothing was done: workload":   {object: workload},
		"nothing was done: namespace":  {object: namespace},
		"nothing was done: aggregated": {object: aggregated},
		"a label was added": {posted, "kubectl-label", merge, "{metadata: {labels: {owner: me}}}",
			"", "metadata.labels[owner] was set by kubectl-label"},
		"a label was added to what was applied": {settings, "kubectl-label", merge, "{metadata: {labels: {owner: me}}}",
			"", "metadata.labels[owner] was set by kubectl-label"},
		"a label was changed": {settings, "kubectl-label", merge, "{metadata: {labels: {a: c}}}", "",
			`metadata.labels[a] is "c", expected "b"`},
		"a label was taken off": {posted, "kubectl-label", merge, "{metadata: {labels: {a: null}}}", "",
			"metadata.labels[a] is absent"},
		"a rule was added": {posted, "kubectl-edit", merge, "{spec: {ingress: [{}]}}", "",
			`"ingress":[{}]`},
		"data was added": {settings, "kubectl-edit", merge, "{data: {z: z}}", "",
			"data.z was set by kubectl-edit"},
		"data was changed": {settings, "kubectl-edit", merge, "{data: {x: z}}", "",
			`data.x is "z"`},
		"a secret was changed": {secret, "kubectl-edit", merge, "{data: {k: b3RoZXI=}}", "",
			"data has other values"},
		"a field of the spec was added": {workload, "kubectl-edit", merge, "{spec: {minReadySeconds: 3}}", "",
			"spec.minReadySeconds was set by kubectl-edit"},
		"somebody applies the same": {settings, "flux", apply, settings, "", "data.x was set by flux"},
		"somebody applies it with kubectl": {settings, "kubectl-client-side-apply", merge,
			`{metadata: {annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}"}}}`, "",
			"last-applied-configuration] was set by kubectl-client-side-apply"},
		"it was given to an owner": {settings, "operator", merge,
			"{metadata: {ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: o, uid: u}]}}", "",
			"was set by operator"},
		"irctl labelled it in a later incident": {settings, "irctl", merge, "{metadata: {labels: {later: l}}}", "",
			"metadata.labels[later] was set by irctl"},
		"one who calls himself a controller": {settings, "kube-controller-manager", merge, "{data: {z: z}}", "",
			"data.z was set by kube-controller-manager"},
		"a namespace was labelled": {namespace, "kubectl-label", merge, "{metadata: {labels: {owner: me}}}", "",
			"metadata.labels[owner] was set by kubectl-label"},

		"its status was set": {workload, "kube-controller-manager", merge,
			"{status: {observedGeneration: 1}}", "status", ""},
		"a controller noted something": {workload, "kube-controller-manager", merge,
			"{metadata: {annotations: {deployment.kubernetes.io/revision: '2'}}}", "", ""},
		"a network plugin put a finalizer": {posted, "controller", merge,
			"{metadata: {finalizers: [example.com/policy]}}", "", ""},
		"the account was given its token": {account, "kube-controller-manager", merge,
			"{secrets: [{name: a-token}]}", "", ""},
		"the role was aggregated": {aggregated, "clusterrole-aggregation-controller", merge,
			"{rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}", "", ""},
		"the namespace is labelled by itself": {namespace, "kube-apiserver", merge,
			"{metadata: {labels: {kubernetes.io/metadata.name: clean-room}}}", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := makeIt(t, tc.object, nil)
			if tc.patch != "" {
				var sub []string
				if tc.sub != "" {
					sub = []string{tc.sub}
				}
				m.as(t, tc.manager, tc.kind, tc.patch, sub...)
			}
			result, err := m.undo(t)
			if tc.want == "" {
				if err != nil || result != change.Done || m.there() {
					t.Fatalf("%s %v; it is there: %t", result, err, m.there())
				}
				expect(t, change.Gone)(m.change.Undo(bounded(t), m.client.Dynamic))
				return
			}
			expectDrift(t, err, tc.want)
			if !change.Refuses(err) || !m.there() || !strings.Contains(err.Error(), m.change.UndoCommand()) {
				t.Errorf("it is there: %t; %v", m.there(), err)
			}
			if strings.Contains(err.Error(), "b3RoZXI=") {
				t.Errorf("it tells a secret: %v", err)
			}
		})
	}
}

// Between the look and the delete somebody changes the object: it is looked at
// again, and stays. Or puts another in its place: that one stays.
func TestOnlyTheVersionThatWasLookedAtIsDeleted(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, m *made){
		"changed": func(t *testing.T, m *made) {
			m.as(t, "somebody", types.MergePatchType, "{metadata: {labels: {owner: me}}}")
		},
		"replaced": func(t *testing.T, m *made) {
			if err := m.Delete(m.change.Object.GVR(), "todo-app", m.change.Object.Name); err != nil {
				t.Error(err)
			}
			if err := m.Cluster.Apply(strings.Replace(posted, "{a: b}, annotations", "{owner: me}, annotations",
				1)); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var m *made
			meddled := false
			m = makeIt(t, posted, func(r sim.Request) sim.Fault {
				if r.Verb == "delete" && !meddled {
					meddled = true
					return sim.Fault{Before: func() { meddle(t, m) }}
				}
				return sim.Fault{}
			})
			_, err := m.change.Undo(bounded(t), m.client.Dynamic)
			var drift *change.DriftError
			if !meddled || !m.there() || errors.As(err, &drift) == (name == "replaced") {
				t.Errorf("meddled %t, there %t: %v", meddled, m.there(), err)
			}
		})
	}
}

func TestADeleteNamesTheUIDAndTheVersion(t *testing.T) {
	s := todoApp(t)
	client, c := connect(t, s), policy()
	expect(t, change.Done)(c.Do(bounded(t), client))
	live := unstructured.Unstructured{Object: s.Object("networkpolicies.networking.k8s.io", "todo-app", "deny")}
	var options metav1.DeleteOptions
	s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.Method == http.MethodDelete {
			body, err := io.ReadAll(r.Body)
			if err = errors.Join(err, json.Unmarshal(body, &options)); err != nil {
				t.Error(err)
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
		}
		serve(w, r)
	}
	expect(t, change.Done)(c.Undo(bounded(t), client))
	p := options.Preconditions
	if p == nil || p.UID == nil || *p.UID != live.GetUID() || p.ResourceVersion == nil ||
		*p.ResourceVersion != live.GetResourceVersion() {
		t.Errorf("the preconditions are %+v, of %s %s", p, live.GetUID(), live.GetResourceVersion())
	}
}

// Nothing that others made goes with what irctl made.
func TestWhatHoldsWhatOthersMadeIsNotDeleted(t *testing.T) {
	const inRoom = "{apiVersion: v1, kind: ConfigMap, metadata: {name: precious, namespace: clean-room}}"
	const theirWorkload = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: clean-room}, " +
		"spec: {replicas: 2, selector: {matchLabels: {d: d}}, template: {metadata: {labels: {d: d}}, spec: " +
		"{containers: [{name: m, image: i}]}}}}"
	const ofEvery = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: clean-room}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-root-ca.crt, namespace: clean-room}
---
apiVersion: v1
kind: Event
metadata: {name: e, namespace: clean-room}
---
apiVersion: v1
kind: Endpoints
metadata: {name: s, namespace: clean-room, labels: {endpoints.kubernetes.io/managed-by: endpoint-controller}}
`
	for name, tc := range map[string]struct {
		object string
		others string // manifests that others apply; UID is the object's
		deny   string // the right to list that is missing
		want   string // of the refusal; "": it is deleted
		stays  bool   // what the others made
	}{
		"an empty namespace":         {object: namespace},
		"what is in every namespace": {object: namespace, others: ofEvery},
		"a ConfigMap in it":          {object: namespace, others: inRoom, want: "ConfigMap clean-room/precious"},
		"what the garbage collector is about to take": {object: namespace,
			others: "{apiVersion: v1, kind: ConfigMap, metadata: {name: left, namespace: clean-room, " +
				"ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: gone, controller: true}]}}"},
		"a workload, and not each pod": {object: namespace, others: theirWorkload,
			want: "deleted with it: Deployment clean-room/web. What to do"},
		"a custom resource in it": {object: namespace,
			others: "{apiVersion: example.com/v1, kind: Gadget, metadata: {name: g, namespace: clean-room}}",
			want:   "Gadget clean-room/g"},
		"secrets may not be listed": {object: namespace, deny: "secrets",
			want: "the right to list secrets in namespace clean-room"},
		"a kind without objects": {object: gadgets},
		"a kind with an object": {object: gadgets,
			others: "{apiVersion: example.com/v1, kind: Gadget, metadata: {name: g, namespace: todo-app}}",
			want:   "Gadget todo-app/g"},
		"a kind that may not be listed": {object: gadgets, deny: "gadgets",
			want: "the right to list gadgets.example.com in all namespaces"},
		"a workload with its own pods": {object: workload},
		"a workload that owns a ConfigMap": {object: workload, others: "{apiVersion: v1, kind: ConfigMap, " +
			"metadata: {name: hangs, namespace: todo-app, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, " +
			"name: d, uid: UID}]}}", want: "ConfigMap todo-app/hangs"},
		"a workload beside an owned ConfigMap": {object: workload, others: "{apiVersion: v1, kind: ConfigMap, " +
			"metadata: {name: hangs, namespace: todo-app, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, " +
			"name: d, uid: another}]}}"},
		"a workload that owns it with others": {object: workload, others: "{apiVersion: v1, kind: ConfigMap, " +
			"metadata: {name: hangs, namespace: todo-app, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, " +
			"name: d, uid: UID}, {apiVersion: v1, kind: ConfigMap, name: o, uid: gone}]}}",
			want: "ConfigMap todo-app/hangs"},
		"what hangs on a ConfigMap stays": {object: settings, others: "{apiVersion: v1, kind: ConfigMap, " +
			"metadata: {name: hangs, namespace: todo-app, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: " +
			"c, uid: UID}]}}", stays: true},
		"a claim that is not bound":           {object: claim},
		"a ConfigMap needs no rights to look": {object: settings, deny: "secrets"},
	} {
		t.Run(name, func(t *testing.T) {
			m := makeIt(t, tc.object, nil)
			live, err := m.Get(m.change.Object.GVR(), m.change.Object.Namespace, m.change.Object.Name)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Cluster.Apply(strings.ReplaceAll(tc.others, "UID", string(live.GetUID()))); err != nil {
				t.Fatal(err)
			}
			if tc.deny != "" {
				m.Deny(sim.Rule{Verb: "list", Resource: tc.deny})
			}
			_, err = m.undo(t)
			if tc.want == "" {
				if err != nil || m.there() {
					t.Fatalf("it is there: %t; %v", m.there(), err)
				}
			} else {
				expectHeld(t, err, tc.want)
				if !m.there() {
					t.Error("it was deleted")
				}
			}
			if _, err := m.Get(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "todo-app",
				"hangs"); tc.stays && err != nil {
				t.Error(err)
			}
		})
	}
}

func expectHeld(t *testing.T, err error, want string) {
	t.Helper()
	var held *change.HeldError
	if !errors.As(err, &held) || !change.Refuses(err) || !strings.Contains(err.Error(), want) ||
		!strings.Contains(err.Error(), "What to do: ") {
		t.Errorf("got %v; want a refusal that says %q, and what to do", err, want)
	}
}

// What the incident itself made in a namespace is not of others, as long as it
// is as it was made; nor are the pods of its workloads.
func TestWhatTheIncidentMadeInANamespaceDoesNotHoldIt(t *testing.T) {
	m := makeIt(t, namespace, nil)
	ours := []change.Change{
		m.makes(t, strings.ReplaceAll(workload, "todo-app", "clean-room")),
		m.makes(t, strings.ReplaceAll(settings, "todo-app", "clean-room")),
	}
	_, err := m.undo(t)
	expectHeld(t, err, "ConfigMap clean-room/c, Deployment clean-room/d.")
	if err := m.change.DryRunUndo(bounded(t), m.client.Dynamic, change.Contents(m.client, ours)); err != nil {
		t.Error(err)
	}
	if err := m.Edit(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "clean-room", "c",
		func(o *unstructured.Unstructured) {
			o.SetLabels(map[string]string{"a": "b", "owner": "me"})
		}); err != nil {
		t.Fatal(err)
	}
	_, err = m.undo(t, ours...)
	expectHeld(t, err, "deleted with it: ConfigMap clean-room/c.")
}

// A namespace or a kind is never deleted unless somebody looked; a volume that
// is bound cannot be looked at.
func TestWhatCannotBeLookedIntoIsNotDeleted(t *testing.T) {
	for _, object := range []string{namespace, gadgets, workload} {
		m := makeIt(t, object, nil)
		var held *change.HeldError
		if _, err := m.change.Undo(bounded(t), m.client.Dynamic); !errors.As(err, &held) || !m.there() {
			t.Errorf("%s: it is there: %t; %v", m.change.Object, m.there(), err)
		}
	}
	m := makeIt(t, claim, nil)
	m.as(t, "kube-controller-manager", types.MergePatchType, "{spec: {volumeName: pv-1}}")
	_, err := m.undo(t)
	expectHeld(t, err, "bound to pv-1")
}

// An object that is being deleted is waited for, and not deleted again; that it
// stays is no undo.
func TestAnObjectOnItsWayOutIsWaitedFor(t *testing.T) {
	for name, goes := range map[string]bool{"it goes": true, "a finalizer keeps it": false} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(bounded(t))
			defer cancel()
			s := todoApp(t)
			client, c := connect(t, s), policy()
			expect(t, change.Done)(c.Do(ctx, client))
			s.Edit("networkpolicies.networking.k8s.io", "todo-app", "deny", func(m map[string]any) {
				m["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
				m["metadata"].(map[string]any)["finalizers"] = []any{"example.com/held"}
			})
			s.Forget()
			s.Intercept = func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				serve(w, r)
				switch looks := len(s.Requests("GET")); {
				case goes && looks == 2:
					s.Delete("networkpolicies.networking.k8s.io", "todo-app", "deny")
				case !goes && looks == 3:
					cancel()
				}
			}
			result, err := c.Undo(ctx, client)
			if len(s.Requests("DELETE")) > 0 {
				t.Error("it was deleted once more")
			}
			if goes {
				expect(t, change.Gone)(result, err)
			} else if err == nil || !strings.Contains(err.Error(),
				"not gone yet: it waits for its finalizers: example.com/held") {
				t.Errorf("%s %v", result, err)
			}
		})
	}
}
