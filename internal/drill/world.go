package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"irctl/internal/drill/sim"
)

// World is a scenario that takes place.
type World struct {
	Scenario *Scenario
	Cluster  *sim.Cluster
	// Suspect is the first pod that the attacker has, as NAMESPACE/NAME.
	Suspect string

	clock Clock
	speed float64
	start time.Time
	// startup is how long pods take, by the clock.
	startup time.Duration

	mu        sync.Mutex
	moves     []moveState
	holds     []*Foothold
	deeds     []Deed
	told      func(Deed)
	alerts    []byte
	audit     []byte
	leaked    int // KiB
	reacted   map[int]time.Time
	contained time.Time
	down      map[string]Outage
	taken     map[string]Outage // workloads of which a pod was cut off or taken out, as NAMESPACE/NAME
	before    baseline
	seen      *view // the last one
	measured  int64 // the version at which it was measured

	record recorder
	// insides are what containers look like from within.
	insides []Inside
}

// Foothold is a pod that the attacker has, or had.
type Foothold struct {
	Namespace, Name string
	UID             types.UID
	// Workload is what it belonged to, as NAMESPACE/NAME.
	Workload string
	Since    time.Time
	// Again: it was compromised after the drill had begun, from outside, though
	// the attacker had been cut off.
	Again bool
	// Spread: from another pod of the cluster.
	Spread bool
}

// Key is NAMESPACE/NAME.
func (f *Foothold) Key() string { return f.Namespace + "/" + f.Name }

// Deed is something that the attacker did, or tried, or that fought back.
type Deed struct {
	// At is the drill's time, from the alert on; AtSeconds is the same, in a score.
	At        time.Duration `json:"at" deprecated:"nanoseconds: use atSeconds"`
	AtSeconds float64       `json:"atSeconds"`
	Who       string        `json:"who"` // attacker or cluster
	Text      string        `json:"text"`
	// Failed: the network, RBAC or a new secret was in the way.
	Failed bool `json:"failed,omitempty"`
}

// Outage is an innocent workload, or a connection of one, that stopped working.
type Outage struct {
	What  string
	Since time.Time
}

// baseline is what the cluster was before.
type baseline struct {
	secrets  map[string]map[string]any
	accounts map[string]types.UID
	replicas map[string]int64 // by NAMESPACE/KIND/NAME
	flows    map[string]bool
	pods     []bystander
}

// bystander is a pod that is not compromised.
type bystander struct {
	uid           types.UID
	name          string
	workload      string // NAMESPACE/NAME
	owned, cutOff bool
}

// recorder takes down what happens to the cluster, while that is locked.
type recorder struct {
	mu       sync.Mutex
	gone     map[types.UID]time.Time
	restarts map[types.UID]time.Time
	secrets  map[string]time.Time
	lowest   map[string]int64
	lowSince map[string]time.Time
}

func (r *recorder) see(ch sim.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := ch.Object
	switch {
	case ch.Kind.Kind == "Pod" && ch.Type == watch.Deleted:
		r.gone[o.GetUID()] = ch.Time
	case ch.Kind.Kind == "Pod" && ch.Type == watch.Modified && restartsOf(o) > restartsOf(ch.Before):
		if _, seen := r.restarts[o.GetUID()]; !seen {
			r.restarts[o.GetUID()] = ch.Time
		}
	case ch.Kind.Kind == "Secret":
		r.secrets[o.GetNamespace()+"/"+o.GetName()] = ch.Time
	default:
		n, counts := wanted(o)
		if !counts {
			return
		}
		key := Object{o.GetNamespace(), ch.Kind.Kind, o.GetName()}.String()
		if ch.Type == watch.Deleted {
			n = -1
		}
		if low, seen := r.lowest[key]; !seen || n < low {
			r.lowest[key], r.lowSince[key] = n, ch.Time
		}
	}
}

// wanted is how many pods a workload is to have; a CronJob or a Job that is not
// suspended counts as one.
func wanted(o *unstructured.Unstructured) (int64, bool) {
	switch o.GetKind() {
	case "DaemonSet": // the nodes that it is not kept off
		return unstructuredInt(o, "status", "desiredNumberScheduled")
	case "CronJob", "Job":
		if suspended, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend"); suspended {
			return 0, true
		}
		return 1, true
	}
	return unstructuredInt(o, "spec", "replicas")
}

func unstructuredInt(o *unstructured.Unstructured, path ...string) (int64, bool) {
	n, found, err := unstructured.NestedInt64(o.Object, path...)
	return n, found && err == nil
}

