package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// Server serves a cluster over HTTP. Several may serve the same one, each
// with faults and counts of its own, as if several clients were told apart.
type Server struct {
	cluster *Cluster
	fault   func(Request) Fault

	mu          sync.Mutex
	requests    []Request
	seen        map[string]int
	inFlight    int
	mostAtOnce  int
	writesCount int
}

// Request is one API call as a fault sees it.
type Request struct {
	// Verb is that of RBAC: get, list, watch, create, patch, update, delete; "" where no
	// resource is named (discovery, the version).
	Verb            string
	Group, Resource string // the resource with its subresource: "deployments/scale"
	Namespace, Name string
	DryRun          bool
	Path            string
	// Nth counts the requests that are the same in all of the above.
	Nth int
}

// Key names the request, the same one in every run that makes the same calls.
func (r Request) Key() string {
	what := r.Path
	if r.Verb != "" {
		what = r.Verb + " " + strings.Trim(r.Resource+" "+r.Namespace+"/"+r.Name, "/ ")
	}
	if r.DryRun {
		what += " (dry run)"
	}
	return fmt.Sprintf("%s #%d", what, r.Nth)
}

// Writes reports whether the request would change the cluster.
func (r Request) Writes() bool {
	return !r.DryRun && r.Resource != "pods/exec" && r.Resource != "pods/attach" &&
		(r.Verb == "patch" || r.Verb == "update" || r.Verb == "delete" || r.Verb == "create" && !r.asks())
}

// asks: a review, by which one asks about oneself.
func (r Request) asks() bool {
	return r.Group == "authorization.k8s.io" || r.Group == "authentication.k8s.io"
}

// Fault is how one request goes wrong. The zero value: not at all.
type Fault struct {
	// Before is called before the request is executed, After after that and
	// before it is answered; to wait, or to kill the client.
	Before, After func()
	// Break closes the connection without executing the request.
	Break bool
	// Error is answered, and the request not executed.
	Error *apierrors.StatusError
	// Lose executes the request and closes the connection instead of answering.
	Lose bool
}

// Server makes a server. faults is asked about every request, concurrently;
// nil: nothing goes wrong.
func (c *Cluster) Server(faults func(Request) Fault) *Server {
	if faults == nil {
		faults = func(Request) Fault { return Fault{} }
	}
	return &Server{cluster: c, fault: faults, seen: map[string]int{}}
}

// Requests returns the requests so far, in the order in which they came.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Written counts the requests that were executed and changed the cluster, or
// would have, had it not been so already.
func (s *Server) Written() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writesCount
}

// MostAtOnce is how many requests were under way at the same time, at most.
func (s *Server) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mostAtOnce
}

func (s *Server) begin(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Key()
	s.seen[key]++
	r.Nth = s.seen[key]
	s.requests = append(s.requests, *r)
	s.inFlight++
	s.mostAtOnce = max(s.mostAtOnce, s.inFlight)
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	body, err := io.ReadAll(io.LimitReader(hr.Body, 4<<20))
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	body = asJSON(body)
	req, kind, sub := s.cluster.parse(hr, body)
	s.begin(&req)
	defer s.end()
	f := s.fault(req)
	if f.Before != nil {
		f.Before()
	}
	if f.Break {
		panic(http.ErrAbortHandler)
	}
	var answer any
	if f.Error != nil {
		answer, err = nil, f.Error
	} else {
		answer, err = s.cluster.answer(hr, req, kind, sub, body)
		if err == nil && req.Writes() {
			s.mu.Lock()
			s.writesCount++
			s.mu.Unlock()
		}
	}
	if f.After != nil {
		f.After()
	}
	if f.Lose {
		panic(http.ErrAbortHandler)
	}
	s.write(w, req, answer, err)
}

// stream is an answer that is written piece by piece. An error means that
// nothing was written yet.
type stream func(w http.ResponseWriter) error

