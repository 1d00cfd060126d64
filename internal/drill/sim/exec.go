package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"irctl/internal/drill/box"
)

// execution is a command that a client wants to run in a container.
type execution struct {
	box                    *box.Box
	command                []string
	in, out, err, terminal bool
}

// maxExecution is how long a command may take: of a client that has gone without
// a word, nothing is heard any more.
const maxExecution = 30 * time.Minute

// answerExec serves exec, and attach to an ephemeral container, which is what
// kubectl debug does.
func (c *Cluster) answerExec(w http.ResponseWriter, hr *http.Request, req Request, sub string) error {
	x, err := c.execution(hr, req, sub)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(hr.Context(), maxExecution)
	defer cancel()
	go func() {
		select {
		case <-c.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	if wsstream.IsWebSocketRequest(hr) {
		return x.overWebSocket(ctx, w, hr)
	}
	return x.overSPDY(ctx, w, hr)
}

// execution reads what is to be run where.
func (c *Cluster) execution(hr *http.Request, req Request, sub string) (*execution, error) {
	if c.opts.Within == nil {
		return nil, errNoExec(sub)
	}
	u, err := c.Get(Pods, req.Namespace, req.Name)
	if err != nil {
		return nil, err
	}
	q := hr.URL.Query()
	container, err := containerOf(u, q.Get("container"))
	if err != nil {
		return nil, err
	}
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if pod.Status.Phase != corev1.PodRunning {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("unable to upgrade connection: container not found (%q)",
			container))
	}
	yes := func(name string) bool { b, _ := strconv.ParseBool(q.Get(name)); return b } // absent: no
	x := &execution{command: q["command"], in: yes("stdin"), out: yes("stdout"), err: yes("stderr"),
		terminal: yes("tty")}
	if x.terminal {
		x.err = false // all of it comes on the standard output
	}
	beside := ephemeral(&pod, container)
	switch {
	case beside != nil:
		x.box = &box.Box{Hostname: pod.Name, Shell: true, Now: c.opts.Now()}
		if beside.TargetContainerName != "" {
			x.box.Beside = c.opts.Within(&pod, beside.TargetContainerName)
		}
	case sub == "attach":
		return nil, errNoExec("attach to a container of an image")
	default:
		x.box = c.opts.Within(&pod, container)
	}
	if sub == "attach" {
		if x.command = slices.Concat(beside.Command, beside.Args); len(x.command) == 0 {
			x.command = []string{"sh"}
		}
	}
	return x, nil
}

func ephemeral(pod *corev1.Pod, name string) *corev1.EphemeralContainer {
	for i := range pod.Spec.EphemeralContainers {
		if e := &pod.Spec.EphemeralContainers[i]; e.Name == name {
			return e
		}
	}
	return nil
}

// run runs the command, and returns what the stream of errors tells of it.
func (x *execution) run(ctx context.Context, in io.Reader, out, errs io.Writer) metav1.Status {
	if !x.in {
		in = nil
	}
	if out == nil {
		out = io.Discard
	}
	if errs == nil {
		errs = out
	}
	code, err := x.box.Run(ctx, x.command, box.Streams{In: in, Out: out, Err: errs, Terminal: x.terminal})
	switch {
	case err != nil:
		return apierrors.NewInternalError(fmt.Errorf("error executing command in container: failed to exec in "+
			"container: failed to start exec: OCI runtime exec failed: %w: unknown", err)).Status()
	case code != 0:
		return metav1.Status{Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType,
				Message: strconv.Itoa(code)}}}}
	}
	return metav1.Status{Status: metav1.StatusSuccess}
}

// overWebSocket serves kubectl, and clients that are not older than 1.30.
func (x *execution) overWebSocket(ctx context.Context, w http.ResponseWriter, hr *http.Request) error {
	channels := []wsstream.ChannelType{wsstream.ReadChannel, wsstream.WriteChannel, wsstream.WriteChannel,
		wsstream.WriteChannel, wsstream.ReadChannel}
	binary := wsstream.ChannelProtocolConfig{Binary: true, Channels: channels}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{remotecommand.StreamProtocolV4Name: binary,
		remotecommand.StreamProtocolV5Name: binary})
	// It would log to the terminal that a client has gone.
	quiet := hr.WithContext(klog.NewContext(ctx, klog.Logger{}))
	_, streams, err := conn.Open(w, quiet)
	if err != nil {
		return nil // the client was told
	}
	defer func() { _ = conn.Close() }()                                             // the client may be gone
	go func() { _, _ = io.Copy(io.Discard, streams[remotecommand.StreamResize]) }() // nothing depends on the size
	status := x.run(ctx, streams[remotecommand.StreamStdIn], streams[remotecommand.StreamStdOut],
		streams[remotecommand.StreamStdErr])
	_ = json.NewEncoder(streams[remotecommand.StreamErr]).Encode(status) // the client may be gone
	return nil
}

