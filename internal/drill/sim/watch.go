package sim

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// Change is one write, as a watch tells it.
type Change struct {
	Type watch.EventType // Added, Modified or Deleted
	Kind Kind
	// Object is the object after the write; of a deletion its last form, with
	// the version of the deletion. Before is the form before, nil of a creation.
	// Neither is to be changed.
	Object, Before *unstructured.Unstructured
	Version        int64
	Time           time.Time
}

// maxChanges is how many writes a watch can be behind.
const maxChanges = 4096

// changed records a write and wakes whoever watches.
func (c *Cluster) changed(ch Change) {
	ch.Version, ch.Time = c.version, c.opts.Now()
	c.changes = append(c.changes, ch)
	if len(c.changes) > 2*maxChanges { // rarely, so that most writes copy nothing
		c.changes = slices.Clone(c.changes[maxChanges:])
	}
	if c.news != nil {
		close(c.news)
		c.news = nil
	}
	if c.opts.OnChange != nil {
		c.opts.OnChange(ch)
	}
}

// since returns the writes after a version, and what is closed with the next
// one. ok is false where some of them are forgotten.
func (c *Cluster) since(version int64) (list []Change, news <-chan struct{}, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.news == nil {
		c.news = make(chan struct{})
	}
	i, _ := slices.BinarySearchFunc(c.changes, version+1, func(ch Change, v int64) int {
		return cmp.Compare(ch.Version, v)
	})
	// every write has a version of its own
	return slices.Clone(c.changes[i:]), c.news, version >= c.version-int64(len(c.changes))
}

// watching is one watch.
type watching struct {
	kind      Kind
	namespace string
	labels    labels.Selector
	fields    fields.Selector
	version   int64
	timeout   time.Duration
	table     *asTable // nil: objects as they are
}

func (w watching) selects(o *unstructured.Unstructured) bool {
	return o != nil && w.labels.Matches(labels.Set(o.GetLabels())) && w.fields.Matches(fieldsOf(o))
}

// sees is the write as a watch with these selectors tells it: what comes into
// the selection is added, what leaves it is deleted. "": nothing.
func (w watching) sees(ch Change) (watch.EventType, *unstructured.Unstructured) {
	if ch.Kind.GVR() != w.kind.stored().GVR() || w.namespace != "" && ch.Object.GetNamespace() != w.namespace {
		return "", nil
	}
	var was, is *unstructured.Unstructured
	if ch.Before != nil {
		was = w.kind.shown(ch.Before)
	}
	if ch.Type != watch.Deleted {
		is = w.kind.shown(ch.Object)
	}
	before, after := w.selects(was), w.selects(is)
	switch {
	case before && after:
		return watch.Modified, is
	case after:
		return watch.Added, is
	case before:
		gone := was.DeepCopy()
		gone.SetResourceVersion(fmt.Sprint(ch.Version))
		return watch.Deleted, gone
	}
	return "", nil
}

func (c *Cluster) parseWatch(hr *http.Request, req Request, k Kind) (watching, error) {
	q := hr.URL.Query()
	w := watching{kind: k, namespace: req.Namespace}
	var err error
	if w.labels, err = labels.Parse(q.Get("labelSelector")); err != nil {
		return w, apierrors.NewBadRequest(err.Error())
	}
	if w.fields, err = fields.ParseSelector(q.Get("fieldSelector")); err != nil {
		return w, apierrors.NewBadRequest(err.Error())
	}
	if text := q.Get("resourceVersion"); text != "" {
		if w.version, err = strconv.ParseInt(text, 10, 64); err != nil {
			return w, apierrors.NewBadRequest("resourceVersion: " + err.Error())
		}
	}
	seconds, _ := strconv.Atoi(q.Get("timeoutSeconds")) // absent or malformed: no timeout
	w.timeout = time.Duration(seconds) * time.Second
	w.table, err = c.tableWanted(hr, k)
	return w, err
}

// answerWatch streams what happens until the client goes, or its timeout ends
// it. Without a version, or with 0, it begins with what there is.
func (c *Cluster) answerWatch(rw http.ResponseWriter, hr *http.Request, w watching) error {
	ctx := hr.Context()
	if w.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.timeout)
		defer cancel()
	}
	out := &watchWriter{w: rw, table: w.table, now: c.opts.Now}
	if w.version == 0 {
		c.mu.RLock()
		w.version = c.version
		list := c.list(w.kind.GVR(), w.namespace)
		c.mu.RUnlock()
		out.begin()
		for i := range list {
			if w.selects(&list[i]) {
				out.tell(watch.Added, &list[i])
			}
		}
	} else if _, _, ok := c.since(w.version); !ok {
		return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d", w.version))
	}
	out.begin()
	for out.err == nil {
		list, news, ok := c.since(w.version)
		if !ok {
			out.tell(watch.Error, apierrors.NewResourceExpired("the watch is too far behind").Status())
			return nil
		}
		for _, ch := range list {
			w.version = ch.Version
			if t, o := w.sees(ch); t != "" {
				out.tell(t, o)
			}
		}
		out.flush()
		select {
		case <-news:
		case <-c.stopped:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	return nil // the client is gone
}

// watchWriter writes events as they come.
type watchWriter struct {
	w     http.ResponseWriter
	table *asTable
	now   func() time.Time
	begun bool
	err   error
}

func (w *watchWriter) begin() {
	if w.begun {
		return
	}
	w.begun = true
	w.w.Header().Set("Content-Type", "application/json")
	w.w.WriteHeader(http.StatusOK)
	w.flush()
}

func (w *watchWriter) tell(t watch.EventType, o any) {
	if s, ok := o.(metav1.Status); ok {
		s.Kind, s.APIVersion = "Status", "v1"
		o = s
	}
	if u, ok := o.(*unstructured.Unstructured); ok && w.table != nil {
		w.table.now = w.now()
		table, err := w.table.of(u)
		if err != nil {
			w.err = err
			return
		}
		o = table
	}
	if err := json.NewEncoder(w.w).Encode(map[string]any{"type": t, "object": o}); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *watchWriter) flush() {
	if f, ok := w.w.(http.Flusher); ok {
		f.Flush()
	}
}

// Resource finds a resource by its kind, its name, or a short name of it, as
// kubectl does.
func (c *Cluster) Resource(name string) (schema.GroupVersionResource, bool) {
	lower := strings.ToLower(name)
	for _, k := range c.kinds {
		if strings.ToLower(k.Kind) == lower || k.Resource == lower || slices.Contains(k.ShortNames, lower) {
			return k.GVR(), true
		}
	}
	return schema.GroupVersionResource{}, false
}

// Version is that of the last write.
func (c *Cluster) Version() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.version
}

// Stop ends all watches and logs that are followed, so that a server can shut
// down. The cluster can still be read.
func (c *Cluster) Stop() { c.stop() }
