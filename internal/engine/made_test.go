package engine_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/change"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

// writes are all the calls by which irctl writes to a cluster, and how what they
// leave is found again: by the incident's label, or by its record.
var writes = map[string]string{
	"create networkpolicies":         "label", // the quarantine; a team's own by --apply: record
	"patch networkpolicies":          "record",
	"delete networkpolicies":         "undo",
	"patch pods":                     "label",
	"patch pods/ephemeralcontainers": "record", // a container has no labels
	"delete pods":                    "end",
	"patch nodes":                    "label",
	"create nodes/proxy":             "record", // a checkpoint, which is no object
	"patch deployments":              "record",
	"patch deployments/scale":        "record",
	"patch scaledobjects":            "record",
	"patch horizontalpodautoscalers": "record",
	"patch rolebindings":             "record",
	"create secrets":                 "label",
	"patch secrets":                  "record",
	"delete secrets":                 "end",
	"create serviceaccounts":         "label",
	"patch serviceaccounts":          "record",
	"delete serviceaccounts":         "end",
}

// callSites are where irctl's source writes to a cluster. Who adds one says here how
// what it leaves is found again, and, where it creates something, has
// TestClosingNamesOneOfEveryKind create it.
var callSites = map[string]string{
	"change/apply.go applyOnce":              "the record; a team's manifests are applied as they are",
	"change/apply.go putBack":                "takes back",
	"cluster/retry.go reads":                 "asks what a request is",
	"evidence/timestamp.go askAuthority":     "of a time stamp authority, not of the cluster",
	"steps/detect/listen.go handle":          "is asked by others",
	"rotate/forward.go olderDialer":          "leaves no object",
	"change/create.go create":                "the label, by who plans the manifest; the record",
	"change/create.go deletion":              "takes back",
	"change/edit.go edit":                    "the record",
	"cluster/access.go Can":                  "asks, and leaves nothing",
	"cluster/client.go Identify":             "asks, and leaves nothing",
	"evidence/api.go exec":                   "leaves no object",
	"evidence/debug.go addDebugContainer":    "the record",
	"evidence/collect_checkpoint.go Collect": "the record",
	"rotate/account.go deleteOld":            "takes away",
	"rotate/account.go create":               "the label, and the record",
	"rotate/account.go issue":                "the label, and the record",
	"rotate/account.go DryRun":               "leaves nothing",
	"rotate/forward.go dial":                 "leaves no object",
	"rotate/secret.go deleteSecret":          "takes away",
	"steps/recover/release.go remove":        "takes away",
	"steps/recover/release.go DryRunDelete":  "leaves nothing",
}

// writing are the options that only a call that writes takes.
var writing = []string{"CreateOptions", "PatchOptions", "UpdateOptions", "ApplyOptions", "DeleteOptions"}

// TestEveryWriteIsAccountedFor: whoever adds a call that writes to the cluster says
// how what it leaves is found again.
func TestEveryWriteIsAccountedFor(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "drill" || d.Name() == "apifake" || d.Name() == "testdata"):
			return fs.SkipDir // what plays the cluster
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit:
					if s, ok := n.Type.(*ast.SelectorExpr); !ok || !slices.Contains(writing, s.Sel.Name) {
						return true
					}
				case *ast.SelectorExpr: // a client's Post(), http.MethodPost
					if name := n.Sel.Name; name != "Post" && name != "Put" && name != "MethodPost" &&
						name != "MethodPut" {
						return true
					}
				default:
					return true
				}
				found[strings.TrimPrefix(filepath.ToSlash(path), "../")+" "+f.Name.Name] = true
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for site := range found {
		if callSites[site] == "" {
			t.Errorf("%s writes to the cluster: how is what it leaves found again?", site)
		}
	}
	for site := range callSites {
		if !found[site] {
			t.Errorf("%s does not write any more", site)
		}
	}
}

