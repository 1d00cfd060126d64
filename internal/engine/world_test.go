package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// world is a simulated cluster under attack, and how it was before.
type world struct {
	*sim.Cluster
	suspect string // a pod of Deployment todo-app/backend
	before  map[string]any
}

// todoApp is made once; every world is a copy of it.
var todoApp = sync.OnceValues(func() (*world, error) {
	c, err := sim.New(sim.Options{Kinds: []sim.Kind{sim.Gadget, sim.ScaledObject}})
	if err != nil {
		return nil, err
	}
	if err := c.Apply(sim.TodoApp); err != nil {
		return nil, err
	}
	suspect := nameOf(c.List(sim.Pods, "todo-app"), "backend-")
	return &world{Cluster: c, suspect: suspect, before: picture(c, suspect)}, nil
})

func newWorld(t testing.TB) *world {
	t.Helper()
	original, err := todoApp()
	if err != nil {
		t.Fatal(err)
	}
	c, err := original.Clone()
	if err != nil {
		t.Fatal(err)
	}
	return &world{Cluster: c, suspect: original.suspect, before: original.before}
}

func firstPod(t testing.TB, c *sim.Cluster, namespace, prefix string) string {
	t.Helper()
	name := nameOf(c.List(sim.Pods, namespace), prefix)
	if name == "" {
		t.Fatalf("no pod in %s is named %s…", namespace, prefix)
	}
	return name
}

// nameOf is the first name that begins like that, or none.
func nameOf(objects []unstructured.Unstructured, prefix string) string {
	for _, o := range objects {
		if strings.HasPrefix(o.GetName(), prefix) {
			return o.GetName()
		}
	}
	return ""
}

