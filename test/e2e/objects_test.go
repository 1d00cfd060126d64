package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Objects are all objects of a namespace but for what no undo can restore: the
// versions, the managed fields and the times of changes.
type Objects map[string]map[string]any

// passing are the kinds that come and go with pods and have no content of their
// own. What tests expect of them they say.
var passing = []string{"endpoints", "endpointslices", "events"}

// objects reads all objects of the namespace. Of its pods only those named: the
// others are replaced when their workload is scaled.
func (n *Namespace) objects(pods ...*corev1.Pod) Objects {
	n.t.Helper()
	return n.look(world.namespaced, pods)
}

// look reads the objects of some resources.
func (n *Namespace) look(resources []schema.GroupVersionResource, pods []*corev1.Pod) Objects {
	n.t.Helper()
	all := Objects{}
	for _, resource := range resources {
		if slices.Contains(passing, resource.Resource) {
			continue
		}
		list, err := world.Dynamic.Resource(resource).Namespace(n.name).List(n.ctx(), metav1.ListOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			continue // announced, and not there
		}
		if err != nil {
			n.t.Fatal(err)
		}
		for _, object := range list.Items {
			if resource.Resource == "pods" && !slices.ContainsFunc(pods, func(pod *corev1.Pod) bool {
				return pod.Name == object.GetName()
			}) {
				continue
			}
			all[resource.Resource+"/"+object.GetName()] = timeless(&object)
		}
	}
	return all
}

// timeless strips what differs between two looks at the same object although
// nothing of it is different.
func timeless(object *unstructured.Unstructured) map[string]any {
	for _, field := range []string{"resourceVersion", "generation", "managedFields"} {
		unstructured.RemoveNestedField(object.Object, "metadata", field)
	}
	// The generation of its template, in the days before there was one.
	unstructured.RemoveNestedField(object.Object, "metadata", "annotations", "deprecated.daemonset.template.generation")
	if status, found := object.Object["status"].(map[string]any); found {
		unstable(status)
	}
	return object.Object
}

// unstable removes from a status, in place, what its writer changes by itself.
func unstable(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			switch {
			case key == "observedGeneration", strings.HasSuffix(key, "Time"):
				delete(value, key)
			case key == "resources":
				delete(value, key) // what the kubelet last measured
			case key == "conditions":
				byType(inner)
			}
			unstable(inner)
		}
	case []any:
		for _, inner := range value {
			unstable(inner)
		}
	}
}

// byType sorts conditions, which are a set.
func byType(value any) {
	conditions, ok := value.([]any)
	if !ok {
		return
	}
	name := func(condition any) string {
		fields, _ := condition.(map[string]any)
		name, _ := fields["type"].(string)
		return name
	}
	slices.SortFunc(conditions, func(a, b any) int { return strings.Compare(name(a), name(b)) })
}

