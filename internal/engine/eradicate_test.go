package engine_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/rotate"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

var (
	secretsGVR  = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	accountsGVR = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
)

// The values that leaked, each unlike any other text.
const (
	oldKey     = "old-key-5f0cc1d2"
	oldSigning = "old-signing-77e0ab"
)

// leaked is a world in which the backend's secrets leaked: one that can be
// changed, one that is immutable, and its service account. The suspect is
// contained, the workload left running.
type leakedWorld struct {
	*world
	dir string // the state directory, to be copied
}

var leakedOnce sync.Mutex
var leakedBase *leakedWorld

func newLeaked(t testing.TB) *leakedWorld {
	t.Helper()
	leakedOnce.Lock()
	defer leakedOnce.Unlock()
	if leakedBase == nil {
		leakedBase = makeLeaked(t)
	}
	c, err := leakedBase.Clone()
	if err != nil {
		t.Fatal(err)
	}
	return &leakedWorld{&world{Cluster: c, suspect: leakedBase.suspect}, copyState(t, leakedBase.dir)}
}

func makeLeaked(t testing.TB) *leakedWorld {
	w := newWorld(t)
	err := w.Apply(`
apiVersion: v1
kind: Secret
metadata: {name: signing, namespace: todo-app}
immutable: true
data: {key: ` + base64.StdEncoding.EncodeToString([]byte(oldSigning)) + `}
`)
	if err != nil {
		t.Fatal(err)
	}
	w.edit(t, secretsGVR, "backend-secret", func(o *unstructured.Unstructured) {
		o.Object["data"] = map[string]any{"SECRET_KEY": base64.StdEncoding.EncodeToString([]byte(oldKey))}
	})
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		containers[0].(map[string]any)["envFrom"] = []any{
			map[string]any{"secretRef": map[string]any{"name": "signing"}}}
		_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
	})
	w.suspect = firstPod(t, w.Cluster, "todo-app", "backend-")
	dir, err := os.MkdirTemp("", "irctl-leaked") // outlives the test that comes first
	if err != nil {
		t.Fatal(err)
	}
	w.mustStart(t, dir).mustContain(t, func(r *engine.ContainRequest) {
		r.Options.Steps = []string{contain.StepQuarantine, contain.StepDetach}
	})
	return &leakedWorld{w, dir}
}

func everything(p *process) engine.EradicateRequest {
	open, _ := p.Store.FindOpen(context.Background(), func(incident.Incident) bool { return true })
	req := engine.EradicateRequest{Options: eradicate.Options{All: true, Sources: map[string]rotate.Source{
		"SECRET_KEY": {Kind: rotate.Random}, "signing/key": {Kind: rotate.Password}}}}
	if len(open) == 1 {
		req.Incident = open[0].ID
	}
	return req
}

func (p *process) eradicateNow(ctx context.Context) (*engine.EradicateResult, error) {
	return p.Eradicate(ctx, everything(p))
}

// data is the value of a key, or "".
func (w *leakedWorld) data(name, key string) string {
	o, err := w.Get(secretsGVR, "todo-app", name)
	if err != nil {
		return ""
	}
	text, _, _ := unstructured.NestedString(o.Object, "data", key)
	value, _ := base64.StdEncoding.DecodeString(text)
	return string(value)
}

// whole: no template, and no pod but the suspect, names a Secret or a
// ServiceAccount that does not exist: what runs could be started again.
func (w *leakedWorld) whole() error {
	for _, gvr := range []schema.GroupVersionResource{sim.Deployments, sim.Pods} {
		for _, o := range w.List(gvr, "todo-app") {
			if o.GetName() == w.suspect {
				continue
			}
			text, _ := json.Marshal(o.Object["spec"])
			for _, s := range append(w.secretNames(), "") {
				text = []byte(strings.ReplaceAll(string(text), `"secretRef":{"name":"`+s+`"}`, ""))
				text = []byte(strings.ReplaceAll(string(text), `"name":"`+s+`"}`, "}"))
			}
			if strings.Contains(string(text), `"secretRef":{"name"`) {
				return fmt.Errorf("%s %s names a Secret that does not exist: %s", o.GetKind(), o.GetName(), text)
			}
		}
	}
	return nil
}

func (w *leakedWorld) secretNames() []string {
	var names []string
	for _, o := range w.List(secretsGVR, "todo-app") {
		names = append(names, o.GetName())
	}
	return names
}

