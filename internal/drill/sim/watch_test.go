package sim_test

import (
	"bufio"
	"context"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"irctl/internal/drill/sim"
)

// serve is start with options, and with watches that end with the test.
func serve(t *testing.T, o sim.Options) (*sim.Cluster, *kubernetes.Clientset) {
	t.Helper()
	c, err := sim.New(o)
	if err == nil {
		err = c.Apply(sim.TodoApp)
	}
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(c.Server(nil))
	t.Cleanup(listener.Close)
	t.Cleanup(c.Stop) // before the listener, which waits for what is under way
	return c, kubernetes.NewForConfigOrDie(&rest.Config{Host: listener.URL, QPS: -1})
}

func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch ended")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("nothing happened")
	}
	return watch.Event{}
}

func podOf(t *testing.T, c *sim.Cluster, app string) string {
	t.Helper()
	for _, p := range c.List(sim.Pods, "todo-app") {
		if p.GetLabels()["app"] == app {
			return p.GetName()
		}
	}
	t.Fatal("there is no pod of " + app)
	return ""
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c, kube := serve(t, sim.Options{})
	pods := kube.CoreV1().Pods("todo-app")
	list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "app=backend"})
	if err != nil {
		t.Fatal(err)
	}
	w, err := pods.Watch(t.Context(), metav1.ListOptions{LabelSelector: "app=backend",
		ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	// A pod whose label is taken off leaves the selection, and is replaced by a new one.
	suspect := list.Items[0].Name
	if _, err := pods.Patch(t.Context(), suspect, types.MergePatchType, []byte(`{"metadata":{"labels":{"app":null}}}`),
		metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	e := next(t, w)
	gone, _ := e.Object.(*corev1.Pod)
	if e.Type != watch.Deleted || gone.Name != suspect || gone.Labels["app"] != "backend" {
		t.Errorf("first %s %s %v", e.Type, gone.Name, gone.Labels)
	}
	e = next(t, w)
	if made, _ := e.Object.(*corev1.Pod); e.Type != watch.Added || made.Name == suspect ||
		made.Status.Phase != corev1.PodPending {
		t.Errorf("second %s %s %s", e.Type, made.Name, made.Status.Phase)
	}
	e = next(t, w)
	if ready, _ := e.Object.(*corev1.Pod); e.Type != watch.Modified || ready.Status.Phase != corev1.PodRunning {
		t.Errorf("third %s %s", e.Type, ready.Status.Phase)
	}
	if err := c.Delete(sim.Pods, "todo-app", list.Items[1].Name); err != nil {
		t.Fatal(err)
	}
	if e = next(t, w); e.Type != watch.Deleted {
		t.Errorf("fourth %s", e.Type)
	}
}

// TestWatchFromNow: without a version, a watch begins with what there is.
func TestWatchFromNow(t *testing.T) {
	t.Parallel()
	_, kube := serve(t, sim.Options{})
	w, err := kube.AppsV1().StatefulSets("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e := next(t, w); e.Type != watch.Added {
		t.Errorf("%s", e.Type)
	}
}

// TestWatchTooOld: a twin has the state, and not the writes that led to it.
func TestWatchTooOld(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, sim.Options{})
	twin, err := c.Clone()
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(twin.Server(nil))
	defer listener.Close()
	defer twin.Stop()
	kube := kubernetes.NewForConfigOrDie(&rest.Config{Host: listener.URL, QPS: -1})
	if _, err := kube.CoreV1().Pods("").Watch(t.Context(),
		metav1.ListOptions{ResourceVersion: "5"}); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("got %v", err)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 12, 9, 0, 0, 0, time.UTC)
	c, kube := serve(t, sim.Options{Now: func() time.Time { return now }})
	pod := podOf(t, c, "backend")
	for i, text := range []string{"one", "two", "three"} {
		if err := c.LogAt("todo-app", pod, "", now.Add(time.Duration(i)*time.Minute), text); err != nil {
			t.Fatal(err)
		}
	}
	two, since, limit := int64(2), metav1.NewTime(now.Add(2*time.Minute)), int64(5)
	read := func(o corev1.PodLogOptions) string {
		t.Helper()
		text, err := kube.CoreV1().Pods("todo-app").GetLogs(pod, &o).DoRaw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, tc := range []struct {
		options corev1.PodLogOptions
		want    string
	}{
		{corev1.PodLogOptions{}, "one\ntwo\nthree\n"},
		{corev1.PodLogOptions{TailLines: &two}, "two\nthree\n"},
		{corev1.PodLogOptions{SinceTime: &since, Timestamps: true}, "2026-02-12T09:02:00Z three\n"},
		{corev1.PodLogOptions{LimitBytes: &limit}, "one\nt"},
		{corev1.PodLogOptions{Container: "backend"}, "one\ntwo\nthree\n"},
	} {
		if got := read(tc.options); got != tc.want {
			t.Errorf("%+v: %q, expected %q", tc.options, got, tc.want)
		}
	}
	pods := kube.CoreV1().Pods("todo-app")
	if _, err := pods.GetLogs(pod, &corev1.PodLogOptions{Previous: true}).
		DoRaw(t.Context()); !apierrors.IsBadRequest(err) {
		t.Errorf("previous before a restart: %v", err)
	}
	if _, err := pods.GetLogs(pod, &corev1.PodLogOptions{Container: "other"}).
		DoRaw(t.Context()); !apierrors.IsBadRequest(err) {
		t.Errorf("a container that is none: %v", err)
	}
	if err := c.RestartContainers("todo-app", pod, "OOMKilled", 137); err != nil {
		t.Fatal(err)
	}
	if got := read(corev1.PodLogOptions{Previous: true}); got != "one\ntwo\nthree\n" {
		t.Errorf("previous: %q", got)
	}
	if got := read(corev1.PodLogOptions{}); got != "" {
		t.Errorf("after the restart: %q", got)
	}
	p, err := pods.Get(t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := p.Status.ContainerStatuses[0]; s.RestartCount != 1 ||
		s.LastTerminationState.Terminated.Reason != "OOMKilled" {
		t.Errorf("status %+v", s)
	}
}

func TestLogsAreFollowed(t *testing.T) {
	t.Parallel()
	c, kube := serve(t, sim.Options{})
	pod := podOf(t, c, "backend")
	if err := c.Log("todo-app", pod, "", "before"); err != nil {
		t.Fatal(err)
	}
	body, err := kube.CoreV1().Pods("todo-app").GetLogs(pod, &corev1.PodLogOptions{Follow: true}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(body)
	if line, err := lines.ReadString('\n'); line != "before\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := c.Log("todo-app", pod, "", "after"); err != nil {
		t.Fatal(err)
	}
	if line, err := lines.ReadString('\n'); line != "after\n" {
		t.Fatalf("%q, %v", line, err)
	}
	// With the pod ends its log.
	if err := c.Delete(sim.Pods, "todo-app", pod); err != nil {
		t.Fatal(err)
	}
	if err := c.Log("todo-app", podOf(t, c, "backend"), "", "somebody else"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	c, kube := serve(t, sim.Options{Events: true})
	suspect := podOf(t, c, "backend")
	if err := c.Delete(sim.Pods, "todo-app", suspect); err != nil {
		t.Fatal(err)
	}
	selector := "involvedObject.kind=Pod,involvedObject.name=" + suspect
	list, err := kube.CoreV1().Events("todo-app").List(t.Context(), metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, e := range list.Items {
		reasons = append(reasons, e.Reason)
	}
	if want := []string{"Scheduled", "Pulled", "Created", "Started", "Killing"}; !slices.Equal(reasons, want) {
		t.Errorf("%v, expected %v", reasons, want)
	}
	newer, err := kube.EventsV1().Events("todo-app").
		List(t.Context(), metav1.ListOptions{FieldSelector: strings.ReplaceAll(selector, "involvedObject",
			"regarding")})
	if err != nil {
		t.Fatal(err)
	}
	if len(newer.Items) != len(list.Items) || newer.Items[0].Note != list.Items[0].Message ||
		newer.Items[0].UID != list.Items[0].UID {
		t.Errorf("the other API shows %d events, and %+v", len(newer.Items), newer.Items[0])
	}
	// The same thing again is counted.
	for range 3 {
		if err := c.Event(sim.Deployments, "todo-app", "backend", "argocd", "Normal", "OperationStarted",
			"sync"); err != nil {
			t.Fatal(err)
		}
	}
	of, err := kube.CoreV1().Events("todo-app").
		List(t.Context(), metav1.ListOptions{FieldSelector: "reason=OperationStarted"})
	if err != nil || len(of.Items) != 1 || of.Items[0].Count != 3 {
		t.Errorf("%v: %+v", err, of.Items)
	}
}

// TestRollout: old pods go as new ones are ready, and never are there fewer
// than wanted.
func TestRollout(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 12, 9, 0, 0, 0, time.UTC)
	c, kube := serve(t, sim.Options{Now: func() time.Time { return now }})
	c.SetStartup(5 * time.Second)
	pass := func() {
		now = now.Add(6 * time.Second)
		if err := c.Tick(); err != nil {
			t.Fatal(err)
		}
	}
	pass()
	ready := func() (of map[string]int) {
		of = map[string]int{}
		for _, p := range c.List(sim.Pods, "todo-app") {
			if phase, _, _ := unstructured.NestedString(p.Object, "status",
				"phase"); p.GetLabels()["app"] == "backend" && phase == "Running" {
				of[imageOf(p)]++
			}
		}
		return of
	}
	const old, patched = "registry.example.com/todo-backend:1.4.2", "registry.example.com/todo-backend:1.4.3"
	if got := ready(); got[old] != 3 {
		t.Fatalf("at first %v", got)
	}
	// As kubectl set image does it.
	body := `{"spec":{"template":{"spec":{"containers":[{"name":"backend","image":"` + patched + `"}]}}}}`
	if _, err := kube.AppsV1().Deployments("todo-app").Patch(context.Background(), "backend",
		types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	steps := 0
	for ready()[patched] < 3 && steps < 10 {
		got := ready()
		if got[old]+got[patched] < 3 {
			t.Errorf("after %d steps %v", steps, got)
		}
		pass()
		steps++
	}
	d, err := kube.AppsV1().Deployments("todo-app").Get(context.Background(), "backend", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := d.Status; steps < 2 || s.UpdatedReplicas != 3 || s.Replicas != 3 || s.AvailableReplicas != 3 ||
		s.ObservedGeneration != d.Generation {
		t.Errorf("after %d steps: %+v, generation %d", steps, s, d.Generation)
	}
	if env := d.Spec.Template.Spec.Containers[0].Env; len(env) == 0 {
		t.Error("a strategic patch of a container has taken its environment away")
	}
}

func imageOf(p unstructured.Unstructured) string {
	list, _, _ := unstructured.NestedSlice(p.Object, "spec", "containers")
	m, _ := list[0].(map[string]any)
	image, _ := m["image"].(string)
	return image
}

func TestExecIsNotSimulated(t *testing.T) {
	t.Parallel()
	c, kube := serve(t, sim.Options{})
	err := kube.CoreV1().RESTClient().Post().Namespace("todo-app").Resource("pods").Name(podOf(t, c, "backend")).
		SubResource("exec").Do(t.Context()).Error()
	if err == nil || !strings.Contains(err.Error(), "exec is not simulated") {
		t.Errorf("got %v", err)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	_, kube := serve(t, sim.Options{})
	maps := kube.CoreV1().ConfigMaps("todo-app")
	m, err := maps.Get(t.Context(), "backend-config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.Data["LOG_LEVEL"] = "debug"
	if _, err := maps.Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Update(t.Context(), m, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an old version: %v", err)
	}
}