// teamPolicies are applied: one is there, the other not.
const teamPolicies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: no-metadata-service, namespace: todo-app}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: frontend-network-policy, namespace: todo-app, labels: {team: web}}
`

// everyKind is a world in which irctl has created or marked one of every kind.
type everyKind struct {
	*leakedWorld
	p      *process
	id     incident.ID
	before []unstructured.Unstructured
}

func newEveryKind(t *testing.T) *everyKind {
	t.Helper()
	w := &everyKind{leakedWorld: newLeaked(t)}
	err := w.Apply(`
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: backend, namespace: todo-app}
spec: {scaleTargetRef: {name: backend}}
---
apiVersion: v1
kind: Secret
metadata: {name: legacy, namespace: todo-app, annotations: {kubernetes.io/service-account.name: backend-sa}}
type: kubernetes.io/service-account-token
data: {token: b2xk}
`)
	if err != nil {
		t.Fatal(err)
	}
	w.edit(t, sim.Deployments, "backend", func(o *unstructured.Unstructured) {
		volumes := []any{map[string]any{"name": "legacy", "secret": map[string]any{"secretName": "legacy"}}}
		_ = unstructured.SetNestedSlice(o.Object, volumes, "spec", "template", "spec", "volumes")
	})
	w.before = w.State()
	w.p, err = w.start(t, t.Context(), w.dir, func(r sim.Request) sim.Fault {
		if r.Verb == "create" && r.Resource == "secrets" && !r.DryRun {
			return sim.Fault{After: func() { w.fill() }}
		}
		if r.Resource == "pods/exec" {
			// without a shell
			return sim.Fault{Error: apierrors.NewBadRequest(`exec: "sh": executable file not found in $PATH`)}
		}
		return sim.Fault{}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.id = w.p.onlyOpen(t)
	investigation := w.p.investigation(t, func(r *engine.InvestigateRequest) {
		r.Scope = evidence.Scope{Live: true, DebugImage: "registry.example/debug", Files: []string{"/etc/passwd"},
			Checkpoint: true}
	})
	if _, err := w.p.Investigate(t.Context(), investigation); err != nil {
		t.Fatal(err)
	}
	w.p.mustContain(t, func(r *engine.ContainRequest) { r.Options.Steps = slices.Clone(contain.AllSteps) })
	for _, o := range []eradicate.Options{{RemoveBindings: true},
		{Manifests: manifests(t, teamPolicies), ForceConflicts: true}} {
		if _, err := w.p.Eradicate(t.Context(), engine.EradicateRequest{Incident: w.id, Options: o}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.p.eradicateNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// fill is the token controller.
func (w *everyKind) fill() {
	for _, o := range w.List(secretsGVR, "todo-app") {
		if o.GetName() == "legacy" {
			// It may be deleted meanwhile, to be made anew: then the next round fills that.
			_ = w.Edit(secretsGVR, "todo-app", "legacy", func(o *unstructured.Unstructured) {
				o.Object["data"] = map[string]any{"token": "bmV3"}
			})
		}
	}
}

// TestWhatIrctlCreatesIsLabelledOrInTheRecord: over a run of all that writes, each
// call is one of those that are known, and each object that irctl created carries
// the incident's label or is told by its journal.
func TestWhatIrctlCreatesIsLabelledOrInTheRecord(t *testing.T) {
	w := newEveryKind(t)
	before := len(w.p.server.Requests())
	state := w.State()
	if _, err := w.p.recoverNow(t.Context(), sameImage); err != nil {
		t.Fatal(err)
	}
	if slices.IndexFunc(w.p.server.Requests()[before:], sim.Request.Writes) < 0 {
		t.Error("recover wrote nothing")
	}
	for _, r := range w.p.server.Requests() {
		if what := r.Verb + " " + r.Resource; r.Writes() && writes[what] == "" {
			t.Errorf("%s: how is what it leaves found again?", what)
		}
	}
	known := map[string]bool{}
	for _, o := range w.before {
		known[string(o.GetUID())] = true
	}
	journaled := ""
	for _, a := range timeline.Actions(journal(t, w.dir)) {
		if c, ok := change.In(&a.Intent); ok && c.Manifest != nil {
			journaled += c.Object.String() + ";"
		}
	}
	made := map[string]bool{}
	for _, o := range slices.Concat(state, w.State()) {
		ours := slices.ContainsFunc(o.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool {
			return m.Manager == change.FieldManager
		})
		if known[string(o.GetUID())] || !ours {
			continue
		}
		name := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		made[o.GetKind()] = true
		if o.GetLabels()[change.IncidentLabel] != string(w.id) && !strings.Contains(journaled, name+";") {
			t.Errorf("%s is neither labelled nor in the record: %v", name, o.GetLabels())
		}
	}
	for _, kind := range []string{"NetworkPolicy", "Secret", "ServiceAccount"} {
		if !made[kind] {
			t.Errorf("no %s was made: the test looks at nothing", kind)
		}
	}
}

// leftBy are the names of all that a closing tells of.
func leftBy(c *engine.Closing) []string {
	var list []string
	for _, s := range slices.Concat(c.Containment, c.OnPurpose) {
		list = append(list, s.Object)
	}
	for _, m := range c.Made {
		list = append(list, m.Object)
	}
	for _, s := range c.Strays {
		list = append(list, s.Object)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestClosingNamesOneOfEveryKind: each thing that irctl created or marked is named,
// with who agreed that it stays; and what is taken back or gone is not.
func TestClosingNamesOneOfEveryKind(t *testing.T) {
	w := newEveryKind(t)
	closing, err := w.p.closeNow(t, w.id, engine.CloseRequest{})
	if !errors.Is(err, engine.ErrRefused) {
		t.Fatal(err)
	}
	named := strings.Join(leftBy(closing), "\n")
	for _, want := range []string{
		"NetworkPolicy todo-app/" + contain.PolicyName(string(w.id)), "Pod todo-app/" + w.suspect,
		"Deployment todo-app/backend", "Node ",
		"ScaledObject todo-app/backend", "NetworkPolicy todo-app/no-metadata-service",
		"NetworkPolicy todo-app/frontend-network-policy",
		"Secret todo-app/signing-r", "Secret todo-app/legacy", "ServiceAccount todo-app/backend-sa",
		"ephemeral container irctl-debug-", "checkpoint of container ",
	} {
		if !strings.Contains(named, want) {
			t.Errorf("%s is not named:\n%s", want, named)
		}
	}
	for _, s := range closing.OnPurpose {
		if s.Accepted == nil || s.Accepted.By == "" {
			t.Errorf("%s: nobody says who agreed to it", s.Object)
		}
	}
	for _, m := range closing.Made {
		if m.Accepted == nil || m.Accepted.By == "" || m.Accepted.At.IsZero() ||
			m.State != change.After && m.Kind != "checkpoint" {
			t.Errorf("%+v", m)
		}
	}
	if len(closing.Strays) != 0 || len(closing.Doubts) != 0 {
		t.Errorf("strays %+v, doubts %v", closing.Strays, closing.Doubts)
	}

	w.p.mustUndo(t, engine.UndoRequest{All: true, AllowEvidenceLoss: true})
	if err := w.Delete(sim.Pods, "todo-app", w.suspect); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	closing, err = w.p.closeNow(t, w.id, engine.CloseRequest{})
	if err != nil || len(closing.Containment)+len(closing.OnPurpose)+len(closing.Strays) != 0 {
		t.Errorf("%v: %v", err, leftBy(closing))
	}
	for _, m := range closing.Made { // what is in use in the place of what leaked, and what nobody can see
		if m.Kind == "ephemeral-container" {
			t.Errorf("%s went with its pod", m.Object)
		}
	}
}

// TestALabelledObjectThatTheJournalDoesNotKnow is named whatever its kind, with how
// to take it back; it weighs until somebody accepts it.
func TestALabelledObjectThatTheJournalDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.mustStart(t, t.TempDir())
	id := incident.ID(p.mustContain(t).Incident)
	p.mustUndo(t, engine.UndoRequest{All: true})
	if err := w.Apply(fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: copied, namespace: default, labels: {irctl/incident: %[1]s}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: copied, namespace: todo-app, labels: {irctl/incident: %[1]s}}
`, id)); err != nil {
		t.Fatal(err)
	}
	closing, err := p.closeNow(t, id, engine.CloseRequest{})
	if !errors.Is(err, engine.ErrRefused) || len(closing.Strays) != 2 ||
		!strings.Contains(err.Error(), "kubectl label secrets/copied -n default irctl/incident-") {
		t.Fatalf("%v: %+v", err, closing)
	}
	accept := func(object string) {
		t.Helper()
		h, err := p.Store.Open(t.Context(), id, p.Actor())
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if _, err := p.Accept(t.Context(), h, engine.AcceptRequest{Code: "stray", Object: object,
			Reason: "a copy of the team's"}); err != nil {
			t.Fatal(err)
		}
	}
	accept("Secret default/copied")
	if closing, err = p.closeNow(t, id, engine.CloseRequest{}); !errors.Is(err, engine.ErrRefused) ||
		strings.Contains(err.Error(), "Secret default") {
		t.Fatalf("one is accepted: %v: %+v", err, closing)
	}
	accept("ServiceAccount todo-app/copied")
	closing, err = p.closeNow(t, id, engine.CloseRequest{})
	if err != nil || len(closing.Strays) != 2 || closing.Strays[0].Accepted == nil {
		t.Errorf("both are accepted: %v: %+v", err, closing)
	}
}

// TestAKindThatMayNotBeListedIsNotNothing: the closing says that it was not looked at,
// and the journal keeps that.
func TestAKindThatMayNotBeListedIsNotNothing(t *testing.T) {
	t.Parallel()
	for _, denied := range []sim.Rule{{Verb: "list", Resource: "secrets"}, {Verb: "list", Resource: "serviceaccounts"},
		{Verb: "list", Resource: "pods"}, {Verb: "list", Resource: "nodes"}} {
		w := newWorld(t)
		p := w.mustStart(t, t.TempDir())
		id := incident.ID(p.mustContain(t).Incident)
		p.mustUndo(t, engine.UndoRequest{All: true})
		w.Deny(denied)
		closing, err := p.closeNow(t, id, engine.CloseRequest{})
		if err != nil || len(closing.Doubts) != 1 || !strings.Contains(closing.Doubts[0], denied.Resource) {
			t.Errorf("%s: %v, %v", denied.Resource, err, closing.Doubts)
		}
		if last := journal2(t, p, string(id)); !strings.Contains(last.Data.String(),
			`"unlooked":["whether more carries`) {
			t.Errorf("%s: %s", denied.Resource, last.Data)
		}
	}
}
