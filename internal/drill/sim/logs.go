package sim

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// logs are what containers wrote, by pod and container. They go with the pod,
// and a restart keeps one generation, as on a node.
type logs struct {
	of   map[logKey]*containerLog
	news chan struct{} // closed with the next line
}

type logKey struct {
	pod       types.UID
	container string
}

type containerLog struct {
	current, previous []logLine
	restarted         bool
}

type logLine struct {
	at   time.Time
	text string
}

// maxLogLines is kept of a log, as a node rotates it.
const maxLogLines = 20_000

// Log lets a container write a line; container "" is the pod's first.
func (c *Cluster) Log(namespace, pod, container, text string) error {
	return c.LogAt(namespace, pod, container, c.opts.Now(), text)
}

// LogAt is Log of something written at another time: before the story begins.
func (c *Cluster) LogAt(namespace, pod, container string, at time.Time, text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.get(Pods, namespace, pod)
	if err != nil {
		return err
	}
	if container, err = containerOf(p, container); err != nil {
		return err
	}
	l := c.logOf(p.GetUID(), container)
	for line := range strings.Lines(text) {
		l.current = append(l.current, logLine{at.UTC(), strings.TrimSuffix(line, "\n")})
	}
	if len(l.current) > maxLogLines {
		l.current = slices.Clone(l.current[len(l.current)-maxLogLines/2:])
	}
	if c.logs.news != nil {
		close(c.logs.news)
		c.logs.news = nil
	}
	return nil
}

func (c *Cluster) logOf(pod types.UID, container string) *containerLog {
	key := logKey{pod, container}
	if c.logs.of == nil {
		c.logs.of = map[logKey]*containerLog{}
	}
	if c.logs.of[key] == nil {
		c.logs.of[key] = &containerLog{}
	}
	return c.logs.of[key]
}

// forgetLogs is what happens to the logs of a pod that is deleted.
func (c *Cluster) forgetLogs(pod types.UID) {
	for key := range c.logs.of {
		if key.pod == pod {
			delete(c.logs.of, key)
		}
	}
}

// RestartContainers has the kubelet start a pod's containers anew. Of their
// logs one generation is kept, and what was in memory is gone.
func (c *Cluster) RestartContainers(namespace, pod, reason string, exitCode int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.get(Pods, namespace, pod)
	if err != nil {
		return err
	}
	now := c.opts.Now().UTC().Format(time.RFC3339)
	err = c.edit(p, func(m map[string]any) {
		statuses, _, _ := unstructured.NestedSlice(m, "status", "containerStatuses")
		for _, raw := range statuses {
			s, _ := raw.(map[string]any)
			count, _, _ := unstructured.NestedInt64(s, "restartCount")
			started, _, _ := unstructured.NestedString(s, "state", "running", "startedAt")
			s["restartCount"] = count + 1
			s["lastState"] = map[string]any{"terminated": map[string]any{"exitCode": exitCode, "reason": reason,
				"startedAt": started, "finishedAt": now}}
			s["state"] = map[string]any{"running": map[string]any{"startedAt": now}}
		}
		_ = unstructured.SetNestedSlice(m, statuses, "status", "containerStatuses") // status is an object
	})
	if err != nil {
		return err
	}
	for key, l := range c.logs.of {
		if key.pod == p.GetUID() {
			l.previous, l.current, l.restarted = l.current, nil, true
		}
	}
	return c.settle(namespace)
}

// containerOf is the container that is meant, with the words of the real
// server where that cannot be told.
func containerOf(pod *unstructured.Unstructured, name string) (string, error) {
	var names []string
	for _, field := range []string{"containers", "initContainers", "ephemeralContainers"} {
		list, _, _ := unstructured.NestedSlice(pod.Object, "spec", field)
		for _, raw := range list {
			if m, ok := raw.(map[string]any); ok {
				n, _ := m["name"].(string)
				names = append(names, n)
			}
		}
		if field == "containers" && name == "" && len(names) == 1 {
			return names[0], nil
		}
	}
	switch {
	case slices.Contains(names, name):
		return name, nil
	case name == "":
		return "", apierrors.NewBadRequest(
			fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.GetName(),
				strings.Join(names, " ")))
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.GetName()))
}

// logQuery is what is asked of a log.
type logQuery struct {
	follow, timestamps, previous bool
	since                        time.Time
	tail, limit                  int64 // -1: all
}

