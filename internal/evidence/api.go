package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
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
	requests *requests
}

func newAPI(kube kubernetes.Interface, dyn dynamic.Interface, requests *requests) *api {
	a := &api{kube: kube, dynamic: dyn, requests: requests}
	// The simulated clientset answers with a nil pointer in the interface.
	if raw := kube.CoreV1().RESTClient(); raw != nil && !reflect.ValueOf(raw).IsNil() {
		a.raw = raw
	}
	return a
}

// maxObject is the largest object that is read, in bytes. etcd takes 1.5 MiB
// by default, and JSON is not much larger than what is stored.
const maxObject = 4 << 20

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
func (a *api) open(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, accept string) (io.ReadCloser, error) {
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

// list opens one page of a resource.
func (a *api) list(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts metav1.ListOptions) (io.ReadCloser, error) {
	if a.raw != nil {
		request := a.raw.Get().AbsPath(objectPath(gvr, namespace, "")).SetHeader("Accept", asJSON)
		request.Param("fieldSelector", opts.FieldSelector).Param("limit", fmt.Sprint(opts.Limit))
		if opts.Continue != "" {
			request.Param("continue", opts.Continue)
		}
		return request.Stream(ctx)
	}
	var page runtime.Object
	var err error
	if gvr.Group == "" {
		page, err = a.kube.CoreV1().Events(namespace).List(ctx, opts)
	} else {
		page, err = a.kube.EventsV1().Events(namespace).List(ctx, opts)
	}
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(page)
	return io.NopCloser(bytes.NewReader(data)), err
}