func restartsOf(pod *unstructured.Unstructured) (n int64) {
	statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	for _, raw := range statuses {
		if m, ok := raw.(map[string]any); ok {
			count, _, _ := unstructured.NestedInt64(m, "restartCount")
			n += count
		}
	}
	return n
}

// customKinds are the kinds of others that a scenario can ask for.
var customKinds = map[string]sim.Kind{"Application": sim.Application, "Kustomization": sim.Kustomization,
	"HelmRelease": sim.HelmRelease, "ScaledObject": sim.ScaledObject}

// WorldOptions say how a scenario takes place.
type WorldOptions struct {
	Clock Clock // nil: this machine's
	// Speed is how many seconds of the drill pass in one; 0: one.
	Speed float64
	// Startup is how long pods take to start, in the drill's time.
	Startup time.Duration
	// Token is what the API server asks for; "": nothing.
	Token string
	// Told is told what the attacker does, as it happens; it must not block.
	Told func(Deed)
}

// history is how old the cluster is when the drill begins: what is new is the
// attacker's.
const history = 30 * 24 * time.Hour

// NewWorld sets the scene: the cluster as it is when the alert comes.
func NewWorld(s *Scenario, o WorldOptions) (*World, error) {
	if o.Clock == nil {
		o.Clock = RealClock{}
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if _, manual := o.Clock.(*ManualClock); manual {
		o.Startup = 0 // while irctl waits for a rollout, nobody would let time pass
	}
	w := &World{Scenario: s, clock: o.Clock, speed: o.Speed, told: o.Told, reacted: map[int]time.Time{},
		down: map[string]Outage{}, taken: map[string]Outage{}}
	w.record = recorder{gone: map[types.UID]time.Time{}, restarts: map[types.UID]time.Time{},
		secrets: map[string]time.Time{}, lowest: map[string]int64{}, lowSince: map[string]time.Time{}}
	w.start, w.startup = o.Clock.Now(), time.Duration(float64(o.Startup)/o.Speed)
	// The cluster is set up in the past, so that its objects are not of now.
	past, ready := w.start.Add(-history), false
	options := sim.Options{Name: "DRILL-" + s.Name, Token: o.Token, Events: true, User: "drill-responder",
		Now: func() time.Time {
			if !ready {
				return past
			}
			return o.Clock.Now()
		},
		OnChange: func(ch sim.Change) {
			if ready {
				w.record.see(ch)
			}
		}}
	options.Within = w.within
	for _, k := range s.Cluster.Kinds {
		options.Kinds = append(options.Kinds, customKinds[k])
	}
	var err error
	if w.insides, err = s.insides(); err != nil {
		return nil, err
	}
	if w.Cluster, err = sim.New(options); err != nil {
		return nil, err
	}
	if err := w.setUp(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrScenario, s.Name, err)
	}
	// Only now do pods take time to start: else a rollout would not be over when
	// the drill begins, and the pod that is compromised be replaced by it.
	w.Cluster.SetStartup(w.startup)
	for _, e := range w.Cluster.List(sim.Events, "") { // they have expired
		if err := w.Cluster.Delete(sim.Events, e.GetNamespace(), e.GetName()); err != nil {
			return nil, err
		}
	}
	if err := w.choose(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrScenario, s.Name, err)
	}
	ready = true
	w.before = w.baseline()
	for i := range s.Attack {
		w.moves = append(w.moves, moveState{Move: &s.Attack[i], next: w.at(time.Duration(s.Attack[i].At)),
			failed: map[types.UID]bool{}})
	}
	return w, w.Tick()
}