func (s *Server) write(w http.ResponseWriter, req Request, answer any, err error) {
	w.Header().Set("Date", s.cluster.opts.Now().UTC().Format(http.TimeFormat))
	if stream, ok := answer.(stream); ok && err == nil {
		if err = stream(w); err == nil {
			return
		}
	}
	code := http.StatusOK
	if req.Verb == "create" {
		code = http.StatusCreated
	}
	if err != nil {
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			status = apierrors.NewInternalError(err)
		}
		st := status.Status()
		st.Kind, st.APIVersion = "Status", "v1"
		if st.Details != nil && st.Details.RetryAfterSeconds > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(st.Details.RetryAfterSeconds))
		}
		code, answer = int(st.Code), st
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}

// parse reads the path as the API's request info does:
// /api/v1 or /apis/GROUP/VERSION, [/namespaces/NS], /RESOURCE[/NAME[/SUB]].
func (c *Cluster) parse(hr *http.Request, body []byte) (req Request, kind *Kind, sub string) {
	req.Path = hr.URL.Path
	parts := strings.Split(strings.Trim(hr.URL.Path, "/"), "/")
	var gv schema.GroupVersion
	switch {
	case len(parts) > 2 && parts[0] == "api":
		gv.Version, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		gv.Group, gv.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return req, nil, ""
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		req.Namespace, parts = parts[1], parts[2:]
	}
	req.Group, req.Resource = gv.Group, parts[0]
	if len(parts) > 1 {
		req.Name = parts[1]
	}
	if len(parts) > 2 {
		sub = parts[2]
		req.Resource += "/" + sub
	}
	for i := range c.kinds {
		if k := &c.kinds[i]; k.Group == gv.Group && k.Version == gv.Version && k.Resource == parts[0] {
			kind = k
		}
	}
	req.Verb = verbOf(hr, req.Name)
	if watch, err := strconv.ParseBool(hr.URL.Query().Get("watch")); err == nil && watch && req.Verb == "list" {
		req.Verb = "watch"
	}
	if kind != nil && kind.GVR() == Pods && (sub == "exec" || sub == "attach") {
		req.Verb = "create" // also of a WebSocket, which is asked for by GET
	}
	req.DryRun = hr.URL.Query().Get("dryRun") == metav1.DryRunAll
	if req.Verb == "delete" { // its options are in the body
		var o metav1.DeleteOptions
		req.DryRun = req.DryRun || json.Unmarshal(body, &o) == nil && slices.Contains(o.DryRun, metav1.DryRunAll)
	}
	return req, kind, sub
}

func verbOf(hr *http.Request, name string) string {
	switch hr.Method {
	case http.MethodGet:
		if name == "" {
			return "list"
		}
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPatch:
		return "patch"
	case http.MethodPut:
		return "update"
	case http.MethodDelete:
		return "delete"
	}
	return strings.ToLower(hr.Method)
}

