package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// ownerCollector takes the objects that own the pod, and those that own them,
// up to the top: 01-replicaset.json, 02-deployment.json.
type ownerCollector struct{ pod *pod }

func (c *ownerCollector) Name() string { return "owners" }

func (c *ownerCollector) Collect(ctx context.Context, out *Output) error {
	facts, err := c.pod.read(ctx)
	if err != nil {
		return err
	}
	for i, o := range c.pod.memo.chain(ctx, c.pod.Namespace, facts.owners) {
		name := fmt.Sprintf("%02d-%s.json", i+1, strings.ToLower(o.ref.Kind))
		out.Bytes(o.source, o.body, o.err, "owners", name)
	}
	return nil
}

// owner is one object of a chain, as the API serves it.
type owner struct {
	ref    metav1.OwnerReference
	source string
	body   []byte
	above  []metav1.OwnerReference
	err    error
}

// An object can name any owners, itself too.
const maxOwners = 16

// chain follows references upwards, breadth first, each owner once.
func (m *memos) chain(ctx context.Context, namespace string, refs []metav1.OwnerReference) []owner {
	var found []owner
	seen := map[types.UID]bool{}
	for queue := refs; len(queue) > 0 && len(found) < maxOwners; {
		ref := queue[0]
		queue = queue[1:]
		if seen[ref.UID] {
			continue
		}
		seen[ref.UID] = true
		o := m.owner(ctx, namespace, ref)
		found = append(found, o)
		queue = append(queue, o.above...)
	}
	return found
}

// owner reads one, once for all pods that it owns.
func (m *memos) owner(ctx context.Context, namespace string, ref metav1.OwnerReference) owner {
	key := strings.Join([]string{namespace, ref.APIVersion, ref.Kind, ref.Name, string(ref.UID)}, "\x00")
	return m.owners.get(key, func() (owner, int) {
		o := m.readOwner(ctx, namespace, ref)
		return o, len(o.body)
	})
}

func (m *memos) readOwner(ctx context.Context, namespace string, ref metav1.OwnerReference) owner {
	o := owner{ref: ref, source: fmt.Sprintf("ownerReference %s %s %s", ref.APIVersion, ref.Kind, ref.Name)}
	gvr, namespaced, err := m.resource(ref)
	if err != nil {
		o.err = err
		return o
	}
	if !namespaced {
		namespace = ""
	}
	o.source = "GET " + objectPath(gvr, namespace, ref.Name)
	if o.body, o.err = m.api.get(ctx, gvr, namespace, ref.Name); o.err != nil {
		return o
	}
	var object struct{ Metadata metav1.ObjectMeta }
	if o.err = json.Unmarshal(o.body, &object); o.err != nil {
		return o
	}
	if object.Metadata.UID != ref.UID {
		o.err = fmt.Errorf("the owner is gone: the one of that name now has UID %s, not %s", object.Metadata.UID,
			ref.UID)
		return o
	}
	o.above = object.Metadata.OwnerReferences
	return o
}

// resource of a kind. Those of Kubernetes itself are known; others are asked
// for.
func (m *memos) resource(ref metav1.OwnerReference) (gvr schema.GroupVersionResource, namespaced bool, err error) {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	switch gvk.Group {
	case "", "apps", "batch":
		gvr, _ = meta.UnsafeGuessKindToResource(gvk) // right for all kinds of these groups
		return gvr, gvk.Kind != "Node", nil
	}
	if m.mapper == nil {
		return gvr, false, fmt.Errorf("the resource of kind %s in %s is not known", ref.Kind, ref.APIVersion)
	}
	m.mapping.Lock() // mappers fill their caches as they are asked
	defer m.mapping.Unlock()
	mapping, err := m.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return gvr, false, fmt.Errorf("looking up the resource of kind %s in %s: %w", ref.Kind, ref.APIVersion, err)
	}
	return mapping.Resource, mapping.Scope.Name() == meta.RESTScopeNameNamespace, nil
}
