package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Target is a suspect pod and the workload it belongs to.
type Target struct {
	Pod *corev1.Pod
	// Owners is the chain of controllers, the pod's own first, the top last.
	// For a pod that was detached earlier it is the chain of then.
	Owners []*Owner
	// Detached: the chain was taken from the incident's record, since the pod
	// itself no longer names its controller.
	Detached bool
	// Err is why the pod could not be read; Pod is then what the incident's record
	// says of it. Of one that does not exist any more there is no Err.
	Err error
}

// Key is "namespace/pod", by which results are reported.
func (t *Target) Key() string { return t.Pod.Namespace + "/" + t.Pod.Name }

// Ref is the pod.
func (t *Target) Ref() Ref { return Pod.Named(t.Pod.Namespace, t.Pod.Name, t.Pod.UID) }

// Mirror reports whether the pod is the API's image of a static pod, which
// only its node's kubelet can start and stop.
func (t *Target) Mirror() bool {
	_, ok := t.Pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// Workload is the top of the chain that irctl can act on; nil for a bare pod.
func (t *Target) Workload() *Owner {
	for i := len(t.Owners) - 1; i >= 0; i-- {
		if t.Owners[i].Stop != NoStop {
			return t.Owners[i]
		}
	}
	return nil
}

// Stop is the way in which a controller is kept from running its pods.
type Stop string

const (
	// NoStop: irctl knows no way; a custom resource without a scale subresource, say.
	NoStop Stop = ""
	// ByScale: zero replicas through the scale subresource.
	ByScale Stop = "scale"
	// BySuspend: spec.suspend, of Jobs and CronJobs.
	BySuspend Stop = "suspend"
	// ByExclusion: node affinity that keeps a DaemonSet off the suspect's node.
	ByExclusion Stop = "exclude"
)

// Owner is one controller in a pod's chain of owners.
type Owner struct {
	Ref
	// Object is the controller as the API serves it; nil if it could not be read.
	Object *unstructured.Unstructured
	// Err is why the controller, or the chain above it, could not be read.
	Err error
	// Stop is how to keep it from running pods.
	Stop Stop
	// Replicas and Selector are what the scale subresource says, where Stop is ByScale.
	Replicas int64
	Selector string
	// Custom: its kind comes from a CustomResourceDefinition or an extension
	// API server, so what its controller does is not known to irctl.
	Custom bool
}

// ErrReplaced: the object that was meant is gone.
var ErrReplaced = errors.New("it was deleted, and another of that name exists now")

// PodSelector is how a controller selects its pods: its spec.selector in its
// two forms, or what its scale subresource reports. nil: that is not known.
func (o *Owner) PodSelector() (labels.Selector, error) {
	if o.Object == nil {
		return nil, o.Err
	}
	if o.Custom || o.Selector != "" {
		if o.Selector == "" {
			return nil, nil
		}
		return labels.Parse(o.Selector)
	}
	raw, found, err := unstructured.NestedMap(o.Object.Object, "spec", "selector")
	if err != nil || !found {
		return nil, err
	}
	if o.Kind == ReplicationController.Kind {
		set := labels.Set{}
		for k, v := range raw {
			set[k], _ = v.(string)
		}
		return set.AsSelector(), nil
	}
	var sel metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &sel); err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(&sel)
}

// NotFoundError says that a pod does not exist, and which names are near.
type NotFoundError struct {
	Namespace, Name string
	Near            []string
}

func (e *NotFoundError) Error() string {
	msg := fmt.Sprintf("no pod %q in namespace %q", e.Name, e.Namespace)
	if len(e.Near) > 0 {
		msg += "; did you mean " + strings.Join(e.Near, ", ") + "?"
	}
	return msg
}

// GetTarget reads one pod and the chain of its owners.
func (c *Client) GetTarget(ctx context.Context, namespace, name string) (*Target, error) {
	pod, err := c.Kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		near, nearErr := c.nearPods(ctx, namespace, name)
		if nearErr != nil {
			return nil, fmt.Errorf("%w (and looking for near names failed: %w)",
				&NotFoundError{Namespace: namespace, Name: name}, nearErr)
		}
		return nil, &NotFoundError{Namespace: namespace, Name: name, Near: near}
	}
	if err != nil {
		return nil, fmt.Errorf("reading pod %s/%s: %w", namespace, name, err)
	}
	owners := newOwnerReader(c)
	return owners.target(ctx, pod), nil
}

