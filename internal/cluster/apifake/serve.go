package apifake

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// call is one request on a resource.
type call struct {
	Kind
	key
	sub    string
	dryRun bool
	query  func(string) string
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) == 1 && parts[0] == "api":
		reply(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"},
			Versions: []string{"v1"}})
	case r.URL.Path == "/version":
		reply(w, http.StatusOK, map[string]any{"gitVersion": "v1.37.2"})
	case r.URL.Path == "/apis":
		reply(w, http.StatusOK, s.groups())
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"),
		strings.HasSuffix(r.URL.Path, "/selfsubjectreviews"):
		s.review(w, r)
	case parts[0] == "api" && len(parts) == 2:
		reply(w, http.StatusOK, s.resources("", parts[1]))
	case parts[0] == "apis" && len(parts) == 3:
		s.serveResources(w, parts[1], parts[2])
	default:
		s.serveObject(w, r, parts)
	}
}

func (s *Server) groups() metav1.APIGroupList {
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	var seen []string
	for _, k := range s.Kinds {
		if k.Group == "" || slices.Contains(seen, k.Group) {
			continue
		}
		seen = append(seen, k.Group)
		gv := metav1.GroupVersionForDiscovery{GroupVersion: k.groupVersion(), Version: k.Version}
		list.Groups = append(list.Groups, metav1.APIGroup{Name: k.Group,
			Versions: []metav1.GroupVersionForDiscovery{gv}, PreferredVersion: gv})
	}
	return list
}

func (s *Server) serveResources(w http.ResponseWriter, group, version string) {
	list := s.resources(group, version)
	if len(list.APIResources) == 0 {
		Fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		return
	}
	reply(w, http.StatusOK, list)
}

func (s *Server) resources(group, version string) metav1.APIResourceList {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: Kind{Group: group, Version: version}.groupVersion()}
	for _, k := range s.Kinds {
		if k.Group != group || k.Version != version {
			continue
		}
		list.APIResources = append(list.APIResources,
			metav1.APIResource{Name: k.Resource, SingularName: strings.ToLower(k.Kind), Namespaced: !k.ClusterScoped,
				Kind: k.Kind, ShortNames: k.ShortNames})
		if k.Scale {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: k.Resource + "/scale",
				Namespaced: !k.ClusterScoped, Group: "autoscaling", Version: "v1", Kind: "Scale"})
		}
	}
	return list
}

func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	var review map[string]any
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		Fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	if strings.HasSuffix(r.URL.Path, "/selfsubjectreviews") {
		review["status"] = map[string]any{"userInfo": map[string]any{"username": "jane",
			"groups": []string{"responders"}}}
		reply(w, http.StatusCreated, review)
		return
	}
	attribute := func(name string) string {
		v, _, _ := unstructured.NestedString(review, "spec", "resourceAttributes", name)
		return v
	}
	allowed := s.Allowed == nil || s.Allowed(attribute("verb"), attribute("group"), attribute("resource"),
		attribute("subresource"), attribute("namespace"))
	review["status"] = map[string]any{"allowed": allowed}
	reply(w, http.StatusCreated, review)
}

func (s *Server) serveObject(w http.ResponseWriter, r *http.Request, parts []string) {
	c, ok := s.parse(parts)
	if !ok {
		Fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		return
	}
	c.query = r.URL.Query().Get
	c.dryRun = c.query("dryRun") == metav1.DryRunAll
	body, err := io.ReadAll(r.Body)
	if err != nil {
		Fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	answer := s.answer(c, r.Method, body)
	if wrote := r.Method != http.MethodGet && answer.code < 300 && !c.dryRun; wrote && s.OnWrite != nil {
		s.OnWrite(c.resource, c.namespace, c.name, s.Object(c.resource+"."+c.group, c.namespace, c.name))
	}
	reply(w, answer.code, answer.body)
}

// parse takes the path apart: …/namespaces/NS/RESOURCE/NAME/SUBRESOURCE.
func (s *Server) parse(parts []string) (*call, bool) {
	c := &call{}
	skip := 2
	if parts[0] == "apis" {
		skip, c.group = 3, parts[1]
	}
	if len(parts) <= skip {
		return nil, false
	}
	rest := parts[skip:]
	if rest[0] == "namespaces" && len(rest) > 2 {
		c.namespace, rest = rest[1], rest[2:]
	}
	c.resource = rest[0]
	if len(rest) > 1 {
		c.name = rest[1]
	}
	if len(rest) > 2 {
		c.sub = rest[2]
	}
	i := slices.IndexFunc(s.Kinds, func(k Kind) bool {
		return k.Group == c.group && k.Version == parts[skip-1] && k.Resource == c.resource
	})
	if i < 0 || c.name != "" && s.Kinds[i].ClusterScoped != (c.namespace == "") {
		return nil, false
	}
	c.Kind = s.Kinds[i]
	return c, c.sub == "" || c.sub == "scale" && c.Scale
}

type answer struct {
	code int
	body any
}

func failure(code int, reason metav1.StatusReason, message string) answer {
	return answer{code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message}}
}

