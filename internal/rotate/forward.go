package rotate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"irctl/internal/cluster"
)

// Forward is the way to a server in the cluster that cannot be reached from
// here: through the API server, as kubectl port-forward does it. But there is
// no local port that others on this machine could use, and a pod that was
// replaced meanwhile is looked for anew with every connection.
type Forward struct {
	Namespace string
	// Kind is "pod" or "service".
	Kind string
	Name string
	// Port is one of the pod, or of the Service; 0: that of the connection string.
	Port uint16
}

// ParseForward reads [NAMESPACE/]TYPE/NAME[:PORT].
func ParseForward(text, namespace string) (Forward, error) {
	wrong := fmt.Errorf("%q: use [NAMESPACE/]TYPE/NAME[:PORT], where TYPE is pod or service", text)
	name, port, hasPort := strings.Cut(text, ":")
	parts := strings.Split(name, "/")
	if len(parts) == 2 {
		parts = slices.Insert(parts, 0, namespace)
	}
	if len(parts) != 3 || slices.Contains(parts, "") {
		return Forward{}, wrong
	}
	f := Forward{Namespace: parts[0], Name: parts[2]}
	switch strings.ToLower(parts[1]) {
	case "pod", "pods", "po":
		f.Kind = "pod"
	case "service", "services", "svc":
		f.Kind = "service"
	default:
		return Forward{}, wrong
	}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Forward{}, wrong
		}
		f.Port = uint16(n)
	}
	return f, nil
}

func (f Forward) String() string { return f.Kind + " " + f.Namespace + "/" + f.Name }

// dial opens one connection. It ends when it is closed; ctx bounds only its
// opening.
func (f Forward) dial(ctx context.Context, client *cluster.Client) (net.Conn, error) {
	pod, port := f.Name, int32(f.Port)
	if f.Kind == "service" {
		var err error
		if pod, port, err = f.endpoint(ctx, client); err != nil {
			return nil, fmt.Errorf("reaching %s: %w", f, err)
		}
	}
	target := client.Kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(f.Namespace).Name(pod).
		SubResource("portforward").URL()
	if client.Config == nil || target == nil {
		return nil, fmt.Errorf("reaching %s: this cluster takes no port-forward", f)
	}
	modern, err := portforward.NewSPDYOverWebsocketDialerForStreaming(target, client.Config)
	if err != nil {
		return nil, fmt.Errorf("reaching %s: %w", f, err)
	}
	old, err := olderDialer(client.Config, target.String())
	if err != nil {
		return nil, fmt.Errorf("reaching %s: %w", f, err)
	}
	dialer := portforward.NewFallbackDialerForStreaming(modern, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	conn, err := open(ctx, dialer, port)
	if err != nil {
		return nil, fmt.Errorf("reaching %s through the API server (pod %s, port %d): %w", f, pod, port, explained(err))
	}
	return conn, nil
}

// explained says what a bare "forbidden" is about.
func explained(err error) error {
	if apierrors.IsForbidden(err) || strings.Contains(strings.ToLower(err.Error()), "forbidden") {
		return fmt.Errorf("%w: it needs get and create on pods/portforward there", err)
	}
	return err
}

// olderDialer is for API servers, and proxies before them, without WebSockets.
func olderDialer(config *rest.Config, target string) (httpstream.Dialer, error) {
	request, err := http.NewRequest(http.MethodPost, target, nil) //nolint:noctx // it is only for its URL
	if err != nil {
		return nil, err
	}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, request.URL), nil
}