// answer executes a request.
func (c *Cluster) answer(hr *http.Request, req Request, kind *Kind, sub string, body []byte) (any, error) {
	if err := c.authenticate(hr); err != nil {
		return nil, err
	}
	if kind == nil {
		return c.answerAboutItself(req, body)
	}
	if c.forbidden(req) {
		return nil, c.errForbidden(req)
	}
	switch {
	case sub == "log" && kind.Resource == "pods":
		return stream(func(w http.ResponseWriter) error { return c.answerLog(w, hr, req) }), nil
	case sub == "scale" && kind.Scale:
		return c.answerScale(hr, req, *kind, body)
	case sub == "status" && req.Verb == "patch":
		return c.answerPatch(hr, req, *kind, body)
	case kind.GVR() == Pods && (sub == "exec" || sub == "attach"):
		return stream(func(w http.ResponseWriter) error { return c.answerExec(w, hr, req, sub) }), nil
	case kind.GVR() == Pods && sub == "ephemeralcontainers":
		return c.answerEphemeral(hr, req, *kind, body)
	case kind.GVR() == Nodes && sub == "proxy" && (req.Verb == "get" || req.Verb == "create"):
		return c.answerKubelet(req)
	case kind.GVR() == Pods && sub == "portforward":
		return nil, errNoExec(sub)
	case sub != "":
		return nil, errNotServed
	case kind.view() && req.Writes():
		return nil, apierrors.NewMethodNotSupported(kind.GVR().GroupResource(), req.Verb)
	}
	switch req.Verb {
	case "get", "list":
		return c.answerRead(hr, req, *kind)
	case "watch":
		w, err := c.parseWatch(hr, req, *kind)
		if err != nil {
			return nil, err
		}
		return stream(func(rw http.ResponseWriter) error { return c.answerWatch(rw, hr, w) }), nil
	case "update":
		return c.answerUpdate(hr, req, *kind, body)
	case "create":
		return c.answerCreate(hr, req, *kind, body)
	case "patch":
		return c.answerPatch(hr, req, *kind, body)
	case "delete":
		return c.answerDelete(req, *kind, body)
	}
	return nil, apierrors.NewMethodNotSupported(kind.GVR().GroupResource(), req.Verb)
}

// answerRead gives an object, or a list, in the form that is asked for.
func (c *Cluster) answerRead(hr *http.Request, req Request, k Kind) (any, error) {
	table, err := c.tableWanted(hr, k)
	if err != nil {
		return nil, err
	}
	var answer any
	if req.Verb == "get" {
		answer, err = c.Get(k.GVR(), req.Namespace, req.Name)
	} else {
		answer, err = c.answerList(hr, req, k)
	}
	if err != nil || table == nil {
		return answer, err
	}
	return table.of(answer)
}

// errNotServed is the answer to a path that nobody serves.
var errNotServed = &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
	Reason: metav1.StatusReasonNotFound,
	Code:   http.StatusNotFound, Message: "the server could not find the requested resource"}}

// answerAboutItself answers discovery, the version and the reviews.
func (c *Cluster) answerAboutItself(req Request, body []byte) (any, error) {
	switch path := strings.TrimSuffix(req.Path, "/"); {
	case path == "/version":
		return version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.2"}, nil
	case path == "/api":
		return metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"},
			Versions: []string{"v1"}}, nil
	case path == "/apis":
		return c.groups(), nil
	case req.Verb == "create" && req.Resource == "selfsubjectreviews":
		return authenticationv1.SelfSubjectReview{TypeMeta: metav1.TypeMeta{Kind: "SelfSubjectReview",
			APIVersion: "authentication.k8s.io/v1"},
			Status: authenticationv1.SelfSubjectReviewStatus{UserInfo: authenticationv1.UserInfo{Username: c.opts.User,
				Groups: []string{"responders", "system:authenticated"}}}}, nil
	case req.Verb == "create" && req.Resource == "selfsubjectaccessreviews":
		return c.review(body)
	case strings.HasPrefix(path, "/api"):
		gv, err := schema.ParseGroupVersion(strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/"))
		if list := c.resources(gv); err == nil && list != nil {
			return list, nil
		}
	}
	return nil, errNotServed
}

func (c *Cluster) review(body []byte) (any, error) {
	var r authorizationv1.SelfSubjectAccessReview
	if err := json.Unmarshal(body, &r); err != nil || r.Spec.ResourceAttributes == nil {
		return nil, apierrors.NewBadRequest("a SelfSubjectAccessReview with resourceAttributes is expected")
	}
	a := r.Spec.ResourceAttributes
	q := Request{Verb: a.Verb, Group: a.Group, Resource: a.Resource, Namespace: a.Namespace, Name: a.Name}
	if a.Subresource != "" {
		q.Resource += "/" + a.Subresource
	}
	r.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: "authorization.k8s.io/v1"}
	r.Status.Allowed = !c.forbidden(q)
	return r, nil
}