// clean checks that nothing accepts, mounts or holds the old values.
func (w *leakedWorld) clean(t testing.TB, name string) {
	t.Helper()
	if v := w.data("backend-secret", "SECRET_KEY"); v == oldKey || v == "" {
		t.Errorf("%s: backend-secret has %q", name, v)
	}
	if slices.Contains(w.secretNames(), "signing") {
		t.Errorf("%s: the immutable predecessor is still there", name)
	}
	successors := slices.DeleteFunc(w.secretNames(), func(n string) bool { return !strings.HasPrefix(n, "signing-r") })
	used := 0
	d, _ := w.Get(sim.Deployments, "todo-app", "backend")
	text, _ := json.Marshal(d.Object["spec"])
	for _, s := range successors {
		if strings.Contains(string(text), `"`+s+`"`) {
			used++
			if v := w.data(s, "key"); v == oldSigning || len(v) != 32 {
				t.Errorf("%s: the successor has %q", name, v)
			}
		}
	}
	if used != 1 {
		t.Errorf("%s: the Deployment names %d of %v", name, used, successors)
	}
	before, _ := leakedBase.Get(accountsGVR, "todo-app", "backend-sa")
	if a, err := w.Get(accountsGVR, "todo-app", "backend-sa"); err != nil || a.GetUID() == before.GetUID() {
		t.Errorf("%s: the service account is the one of before (%v)", name, err)
	}
	for _, p := range w.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), "backend-") && p.GetName() != w.suspect &&
			p.GetAnnotations()[eradicate.RotationAnnotation] == "" {
			t.Errorf("%s: pod %s was not restarted", name, p.GetName())
		}
	}
	if _, err := w.Get(sim.Pods, "todo-app", w.suspect); err != nil {
		t.Errorf("%s: the suspect is gone", name)
	}
	if err := w.whole(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// finished runs the same command again, which must bring everything to its
// end, and once more, which must change nothing.
func (w *leakedWorld) finished(t testing.TB, name, dir string) {
	t.Helper()
	p := w.mustStart(t, dir)
	res, err := p.eradicateNow(t.Context())
	if err != nil {
		t.Errorf("%s: again: %v", name, err)
		return
	}
	if res.Verdict != engine.Eradicated {
		text, _ := json.Marshal(res)
		t.Errorf("%s: again: %s", name, text)
	}
	w.clean(t, name)
	p = w.mustStart(t, dir)
	if _, err := p.eradicateNow(t.Context()); err != nil || p.server.Written() != 0 {
		t.Errorf("%s: a run after the end wrote %d times (%v)", name, p.server.Written(), err)
	}
	w.silent(t, name, dir, p)
}

// silent: no value, old or new, is in any file of the state directory or in
// anything that was shown.
func (w *leakedWorld) silent(t testing.TB, name, dir string, processes ...*process) {
	t.Helper()
	values := []string{oldKey, oldSigning, w.data("backend-secret", "SECRET_KEY")}
	for _, n := range w.secretNames() {
		if strings.HasPrefix(n, "signing-r") {
			values = append(values, w.data(n, "key"))
		}
	}
	var told strings.Builder
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, _ := os.ReadFile(path)
			told.Write(text)
		}
		return nil
	})
	for _, p := range processes {
		p.front.mu.Lock()
		fmt.Fprintf(&told, "%+v %+v", p.front.events, p.front.proposals)
		p.front.mu.Unlock()
	}
	for _, v := range values {
		for _, form := range []string{v, base64.StdEncoding.EncodeToString([]byte(v))} {
			if v != "" && strings.Contains(told.String(), form) {
				t.Errorf("%s: a secret was told", name)
			}
		}
	}
}

func TestEradicate(t *testing.T) {
	w := newLeaked(t)
	p := w.mustStart(t, w.dir)
	res, err := p.eradicateNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict != engine.Eradicated || len(res.Radius.Items) != 3 {
		text, _ := json.MarshalIndent(res, "", " ")
		t.Fatalf("%s", text)
	}
	w.clean(t, "")
	w.silent(t, "", w.dir, p)
	w.finished(t, "", w.dir)

	entries := journal(t, w.dir)
	for _, a := range timeline.Standing(entries) {
		if a.Intent.Phase == eradicate.Phase {
			t.Errorf("undo would be offered for: %s", a.Intent.Summary)
		}
	}
	if timeline.MetricsOf(entries).EradicatedAt.IsZero() {
		t.Error("the metrics do not know of it")
	}
	p = w.mustStart(t, w.dir)
	if _, err := p.undoNow(t.Context(), engine.UndoRequest{All: true, AllowEvidenceLoss: true}); err != nil {
		t.Error(err)
	}
	if w.data("backend-secret", "SECRET_KEY") == oldKey {
		t.Error("undo put the leaked value back")
	}
}