func (w *World) setUp() error {
	if err := w.Cluster.Apply(sim.TodoApp); err != nil {
		return err
	}
	if err := w.Cluster.Apply(w.Scenario.Cluster.Objects); err != nil {
		return err
	}
	for _, e := range w.Scenario.Cluster.Edits {
		if err := w.edit(e); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) edit(e Edit) error {
	gvr, err := w.resource(e.Object.Kind)
	if err != nil {
		return err
	}
	return w.Cluster.Edit(gvr, e.Object.Namespace, e.Object.Name, func(o *unstructured.Unstructured) {
		merged(o.Object, e.Merge)
	})
}

// resource is the resource of a kind, by its name in any of its forms.
func (w *World) resource(kind string) (schema.GroupVersionResource, error) {
	gvr, ok := w.Cluster.Resource(kind)
	if !ok {
		return gvr, fmt.Errorf("the simulated cluster does not serve %q", kind)
	}
	return gvr, nil
}

// choose gives the attacker the pods of the beginning.
func (w *World) choose() error {
	v := w.look()
	for _, c := range w.Scenario.Compromised {
		pods := v.selected(c.Namespace, c.Labels)
		if c.Nth < 0 || c.Nth >= len(pods) {
			return fmt.Errorf("compromised: there is no pod number %d with %v in namespace %s", c.Nth, c.Labels,
				c.Namespace)
		}
		p := pods[c.Nth]
		w.holds = append(w.holds, &Foothold{Namespace: p.Namespace, Name: p.Name, UID: p.UID, Workload: workloadName(p),
			Since: w.start})
		if w.Suspect == "" {
			w.Suspect = p.Namespace + "/" + p.Name
		}
	}
	return nil
}

// at is when something of the drill's time happens: what comes after the
// alert, at the drill's speed.
func (w *World) at(d time.Duration) time.Time {
	if d <= 0 {
		return w.start.Add(d)
	}
	return w.start.Add(time.Duration(float64(d) / w.speed))
}

// since is the drill's time of a moment.
func (w *World) since(at time.Time) time.Duration {
	d := at.Sub(w.start)
	if d <= 0 {
		return d
	}
	return time.Duration(float64(d) * w.speed)
}

// Elapsed is the drill's time: how long ago the alert came.
func (w *World) Elapsed() time.Duration { return w.since(w.clock.Now()) }

// Sleep lets the drill's time pass.
func (w *World) Sleep(ctx context.Context, d time.Duration) error {
	return w.clock.Sleep(ctx, time.Duration(float64(d)/w.speed))
}

// Tick does what is due.
func (w *World) Tick() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.startup > 0 {
		if err := w.Cluster.Tick(); err != nil {
			return err
		}
	}
	now := w.clock.Now()
	if err := w.attack(now); err != nil {
		return err
	}
	if err := w.react(now); err != nil {
		return err
	}
	w.measure(now)
	return nil
}

// react lets the controllers put back what is not as they want it.
func (w *World) react(now time.Time) error {
	for i := range w.Scenario.Controllers {
		c := &w.Scenario.Controllers[i]
		last, seen := w.reacted[i]
		if !seen {
			last = w.start
		}
		if w.since(now)-w.since(last) < time.Duration(c.Every) || now.Before(last) {
			continue
		}
		w.reacted[i] = now
		if w.suspended(c) {
			continue
		}
		for _, e := range c.Desired {
			if err := w.putBack(c, e, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *World) suspended(c *Controller) bool {
	gvr, err := w.resource(c.Object.Kind)
	if err != nil {
		return true
	}
	o, err := w.Cluster.Get(gvr, c.Object.Namespace, c.Object.Name)
	if err != nil {
		return true // it was deleted, and nobody does its work
	}
	v, found, _ := unstructured.NestedFieldNoCopy(o.Object, c.SuspendedBy...)
	if c.Value == "absent" {
		return !found || v == nil
	}
	return found && v == asJSON(c.Value)
}

func (w *World) putBack(c *Controller, e Edit, now time.Time) error {
	gvr, err := w.resource(e.Object.Kind)
	if err != nil {
		return err
	}
	o, err := w.Cluster.Get(gvr, e.Object.Namespace, e.Object.Name)
	if err != nil {
		return nil // it would make it anew; a drill does not go that far
	}
	before := o.GetResourceVersion()
	if err := w.edit(e); err != nil {
		return err
	}
	after, err := w.Cluster.Get(gvr, e.Object.Namespace, e.Object.Name)
	if err != nil || after.GetResourceVersion() == before {
		return err
	}
	component := strings.ToLower(c.Object.Kind) + "-controller"
	if err := w.Cluster.Event(gvr, e.Object.Namespace, e.Object.Name, component, corev1.EventTypeNormal,
		"ReconciliationSucceeded", "drift corrected: "+e.Object.String()); err != nil {
		return err
	}
	w.tell(now, "cluster", fmt.Sprintf("%s puts %s back as it is in its source", c.Object, e.Object), false)
	return nil
}

func (w *World) tell(at time.Time, who, text string, failed bool) {
	d := Deed{At: w.since(at), Who: who, Text: text, Failed: failed}
	w.deeds = append(w.deeds, d)
	if w.told != nil && d.At >= 0 {
		w.told(d)
	}
}

// Deeds are what was done so far, in order.
func (w *World) Deeds() []Deed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.deeds)
}

// Alerts are Falco's so far, and Audit the API server's log, as JSON lines.
func (w *World) Alerts() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.alerts)
}

// Audit is the API server's audit log so far.
func (w *World) Audit() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.audit)
}
