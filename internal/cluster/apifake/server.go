// Package apifake is a Kubernetes API server in memory, for tests. It answers
// as a real one does wherever irctl relies on it: resource versions and UIDs
// as preconditions, merge patches, dry runs, the scale subresource, label
// selectors, pages of lists, discovery, and the reviews about oneself. It has
// no controllers, admission or defaulting of its own; a test adds what it
// needs of those with OnWrite and Intercept.
package apifake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// Server holds objects of every kind in Kinds.
type Server struct {
	// Kinds are the resources that it serves.
	Kinds []Kind
	// Allowed answers a SelfSubjectAccessReview; nil allows everything.
	Allowed func(verb, group, resource, subresource, namespace string) bool
	// Intercept, if set, handles every request; serve answers it as usual.
	Intercept func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc)
	// OnWrite, if set, is called after every write with the object as it is
	// then (nil: deleted), before the writer has the answer.
	OnWrite func(resource, namespace, name string, object map[string]any)

	url string

	mu       sync.Mutex
	objects  map[key]map[string]any
	version  int
	requests []string
}

// Kind is one resource of an API.
type Kind struct {
	Group, Version, Resource, Kind string
	ClusterScoped                  bool
	// Scale: it has a scale subresource, with spec.replicas behind it.
	Scale      bool
	ShortNames []string
}

func (k Kind) groupVersion() string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

type key struct{ group, resource, namespace, name string }

// builtin are the kinds that every cluster serves, as far as irctl needs them.
func builtin() []Kind {
	return []Kind{
		{Version: "v1", Resource: "pods", Kind: "Pod", ShortNames: []string{"po"}},
		{Version: "v1", Resource: "services", Kind: "Service"},
		{Version: "v1", Resource: "serviceaccounts", Kind: "ServiceAccount"},
		{Version: "v1", Resource: "nodes", Kind: "Node", ClusterScoped: true},
		{Version: "v1", Resource: "namespaces", Kind: "Namespace", ClusterScoped: true},
		{Version: "v1", Resource: "replicationcontrollers", Kind: "ReplicationController", Scale: true},
		{Group: "apps", Version: "v1", Resource: "deployments", Kind: "Deployment", Scale: true},
		{Group: "apps", Version: "v1", Resource: "replicasets", Kind: "ReplicaSet", Scale: true},
		{Group: "apps", Version: "v1", Resource: "statefulsets", Kind: "StatefulSet", Scale: true},
		{Group: "apps", Version: "v1", Resource: "daemonsets", Kind: "DaemonSet"},
		{Group: "batch", Version: "v1", Resource: "jobs", Kind: "Job"},
		{Group: "batch", Version: "v1", Resource: "cronjobs", Kind: "CronJob"},
		{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies", Kind: "NetworkPolicy"},
		{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices", Kind: "EndpointSlice"},
		{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers", Kind: "HorizontalPodAutoscaler"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles", Kind: "Role"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings", Kind: "RoleBinding"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Kind: "ClusterRole",
			ClusterScoped: true},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings", Kind: "ClusterRoleBinding",
			ClusterScoped: true},
	}
}

// New starts an empty server that serves the built-in kinds and more.
func New(t testing.TB, more ...Kind) *Server {
	s := &Server{Kinds: append(builtin(), more...), objects: map[key]map[string]any{}}
	server := httptest.NewServer(http.HandlerFunc(s.handle))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// Config is how to connect.
func (s *Server) Config() *rest.Config {
	return &rest.Config{Host: s.url, ContentConfig: rest.ContentConfig{ContentType: "application/json",
		AcceptContentTypes: "application/json"}}
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if s.Intercept != nil {
		s.Intercept(w, r, s.serve)
		return
	}
	s.serve(w, r)
}

// Requests are the requests so far, "GET /api/v1/…", whose method and path
// contain all the parts.
func (s *Server) Requests(parts ...string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
next:
	for _, r := range s.requests {
		for _, p := range parts {
			if !strings.Contains(r, p) {
				continue next
			}
		}
		list = append(list, r)
	}
	return list
}

// Forget empties the list of requests.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// Add stores objects, as they are but for a UID and a resource version.
func (s *Server) Add(t testing.TB, objects ...runtime.Object) {
	t.Helper()
	for _, o := range objects {
		// Tests that run side by side may share an object, and the converter does not copy an unstructured one.
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o.DeepCopyObject())
		if err != nil {
			t.Fatalf("apifake: %v", err)
		}
		if gvks, _, err := scheme.Scheme.ObjectKinds(o); err == nil && len(gvks) > 0 {
			m["apiVersion"], m["kind"] = gvks[0].GroupVersion().String(), gvks[0].Kind
		}
		k, ok := s.kindOf(m)
		if !ok {
			t.Fatalf("apifake: %v %v is not among the kinds served", m["apiVersion"], m["kind"])
		}
		s.mu.Lock()
		meta := metadata(m)
		s.store(key{k.Group, k.Resource, text(meta["namespace"]), text(meta["name"])}, m)
		s.mu.Unlock()
	}
}

func (s *Server) kindOf(m map[string]any) (Kind, bool) {
	for _, k := range s.Kinds {
		if k.groupVersion() == m["apiVersion"] && k.Kind == m["kind"] {
			return k, true
		}
	}
	return Kind{}, false
}

// store gives an object its UID, if it has none, and its next version.
func (s *Server) store(k key, m map[string]any) {
	m = clone(m)
	s.version++
	meta := metadata(m)
	if text(meta["uid"]) == "" {
		meta["uid"] = fmt.Sprintf("uid-%d", s.version)
	}
	meta["resourceVersion"] = fmt.Sprint(s.version)
	s.objects[k] = m
}

// Object is an object as it is now, nil if there is none; resource is
// "pods" or "deployments.apps".
func (s *Server) Object(resource, namespace, name string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.objects[keyOf(resource, namespace, name)]; m != nil {
		return clone(m)
	}
	return nil
}

// Edit changes an object as somebody else would.
func (s *Server) Edit(resource, namespace, name string, edit func(map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := keyOf(resource, namespace, name)
	m := s.objects[k]
	if m == nil {
		panic("apifake: no " + resource + " " + namespace + "/" + name)
	}
	edit(m)
	s.store(k, m)
}

// Delete deletes an object as somebody else would.
func (s *Server) Delete(resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, keyOf(resource, namespace, name))
}

// State is every object without its version, as indented JSON, for comparing
// a cluster before with the same one after.
func (s *Server) State() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]any{}
	for k, m := range s.objects {
		m = clone(m)
		delete(metadata(m), "resourceVersion")
		all[k.resource+"."+k.group+" "+k.namespace+"/"+k.name] = m
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		panic(err)
	}
	return string(data)
}

func keyOf(resource, namespace, name string) key {
	resource, group, _ := strings.Cut(resource, ".")
	return key{group, resource, namespace, name}
}

func metadata(m map[string]any) map[string]any {
	meta, ok := m["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		m["metadata"] = meta
	}
	return meta
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func clone(m map[string]any) map[string]any {
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(data, &out); err != nil {
		panic(err)
	}
	return out
}

func (s *Server) sorted(match func(key) bool) []key {
	var keys []key
	for k := range s.objects {
		if match(k) {
			keys = append(keys, k)
		}
	}
	sort.Slice(keys, func(i, j int) bool {
		return keys[i].namespace+"/"+keys[i].name < keys[j].namespace+"/"+keys[j].name
	})
	return keys
}
