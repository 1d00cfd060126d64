package sim

import (
	"cmp"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
)

// store keeps objects in the tracker of client-go's fake clientset. The tracker
// copies all that is looked at, and the controllers look all the time; so what is
// looked at is an index of it, as clients of a real cluster have one. An object in
// the index is never changed, only replaced by another: nobody needs a copy to
// read it, also after the lock is let go.
type store struct {
	lists   map[schema.GroupVersionResource]string // the kinds of lists
	tracker clienttesting.ObjectTracker            // nil: it is filled from the index with the next write
	index   map[schema.GroupVersionResource]map[objectName]*unstructured.Unstructured
}

type objectName struct{ namespace, name string }

func nameOf(o *unstructured.Unstructured) objectName {
	return objectName{o.GetNamespace(), o.GetName()}
}

func newStore(kinds []Kind) *store {
	s := &store{map[schema.GroupVersionResource]string{}, nil,
		map[schema.GroupVersionResource]map[objectName]*unstructured.Unstructured{}}
	for _, k := range kinds {
		s.lists[k.GVR()] = k.Kind + "List"
	}
	return s
}

// clone is a store that goes its own way. Most are only looked at, or little of
// them is changed.
func (s *store) clone() *store {
	twin := &store{s.lists, nil, map[schema.GroupVersionResource]map[objectName]*unstructured.Unstructured{}}
	for gvr, objects := range s.index {
		twin.index[gvr] = maps.Clone(objects)
	}
	return twin
}

func (s *store) fill() error {
	if s.tracker != nil {
		return nil
	}
	tracker := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), s.lists).Tracker()
	for gvr, objects := range s.index {
		for _, o := range objects {
			if err := tracker.Create(gvr, o, o.GetNamespace()); err != nil {
				return err
			}
		}
	}
	s.tracker = tracker
	return nil
}

// put adds an object, or replaces the one of its name.
func (s *store) put(gvr schema.GroupVersionResource, o *unstructured.Unstructured) error {
	if err := s.fill(); err != nil {
		return err
	}
	var err error
	if s.index[gvr][nameOf(o)] == nil {
		err = s.tracker.Create(gvr, o, o.GetNamespace())
	} else {
		err = s.tracker.Update(gvr, o, o.GetNamespace())
	}
	if err != nil {
		return err
	}
	if s.index[gvr] == nil {
		s.index[gvr] = map[objectName]*unstructured.Unstructured{}
	}
	s.index[gvr][nameOf(o)] = o
	return nil
}

func (s *store) remove(gvr schema.GroupVersionResource, namespace, name string) error {
	if err := s.fill(); err != nil {
		return err
	}
	if err := s.tracker.Delete(gvr, namespace, name); err != nil {
		return err
	}
	delete(s.index[gvr], objectName{namespace, name})
	return nil
}

// get finds an object, or gives the API server's NotFound.
func (s *store) get(gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	o := s.index[gvr][objectName{namespace, name}]
	if o == nil {
		return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
	}
	return o, nil
}

// list gives the objects of a namespace, or of all (""), by namespace and name.
func (s *store) list(gvr schema.GroupVersionResource, namespace string) []unstructured.Unstructured {
	var names []objectName
	for n := range s.index[gvr] {
		if namespace == "" || n.namespace == namespace {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b objectName) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	items := make([]unstructured.Unstructured, len(names))
	for i, n := range names {
		items[i] = *s.index[gvr][n]
	}
	return items
}
