package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// apiServer serves what a file of manifests holds, as far as collectors ask: so
// the real client, its real bytes and its real errors are what is tested.
type apiServer struct {
	t       testing.TB
	http    *httptest.Server
	objects map[string][]byte // by path
	// logs by "pod/container" and "pod/container/previous".
	logs map[string]http.HandlerFunc
	// exec answers a command: what it writes, and its exit code.
	exec func(container string, command []string) (stdout string, exitCode int)

	mu sync.Mutex
	// forbidden paths, by prefix.
	forbidden []string
	asked     []string
}

var testResources = map[string]string{"Ingress": "ingresses", "NetworkPolicy": "networkpolicies",
	"StorageClass": "storageclasses"}

func newAPIServer(t testing.TB, manifests string) *apiServer {
	t.Helper()
	s := &apiServer{t: t, objects: map[string][]byte{}, logs: map[string]http.HandlerFunc{}}
	text, err := os.ReadFile(manifests)
	if err != nil {
		t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		data, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		s.add(data)
	}
	s.http = httptest.NewServer(s)
	t.Cleanup(s.http.Close)
	return s
}

func (s *apiServer) add(data []byte) {
	var o struct {
		metav1.TypeMeta
		Metadata metav1.ObjectMeta
	}
	if err := json.Unmarshal(data, &o); err != nil {
		s.t.Fatal(err)
	}
	plural := testResources[o.Kind]
	if plural == "" {
		plural = strings.ToLower(o.Kind) + "s"
	}
	gvk := o.GroupVersionKind()
	s.objects[objectPath(gvk.GroupVersion().WithResource(plural), o.Metadata.Namespace, o.Metadata.Name)] = data
}

func (s *apiServer) config() *rest.Config {
	return &rest.Config{Host: s.http.URL, QPS: -1}
}

// request collects about a pod of the server into a new bundle.
func (s *apiServer) request(t testing.TB, recipients []Recipient, pods ...PodRef) Request {
	t.Helper()
	kube, err := kubernetes.NewForConfig(s.config())
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(s.config())
	if err != nil {
		t.Fatal(err)
	}
	return Request{
		Client: kube, Dynamic: dyn, Config: s.config(), Pods: pods, Recipients: recipients,
		Path: t.TempDir() + "/bundle" + Extension,
		Meta: Meta{Incident: "inc-20260102-030405-abcd", Tool: Tool{Name: "irctl", Version: "test"}},
	}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Method+" "+r.URL.String())
	forbidden := slices.ContainsFunc(s.forbidden, func(p string) bool { return strings.HasPrefix(r.URL.Path, p) })
	s.mu.Unlock()
	path := r.URL.Path
	switch {
	case forbidden:
		s.fail(w, http.StatusForbidden, metav1.StatusReasonForbidden,
			path+" is forbidden: User \"jane\" cannot read it")
	case strings.HasSuffix(path, "/log"):
		s.serveLog(w, r)
	case strings.HasSuffix(path, "/exec"):
		s.serveExec(w, r)
	case r.Method == http.MethodPatch && strings.HasSuffix(path, "/ephemeralcontainers"):
		s.serveEphemeral(w, r)
	case s.object(path) != nil:
		s.serveObject(w, r, s.object(path))
	default:
		s.serveList(w, r)
	}
}