// overSPDY serves older clients.
func (x *execution) overSPDY(ctx context.Context, w http.ResponseWriter, hr *http.Request) error {
	if !httpstream.IsUpgradeRequest(hr) {
		return apierrors.NewBadRequest("Upgrade request required")
	}
	if _, err := httpstream.Handshake(hr, w, []string{remotecommand.StreamProtocolV4Name}); err != nil {
		return nil // the client was told
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	arrive := make(chan httpstream.Stream)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, hr, func(s httpstream.Stream, _ <-chan struct{}) error {
		select {
		case arrive <- s:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if conn == nil {
		return nil // the client was told
	}
	defer func() { _ = conn.Close() }() // the client may be gone
	go func() {
		select {
		case <-conn.CloseChan():
			cancel()
		case <-ctx.Done():
		}
	}()
	streams, err := x.streams(ctx, arrive)
	if err != nil {
		return nil // the client has gone
	}
	var in io.Reader
	var out, errs io.Writer
	if s := streams[corev1.StreamTypeStdin]; s != nil {
		in = s
	}
	if s := streams[corev1.StreamTypeStdout]; s != nil {
		out = s
	}
	if s := streams[corev1.StreamTypeStderr]; s != nil {
		errs = s
	}
	status := x.run(ctx, in, out, errs)
	_ = json.NewEncoder(streams[corev1.StreamTypeError]).Encode(status) // the client may be gone
	return nil
}

// streams waits for all that the client opens.
func (x *execution) streams(ctx context.Context, arrive <-chan httpstream.Stream) (map[string]httpstream.Stream,
	error) {
	ctx, cancel := context.WithTimeout(ctx, remotecommand.DefaultStreamCreationTimeout)
	defer cancel()
	missing := 1 // of errors
	for _, wanted := range []bool{x.in, x.out, x.err, x.terminal} {
		if wanted {
			missing++
		}
	}
	streams := map[string]httpstream.Stream{}
	for len(streams) < missing {
		select {
		case s := <-arrive:
			streams[s.Headers().Get(corev1.StreamType)] = s
		case <-ctx.Done():
			return nil, errors.New("the client did not open its streams")
		}
	}
	return streams, nil
}

// answerEphemeral adds ephemeral containers to a pod, which run at once.
func (c *Cluster) answerEphemeral(hr *http.Request, req Request, k Kind, body []byte) (any, error) {
	switch req.Verb {
	case "get":
		return c.Get(k.GVR(), req.Namespace, req.Name)
	case "patch":
		return c.answerPatch(hr, req, k, body)
	case "update":
		return c.answerUpdate(hr, req, k, body)
	}
	return nil, apierrors.NewMethodNotSupported(k.GVR().GroupResource(), req.Verb)
}

// runEphemeral is the kubelet: it starts what was added to a pod that runs.
func (c *Cluster) runEphemeral(pod *unstructured.Unstructured) error {
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "ephemeralContainers")
	statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "ephemeralContainerStatuses")
	if len(containers) <= len(statuses) {
		return nil
	}
	for _, raw := range containers[len(statuses):] {
		container, _ := raw.(map[string]any)
		statuses = append(statuses, map[string]any{"name": container["name"], "image": container["image"],
			"imageID": imageID(fmt.Sprint(container["image"])), "ready": false,
			"restartCount": int64(0), "state": map[string]any{"running": map[string]any{"startedAt": c.opts.Now().UTC().
					Format(time.RFC3339)}}})
	}
	return c.edit(pod, func(m map[string]any) {
		_ = unstructured.SetNestedSlice(m, statuses, "status", "ephemeralContainerStatuses") // status is an object
	})
}