// SelectTargets lists the pods of a namespace ("" for all) that a label
// selector matches, with the chains of their owners.
func (c *Client) SelectTargets(ctx context.Context, namespace, selector string) ([]*Target, error) {
	pods, err := c.ListPods(ctx, namespace, selector)
	if err != nil {
		return nil, err
	}
	return c.Targets(ctx, pods), nil
}

// Targets finds the owners of pods that were read already. Each owner is read
// once, with bounded concurrency.
func (c *Client) Targets(ctx context.Context, pods []corev1.Pod) []*Target {
	owners := newOwnerReader(c)
	targets := make([]*Target, len(pods))
	Parallel(len(pods), func(i int) { targets[i] = owners.target(ctx, &pods[i]) })
	return targets
}

// ListPods lists in pages, so that no single answer is large.
func (c *Client) ListPods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	var pods []corev1.Pod
	err := Pages(ctx, c.Kube.CoreV1().Pods(namespace).List, metav1.ListOptions{LabelSelector: selector},
		func(page *corev1.PodList) {
			pods = append(pods, page.Items...)
		})
	if err != nil {
		return nil, fmt.Errorf("listing pods in %s: %w", orAll(namespace), err)
	}
	return pods, nil
}

func orAll(namespace string) string {
	if namespace == "" {
		return "all namespaces"
	}
	return "namespace " + namespace
}

// Owner reads a workload by its reference, and the chain above it.
func (c *Client) Owner(ctx context.Context, ref Ref) ([]*Owner, error) {
	r := newOwnerReader(c)
	chain := r.chain(ctx, ref)
	if len(chain) == 1 && chain[0].Object == nil {
		return nil, chain[0].Err
	}
	return chain, nil
}

// WorkloadTargets returns the pods that a workload controls, directly or
// through controllers of its own.
func (c *Client) WorkloadTargets(ctx context.Context, workload Ref) ([]*Target, error) {
	r := newOwnerReader(c)
	// A Job's pods carry its selector, a CronJob's do not carry one: then all
	// pods of the namespace are looked at.
	selector := ""
	if sel, err := r.owner(ctx, workload).PodSelector(); err == nil && sel != nil {
		selector = sel.String()
	}
	pods, err := c.ListPods(ctx, workload.Namespace, selector)
	if err != nil {
		return nil, err
	}
	all := make([]*Target, len(pods))
	Parallel(len(pods), func(i int) { all[i] = r.target(ctx, &pods[i]) })
	var targets []*Target
	for _, t := range all {
		for _, o := range t.Owners {
			if o.UID == workload.UID {
				targets = append(targets, t)
				break
			}
		}
	}
	return targets, nil
}

// WithOwners is the target of a pod whose chain of owners is known from the
// incident's record: it reads those that still exist.
func (c *Client) WithOwners(ctx context.Context, pod *corev1.Pod, chain []Ref) *Target {
	return &Target{Pod: pod, Detached: true, Owners: c.Owners(ctx, chain)}
}

// Owners reads the controllers of a chain that is known. What could not be
// read, or was replaced by another of that name, is in the owners' Err.
func (c *Client) Owners(ctx context.Context, chain []Ref) []*Owner {
	r := newOwnerReader(c)
	owners := make([]*Owner, len(chain))
	Parallel(len(chain), func(i int) { owners[i] = r.owner(ctx, chain[i]) })
	return owners
}

// ownerReader reads each owner once however many pods share it.
type ownerReader struct {
	client *Client
	mu     sync.Mutex
	known  map[types.UID]*ownerOnce
	kinds  map[schema.GroupVersionKind]*kindOnce
}

type ownerOnce struct {
	once  sync.Once
	owner *Owner
}

type kindOnce struct {
	once sync.Once
	ref  Ref
	// scalable: discovery lists a scale subresource.
	scalable bool
	// clusterScoped: objects of the kind are in no namespace, as custom
	// resources that own an operator's workloads often are.
	clusterScoped bool
	err           error
}

func newOwnerReader(c *Client) *ownerReader {
	return &ownerReader{client: c, known: map[types.UID]*ownerOnce{}, kinds: map[schema.GroupVersionKind]*kindOnce{}}
}

// target never fails: what could not be read is in the owners' Err.
func (r *ownerReader) target(ctx context.Context, pod *corev1.Pod) *Target {
	t := &Target{Pod: pod}
	if ref := metav1.GetControllerOf(pod); ref != nil && !t.Mirror() {
		t.Owners = r.chain(ctx, refOf(*ref, pod.Namespace))
	}
	return t
}

