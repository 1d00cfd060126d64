// Package sim owns a simulated cluster: objects, an API server in front of
// them, and the controllers that react to every write. Practice drills run on
// it, and so do the tests, with irctl's real clients over real HTTP.
//
// It answers as a real API server does where irctl depends on it: resource
// versions and UIDs with their preconditions, conflicts, dry runs, pages of a
// list, label selectors, the /scale subresource, reviews of rights, and the
// words of its errors. Objects pass through their Go types, so that they read
// back exactly as the real server would write them. After every write the
// controllers run until nothing changes any more: Deployments, ReplicaSets,
// StatefulSets, ReplicationControllers, DaemonSets, Jobs, custom kinds that
// can be scaled, EndpointSlices, scheduler, kubelet and garbage collector.
//
// Everything is deterministic: names, UIDs and versions are counted, time is
// given.
//
// Watches tell every write, and containers write logs (see Log). With
// Options.Events the controllers tell what they do, and with SetStartup
// pods take time to start, so that Deployments roll; Tick is to be called then.
//
// Server-side apply is done by the real server's own code. Who manages which
// field is kept from an object's first apply on, or from its creation by who gives
// the name of a field manager: what was there before then counts as set by kubectl.
//
// It does not simulate: packets, defaulting and validation beyond what is
// said here, managed fields of what was never applied, processes (what there is
// to see in containers, Options.Within tells), graceful deletion (a pod is gone at once) and schedules (see
// RunCronJob).
package sim

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"

	"irctl/internal/drill/box"
)

// Cluster is a simulated cluster. Its methods may be called concurrently.
// What they do is done as nobody in particular: rights bind only requests.
type Cluster struct {
	opts  Options
	kinds []Kind

	// mu makes a write and the controllers' answer to it one step.
	mu      sync.RWMutex
	store   *store
	counted int64 // of UIDs and random names
	version int64 // of the last write
	orphans bool  // something was deleted that may have owned something
	// restless are the namespaces with pods that wait for time to pass.
	restless map[string]bool
	startup  time.Duration
	changes  []Change
	news     chan struct{} // closed with the next change; nil: nobody waits
	told     int64         // of events
	logs     logs
	// environments of pods that have started.
	environments environments

	stopped chan struct{}
	stop    func()

	authMu  sync.Mutex
	denied  []Rule
	expired bool
}

// Options of a Cluster. The zero value is ready for use.
type Options struct {
	// Name is what kubeconfigs call the cluster; "": "sim".
	Name string
	// Now is the clock; nil: it stands still at an arbitrary time.
	Now func() time.Time
	// Token is the bearer token to present; "": anybody may come in.
	Token string
	// User is who presents it; "": "responder".
	User string
	// Kinds are served besides those of a plain cluster.
	Kinds []Kind
	// Nodes are how many nodes there are; 0: two.
	Nodes int
	// Events: the controllers tell what they do.
	Events bool
	// Within is what a container of a pod looks like from within, so that commands
	// can be run in it; nil: none can.
	Within func(pod *corev1.Pod, container string) *box.Box
	// OnChange is told every write, while the cluster is locked: it must not
	// call the cluster, nor change what it is given.
	OnChange func(Change)
}

// New makes a cluster with its nodes, the namespaces of a new cluster, and a
// DaemonSet that is known to enforce NetworkPolicy.
func New(o Options) (*Cluster, error) {
	c := empty(o)
	if err := c.Apply(bootstrap(c.opts.Nodes)); err != nil {
		return nil, err
	}
	return c, nil
}

func empty(o Options) *Cluster {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC) }
	}
	if o.Name == "" {
		o.Name = "sim"
	}
	if o.User == "" {
		o.User = "responder"
	}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	c := &Cluster{opts: o, kinds: slices.Concat(builtinKinds, o.Kinds), restless: map[string]bool{},
		stopped: make(chan struct{})}
	c.store = newStore(c.kinds)
	c.stop = sync.OnceFunc(func() { close(c.stopped) })
	return c
}

// Clone returns a cluster in the same state, which from now on goes its own
// way. Rights that were taken away are not taken over.
func (c *Cluster) Clone() (*Cluster, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	twin := empty(c.opts)
	twin.counted, twin.version, twin.told = c.counted, c.version, c.told
	twin.environments = maps.Clone(c.environments)
	twin.restless, twin.startup = maps.Clone(c.restless), c.startup
	twin.store = c.store.clone()
	return twin, nil
}