// differences are the fields that two looks at a namespace do not agree on, one
// a line, with the value of the first (-) and of the second (+).
func differences(first, second Objects) string {
	before, after := map[string]string{}, map[string]string{}
	for key, object := range first {
		flatten(before, key, object)
	}
	for key, object := range second {
		flatten(after, key, object)
	}
	var lines []string
	for path, value := range before {
		if now, found := after[path]; !found || now != value {
			lines = append(lines, fmt.Sprintf("%s\n\t- %s", path, value))
		}
	}
	for path, value := range after {
		if was, found := before[path]; !found || was != value {
			lines = append(lines, fmt.Sprintf("%s\n\t+ %s", path, value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// flatten writes every leaf of a value into a map, under its path.
func flatten(into map[string]string, path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		into[path] = "{…}" // that it is there
		for key, inner := range value {
			flatten(into, path+"."+key, inner)
		}
	case []any:
		into[path] = fmt.Sprintf("[%d]", len(value))
		for i, inner := range value {
			flatten(into, fmt.Sprintf("%s[%d]", path, i), inner)
		}
	default:
		into[path] = fmt.Sprintf("%#v", value)
	}
}

// without leaves out the objects of a kind, or of all kinds a field.
func (o Objects) without(kind string, field ...string) Objects {
	kept := Objects{}
	for key, object := range o {
		if strings.HasPrefix(key, kind+"/") && len(field) == 0 {
			continue
		}
		if strings.HasPrefix(key, kind+"/") {
			object = (&unstructured.Unstructured{Object: object}).DeepCopy().Object
			unstructured.RemoveNestedField(object, field...)
		}
		kept[key] = object
	}
	return kept
}

// settled waits until a few looks at the namespace in a row see the same, and
// returns that.
func (n *Namespace) settled(pods ...*corev1.Pod) Objects {
	n.t.Helper()
	var last Objects
	same := 0
	n.converge("to settle", nil, pods, func(now Objects) string {
		difference := differences(last, now)
		last, same = now, same+1
		if difference != "" {
			same = 0
			return difference
		}
		if same < 3 {
			return "not for long enough yet"
		}
		return ""
	})
	return last
}

// restored waits until everything is as it was, and shows what is not if it
// never is. What adapt leaves out is not compared; nil leaves nothing out.
func (n *Namespace) restored(before Objects, adapt func(Objects) Objects, pods ...*corev1.Pod) {
	n.t.Helper()
	if adapt == nil {
		adapt = func(o Objects) Objects { return o }
	}
	n.converge("to be as it was (-before +after)", before, pods, func(now Objects) string {
		return differences(adapt(before), adapt(now))
	})
}

// converge looks at the namespace until there is nothing that differs. known is
// what it is likely to hold: only the resources found there are looked at until
// they are as wanted, and all of them at the end.
func (n *Namespace) converge(what string, known Objects, pods []*corev1.Pod, differs func(Objects) string) {
	n.t.Helper()
	now := n.objects(pods...)
	difference := differs(now)
	err := wait.PollUntilContextTimeout(n.ctx(), 250*time.Millisecond, waitLimit, difference == "",
		func(context.Context) (bool, error) {
			if difference == "" {
				return true, nil
			}
			if len(known) == 0 {
				known = now
			}
			now = n.look(known.resources(), pods)
			if difference = differs(now); difference == "" {
				now = n.objects(pods...)
				difference = differs(now)
			}
			return difference == "", nil
		})
	if err != nil {
		n.t.Fatalf("waiting for namespace %s %s:\n%s", n.name, what, difference)
	}
}

// resources are those of which there are objects.
func (o Objects) resources() []schema.GroupVersionResource {
	var found []schema.GroupVersionResource
	for _, resource := range world.namespaced {
		for key := range o {
			if strings.HasPrefix(key, resource.Resource+"/") {
				found = append(found, resource)
				break
			}
		}
	}
	return found
}

// Versions are those of the objects that nobody writes to unasked. They differ
// if anything at all was written to one of them, or one came or went.
type Versions map[string]string

// versions reads those of everything but pods, whose kubelet writes to them as
// it likes.
func (n *Namespace) versions() Versions {
	n.t.Helper()
	all := Versions{}
	for _, resource := range world.namespaced {
		if !slices.Contains([]string{"deployments", "replicasets", "statefulsets", "networkpolicies"},
			resource.Resource) {
			continue
		}
		list, err := world.Dynamic.Resource(resource).Namespace(n.name).List(n.ctx(), metav1.ListOptions{})
		if err != nil {
			n.t.Fatal(err)
		}
		for _, object := range list.Items {
			all[resource.Resource+"/"+object.GetName()] = object.GetResourceVersion()
		}
	}
	return all
}

// untouched fails the test if anybody wrote anything since.
func (n *Namespace) untouched(before Objects, versions Versions, pods ...*corev1.Pod) {
	n.t.Helper()
	if now := n.versions(); !maps.Equal(versions, now) {
		n.t.Errorf("somebody wrote to these objects: their versions were %v, and are %v", versions, now)
	}
	if difference := differences(before, n.objects(pods...)); difference != "" {
		n.t.Errorf("not as before:\n%s", difference)
	}
}