// endpoint is a ready pod behind a Service, and the port there. The first by
// name, so that every connection of a run goes to the same one.
func (f Forward) endpoint(ctx context.Context, client *cluster.Client) (pod string, port int32, err error) {
	services, err := client.Kube.CoreV1().Services(f.Namespace).
		List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", f.Name).String()})
	if err != nil {
		return "", 0, err
	}
	n := slices.IndexFunc(services.Items, func(s corev1.Service) bool { return s.Name == f.Name })
	if n < 0 {
		return "", 0, errors.New("there is no such Service")
	}
	ports := services.Items[n].Spec.Ports
	n = slices.IndexFunc(ports, func(p corev1.ServicePort) bool { return p.Port == int32(f.Port) })
	if n < 0 {
		return "", 0, fmt.Errorf("the Service has no port %d", f.Port)
	}
	var list []discoveryv1.EndpointSlice
	err = cluster.Pages(ctx, client.Kube.DiscoveryV1().EndpointSlices(f.Namespace).List,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + f.Name},
		func(page *discoveryv1.EndpointSliceList) { list = append(list, page.Items...) })
	if err != nil {
		return "", 0, err
	}
	for _, slice := range list {
		at := slices.IndexFunc(slice.Ports, func(p discoveryv1.EndpointPort) bool {
			return p.Port != nil && (p.Name == nil && ports[n].Name == "" || p.Name != nil && *p.Name == ports[n].Name)
		})
		if at < 0 {
			continue
		}
		for _, e := range slice.Endpoints {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			if ready && e.TargetRef != nil && e.TargetRef.Kind == "Pod" && (pod == "" || e.TargetRef.Name < pod) {
				pod, port = e.TargetRef.Name, *slice.Ports[at].Port
			}
		}
	}
	if pod == "" {
		return "", 0, errors.New("no pod behind it is ready")
	}
	return pod, port, nil
}

// open makes a connection of two streams: one carries the bytes, on the other
// the kubelet says what went wrong.
func open(ctx context.Context, dialer httpstream.Dialer, port int32) (net.Conn, error) {
	type dialled struct {
		conn httpstream.Connection
		err  error
	}
	result := make(chan dialled, 1)
	go func() { // it takes no context
		conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
		result <- dialled{conn, err}
	}()
	var d dialled
	select {
	case d = <-result:
	case <-ctx.Done():
		go func() {
			if late := <-result; late.err == nil {
				_ = late.conn.Close() // nobody waits for it any more
			}
		}()
		return nil, ctx.Err()
	}
	if d.err != nil {
		return nil, d.err
	}
	header := http.Header{}
	header.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	header.Set(corev1.PortForwardRequestIDHeader, "0")
	header.Set(corev1.StreamType, corev1.StreamTypeError)
	problems, err := d.conn.CreateStream(header)
	if err != nil {
		return nil, errors.Join(err, d.conn.Close())
	}
	_ = problems.Close() // nothing is ever sent on it
	header.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := d.conn.CreateStream(header)
	if err != nil {
		return nil, errors.Join(err, d.conn.Close())
	}
	near, far := net.Pipe() // a connection with deadlines, which a stream has not
	f := &forwarded{Conn: near, told: make(chan struct{})}
	go f.listen(problems)
	go func() {
		_, _ = io.Copy(data, far) // either end may close it
		_ = data.Close()
	}()
	go func() {
		_, _ = io.Copy(far, data)
		_ = data.Reset()
		select { // what the kubelet said may still be under way
		case <-f.told:
		case <-time.After(lastWord):
		}
		_ = d.conn.Close() // ends the other stream, too
		<-f.told
		_ = far.Close()
	}()
	return f, nil
}

// forwarded is a connection through an API server.
type forwarded struct {
	net.Conn
	told    chan struct{} // closed when the kubelet has had its say
	problem error
}

// lastWord is how long a kubelet is given to say why it has ended a connection.
// It ends the stream for that, too, where it has nothing to say.
const lastWord = time.Second

// maxProblem bounds what a kubelet says.
const maxProblem = 4 << 10

func (f *forwarded) listen(problems io.Reader) {
	defer close(f.told)
	text, _ := io.ReadAll(io.LimitReader(problems, maxProblem)) // what there is
	if len(text) > 0 {
		f.problem = errors.New(strings.TrimSpace(string(text)))
	}
}

// Read says why the connection ended, if the kubelet did.
func (f *forwarded) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		err = f.because(err)
	}
	return n, err
}

// Write says it, too: a kubelet may have ended the connection before the first
// byte was written.
func (f *forwarded) Write(p []byte) (int, error) {
	n, err := f.Conn.Write(p)
	if err != nil {
		err = f.because(err)
	}
	return n, err
}

// because is what the kubelet said of the end of the connection; or else the error.
func (f *forwarded) because(err error) error {
	select {
	case <-f.told:
		if f.problem != nil {
			return f.problem
		}
	default:
	}
	return err
}
