package change

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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"

	"irctl/internal/cluster"
)

// Guard looks, right before an object is deleted, whether something goes with it
// that must not. The error is a HeldError, or that of looking.
type Guard func(ctx context.Context, c Change, live *unstructured.Unstructured) error

// Contents is the guard that keeps what others made: in a Namespace, of a kind
// that a CustomResourceDefinition defines, or owned by the object. ours are the
// changes that the incident made: what they created, and still is as they made
// it, is not of others, nor is what its controllers made of it.
func Contents(client *cluster.Client, ours []Change) Guard {
	return func(ctx context.Context, c Change, live *unstructured.Unstructured) error {
		if !c.holds() {
			return nil
		}
		l := &look{client: client, ours: ours, of: c, uid: live.GetUID(),
			items: map[types.UID]*held{}, listed: map[schema.GroupKind]bool{}}
		if err := l.gather(ctx, live); err != nil {
			return err
		}
		others, err := l.others(ctx, live)
		if err != nil || len(others) == 0 {
			return err
		}
		return &HeldError{Object: c.Object,
			Reason: fmt.Sprintf("%s that others made, and that would be deleted with it: %s", l.how(), few(others, 10)),
			Advice: c.advice("move those elsewhere or delete them, or, if all of it may go,")}
	}
}

func (c Change) is(group, kind string) bool { return c.Object.Group == group && c.Object.Kind == kind }

func (c Change) isNamespace() bool { return c.is("", "Namespace") }

func (c Change) isDefinition() bool {
	return c.is("apiextensions.k8s.io", "CustomResourceDefinition")
}

// Holds: objects of others can be in what the change created.
func (c Change) Holds() bool { return c.IsCreate() && (c.isNamespace() || c.isDefinition()) }

// holds: deleting what the change created can take others' objects with it.
func (c Change) holds() bool { return c.Holds() || c.Apply != nil && c.cascades() }

// leaf are kinds that no controller makes other objects for. What others hang on
// such an object all the same stays when it is deleted.
var leaf = []schema.GroupKind{
	{Kind: "ConfigMap"}, {Kind: "Secret"}, {Kind: "ServiceAccount"}, {Kind: "LimitRange"}, {Kind: "ResourceQuota"},
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}, {Group: "policy", Kind: "PodDisruptionBudget"},
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}, {Group: "scheduling.k8s.io", Kind: "PriorityClass"},
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}, {Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"},
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"},
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"},
}

// cascades: what controllers made of the object is to go with it.
func (c Change) cascades() bool {
	return !slices.Contains(leaf, schema.GroupKind{Group: c.Object.Group, Kind: c.Object.Kind})
}

// volume says what a claim or a volume holds: data, which nobody can look at
// from here.
func volume(live *unstructured.Unstructured) string {
	bound := ""
	switch live.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Kind: "PersistentVolumeClaim"}:
		bound, _, _ = unstructured.NestedString(live.Object, "spec", "volumeName")
	case schema.GroupKind{Kind: "PersistentVolume"}:
		bound, _, _ = unstructured.NestedString(live.Object, "spec", "claimRef", "name")
	}
	if bound == "" {
		return ""
	}
	return "it is bound to " + bound + ", and data may have been written to it"
}

// held is an object that may go with another.
type held struct {
	unstructured.Unstructured
	cluster.Ref
}

// look is one look at what an object holds.
type look struct {
	client *cluster.Client
	ours   []Change
	uid    types.UID
	of     Change

	mu     sync.Mutex
	items  map[types.UID]*held
	listed map[schema.GroupKind]bool // the kinds that were read as a whole
	denied []string                  // rights that are missing
}

// how the objects hang on it.
func (l *look) how() string {
	switch {
	case l.of.isNamespace():
		return "it contains objects"
	case l.of.isDefinition():
		return "there are objects of its kind"
	}
	return "it owns objects"
}

const unseen = "whether others' objects would go with it could not be seen"

// gather lists what may go with the object. What cannot be listed may be there.
func (l *look) gather(ctx context.Context, live *unstructured.Unstructured) error {
	c := l.of
	kinds, namespace, err := l.kinds(live)
	if err != nil {
		return err
	}
	errs := make([]error, len(kinds))
	cluster.Parallel(len(kinds), func(i int) { errs[i] = l.list(ctx, kinds[i], namespace) })
	if len(l.denied) > 0 {
		slices.Sort(l.denied)
		where := " in namespace " + namespace
		if namespace == "" {
			where = " in all namespaces"
		}
		return &HeldError{Object: c.Object, Reason: unseen + ", for lack of the right to list " + few(l.denied, 50) +
			where,
			Advice: c.advice("have that right granted, or look at it with somebody who has it and")}
	}
	return errors.Join(errs...)
}

// kinds are those of which objects may go with it, and the namespace they are in.
func (l *look) kinds(live *unstructured.Unstructured) (list []cluster.Ref, namespace string, err error) {
	c := l.of
	if c.isDefinition() {
		return defined(live), "", nil
	}
	namespace = live.GetNamespace()
	if c.isNamespace() {
		namespace = live.GetName()
	}
	read := discovery.ServerPreferredNamespacedResources
	if namespace == "" {
		read = discovery.ServerPreferredResources // a dependent may be anywhere
	}
	groups, err := read(l.client.Discovery)
	if discovery.IsGroupDiscoveryFailedError(err) {
		return nil, namespace, &HeldError{Object: c.Object, Reason: unseen + ": " + err.Error(),
			Advice: c.advice("mend or remove the APIService of that group and undo again, or look at it and")}
	}
	if err != nil {
		return nil, namespace, fmt.Errorf("asking the server which kinds it has: %w", err)
	}
	for _, g := range groups {
		gv, err := schema.ParseGroupVersion(g.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range g.APIResources {
			// What cannot be deleted is a view of something else, such as metrics.
			if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete") && r.Kind != "Event" {
				list = append(list, cluster.Ref{Group: gv.Group, Version: gv.Version, Resource: r.Name, Kind: r.Kind})
			}
		}
	}
	return list, namespace, nil
}