func TestEradicatePlanWritesNothing(t *testing.T) {
	w := newLeaked(t)
	before := w.State()
	p := w.mustStart(t, w.dir)
	for name, change := range map[string]func(*engine.EradicateRequest){
		"plan":    func(r *engine.EradicateRequest) { r.PlanOnly = true },
		"dry run": func(r *engine.EradicateRequest) { r.DryRun = true },
	} {
		req := everything(p)
		change(&req)
		entries := len(journal(t, w.dir))
		res, err := p.Eradicate(t.Context(), req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, _ := json.Marshal(res)
		if p.server.Written() != 0 || fmt.Sprint(before) != fmt.Sprint(w.State()) || len(journal(t, w.dir)) != entries {
			t.Errorf("%s: something was written", name)
		}
		if strings.Contains(string(text), oldKey) ||
			strings.Contains(string(text), base64.StdEncoding.EncodeToString([]byte(oldKey))) {
			t.Errorf("%s: it tells a secret", name)
		}
		if len(res.Radius.Items) != 3 || res.Radius.Items[0].Users[0].Object != "Deployment todo-app/backend" {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestEradicateNoMeansNo(t *testing.T) {
	w := newLeaked(t)
	p := w.mustStart(t, w.dir)
	p.front.answer = engine.No
	res, err := p.eradicateNow(t.Context())
	if err != nil || !res.Cancelled || p.server.Written() != 0 {
		t.Errorf("%+v %v, %d writes", res, err, p.server.Written())
	}
}

// TestEradicateHeld: a workload that the incident holds at zero is not
// restarted, but pointed at what takes the place of its Secret.
func TestEradicateHeld(t *testing.T) {
	w := newLeaked(t)
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(o.Object, int64(0), "spec", "replicas")
	})
	p := w.mustStart(t, w.dir)
	res, err := p.eradicateNow(t.Context())
	if err != nil || res.Verdict != engine.Eradicated {
		text, _ := json.Marshal(res)
		t.Fatalf("%v %s", err, text)
	}
	d, _ := w.Get(sim.Deployments, "todo-app", "backend")
	if n, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas"); n != 0 {
		t.Errorf("it was started: %d replicas", n)
	}
	w.clean(t, "held")
}

// TestEradicateBarePod: pods that keep the old value keep it from being made
// worthless, and that is said.
func TestEradicateBarePod(t *testing.T) {
	w := newLeaked(t)
	err := w.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: todo-app}
spec: {containers: [{name: c, image: x, envFrom: [{secretRef: {name: signing}}]}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	p := w.mustStart(t, w.dir)
	res, err := p.eradicateNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict != engine.NotEradicated || len(res.Kept) != 1 || len(res.Left) != 1 {
		t.Errorf("%q %q %q", res.Verdict, res.Kept, res.Left)
	}
	if !slices.Contains(w.secretNames(), "signing") {
		t.Error("a Secret that a pod still names was deleted")
	}
	if err := w.Delete(sim.Pods, "todo-app", "alone"); err != nil {
		t.Fatal(err)
	}
	w.finished(t, "after the pod is gone", w.dir)
}

func TestEradicateForbidden(t *testing.T) {
	for _, r := range []sim.Rule{{Verb: "patch", Resource: "secrets"}, {Verb: "create", Resource: "secrets"},
		{Verb: "delete", Resource: "serviceaccounts"},
		{Verb: "patch", Group: "apps", Resource: "deployments"}, {Verb: "list", Resource: "secrets"},
		{Verb: "list", Group: "rbac.authorization.k8s.io"}} {
		w := newLeaked(t)
		w.Deny(r)
		p := w.mustStart(t, w.dir)
		res, err := p.eradicateNow(t.Context())
		if err != nil {
			t.Errorf("%+v: %v", r, err)
			continue
		}
		if r.Verb != "list" && res.Verdict == engine.Eradicated {
			t.Errorf("%+v: eradicated", r)
		}
		if r.Verb == "list" && len(res.Radius.Warnings) == 0 {
			t.Errorf("%+v: no warning", r)
		}
		if err := w.whole(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		w.silent(t, fmt.Sprint(r), w.dir, p)
	}
}

// eradicateCalls are the API calls of a clean run.
func eradicateCalls(t *testing.T) []sim.Request {
	t.Helper()
	w := newLeaked(t)
	p := w.mustStart(t, w.dir)
	if res, err := p.eradicateNow(t.Context()); err != nil || res.Verdict != engine.Eradicated {
		t.Fatalf("%+v %v", res, err)
	}
	// Names that are drawn differ from run to run: those of a successor.
	calls := slices.DeleteFunc(p.server.Requests(), func(r sim.Request) bool {
		return strings.HasPrefix(r.Name, "signing-r")
	})
	if p.server.Written() < 6 {
		t.Fatalf("%d writes: this test no longer looks at what it was made for", p.server.Written())
	}
	return calls
}

func TestEradicateEveryCallFails(t *testing.T) {
	calls := eradicateCalls(t)
	forEveryFault(t, calls, func(t *testing.T, call sim.Request, fault sim.Fault) {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		w := newLeaked(t)
		s := &strike{call: call.Key(), fault: fault}
		p, err := w.start(t, ctx, w.dir, s.faults)
		if err == nil {
			_, err = p.eradicateNow(ctx)
		}
		if !s.hit.Load() {
			t.Errorf("%s: never called (%v)", call.Key(), err)
		}
		if err := w.whole(); err != nil {
			t.Errorf("%s: %v", call.Key(), err)
		}
		w.finished(t, call.Key(), w.dir)
	})
}

func TestEradicateKilledAtEveryCall(t *testing.T) {
	calls := eradicateCalls(t)
	forEveryKill(t, calls, func(t *testing.T, call sim.Request, executed bool) {
		w := newLeaked(t)
		left := w.killedDuring(t, w.dir, call, executed, func(ctx context.Context, p *process) error {
			_, err := p.eradicateNow(ctx)
			return err
		})
		if err := w.whole(); err != nil {
			t.Errorf("%s: %v", call.Key(), err)
		}
		w.silent(t, call.Key(), left)
		w.finished(t, call.Key(), left)
	})
}

// TestEradicateImage: the patched version is deployed before any secret is
// replaced, and can be taken back; the secrets cannot.
func TestEradicateImage(t *testing.T) {
	const patched = "registry.example.com/todo-backend" +
		"@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		text string
		tags bool
		ok   bool
	}{{"backend=" + patched, false, true}, {"backend=x:1", false, false}, {"backend=x:1", true, true},
		{"backend=x", true, false}, {"=x@sha256:1", false, false},
		{"backend=x@sha256:zz", true, false}, {"backend=x;rm:1", true, false}} {
		if _, err := eradicate.ParseImage(c.text, c.tags); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	w := newLeaked(t)
	image := func() string {
		d, _ := w.Get(sim.Deployments, "todo-app", "backend")
		containers, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
		return containers[0].(map[string]any)["image"].(string)
	}
	before := image()
	p := w.mustStart(t, w.dir)
	req := everything(p)
	req.Options = eradicate.Options{Images: []eradicate.Image{{Container: "backend", Ref: patched}}}
	for _, writes := range []int{1, 0} {
		p := w.mustStart(t, w.dir)
		res, err := p.Eradicate(t.Context(), req)
		if err != nil || image() != patched || p.server.Written() != writes {
			t.Fatalf("%s after %d writes: %+v %v", image(), p.server.Written(), res, err)
		}
		if len(res.Unrotated) != 3 || res.Verdict != engine.NotEradicated {
			t.Errorf("%q, not rotated: %q", res.Verdict, res.Unrotated)
		}
	}
	for _, pod := range w.List(sim.Pods, "todo-app") {
		text, _ := json.Marshal(pod.Object["spec"])
		if strings.HasPrefix(pod.GetName(), "backend-") &&
			(pod.GetName() == w.suspect) == strings.Contains(string(text), patched) {
			t.Errorf("%s runs %s", pod.GetName(), text)
		}
	}
	req.Options.Images[0].Container = "nonesuch"
	if _, err := w.mustStart(t, w.dir).Eradicate(t.Context(), req); err == nil {
		t.Error("a container that is not there was given an image")
	}
	p = w.mustStart(t, w.dir)
	if _, err := p.undoNow(t.Context(), engine.UndoRequest{Step: eradicate.StepImage}); err != nil ||
		image() != before {
		t.Errorf("undo: %s %v", image(), err)
	}
}

var rolesGVR = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"}

// narrowedRole is what a team would apply: no Secrets any more.
const narrowedRole = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: backend-role, namespace: todo-app}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]
`

// TestWhatWasReadableBeforeTheIncidentTookTheRights: whoever removes the
// bindings first is still told what there is to rotate, and by what that is
// known; postgres-secret no pod of the suspect's uses.
func TestWhatWasReadableBeforeTheIncidentTookTheRights(t *testing.T) {
	remove := func(t *testing.T, w *leakedWorld) { w.changed(t, eradicate.Options{RemoveBindings: true}) }
	for name, tc := range map[string]struct {
		change func(t *testing.T, w *leakedWorld)
		// exposed is how postgres-secret was, "": that it was is not known.
		exposed, warning string
	}{
		"nothing was changed": {func(*testing.T, *leakedWorld) {}, "may read it by its service account", ""},
		"bindings removed": {remove,
			"could read it by its service account until RoleBinding todo-app/backend-rolebinding was changed (entry ",
			""},
		"and put back": {func(t *testing.T, w *leakedWorld) {
			remove(t, w)
			w.mustStart(t, w.dir).mustUndo(t, engine.UndoRequest{Step: eradicate.StepBindings})
		}, "may read it by its service account", ""},
		"role narrowed": {func(t *testing.T, w *leakedWorld) {
			w.changed(t, eradicate.Options{Manifests: manifests(t, narrowedRole), ForceConflicts: true})
		}, "until Role todo-app/backend-role was changed (entry ", ""},
		"role narrowed, then bindings removed": {func(t *testing.T, w *leakedWorld) {
			w.changed(t, eradicate.Options{Manifests: manifests(t, narrowedRole), ForceConflicts: true})
			remove(t, w)
		}, "until RoleBinding todo-app/backend-rolebinding was changed (entry ", ""},
		"binding deleted since": {func(t *testing.T, w *leakedWorld) {
			remove(t, w)
			w.remove(t, bindingsGVR, "backend-rolebinding")
		}, "", "RoleBinding todo-app/backend-rolebinding was changed (entry "},
		"role deleted since": {func(t *testing.T, w *leakedWorld) {
			remove(t, w)
			w.remove(t, rolesGVR, "backend-role")
		}, "", "Role backend-role of RoleBinding todo-app/backend-rolebinding is gone"},
		"another binding of that name": {func(t *testing.T, w *leakedWorld) {
			remove(t, w)
			w.remove(t, bindingsGVR, "backend-rolebinding")
			if err := w.Apply("apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: " +
				"backend-rolebinding, namespace: todo-app}\n" +
				"roleRef: {kind: Role, name: none, apiGroup: rbac.authorization.k8s.io}\n"); err != nil {
				t.Fatal(err)
			}
		}, "", "RoleBinding todo-app/backend-rolebinding was changed (entry "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLeaked(t)
			w.edit(t, rolesGVR, "backend-role", func(o *unstructured.Unstructured) {
				o.Object["rules"] = []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"secrets"},
					"verbs": []any{"list"}}}
			})
			tc.change(t, w)
			p := w.mustStart(t, w.dir)
			res, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.onlyOpen(t), PlanOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			var exposed string
			for _, i := range res.Radius.Items {
				if i.Key() == "todo-app/postgres-secret" {
					exposed = strings.Join(i.Exposed, "; ")
				}
			}
			if !strings.Contains(exposed, tc.exposed) || (tc.exposed == "") != (exposed == "") {
				t.Errorf("postgres-secret: %q, expected %q", exposed, tc.exposed)
			}
			var warnings string
			for _, w := range res.Radius.Warnings {
				warnings += w.Text + "\n"
			}
			if !strings.Contains(warnings, tc.warning) ||
				tc.warning == "" && strings.Contains(warnings, "before this incident is not") {
				t.Errorf("warnings: %s, expected %q", warnings, tc.warning)
			}
			if tc.exposed != "" && !slices.Contains(res.Unrotated, "todo-app/postgres-secret") {
				t.Errorf("left with the attacker: %v", res.Unrotated)
			}
		})
	}
}

// changed makes changes that can be undone, all of which must succeed.
func (w *leakedWorld) changed(t *testing.T, o eradicate.Options) {
	t.Helper()
	p := w.mustStart(t, w.dir)
	res, err := p.Eradicate(t.Context(), engine.EradicateRequest{Incident: p.onlyOpen(t), Options: o})
	if err != nil || len(res.Actions) == 0 || len(res.Refusals) > 0 {
		t.Fatalf("%d actions, refused %v: %v", len(res.Actions), res.Refusals, err)
	}
	for _, a := range res.Actions {
		if a.Err() != nil {
			t.Fatalf("%s: %v", a.Summary, a.Err())
		}
	}
}

// remove deletes an object of todo-app as somebody else would.
func (w *leakedWorld) remove(t *testing.T, gvr schema.GroupVersionResource, name string) {
	t.Helper()
	if err := w.Delete(gvr, "todo-app", name); err != nil {
		t.Fatal(err)
	}
}