// refOf is incomplete: owner reads the resource name from the kind.
func refOf(o metav1.OwnerReference, namespace string) Ref {
	gv, _ := schema.ParseGroupVersion(o.APIVersion) // a malformed one finds no kind, and that is reported
	return Ref{Group: gv.Group, Version: gv.Version, Kind: o.Kind, Namespace: namespace, Name: o.Name, UID: o.UID}
}

// maxChain bounds a chain of owners; references can form a loop.
const maxChain = 10

func (r *ownerReader) chain(ctx context.Context, ref Ref) []*Owner {
	var chain []*Owner
	for len(chain) < maxChain {
		o := r.owner(ctx, ref)
		for _, seen := range chain {
			if seen.UID == o.UID {
				return chain
			}
		}
		chain = append(chain, o)
		if o.Object == nil {
			return chain
		}
		up := metav1.GetControllerOf(o.Object)
		if up == nil {
			return chain
		}
		ref = refOf(*up, ref.Namespace)
	}
	return chain
}

func (r *ownerReader) owner(ctx context.Context, ref Ref) *Owner {
	r.mu.Lock()
	entry, ok := r.known[ref.UID]
	if !ok || ref.UID == "" {
		entry = &ownerOnce{}
		r.known[ref.UID] = entry
	}
	r.mu.Unlock()
	entry.once.Do(func() { entry.owner = r.read(ctx, ref) })
	return entry.owner
}

func (r *ownerReader) read(ctx context.Context, ref Ref) *Owner {
	o := &Owner{Ref: ref}
	kind := r.kind(ctx, ref)
	if kind.err != nil {
		o.Err = kind.err
		o.Custom = true
		return o
	}
	namespace := ref.Namespace
	if kind.clusterScoped {
		namespace = ""
	}
	o.Ref = kind.ref.Named(namespace, ref.Name, ref.UID)
	_, builtin := builtins[strings.ToLower(ref.Kind)]
	o.Custom = !builtin || builtins[strings.ToLower(ref.Kind)].Group != ref.Group
	live, err := r.client.Dynamic.Resource(o.GVR()).Namespace(o.Namespace).Get(ctx, o.Name, metav1.GetOptions{})
	if err != nil {
		o.Err = fmt.Errorf("reading %s: %w", o.Ref, err)
		return o
	}
	if ref.UID != "" && live.GetUID() != ref.UID {
		o.Err = fmt.Errorf("%s: %w", o.Ref, ErrReplaced)
		return o
	}
	o.Object, o.UID = live, live.GetUID()
	o.Err = r.stop(ctx, o, kind.scalable)
	return o
}

// stop finds out how the controller is kept from running pods.
func (r *ownerReader) stop(ctx context.Context, o *Owner, scalable bool) error {
	switch {
	case !o.Custom && (o.Kind == Job.Kind || o.Kind == CronJob.Kind):
		o.Stop = BySuspend
	case !o.Custom && o.Kind == DaemonSet.Kind:
		o.Stop = ByExclusion
	case !o.Custom && scalable:
		o.Stop = ByScale
		replicas, found, _ := unstructured.NestedInt64(o.Object.Object, "spec", "replicas")
		if !found {
			replicas = 1 // the default of every built-in kind
		}
		o.Replicas = replicas
	case scalable:
		scale, err := r.client.Dynamic.Resource(o.GVR()).Namespace(o.Namespace).
			Get(ctx, o.Name, metav1.GetOptions{}, "scale")
		if err != nil {
			return fmt.Errorf("reading the scale of %s: %w", o.Ref, err)
		}
		o.Stop = ByScale
		o.Replicas, _, _ = unstructured.NestedInt64(scale.Object, "spec", "replicas")
		o.Selector, _, _ = unstructured.NestedString(scale.Object, "status", "selector")
	}
	return nil
}

func (r *ownerReader) kind(ctx context.Context, ref Ref) *kindOnce {
	gvk := schema.GroupVersionKind{Group: ref.Group, Version: ref.Version, Kind: ref.Kind}
	r.mu.Lock()
	entry, ok := r.kinds[gvk]
	if !ok {
		entry = &kindOnce{}
		r.kinds[gvk] = entry
	}
	r.mu.Unlock()
	entry.once.Do(func() { entry.err = r.client.findKind(ctx, gvk, entry) })
	return entry
}

