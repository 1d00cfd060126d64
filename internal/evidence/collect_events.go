package evidence

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// eventCollector takes the events of the pod and of its owners, sorted by time,
// from both event APIs: each has fields the other lacks.
//
// Events are found by kind and name, not by UID: those of a static pod carry
// another UID than its mirror, and those of a pod's predecessor of the same
// name belong to the story.
type eventCollector struct{ pod *pod }

func (c *eventCollector) Name() string { return "events" }

func (c *eventCollector) Collect(ctx context.Context, out *Output) error {
	subjects := []eventSubject{{c.pod.Namespace, "Pod", c.pod.Name}}
	// Without the pod there still are its events.
	if facts, err := c.pod.read(ctx); err == nil {
		for _, o := range c.pod.memo.chain(ctx, c.pod.Namespace, facts.owners) {
			if o.ref.Kind != "Node" { // a mirror pod's; its events are in another namespace
				subjects = append(subjects, eventSubject{c.pod.Namespace, o.ref.Kind, o.ref.Name})
			}
		}
	}
	for _, api := range eventAPIs {
		list := eventList{}
		for i, s := range subjects {
			part := c.list(ctx, api, s, i > 0)
			list.items = append(list.items, part.items...)
			list.err = errors.Join(list.err, part.err)
		}
		list.record(out, api, subjects, "events", api.file)
	}
	return nil
}

// record puts the events out, in order.
func (l *eventList) record(out *Output, api eventAPI, subjects []eventSubject, names ...string) {
	if l.err != nil && len(l.items) == 0 {
		out.Fail(api.source(subjects), l.err, names...)
		return
	}
	body, err := l.encode(api)
	out.Bytes(api.source(subjects), body, cmpError(err, l.err), names...)
}

// surroundingEvents takes all events of the pods' namespaces, and those of
// their nodes, which are in the namespace default.
type surroundingEvents struct{ *inquiry }

func (c *surroundingEvents) Name() string { return "surrounding-events" }

func (c *surroundingEvents) Collect(ctx context.Context, out *Output) error {
	take := func(s eventSubject, folder ...string) {
		for _, api := range eventAPIs {
			list := readEvents(ctx, c.api, api, s, maxNamespaceEvents)
			list.record(out, api, []eventSubject{s}, append(folder, "events", api.file)...)
		}
	}
	for _, ns := range c.namespaces() {
		take(eventSubject{namespace: ns}, "namespaces", ns)
	}
	for _, node := range c.nodes(ctx) {
		take(eventSubject{namespace: metav1.NamespaceDefault, kind: "Node", name: node}, "nodes", node)
	}
	return nil
}

// eventAPI is one of the two; both show the same store.
type eventAPI struct {
	gvr  schema.GroupVersionResource
	ref  string // the field that names the object
	file string
}

var eventAPIs = []eventAPI{
	{schema.GroupVersionResource{Version: "v1", Resource: "events"}, "involvedObject", "core.v1.json"},
	{schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}, "regarding",
		"events.k8s.io.v1.json"},
}

type eventSubject struct{ namespace, kind, name string }

func (a eventAPI) selector(s eventSubject) string {
	if s.kind == "" {
		return "" // all of the namespace
	}
	return fields.AndSelectors(fields.OneTermEqualSelector(a.ref+".kind", s.kind),
		fields.OneTermEqualSelector(a.ref+".name", s.name)).String()
}

func (a eventAPI) source(subjects []eventSubject) string {
	var selectors []string
	for _, s := range subjects {
		selectors = append(selectors, url.QueryEscape(a.selector(s)))
	}
	return "GET " + objectPath(a.gvr, subjects[0].namespace, "") + "?fieldSelector=" + strings.Join(selectors, ", and ")
}

// eventList is what was found; err may come with items that were read before it.
type eventList struct {
	items []json.RawMessage
	err   error
}

// maxEvents bounds the events of one object, in bytes. Repeated events are
// counted, not repeated, so that even a busy object has some dozens of 1 KiB.
const (
	maxEvents     = 1 << 20
	eventPageSize = 200
	// maxNamespaceEvents bounds those of a namespace.
	maxNamespaceEvents = 4 << 20
)

func (c *eventCollector) list(ctx context.Context, api eventAPI, s eventSubject, shared bool) eventList {
	if !shared {
		return readEvents(ctx, c.pod.api, api, s, maxEvents)
	}
	key := strings.Join([]string{api.gvr.String(), s.namespace, s.kind, s.name}, "\x00")
	return c.pod.memo.events.get(key, func() (eventList, int) {
		list := readEvents(ctx, c.pod.api, api, s, maxEvents)
		weight := 0
		for _, item := range list.items {
			weight += len(item)
		}
		return list, weight
	})
}

