package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"sigs.k8s.io/yaml"
)

// api reads objects as the API serves them, byte for byte. Clients that have no
// connection, those of a simulated cluster, answer with the same content in
// their own encoding.
type api struct {
	kube    kubernetes.Interface
	dynamic dynamic.Interface
	// raw is nil if the clients are simulated.
	raw      rest.Interface
	config   *rest.Config // nil: nothing can be run in a container
	requests *requests
}

func newAPI(kube kubernetes.Interface, dyn dynamic.Interface, config *rest.Config, requests *requests) *api {
	a := &api{kube: kube, dynamic: dyn, config: config, requests: requests}
	// The simulated clientset answers with a nil pointer in the interface.
	if raw := kube.CoreV1().RESTClient(); raw != nil && !reflect.ValueOf(raw).IsNil() {
		a.raw = raw
	}
	return a
}

const (
	// maxObject is the largest object that is read, in bytes. etcd takes 1.5 MiB
	// by default, and JSON is not much larger than what is stored.
	maxObject = 4 << 20
	// maxPage bounds one page of a list, and maxList all of them.
	maxPage = 16 << 20
	maxList = 64 << 20
	// pageSize is how many objects are asked for at a time; smallPage if so many
	// are too large together: even of the largest objects they fit in maxPage.
	pageSize  = 100
	smallPage = 8
)

// resource is a kind of object of the API.
type resource struct {
	gvr  schema.GroupVersionResource
	kind string
}

func core(name, kind string) resource {
	return resource{schema.GroupVersionResource{Version: "v1", Resource: name}, kind}
}

func grouped(group, name, kind string) resource {
	return resource{schema.GroupVersionResource{Group: group, Version: "v1", Resource: name}, kind}
}

// objectPath is where the API serves an object, or a resource if name is "".
func objectPath(gvr schema.GroupVersionResource, namespace, name string) string {
	path := "/api/" + gvr.Version
	if gvr.Group != "" {
		path = "/apis/" + gvr.Group + "/" + gvr.Version
	}
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	path += "/" + gvr.Resource
	if name != "" {
		path += "/" + name
	}
	return path
}

var podsResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

const (
	asJSON = "application/json"
	asYAML = "application/yaml"
)

// open starts to read an object in a media type.
func (a *api) open(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, accept string) (io.ReadCloser,
	error) {
	if a.raw != nil {
		return a.raw.Get().AbsPath(objectPath(gvr, namespace, name)).SetHeader("Accept", accept).Stream(ctx)
	}
	data, err := a.simulated(ctx, gvr, namespace, name)
	if err == nil && accept == asYAML {
		data, err = yaml.JSONToYAML(data)
	}
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (a *api) simulated(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) ([]byte, error) {
	if gvr == podsResource {
		pod, err := a.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		pod = pod.DeepCopy()
		pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		return json.Marshal(pod)
	}
	object, err := a.dynamic.Resource(gvr).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return object.MarshalJSON()
}

// get reads a whole object as JSON.
func (a *api) get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) ([]byte, error) {
	var buf bytes.Buffer
	err := a.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return a.open(ctx, gvr, namespace, name, asJSON)
	}, func(body io.Reader) error {
		return copyLimited(&buf, body, maxObject)
	})
	return buf.Bytes(), err
}

// openPath starts to read something that is not an object, by GET or POST.
func (a *api) openPath(ctx context.Context, verb, path string) (io.ReadCloser, error) {
	if a.raw == nil {
		return nil, fmt.Errorf("%w: a simulated cluster does not serve %s", ErrAbsent, path)
	}
	return a.raw.Verb(verb).AbsPath(path).Stream(ctx)
}

// list opens one page of a resource.
func (a *api) list(ctx context.Context, gvr schema.GroupVersionResource, namespace string,
	opts metav1.ListOptions) (io.ReadCloser, error) {
	if a.raw != nil {
		request := a.raw.Get().AbsPath(objectPath(gvr, namespace, "")).SetHeader("Accept", asJSON)
		for name, value := range map[string]string{"fieldSelector": opts.FieldSelector,
			"labelSelector": opts.LabelSelector, "continue": opts.Continue} {
			if value != "" {
				request.Param(name, value)
			}
		}
		return request.Param("limit", fmt.Sprint(opts.Limit)).Stream(ctx)
	}
	page, err := a.simulatedList(ctx, gvr, namespace, opts)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(page)
	return io.NopCloser(bytes.NewReader(data)), err
}