// defined is the kind that a CustomResourceDefinition defines.
func defined(live *unstructured.Unstructured) []cluster.Ref {
	r := cluster.Ref{}
	r.Group, _, _ = unstructured.NestedString(live.Object, "spec", "group")
	r.Kind, _, _ = unstructured.NestedString(live.Object, "spec", "names", "kind")
	r.Resource, _, _ = unstructured.NestedString(live.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(live.Object, "spec", "versions")
	for _, raw := range versions {
		if v, _ := raw.(map[string]any); v["served"] == true && r.Version == "" {
			r.Version, _ = v["name"].(string)
		}
	}
	if r.Version == "" {
		return nil // none is served, so that nobody can have made any
	}
	return []cluster.Ref{r}
}

// most bounds how many objects of a kind are read: so many are others' enough.
const most = 5000

func (l *look) list(ctx context.Context, kind cluster.Ref, namespace string) error {
	opts := metav1.ListOptions{Limit: 500}
	for read := 0; read < most; {
		page, err := l.client.Dynamic.Resource(kind.GVR()).Namespace(namespace).List(ctx, opts)
		switch {
		case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
			return nil // a kind that is not served
		case apierrors.IsForbidden(err):
			l.mu.Lock()
			defer l.mu.Unlock()
			l.denied = append(l.denied, kind.GVR().GroupResource().String())
			return nil
		case opts.Continue != "" && apierrors.IsResourceExpired(err):
			opts.Continue = "" // those that were read are known by their UIDs
			continue
		case err != nil:
			return fmt.Errorf("listing %s, which may go with it: %w", kind.GVR().GroupResource(), err)
		}
		opts.Continue = page.GetContinue()
		l.add(kind, page.Items, opts.Continue == "")
		if read += len(page.Items); opts.Continue == "" {
			break
		}
	}
	return nil
}

func (l *look) add(kind cluster.Ref, items []unstructured.Unstructured, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range items {
		l.items[u.GetUID()] = &held{u, kind.Named(u.GetNamespace(), u.GetName(), u.GetUID())}
	}
	if last {
		l.listed[schema.GroupKind{Group: kind.Group, Kind: kind.Kind}] = true
	}
}

// others are the objects that others made and that would go, by name. Of a
// workload and its pods it is the workload.
func (l *look) others(ctx context.Context, live *unstructured.Unstructured) ([]string, error) {
	var names []string
	for _, o := range l.items {
		if !l.of.Holds() && !hangsOn(live, o) {
			continue
		}
		of, err := l.ofOthers(ctx, o, 0)
		if err != nil {
			return nil, err
		}
		if of {
			names = append(names, o.Ref.String())
		}
	}
	slices.Sort(names)
	return names, nil
}

// hangsOn: live owns o, and is not its controller. That o has other owners too
// does not save it: they may be gone.
func hangsOn(live *unstructured.Unstructured, o *held) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return r.UID == live.GetUID() && (r.Controller == nil || !*r.Controller)
	})
}

// longestChain is how many controllers there can be between an object and the
// one that somebody made.
const longestChain = 10

// ofOthers: somebody else made the object by itself. What a controller made
// goes by what it was made for.
func (l *look) ofOthers(ctx context.Context, o *held, depth int) (bool, error) {
	if o.GetDeletionTimestamp() != nil || l.ofEveryNamespace(o) || ofAService(o) {
		return false, nil
	}
	if owner := metav1.GetControllerOf(o); owner != nil && depth < longestChain {
		gv, err := schema.ParseGroupVersion(owner.APIVersion)
		switch up := l.items[owner.UID]; {
		case up != nil:
			// It is named, so that what was made for it need not be.
			of, err := l.ofOthers(ctx, up, depth+1)
			return of && depth > 0, err
		case owner.UID == l.uid:
			return false, nil
		case err == nil && l.listed[schema.GroupKind{Group: gv.Group, Kind: owner.Kind}]:
			return false, nil // its owner is gone, and the garbage collector on its way
		}
	}
	for _, c := range l.ours {
		if !c.IsCreate() || c.Object.Name != o.Ref.Name || c.Object.Namespace != o.Ref.Namespace {
			continue
		}
		if c.Object.Group != o.Ref.Group || c.Object.Kind != o.Ref.Kind {
			continue
		}
		// The list has it in another version, perhaps.
		live, err := c.get(ctx, l.client.Dynamic)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if c.asMade(live) == nil {
			return false, nil
		}
	}
	return true, nil
}

// ofEveryNamespace: Kubernetes makes it in every namespace.
func (l *look) ofEveryNamespace(o *held) bool {
	if !l.of.isNamespace() || o.Ref.Group != "" {
		return false
	}
	return o.Ref.Kind == "ServiceAccount" && o.Ref.Name == "default" ||
		o.Ref.Kind == "ConfigMap" && o.Ref.Name == "kube-root-ca.crt"
}

// ofAService: the controller made these endpoints for a Service, and names no
// owner. The Service speaks for them.
func ofAService(o *held) bool {
	if o.Ref.Group != "" || o.Ref.Kind != "Endpoints" {
		return false
	}
	return o.GetLabels()["endpoints.kubernetes.io/managed-by"] != "" ||
		o.GetAnnotations()[corev1.EndpointsLastChangeTriggerTime] != ""
}

func few(names []string, most int) string {
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