func (s *apiServer) object(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

// serveEphemeral adds ephemeral containers to a pod, which run at once.
func (s *apiServer) serveEphemeral(w http.ResponseWriter, r *http.Request) {
	var patch, pod corev1.Pod
	path := strings.TrimSuffix(r.URL.Path, "/ephemeralcontainers")
	if err := errors.Join(json.NewDecoder(r.Body).Decode(&patch), json.Unmarshal(s.object(path), &pod)); err != nil {
		s.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	for _, c := range patch.Spec.EphemeralContainers {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, c)
		pod.Status.EphemeralContainerStatuses = append(pod.Status.EphemeralContainerStatuses,
			corev1.ContainerStatus{Name: c.Name,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	}
	data, _ := json.Marshal(pod)
	s.mu.Lock()
	s.objects[path] = data
	s.mu.Unlock()
	s.serveObject(w, r, data)
}

func (s *apiServer) fail(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status: "Failure", Code: int32(code), Reason: reason, Message: message})
}

func (s *apiServer) serveObject(w http.ResponseWriter, r *http.Request, data []byte) {
	if r.Header.Get("Accept") == asYAML {
		data, _ = yaml.JSONToYAML(data)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

// serveList serves all objects of the collection, of all namespaces if the
// path names none. Event lists know the selector of the object.
func (s *apiServer) serveList(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	last := path[strings.LastIndex(path, "/")+1:]
	if !strings.HasSuffix(last, "s") || strings.Contains(path, "/proxy/") {
		s.fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, path+" not found")
		return
	}
	items := []json.RawMessage{}
	s.mu.Lock()
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		folder := key[:strings.LastIndex(key, "/")]
		everywhere := strings.HasSuffix(folder, "/"+last) &&
			strings.HasPrefix(folder, strings.TrimSuffix(path, "/"+last)+"/namespaces/")
		if folder == path || everywhere {
			items = append(items, s.objects[key])
		}
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "List", "apiVersion": "v1", "metadata": map[string]any{},
		"items": items})
}

// text serves a log the way a kubelet does.
func text(log string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		log := log
		if n, err := strconv.Atoi(r.URL.Query().Get("tailLines")); err == nil {
			lines := strings.SplitAfter(strings.TrimSuffix(log, "\n")+"\n", "\n")
			log = strings.Join(lines[max(0, len(lines)-1-n):], "")
		}
		if n, err := strconv.Atoi(r.URL.Query().Get("limitBytes")); err == nil {
			log = log[:min(len(log), n)]
		}
		_, _ = w.Write([]byte(log))
	}
}

// endless serves some lines over and over, as many bytes as are asked for.
func endless(lines []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		left, err := strconv.Atoi(r.URL.Query().Get("limitBytes"))
		if n, tailErr := strconv.Atoi(r.URL.Query().Get("tailLines")); err != nil && tailErr == nil {
			left = n * (bytes.IndexByte(lines, '\n') + 1)
		}
		for left > 0 {
			n, err := w.Write(lines[:min(left, len(lines))])
			if left -= n; err != nil {
				return
			}
		}
	}
}

func (s *apiServer) serveLog(w http.ResponseWriter, r *http.Request) {
	pod := strings.Split(r.URL.Path, "/")[6]
	key := pod + "/" + r.URL.Query().Get("container")
	if r.URL.Query().Get("previous") == "true" {
		key += "/previous"
	}
	serve := s.logs[key]
	if serve == nil {
		serve = s.logs["*"]
	}
	if serve != nil {
		serve(w, r)
		return
	}
	s.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "previous terminated container not found")
}

// serveExec speaks the protocol v5.channel.k8s.io: the first byte of a message
// is the stream it belongs to.
func (s *apiServer) serveExec(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}, CheckOrigin: func(*http.Request) bool {
		return true
	}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	const stdout, status = 1, 3
	out, code := s.exec(r.URL.Query().Get("container"), r.URL.Query()["command"])
	for chunk := range slices.Chunk([]byte(out), 16<<10) {
		if conn.WriteMessage(websocket.BinaryMessage, append([]byte{stdout}, chunk...)) != nil {
			return
		}
	}
	answer := metav1.Status{Status: "Success"}
	if code != 0 {
		answer = metav1.Status{Status: "Failure", Reason: "NonZeroExitCode",
			Message: fmt.Sprintf("command terminated with exit code %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "ExitCode",
				Message: strconv.Itoa(code)}}}}
	}
	data, _ := json.Marshal(answer)
	_ = conn.WriteMessage(websocket.BinaryMessage, append([]byte{status}, data...))
	_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
}

// askedFor reports whether a request was made that begins so.
func (s *apiServer) askedFor(prefix string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.asked, func(a string) bool { return strings.HasPrefix(a, prefix) })
}