func (a *api) simulatedList(ctx context.Context, gvr schema.GroupVersionResource, namespace string,
	opts metav1.ListOptions) (runtime.Object, error) {
	switch {
	case gvr.Resource != "events":
		return a.dynamic.Resource(gvr).Namespace(namespace).List(ctx, opts)
	case gvr.Group == "":
		return a.kube.CoreV1().Events(namespace).List(ctx, opts)
	}
	return a.kube.EventsV1().Events(namespace).List(ctx, opts)
}

// listing is a list that is asked for.
type listing struct {
	resource
	namespace     string // "": all
	labelSelector string
}

func (l listing) source() string {
	source := "GET " + objectPath(l.gvr, l.namespace, "")
	if l.labelSelector != "" {
		source += "?labelSelector=" + url.QueryEscape(l.labelSelector)
	}
	return source
}

// errPage: a page is larger than is read at a time.
var errPage = errors.New("the page is too large")

// ErrInconsistent: a list was read at more than one moment. What was created or
// deleted between them may be missing, or be there although it was gone.
var ErrInconsistent = errors.New(
	"the list is inconsistent: it expired while it was read, and the rest is of a later moment")

// resumptions bounds how often a list may expire while it is read.
const resumptions = 10

// resumed is where a list goes on that has expired half-way (410), of a later
// moment; "": it cannot.
func resumed(err error) string {
	var s apierrors.APIStatus
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) || !errors.As(err, &s) {
		return ""
	}
	return s.Status().Continue
}

// each calls visit for the items of a list, page by page. ErrInconsistent is the
// error of one that was read to its end.
func (a *api) each(ctx context.Context, l listing, visit func(json.RawMessage) error) error {
	opts := metav1.ListOptions{LabelSelector: l.labelSelector, Limit: pageSize}
	seen := 0 // of the page, when it is read again
	expired := 0
	for {
		count := 0
		next, err := a.page(ctx, l, opts, func(item json.RawMessage) error {
			if count++; count <= seen {
				return nil
			}
			return visit(item)
		})
		if errors.Is(err, errPage) && opts.Limit > smallPage {
			seen, opts.Limit = max(seen, count), smallPage
			continue
		}
		if at := resumed(err); at != "" && opts.Continue != "" && expired < resumptions {
			expired, opts.Continue = expired+1, at
			continue
		}
		if err != nil {
			return err
		}
		seen = max(0, seen-count)
		if opts.Continue = next; next != "" {
			continue
		}
		if expired > 0 {
			return ErrInconsistent
		}
		return nil
	}
}

func (a *api) page(ctx context.Context, l listing, opts metav1.ListOptions, visit func(json.RawMessage) error) (
	next string, err error) {
	err = a.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return a.list(ctx, l.gvr, l.namespace, opts)
	}, func(body io.Reader) (err error) {
		limited := &io.LimitedReader{R: body, N: maxPage}
		if next, err = decodeList(limited, visit); err != nil && limited.N <= 0 {
			return fmt.Errorf("%w: over %d bytes", errPage, maxPage)
		}
		return err
	})
	return next, err
}

// errNoExec: commands cannot be run with the clients at hand.
var errNoExec = errors.New("there is no connection to run commands in containers with")

// errForbidden: a stream was refused for want of a right. The client library
// gives no status for that.
var errForbidden = errors.New("forbidden")

// exec gives the standard output of a command in a container as it comes. What
// the command says on standard error becomes part of its error.
func (a *api) exec(ctx context.Context, p PodRef, container string, command ...string) (io.ReadCloser, error) {
	if a.config == nil || a.raw == nil {
		return nil, errNoExec
	}
	target := a.raw.Post().Resource("pods").Namespace(p.Namespace).Name(p.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true},
			scheme.ParameterCodec).URL()
	executor, err := newExecutor(a.config, target)
	if err != nil {
		return nil, err
	}
	out, in := io.Pipe()
	go func() {
		stderr := &boundedBuffer{limit: 4 << 10}
		err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: in, Stderr: stderr})
		if err != nil && strings.HasPrefix(err.Error(), "unable to upgrade connection") &&
			strings.Contains(err.Error(), "is forbidden") {
			err = fmt.Errorf("%w: %w", errForbidden, err)
		}
		if said := strings.TrimSpace(stderr.buf.String()); err != nil && said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		in.CloseWithError(err) // nil is the end
	}()
	return out, nil
}

// newExecutor prefers WebSockets and falls back to SPDY for older servers, as
// kubectl does.
func newExecutor(config *rest.Config, target *url.URL) (remotecommand.Executor, error) {
	spdy, err := remotecommand.NewSPDYExecutor(config, "POST", target)
	if err != nil {
		return nil, err
	}
	websocket, err := remotecommand.NewWebSocketExecutor(config, "GET", target.String())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}
