package sim

import (
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Events are what controllers, and whoever else, tell about objects.
var Events = schema.GroupVersionResource{Version: "v1", Resource: "events"}

// maxEvents is kept of a namespace's events.
const maxEvents = 500

// Event tells something about an object as a component of the cluster would,
// such as a scheduler or a security agent. The same thing told again is counted.
func (c *Cluster) Event(gvr schema.GroupVersionResource, namespace, name, component, kind, reason,
	message string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, err := c.get(gvr, namespace, name)
	if err != nil {
		return err
	}
	return c.tell(o, component, kind, reason, message)
}

// say is tell for the controllers, which are silent unless Options.Events.
func (c *Cluster) say(o *unstructured.Unstructured, component, reason, format string, args ...any) error {
	if !c.opts.Events {
		return nil
	}
	return c.tell(o, component, corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...))
}

func (c *Cluster) tell(o *unstructured.Unstructured, component, kind, reason, message string) error {
	namespace := o.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	now := c.opts.Now().UTC()
	k := c.kindOf(Events)
	events := c.list(Events, namespace)
	for i := range events {
		e := &events[i]
		uid, _, _ := unstructured.NestedString(e.Object, "involvedObject", "uid")
		if uid == string(o.GetUID()) && e.Object["reason"] == reason && e.Object["message"] == message {
			return c.edit(e, func(m map[string]any) {
				n, _, _ := unstructured.NestedInt64(m, "count")
				m["count"], m["lastTimestamp"] = n+1, now.Format(time.RFC3339)
			})
		}
	}
	if len(events) >= maxEvents {
		if err := c.forgetEvent(events); err != nil {
			return err
		}
	}
	c.told++
	at := metav1.NewTime(now.Truncate(time.Second))
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&corev1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%016x", o.GetName(), c.told),
			CreationTimestamp: at, Generation: 1,
			// of its own, so that events do not change the names of others
			UID: types.UID(fmt.Sprintf("00000000-0000-4000-9000-%012d", c.told))},
		InvolvedObject: corev1.ObjectReference{Kind: o.GetKind(), APIVersion: o.GetAPIVersion(),
			Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()},
		Reason: reason, Message: message, Type: kind, Count: 1, FirstTimestamp: at, LastTimestamp: at,
		Source: corev1.EventSource{Component: component}, ReportingController: component,
	})
	if err != nil {
		return err
	}
	e := &unstructured.Unstructured{Object: m}
	c.version++
	e.SetResourceVersion(fmt.Sprint(c.version))
	if err := c.store.put(Events, e); err != nil {
		return err
	}
	c.changed(Change{Type: "ADDED", Kind: k, Object: e})
	return nil
}

// forgetEvent deletes the oldest, as they expire on the real server.
func (c *Cluster) forgetEvent(events []unstructured.Unstructured) error {
	oldest := &events[0]
	for i := range events {
		if events[i].GetUID() < oldest.GetUID() { // counted
			oldest = &events[i]
		}
	}
	return c.remove(Events, oldest.GetNamespace(), oldest.GetName())
}

// asNewEvent shows an event as the group events.k8s.io does; both show the
// same store.
func asNewEvent(u *unstructured.Unstructured) *unstructured.Unstructured {
	var e corev1.Event
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &e); err != nil {
		return u // it came from that type
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&eventsv1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"}, ObjectMeta: e.ObjectMeta,
		EventTime:           e.EventTime,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance, Action: e.Action,
		Reason:    e.Reason,
		Regarding: e.InvolvedObject, Related: e.Related, Note: e.Message, Type: e.Type,
		DeprecatedSource: e.Source, DeprecatedFirstTimestamp: e.FirstTimestamp,
		DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
	})
	if err != nil {
		return u
	}
	return &unstructured.Unstructured{Object: m}
}

// asOldEvent undoes asNewEvent.
func asOldEvent(u *unstructured.Unstructured) *unstructured.Unstructured {
	old := &unstructured.Unstructured{Object: maps.Clone(u.Object)}
	for from, to := range map[string]string{"regarding": "involvedObject", "note": "message",
		"deprecatedSource":         "source",
		"deprecatedFirstTimestamp": "firstTimestamp", "deprecatedLastTimestamp": "lastTimestamp",
		"deprecatedCount": "count"} {
		old.Object[to] = u.Object[from]
	}
	return old
}