// readEvents pages through the events of one object, or of a namespace. It
// reads item by item, so that no length the server gives becomes memory.
func readEvents(ctx context.Context, a *api, api eventAPI, s eventSubject, limit int) (list eventList) {
	opts := metav1.ListOptions{FieldSelector: api.selector(s), Limit: eventPageSize}
	room := limit
	keep := func(item json.RawMessage) error {
		if !api.concerns(item, s) {
			return nil
		}
		if room -= len(item); room < 0 {
			return fmt.Errorf("%w of %d bytes of events", errLimit, limit)
		}
		list.items = append(list.items, item)
		return nil
	}
	for expired := 0; ; {
		err := a.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
			return a.list(ctx, api.gvr, s.namespace, opts)
		}, func(body io.Reader) (err error) {
			opts.Continue, err = decodeList(io.LimitReader(body, int64(2*limit)), keep)
			return err
		})
		if at := resumed(err); at != "" && opts.Continue != "" && expired < resumptions {
			expired, opts.Continue = expired+1, at
			continue
		}
		if err == nil && opts.Continue == "" && expired > 0 {
			err = ErrInconsistent
		}
		if err != nil {
			list.err = fmt.Errorf("events of %s %s: %w", s.kind, s.name, err)
		}
		if err != nil || opts.Continue == "" {
			return list
		}
	}
}

// concerns checks the object of an event: simulated clusters know no selectors.
func (a eventAPI) concerns(item json.RawMessage, s eventSubject) bool {
	type object struct{ Kind, Name string }
	var event struct{ InvolvedObject, Regarding object }
	if json.Unmarshal(item, &event) != nil {
		return true // kept as it is, for a person to judge
	}
	if s.kind == "" {
		return true
	}
	o := event.InvolvedObject
	if a.ref == "regarding" {
		o = event.Regarding
	}
	return o.Kind == s.kind && o.Name == s.name
}

// decodeList calls keep for each item of a list and returns its continue token.
func decodeList(r io.Reader, keep func(json.RawMessage) error) (next string, err error) {
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", cmp.Or(err, errors.New("the answer is not a list"))
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		switch key {
		case "items":
			err = decodeItems(d, keep)
		case "metadata":
			var list metav1.ListMeta
			err = d.Decode(&list)
			next = list.Continue
		default:
			var skipped json.RawMessage
			err = d.Decode(&skipped)
		}
		if err != nil {
			return "", err
		}
	}
	_, err = d.Token()
	return next, err
}

func decodeItems(d *json.Decoder, keep func(json.RawMessage) error) error {
	if t, err := d.Token(); err != nil || t == nil { // null: none
		return err
	} else if t != json.Delim('[') {
		return errors.New("the items of the answer are not a list")
	}
	for d.More() {
		var item json.RawMessage
		if err := d.Decode(&item); err != nil {
			return err
		}
		if err := keep(item); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// encode sorts by time and writes one event a line, each as it was served.
func (l *eventList) encode(api eventAPI) ([]byte, error) {
	type timed struct {
		at   time.Time
		name string
		item json.RawMessage
	}
	events := make([]timed, len(l.items))
	for i, item := range l.items {
		at, name := eventTime(item)
		events[i] = timed{at, name, item}
	}
	slices.SortStableFunc(events, func(x, y timed) int {
		return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.name, y.name))
	})
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\"apiVersion\":%q,\"kind\":\"EventList\",\"metadata\":{},\"items\":[", api.gvr.GroupVersion().
		String())
	for i, e := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		if err := json.Compact(&b, e.item); err != nil {
			return nil, fmt.Errorf("an event of the answer is not JSON: %w", err)
		}
	}
	b.WriteString("\n]}\n")
	return b.Bytes(), nil
}

// eventTime is when an event was last seen, by whichever field says so.
func eventTime(item json.RawMessage) (at time.Time, name string) {
	var e struct {
		Metadata struct {
			Name              string
			CreationTimestamp metav1.Time
		}
		EventTime               metav1.MicroTime
		LastTimestamp           metav1.Time
		FirstTimestamp          metav1.Time
		DeprecatedLastTimestamp metav1.Time
		Series                  *struct{ LastObservedTime metav1.MicroTime }
	}
	_ = json.Unmarshal(item, &e) // what cannot be read sorts first
	candidates := []time.Time{e.LastTimestamp.Time, e.DeprecatedLastTimestamp.Time, e.EventTime.Time,
		e.FirstTimestamp.Time, e.Metadata.CreationTimestamp.Time}
	if e.Series != nil {
		candidates = append([]time.Time{e.Series.LastObservedTime.Time}, candidates...)
	}
	for _, t := range candidates {
		if !t.IsZero() {
			return t, e.Metadata.Name
		}
	}
	return time.Time{}, e.Metadata.Name
}