func parseLogQuery(q url.Values, now time.Time) (logQuery, error) {
	yes := func(name string) bool { b, _ := strconv.ParseBool(q.Get(name)); return b }
	l := logQuery{follow: yes("follow"), timestamps: yes("timestamps"), previous: yes("previous"), tail: -1, limit: -1}
	for _, n := range []struct {
		name string
		to   *int64
	}{{"tailLines", &l.tail}, {"limitBytes", &l.limit}} {
		if text := q.Get(n.name); text != "" {
			v, err := strconv.ParseInt(text, 10, 64)
			if err != nil || v < 0 {
				return l, apierrors.NewBadRequest(fmt.Sprintf("%s: invalid value %q", n.name, text))
			}
			*n.to = v
		}
	}
	if text := q.Get("sinceTime"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return l, apierrors.NewBadRequest("sinceTime: " + err.Error())
		}
		l.since = at
	}
	if text := q.Get("sinceSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return l, apierrors.NewBadRequest("sinceSeconds: invalid value " + strconv.Quote(text))
		}
		l.since = now.Add(-time.Duration(n) * time.Second)
	}
	return l, nil
}

// lines are those that the query selects.
func (q logQuery) lines(all []logLine) []logLine {
	i := 0
	for i < len(all) && all[i].at.Before(q.since) {
		i++
	}
	all = all[i:]
	if q.tail >= 0 && int64(len(all)) > q.tail {
		all = all[int64(len(all))-q.tail:]
	}
	return slices.Clone(all)
}

func (q logQuery) text(l logLine) string {
	if q.timestamps {
		return l.at.Format(time.RFC3339Nano) + " " + l.text + "\n"
	}
	return l.text + "\n"
}

// answerLog streams a container's log.
func (c *Cluster) answerLog(w http.ResponseWriter, hr *http.Request, req Request) error {
	query, err := parseLogQuery(hr.URL.Query(), c.opts.Now())
	if err != nil {
		return err
	}
	c.mu.RLock()
	pod, err := c.get(Pods, req.Namespace, req.Name)
	var container string
	if err == nil {
		container, err = containerOf(pod, hr.URL.Query().Get("container"))
	}
	c.mu.RUnlock()
	if err != nil {
		return err
	}
	lines, next, news, alive := c.readLog(pod, container, query, -1)
	if query.previous && lines == nil {
		return apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", container,
			pod.GetName()))
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &logWriter{w: w, left: query.limit}
	for {
		for _, l := range lines {
			out.write(query.text(l))
		}
		if f, ok := w.(http.Flusher); ok && query.follow {
			f.Flush()
		}
		if !query.follow || query.previous || !alive || out.done || !c.wait(hr.Context(), news) {
			return nil
		}
		lines, next, news, alive = c.readLog(pod, container, query, next)
	}
}

func (c *Cluster) wait(ctx context.Context, news <-chan struct{}) bool {
	select {
	case <-news:
		return true
	case <-c.stopped:
	case <-ctx.Done():
	}
	return false
}

// readLog reads a log from a line on; -1: as the query says. alive is false
// once the container will write no more.
func (c *Cluster) readLog(pod *unstructured.Unstructured, container string, q logQuery, from int) (lines []logLine,
	next int, news <-chan struct{}, alive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logs.news == nil {
		c.logs.news = make(chan struct{})
	}
	live, err := c.get(Pods, pod.GetNamespace(), pod.GetName())
	if alive = err == nil && live.GetUID() == pod.GetUID(); !alive {
		return nil, 0, c.logs.news, false
	}
	l := c.logOf(pod.GetUID(), container)
	if q.previous {
		if !l.restarted {
			return nil, 0, c.logs.news, true
		}
		return append([]logLine{}, q.lines(l.previous)...), 0, c.logs.news, true
	}
	all := l.current
	if len(all) == 0 && !l.restarted {
		all = []logLine{{startOf(pod), pod.GetName() + ": listening"}}
	}
	if from < 0 {
		return q.lines(all), len(l.current), c.logs.news, true
	}
	from = min(from, len(l.current)) // it was rotated, or restarted
	return slices.Clone(l.current[from:]), len(l.current), c.logs.news, true
}

// startOf is when a pod started.
func startOf(pod *unstructured.Unstructured) time.Time {
	text, _, _ := unstructured.NestedString(pod.Object, "status", "startTime")
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return pod.GetCreationTimestamp().UTC()
	}
	return at
}

// logWriter keeps to limitBytes.
type logWriter struct {
	w    io.Writer
	left int64 // -1: no limit
	done bool
}

func (w *logWriter) write(text string) {
	if w.done {
		return
	}
	if w.left >= 0 && int64(len(text)) >= w.left {
		text, w.done = text[:w.left], true
	}
	if w.left >= 0 {
		w.left -= int64(len(text))
	}
	if _, err := io.WriteString(w.w, text); err != nil {
		w.done = true // the client is gone
	}
}

// errNoExec is the answer to exec, attach, portforward and the like.
func errNoExec(what string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
		Reason: metav1.StatusReasonMethodNotAllowed, Code: http.StatusMethodNotAllowed,
		Message: what + " is not simulated in this cluster"}}
}