// SetStartup says how long a pod takes from its creation until it is ready,
// from now on; until then it takes no time. A Deployment rolls where it takes
// some: old pods go as new ones are ready.
func (c *Cluster) SetStartup(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.startup = d
}

func bootstrap(nodes int) string {
	var b strings.Builder
	for _, ns := range []string{"default", "kube-system"} {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", ns)
	}
	for i := range nodes {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Node\nmetadata: {name: node-%[1]d}\n"+
			"status: {conditions: [{type: Ready, status: 'True', reason: KubeletReady}], addresses: [{type: "+
			"InternalIP, address: 10.0.0.%[2]d}], nodeInfo: {kubeletVersion: v1.37.2}}\n", i+1, i+10)
	}
	return b.String() + cni
}

const cni = `---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-router, namespace: kube-system, labels: {k8s-app: kube-router}}
spec:
  selector: {matchLabels: {k8s-app: kube-router}}
  template:
    metadata: {labels: {k8s-app: kube-router}}
    spec:
      automountServiceAccountToken: false
      hostNetwork: true
      containers: [{name: kube-router, image: registry.example.com/kube-router:2}]
`

// Get returns a copy of an object, or the API server's NotFound.
func (c *Cluster) Get(gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	o, err := c.get(gvr, namespace, name)
	if err != nil {
		return nil, err
	}
	return o.DeepCopy(), nil
}

// List returns copies of the objects of a resource, in a namespace or in all
// ("") of them, sorted by namespace and name.
func (c *Cluster) List(gvr schema.GroupVersionResource, namespace string) []unstructured.Unstructured {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return copies(c.list(gvr, namespace))
}

// State returns copies of all objects there are, sorted by kind, namespace and name.
func (c *Cluster) State() []unstructured.Unstructured {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var all []unstructured.Unstructured
	for _, k := range c.kinds {
		if !k.view() {
			all = append(all, copies(c.list(k.GVR(), ""))...)
		}
	}
	return all
}

func copies(list []unstructured.Unstructured) []unstructured.Unstructured {
	for i := range list {
		list[i] = *list[i].DeepCopy()
	}
	return list
}

// Edit changes an object as somebody else would do it.
func (c *Cluster) Edit(gvr schema.GroupVersionResource, namespace, name string,
	change func(*unstructured.Unstructured)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, err := c.get(gvr, namespace, name)
	if err != nil {
		return err
	}
	next := old.DeepCopy()
	change(next)
	if next, err = c.kindOf(gvr).tracked(old, next, "somebody", c.opts.Now()); err != nil {
		return err
	}
	if _, err := c.update(c.kindOf(gvr), old, next, false); err != nil {
		return err
	}
	return c.settle(namespace)
}

// Delete deletes an object as somebody else would do it.
func (c *Cluster) Delete(gvr schema.GroupVersionResource, namespace, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.remove(gvr, namespace, name); err != nil || gvr == Events {
		return err // nobody reacts to the end of an event
	}
	return c.settle(namespace)
}

// remove deletes an object and leaves the rest to the controllers.
func (c *Cluster) remove(gvr schema.GroupVersionResource, namespace, name string) error {
	o, err := c.get(gvr, namespace, name)
	if err != nil {
		return err
	}
	if gvr == Pods {
		if err := c.sayKilling(o); err != nil {
			return err
		}
		c.forgetLogs(o.GetUID())
		delete(c.environments, o.GetUID())
	}
	c.orphans = c.orphans || gvr != Pods && gvr != Events // those own nothing
	if err := c.store.remove(gvr, namespace, name); err != nil {
		return err
	}
	c.version++
	c.changed(Change{Type: watch.Deleted, Kind: c.kindOf(gvr), Object: o, Before: o})
	return nil
}