// findKind asks discovery which resource serves a kind, unless it is built in.
func (c *Client) findKind(ctx context.Context, gvk schema.GroupVersionKind, into *kindOnce) error {
	if b, ok := builtins[strings.ToLower(gvk.Kind)]; ok && b.Group == gvk.Group && b.Kind == gvk.Kind {
		into.ref, into.clusterScoped = b, b.Kind == Node.Kind
		switch b.Kind {
		case Deployment.Kind, StatefulSet.Kind, ReplicaSet.Kind, ReplicationController.Kind:
			into.scalable = true
		}
		return nil
	}
	list, err := c.resources(ctx, gvk.GroupVersion())
	if err != nil {
		return fmt.Errorf("looking up the kind %s of %s: %w", gvk.Kind, gvk.GroupVersion(), err)
	}
	for _, res := range list.APIResources {
		if res.Kind == gvk.Kind && !strings.Contains(res.Name, "/") {
			into.ref = Ref{Group: gvk.Group, Version: gvk.Version, Resource: res.Name, Kind: gvk.Kind}
			into.clusterScoped = !res.Namespaced
		}
	}
	if into.ref.Resource == "" {
		return fmt.Errorf("the server does not know the kind %s of %s", gvk.Kind, gvk.GroupVersion())
	}
	into.scalable = slices.ContainsFunc(list.APIResources, func(res metav1.APIResource) bool {
		return res.Name == into.ref.Resource+"/scale"
	})
	return nil
}

// KindOf is the resource that serves a kind, and whether it has no namespaces.
func (c *Client) KindOf(ctx context.Context, gvk schema.GroupVersionKind) (ref Ref, clusterScoped bool, err error) {
	found := &kindOnce{}
	err = c.findKind(ctx, gvk, found)
	ref = found.ref
	ref.Version = gvk.Version // a built-in one is known by one version only
	return ref, found.clusterScoped, err
}

func (c *Client) resources(ctx context.Context, gv schema.GroupVersion) (*metav1.APIResourceList, error) {
	list := &metav1.APIResourceList{}
	path := "/apis/" + gv.String()
	if gv.Group == "" {
		path = "/api/" + gv.Version
	}
	err := c.Kube.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").Do(ctx).
		Into(list)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Serves reports whether the server has kinds of an API group. Where it does not
// say so it may have.
func (c *Client) Serves(ctx context.Context, group string) bool {
	groups := &metav1.APIGroupList{}
	err := c.Kube.Discovery().RESTClient().Get().AbsPath("/apis").SetHeader("Accept", "application/json").Do(ctx).
		Into(groups)
	return err != nil || slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == group })
}

// ErrUnknownType is returned for a resource type that the server does not have.
var ErrUnknownType = errors.New("the server does not have a resource type of that name")

// ResourceType finds the resource that a person named as kubectl takes it:
// "deployment", "deploy", "deployments.apps", "rollouts.argoproj.io".
func (c *Client) ResourceType(ctx context.Context, name string) (Ref, error) {
	short, group, hasGroup := strings.Cut(strings.ToLower(name), ".")
	if b, ok := builtins[short]; ok && (!hasGroup || group == b.Group) {
		return b, nil
	}
	groups := &metav1.APIGroupList{}
	if err := c.Kube.Discovery().RESTClient().Get().AbsPath("/apis").SetHeader("Accept", "application/json").Do(ctx).
		Into(groups); err != nil {
		return Ref{}, fmt.Errorf("asking the server which resource types it has: %w", err)
	}
	found := make([]*Ref, len(groups.Groups))
	failures := make([]error, len(groups.Groups))
	Parallel(len(groups.Groups), func(i int) {
		g := groups.Groups[i]
		if hasGroup && g.Name != group {
			return
		}
		gv, err := schema.ParseGroupVersion(g.PreferredVersion.GroupVersion)
		if err != nil {
			failures[i] = err
			return
		}
		list, err := c.resources(ctx, gv)
		if err != nil {
			failures[i] = err
			return
		}
		for _, res := range list.APIResources {
			if !strings.Contains(res.Name, "/") && (res.Name == short || res.SingularName == short ||
				strings.ToLower(res.Kind) == short || slices.Contains(res.ShortNames, short)) {
				found[i] = &Ref{Group: gv.Group, Version: gv.Version, Resource: res.Name, Kind: res.Kind}
				return
			}
		}
	})
	for _, f := range found {
		if f != nil {
			return *f, nil
		}
	}
	return Ref{}, errors.Join(append([]error{fmt.Errorf("%w: %q", ErrUnknownType, name)}, failures...)...)
}