func (s *Server) answer(c *call, method string, body []byte) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := s.objects[c.key]
	switch {
	case method == http.MethodGet && c.name == "":
		return s.list(c)
	case method == http.MethodPost:
		return s.create(c, body)
	case live == nil:
		return failure(http.StatusNotFound, metav1.StatusReasonNotFound,
			fmt.Sprintf("%s %q not found", c.resource, c.name))
	case method == http.MethodGet && c.sub == "scale":
		return answer{http.StatusOK, scaleOf(live)}
	case method == http.MethodGet:
		return answer{http.StatusOK, clone(live)}
	case method == http.MethodPatch:
		return s.patch(c, live, body)
	case method == http.MethodDelete:
		return s.delete(c, live, body)
	}
	return failure(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, method)
}

func (s *Server) list(c *call) answer {
	sel, err := labels.Parse(c.query("labelSelector"))
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	keys := s.sorted(func(k key) bool {
		return k.group == c.group && k.resource == c.resource && (c.namespace == "" || k.namespace == c.namespace)
	})
	items := []any{}
	for _, k := range keys {
		u := unstructured.Unstructured{Object: clone(s.objects[k])}
		if sel.Matches(labels.Set(u.GetLabels())) {
			items = append(items, u.Object)
		}
	}
	meta := map[string]any{"resourceVersion": fmt.Sprint(s.version)}
	from, _ := strconv.Atoi(c.query("continue"))
	items = items[min(from, len(items)):]
	if limit, _ := strconv.Atoi(c.query("limit")); limit > 0 && len(items) > limit {
		items, meta["continue"] = items[:limit], strconv.Itoa(from+limit)
	}
	return answer{http.StatusOK, map[string]any{"apiVersion": c.groupVersion(), "kind": c.Kind.Kind + "List",
		"metadata": meta, "items": items}}
}

func (s *Server) create(c *call, body []byte) answer {
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	c.name = text(metadata(m)["name"])
	if s.objects[c.key] != nil {
		return failure(http.StatusConflict, metav1.StatusReasonAlreadyExists,
			fmt.Sprintf("%s %q already exists", c.resource, c.name))
	}
	if c.dryRun {
		return answer{http.StatusCreated, m}
	}
	metadata(m)["namespace"] = c.namespace
	s.store(c.key, m)
	return answer{http.StatusCreated, clone(s.objects[c.key])}
}

func (s *Server) patch(c *call, live map[string]any, body []byte) answer {
	current := clone(live)
	if c.sub == "scale" {
		current = scaleOf(live)
	}
	old, err := json.Marshal(current)
	if err != nil {
		panic(err)
	}
	merged, err := jsonpatch.MergePatch(old, body)
	if err != nil {
		return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
	var next map[string]any
	if err := json.Unmarshal(merged, &next); err != nil {
		panic(err)
	}
	was, is := metadata(live), metadata(next)
	if was["resourceVersion"] != is["resourceVersion"] {
		return failure(http.StatusConflict, metav1.StatusReasonConflict, fmt.Sprintf("Operation cannot be fulfilled "+
			"on %s %q: the object has been modified; please apply your changes to the latest version and try again",
			c.resource, c.name))
	}
	if was["uid"] != is["uid"] {
		return failure(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid,
			"metadata.uid: Invalid value: field is immutable")
	}
	if c.sub == "scale" {
		replicas, _, _ := unstructured.NestedFieldNoCopy(next, "spec", "replicas")
		if replicas == nil {
			replicas = 0
		}
		next = clone(live)
		spec, _ := next["spec"].(map[string]any)
		spec["replicas"] = replicas
	}
	if !c.dryRun {
		s.store(c.key, next)
		next = clone(s.objects[c.key])
	}
	if c.sub == "scale" {
		next = scaleOf(next)
	}
	return answer{http.StatusOK, next}
}

func (s *Server) delete(c *call, live map[string]any, body []byte) answer {
	var options metav1.DeleteOptions
	if len(body) > 0 {
		if err := json.Unmarshal(body, &options); err != nil {
			return failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
	}
	c.dryRun = slices.Contains(options.DryRun, metav1.DryRunAll)
	meta := metadata(live)
	if p := options.Preconditions; p != nil {
		if p.UID != nil && string(*p.UID) != meta["uid"] ||
			p.ResourceVersion != nil && *p.ResourceVersion != meta["resourceVersion"] {
			return failure(http.StatusConflict, metav1.StatusReasonConflict, "Precondition failed")
		}
	}
	if !c.dryRun {
		delete(s.objects, c.key)
	}
	return answer{http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status: metav1.StatusSuccess}}
}

// scaleOf is the scale subresource. As in the real one, replicas of 0 are left
// out of its spec.
func scaleOf(m map[string]any) map[string]any {
	meta := metadata(m)
	spec, status := map[string]any{}, map[string]any{"replicas": 0}
	if n, ok, _ := unstructured.NestedFieldNoCopy(m, "spec", "replicas"); ok && n != float64(0) {
		spec["replicas"] = n
	}
	if n, ok, _ := unstructured.NestedFieldNoCopy(m, "status", "replicas"); ok {
		status["replicas"] = n
	}
	if set, ok, _ := unstructured.NestedStringMap(m, "spec", "selector", "matchLabels"); ok {
		status["selector"] = labels.Set(set).String()
	}
	return map[string]any{"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": spec, "status": status,
		"metadata": map[string]any{"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
			"resourceVersion": meta["resourceVersion"]}}
}

// Fail answers a request with an error, as an API server words it.
func Fail(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	a := failure(code, reason, message)
	reply(w, a.code, a.body)
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that is gone does not read it
}