func (c *Cluster) sayKilling(pod *unstructured.Unstructured) error {
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
	for _, raw := range containers {
		container, _ := raw.(map[string]any)
		if err := c.say(pod, "kubelet", "Killing", "Stopping container %v", container["name"]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) get(gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	if k := c.kindOf(gvr); k.view() {
		e, err := c.get(k.stored().GVR(), namespace, name)
		if err != nil {
			return nil, err
		}
		return k.shown(e), nil
	}
	return c.store.get(gvr, namespace, name)
}

func (c *Cluster) list(gvr schema.GroupVersionResource, namespace string) []unstructured.Unstructured {
	if k := c.kindOf(gvr); k.view() {
		items := c.list(k.stored().GVR(), namespace)
		for i := range items {
			items[i] = *k.shown(&items[i])
		}
		return items
	}
	return c.store.list(gvr, namespace)
}

func (c *Cluster) kindOf(gvr schema.GroupVersionResource) Kind {
	for _, k := range c.kinds {
		if k.GVR() == gvr {
			return k
		}
	}
	return Kind{}
}

// create adds an object; with dryRun it only says how it would look.
func (c *Cluster) create(k Kind, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	o = o.DeepCopy()
	if o.GetName() == "" && o.GetGenerateName() != "" {
		o.SetName(o.GetGenerateName() + c.suffix())
	}
	if o.GetName() == "" {
		return nil, apierrors.NewBadRequest("the object has neither a name nor a generateName")
	}
	if _, err := c.get(k.GVR(), o.GetNamespace(), o.GetName()); err == nil {
		return nil, apierrors.NewAlreadyExists(k.GVR().GroupResource(), o.GetName())
	}
	o.SetUID(c.uid())
	o.SetCreationTimestamp(metav1.NewTime(c.opts.Now().UTC().Truncate(time.Second)))
	o.SetGeneration(1)
	k.defaults(o)
	o, err := k.asStored(o)
	if err != nil || dryRun {
		return o, err
	}
	c.version++
	o.SetResourceVersion(fmt.Sprint(c.version))
	if err := c.store.put(k.GVR(), o); err != nil {
		return nil, err
	}
	c.changed(Change{Type: watch.Added, Kind: k, Object: o})
	return o, nil
}

// update replaces an object by a newer form of it. What does not change
// anything is not a write, as on the real server.
func (c *Cluster) update(k Kind, old, next *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured,
	error) {
	next.SetUID(old.GetUID())
	next.SetResourceVersion(old.GetResourceVersion())
	next.SetCreationTimestamp(old.GetCreationTimestamp())
	next.SetGeneration(old.GetGeneration())
	next, err := k.asStored(next)
	if err != nil {
		return nil, err
	}
	equal := equalJSON
	if k.typed() { // both have passed through the same type
		equal = reflect.DeepEqual
	}
	if equal(old.Object, next.Object) {
		return old, nil
	}
	if !equal(old.Object["spec"], next.Object["spec"]) {
		next.SetGeneration(old.GetGeneration() + 1)
	}
	if dryRun {
		return next, nil
	}
	c.version++
	next.SetResourceVersion(fmt.Sprint(c.version))
	if err := c.store.put(k.GVR(), next); err != nil {
		return nil, err
	}
	c.changed(Change{Type: watch.Modified, Kind: k, Object: next, Before: old})
	return next, nil
}

func (c *Cluster) uid() types.UID {
	c.counted++
	return types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", c.counted))
}

// suffix is the random end of a generated name.
func (c *Cluster) suffix() string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789" // the real server's: no words can be formed of it
	c.counted++
	n := c.counted * 7_919_333 // spreads neighbours
	var b [5]byte
	for i := range b {
		b[i] = alphabet[n%int64(len(alphabet))]
		n /= int64(len(alphabet))
	}
	return string(b[:])
}

func (k Kind) gvk() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
}

// typed: it has a Go type.
func (k Kind) typed() bool { return scheme.Scheme.Recognizes(k.gvk()) }

// asStored passes an object through its Go type: what the type does not know
// is dropped, and what it omits when empty is omitted. It is what makes a
// scale of zero read "spec: {}".
func (k Kind) asStored(o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if !k.typed() {
		return o, nil
	}
	typed, err := scheme.Scheme.New(k.gvk())
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, typed)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", k.Kind,
			k.Version, k.Kind, err))
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	stored := &unstructured.Unstructured{Object: m}
	stored.SetGroupVersionKind(k.gvk())
	return stored, nil
}