// picture is the state of a cluster as two moments can be compared: without
// versions, and with the pods that controllers made at will known by their
// owner only. The suspects keep their names and UIDs.
func picture(c *sim.Cluster, suspects ...string) map[string]any {
	all := map[string]any{}
	replaceable := map[string]string{} // UID of a pod → what it is
	for _, o := range c.State() {
		if o.GetKind() == "Pod" && !slices.Contains(suspects, o.GetName()) && len(o.GetOwnerReferences()) > 0 {
			owner := o.GetOwnerReferences()[0]
			replaceable[string(o.GetUID())] = "a pod of " + owner.Kind + " " + owner.Name
		}
	}
	for _, o := range c.State() {
		name := o.GetName()
		if what, ok := replaceable[string(o.GetUID())]; ok {
			name = what
			anonymous(o.Object, what)
		}
		for _, volatile := range []string{"resourceVersion", "managedFields", "generation", "creationTimestamp"} {
			unstructured.RemoveNestedField(o.Object, "metadata", volatile)
		}
		unstructured.RemoveNestedField(o.Object, "status", "observedGeneration")
		if o.GetLabels()[contain.IncidentLabel] != "" && o.GetKind() != "Pod" {
			o.SetUID("") // made by irctl, perhaps more than once
		}
		if endpoints, ok := o.Object["endpoints"].([]any); ok {
			for _, e := range endpoints {
				anonymousEndpoint(e, replaceable)
			}
			slices.SortFunc(endpoints, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		key := o.GetKind() + " " + o.GetNamespace() + "/" + name
		for n := 2; all[key] != nil; n++ {
			key = fmt.Sprintf("%s %s/%s (%d)", o.GetKind(), o.GetNamespace(), name, n)
		}
		all[key] = o.Object
	}
	return all
}

func anonymous(pod map[string]any, what string) {
	meta := pod["metadata"].(map[string]any)
	meta["name"] = what
	delete(meta, "uid")
	for _, path := range [][]string{{"spec", "nodeName"}, {"status", "podIP"}, {"status", "podIPs"},
		{"status", "startTime"}} {
		unstructured.RemoveNestedField(pod, path...)
	}
}

func anonymousEndpoint(e any, replaceable map[string]string) {
	m := e.(map[string]any)
	ref := m["targetRef"].(map[string]any)
	if what, ok := replaceable[ref["uid"].(string)]; ok {
		delete(m, "addresses")
		delete(m, "nodeName")
		delete(ref, "uid")
		ref["name"] = what
	}
}

// process is one run of irctl: with connections and a state directory.
type process struct {
	*engine.Engine
	server *sim.Server
	front  *front
	// suspects are the pods of todo-app that contain is called for.
	suspects []string
}

// start does what every command does first: connect, and open the state
// directory. faults strike this process only.
func (w *world) start(t testing.TB, ctx context.Context, dir string, faults func(sim.Request) sim.Fault) (*process,
	error) {
	t.Helper()
	server := w.Server(faults)
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	return w.connect(t, ctx, listener.URL, server, dir)
}

func (w *world) connect(t testing.TB, ctx context.Context, url string, server *sim.Server, dir string) (*process,
	error) {
	t.Helper()
	client, err := cluster.New(&rest.Config{Host: url})
	if err != nil {
		t.Fatal(err)
	}
	// t.TempDir makes one that all may enter.
	if err := os.Chmod(dir, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	p := &process{server: server, front: &front{answer: engine.Yes}, suspects: []string{w.suspect}}
	store, err := incident.NewStore(dir, incident.Options{Now: clock, LockWait: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if p.Engine, err = engine.New(ctx, client, store, p.front, "sim"); err != nil {
		return p, err
	}
	p.Now, p.Timeout = clock, 20*time.Second
	// Every process draws the same ID, so that runs can be compared.
	p.Random = rand.NewChaCha8([32]byte{})
	return p, nil
}

// mustStart is start where nothing goes wrong.
func (w *world) mustStart(t testing.TB, dir string) *process {
	t.Helper()
	p, err := w.start(t, t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func clock() time.Time { return time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC) }

// containNow reads the suspects and contains them, as the command does.
func (p *process) containNow(ctx context.Context, change ...func(*engine.ContainRequest)) (*engine.ContainResult,
	error) {
	req := engine.ContainRequest{Options: contain.Options{Steps: contain.DefaultSteps}, EvidenceNote: "no recipients"}
	for _, name := range p.suspects {
		target, err := p.Client.GetTarget(ctx, "todo-app", name)
		if err != nil {
			return nil, err
		}
		req.Targets = append(req.Targets, target)
	}
	for _, f := range change {
		f(&req)
	}
	return p.Contain(ctx, req)
}

// mustContain fails the test unless every action succeeded.
func (p *process) mustContain(t testing.TB, change ...func(*engine.ContainRequest)) *engine.ContainResult {
	t.Helper()
	res, err := p.containNow(t.Context(), change...)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range res.Actions {
		if a.Err() != nil {
			t.Fatalf("%s: %v", a.Summary, a.Err())
		}
	}
	return res
}

// soon is enough for everything that happens, where something is waited for
// in vain.
const soon = 1500 * time.Millisecond

// undoNow undoes what the open incident of the state directory did; where
// there is none, nothing was done.
func (p *process) undoNow(ctx context.Context, req engine.UndoRequest) (*engine.UndoResult, error) {
	open, errs := p.Store.FindOpen(ctx, func(incident.Incident) bool { return true })
	if len(errs) > 0 {
		return nil, errs[0]
	}
	if len(open) == 0 {
		return &engine.UndoResult{}, nil
	}
	h, err := p.Store.Open(ctx, open[0].ID, p.Actor())
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return p.Undo(ctx, h, req)
}

func (p *process) mustUndo(t testing.TB, req engine.UndoRequest) *engine.UndoResult {
	t.Helper()
	res, err := p.undoNow(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range res.Actions {
		if a.Err() != nil {
			t.Fatalf("%s: %v", a.Summary, a.Err())
		}
	}
	return res
}

// journal reads the timeline of the only incident of a state directory.
func journal(t testing.TB, dir string) []timeline.Entry {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "incidents", "inc-*", "timeline.jsonl"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%d incidents in %s, expected one (%v)", len(found), dir, err)
	}
	entries, err := timeline.Read(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// private closes a copy of a state directory to others: os.CopyFS does not.
func private(t testing.TB, dir string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// copyState is what a process that is killed now leaves on disk. Its other
// calls may be writing meanwhile: a temporary file that is renamed while it
// is copied makes the copy begin anew.
func copyState(t testing.TB, dir string) string {
	t.Helper()
	for {
		to := t.TempDir()
		err := os.CopyFS(to, os.DirFS(dir))
		if err == nil {
			private(t, to)
			return to
		}
		if !errors.Is(err, fs.ErrNotExist) || t.Context().Err() != nil {
			t.Error(err)
			return to
		}
	}
}

// killedDuring does something up to a call, and returns the state directory as
// a kill at that moment, before or after the call is executed, would leave it.
// What the process still does in its last moments it does to nobody: it is told
// that it may not, since that is what it does not try again.
func (w *world) killedDuring(t *testing.T, dir string, call sim.Request, executed bool,
	do func(context.Context, *process) error) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := dir
	dead := &atomic.Bool{}
	kill := func() {
		if dead.CompareAndSwap(false, true) {
			left = copyState(t, dir)
			cancel()
		}
	}
	nobody := sim.Fault{Error: apierrors.NewUnauthorized("Unauthorized")}
	p, err := w.start(t, ctx, dir, func(r sim.Request) sim.Fault {
		switch {
		case dead.Load():
			return nobody
		case r.Key() != call.Key():
			return sim.Fault{}
		case executed:
			return sim.Fault{After: kill}
		}
		return sim.Fault{Before: kill, Error: nobody.Error}
	})
	if err == nil {
		err = do(ctx, p) // how it ends does not matter: it is dead
	}
	if !dead.Load() {
		t.Errorf("%s: never called (%v)", call.Key(), err)
	}
	return left
}

// goneAt is a server that is gone for good when a call comes.
func (w *world) goneAt(t *testing.T, call sim.Request) (url string, server *sim.Server) {
	t.Helper()
	var listener *httptest.Server
	var gone atomic.Bool // also for a connection that is accepted just now
	server = w.Server(func(r sim.Request) sim.Fault {
		switch {
		case gone.Load():
			return sim.Fault{Break: true}
		case r.Key() != call.Key():
			return sim.Fault{}
		}
		return sim.Fault{Before: func() {
			gone.Store(true)
			_ = listener.Listener.Close() // closed once more at the end
			listener.CloseClientConnections()
		}, Break: true}
	})
	listener = httptest.NewServer(server)
	t.Cleanup(listener.Close)
	return listener.URL, server
}

// front answers every proposal the same, and keeps what it was told.
type front struct {
	answer engine.Decision

	mu        sync.Mutex
	proposals []engine.Proposal
	events    []engine.Event
	// waiting, if not nil, is called with every event of that kind.
	waiting func(engine.Event)
}

func (f *front) Approve(_ context.Context, p engine.Proposal) (engine.Decision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proposals = append(f.proposals, p)
	return f.answer, nil
}

func (f *front) Observe(e engine.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
	if e.Kind == engine.Failed || e.Kind == engine.Refused {
		_ = e.Err.Error() // front ends show it
	}
	if e.Kind == engine.Waiting && f.waiting != nil {
		f.waiting(e)
	}
}

func wantSame(t testing.TB, what string, want, got map[string]any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// edit changes an object of todo-app as somebody else would.
func (w *world) edit(t testing.TB, gvr schema.GroupVersionResource, name string,
	change func(*unstructured.Unstructured)) {
	t.Helper()
	if err := w.Edit(gvr, "todo-app", name, change); err != nil {
		t.Fatal(err)
	}
}