// suspect is the pod of todo-app.yaml, with its logs.
func suspect(t testing.TB) (*apiServer, PodRef) {
	t.Helper()
	s := newAPIServer(t, "testdata/todo-app.yaml")
	s.logs["backend-2-abcde/migrate"] = text("2026-01-02T00:00:00Z migrated\n")
	s.logs["backend-2-abcde/api"] = text(
		"2026-01-02T00:00:01Z up\n2026-01-02T00:00:02Z login password=hunter2hunter2 ok\n")
	s.logs["backend-2-abcde/api/previous"] = text("2026-01-01T00:00:01Z crashed\n")
	s.logs["backend-2-abcde/sidecar"] = text("")
	s.exec = func(container string, command []string) (string, int) {
		if container == "sidecar" {
			return "", 127 // it has no shell
		}
		switch {
		case command[0] == "tar" && command[1] == "--help":
			return "usage", 0
		case command[0] == "tar":
			return "the tar of " + command[len(command)-1], 0
		case command[0] == "cat":
			return "the content of " + command[1], 0
		case strings.Contains(command[2], "environ"):
			return "== /proc/1\nDB_PASSWORD=correct-horse-battery\n", 0
		}
		return "answer of " + container + "\n", 0
	}
	return s, PodRef{Namespace: "todo-app", Name: "backend-2-abcde", UID: "pod-uid"}
}

// opened is a bundle's content by path.
func opened(t testing.TB, path string, key Key) map[string][]byte {
	t.Helper()
	r, err := OpenFile(t.Context(), path, key)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	files := map[string][]byte{}
	for {
		entry, err := r.Next()
		if entry.Path == "" {
			if err.Error() != "EOF" {
				t.Fatal(err)
			}
			return files
		}
		var content bytes.Buffer
		if _, err := content.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		files[entry.Path] = content.Bytes()
	}
}

// TestAListThatExpiresGoesOnWhereItWas: at the token that the 410 carries; every item
// is there once, and the artefact says that it is of more than one moment.
func TestAListThatExpiresGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		resume string // what the 410 carries
		times  int
		items  int
		want   error
	}{
		"never": {times: 0, items: 3}, "once": {"again", 1, 3, ErrInconsistent},
		"twice":    {"again", 2, 3, ErrInconsistent},
		"for ever": {"again", 1000, 1, nil}, "without a token": {"", 1, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			expired := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				w.Header().Set("Content-Type", "application/json")
				next := ""
				item := map[string]string{"": "a", "b": "b", "again": "b", "c": "c"}[r.URL.Query().Get("continue")]
				switch {
				case item == "b" && expired < tc.times:
					expired++
					w.WriteHeader(http.StatusGone)
					_ = json.NewEncoder(w).Encode(
						metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure",
							Reason: metav1.StatusReasonExpired, Code: http.StatusGone,
							ListMeta: metav1.ListMeta{Continue: tc.resume}})
					return
				case item == "a":
					next = "b"
				case item == "b":
					next = "c"
				}
				fmt.Fprintf(w,
					`{"kind":"PodList","apiVersion":"v1","metadata":{"continue":%q},`+
						`"items":[{"metadata":{"name":%q}}]}`, next, item)
			}))
			defer server.Close()
			kube, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, QPS: -1})
			if err != nil {
				t.Fatal(err)
			}
			items := 0
			err = newAPI(kube, nil, nil, newRequests(Limits{Concurrency: 1, Stall: time.Minute})).
				each(t.Context(), listing{resource: core("pods", "Pod")}, func(json.RawMessage) error {
					items++
					return nil
				})
			complete := tc.items == 3
			if items != tc.items || complete && !errors.Is(err, tc.want) ||
				!complete && (!apierrors.IsResourceExpired(err) || errors.Is(err, ErrInconsistent)) {
				t.Errorf("%d items: %v", items, err)
			}
			if tc.want == nil && complete && err != nil || tc.want != nil && statusOf(err) != Truncated {
				t.Errorf("%v: %s", err, statusOf(err))
			}
		})
	}
}
