package recover

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/cluster/apifake"
	"irctl/internal/steps"
)

// fake is an API server in memory, of which some requests are denied, and some
// answered by the test.
type fake struct {
	*apifake.Server
	client *cluster.Client

	mu     sync.Mutex
	denied []string
	// answers are texts, by a part of the path.
	answers map[string]string
	// before is called before a request is served.
	before func(r *http.Request)
}

func newFake(t *testing.T, objects ...runtime.Object) *fake {
	t.Helper()
	f := &fake{answers: map[string]string{}}
	f.Server = apifake.New(t, apifake.Kind{Version: "v1", Resource: "events", Kind: "Event"},
		apifake.Kind{Group: "example.com", Version: "v1", Resource: "gadgets", Kind: "Gadget", Scale: true})
	f.Intercept = f.serve
	f.Add(t, objects...)
	client, err := cluster.New(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	f.client = client
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if f.before != nil {
		f.before(r)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, part := range f.denied {
		if strings.Contains(r.Method+" "+r.URL.Path+"$", part) {
			apifake.Fail(w, http.StatusForbidden, metav1.StatusReasonForbidden, "you may not: "+part)
			return
		}
	}
	for part, text := range f.answers {
		if strings.Contains(r.URL.Path+"?"+r.URL.RawQuery, part) {
			if strings.HasPrefix(text, "{") {
				w.Header().Set("Content-Type", "application/json")
			}
			_, _ = w.Write([]byte(text))
			return
		}
	}
	serve(w, r)
}

// deny denies the requests whose "METHOD path$" contains one of the parts.
func (f *fake) deny(parts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = parts
}

func (f *fake) scene(targets ...*cluster.Target) *steps.Scene {
	return &steps.Scene{Client: f.client, Incident: "inc-1", Targets: targets, Around: map[string]*cluster.Namespace{}}
}

func yes() *bool { b := true; return &b }
func no() *bool  { b := false; return &b }

func number[T int32 | int64](n T) *T { return &n }

// owned is a pod of ReplicaSet app-1.
func owned(name string, more ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: name, UID: types.UID("uid-" + name),
		Labels: map[string]string{"app": "app"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "app-1",
			UID: "uid-rs", Controller: yes()}}}}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, f := range more {
		f(&p)
	}
	return p
}

func actionsOn(objects ...cluster.Ref) (list []steps.Action) {
	for _, o := range objects {
		list = append(list, steps.Action{Change: change.Change{Object: o}})
	}
	return list
}
