package sim_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"irctl/internal/drill/box"
	"irctl/internal/drill/sim"
)

// execWorld has containers to run commands in: those of postgres are bare.
func execWorld(t *testing.T) (*sim.Cluster, *kubernetes.Clientset, *rest.Config) {
	t.Helper()
	c, err := sim.New(sim.Options{Within: func(pod *corev1.Pod, container string) *box.Box {
		return &box.Box{Hostname: pod.Name, Shell: container != "postgres",
			Processes: []box.Process{{PID: 1, Command: container}}}
	}})
	if err == nil {
		err = c.Apply(sim.TodoApp)
	}
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(c.Server(nil))
	t.Cleanup(listener.Close)
	t.Cleanup(c.Stop)
	config := &rest.Config{Host: listener.URL, QPS: -1}
	return c, kubernetes.NewForConfigOrDie(config), config
}

// TestExec runs commands over both protocols, as old and as new clients do.
func TestExec(t *testing.T) {
	t.Parallel()
	c, kube, config := execWorld(t)
	backend := podOf(t, c, "backend")
	for _, protocol := range []string{"WebSocket", "SPDY"} {
		execute := func(pod, sub string, o corev1.PodExecOptions, in string) (string, string, error) {
			t.Helper()
			target := kube.CoreV1().RESTClient().Post().Namespace("todo-app").Resource("pods").Name(pod).
				SubResource(sub).VersionedParams(&o, scheme.ParameterCodec).URL()
			var executor remotecommand.Executor
			var err error
			if protocol == "SPDY" {
				executor, err = remotecommand.NewSPDYExecutor(config, "POST", target)
			} else {
				executor, err = remotecommand.NewWebSocketExecutor(config, "GET", target.String())
			}
			if err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			streams := remotecommand.StreamOptions{Stdout: &out, Stderr: &errs, Tty: o.TTY}
			if o.Stdin {
				streams.Stdin = strings.NewReader(in)
			}
			if o.TTY {
				streams.Stderr = nil
			}
			err = executor.StreamWithContext(t.Context(), streams)
			return out.String(), errs.String(), err
		}
		both := corev1.PodExecOptions{Stdout: true, Stderr: true}
		with := func(command ...string) corev1.PodExecOptions { o := both; o.Command = command; return o }

		if out, errs, err := execute(backend, "exec", with("sh", "-c", "hostname; ls /nowhere"), ""); err == nil ||
			out != backend+"\n" || !strings.Contains(errs, "No such file") {
			t.Errorf("%s: %q %q %v", protocol, out, errs, err)
		}
		_, _, err := execute(backend, "exec", with("sh", "-c", "exit 7"), "")
		var code exec.CodeExitError
		if !errors.As(err, &code) || code.Code != 7 {
			t.Errorf("%s: an exit code: %v", protocol, err)
		}
		o := with("wc", "-c")
		o.Stdin = true
		if out, _, err := execute(backend, "exec", o, strings.Repeat("x", 100_000)); err != nil || out != "100000\n" {
			t.Errorf("%s: standard input: %q %v", protocol, out, err)
		}
		o = corev1.PodExecOptions{Stdin: true, Stdout: true, TTY: true, Command: []string{"sh"}}
		if out, _, err := execute(backend, "exec", o, "hostname\rexit\r"); err != nil ||
			!strings.Contains(out, "\r\n"+backend+"\r\n") {
			t.Errorf("%s: a terminal: %q %v", protocol, out, err)
		}
		if _, _, err := execute("postgres-0", "exec", with("sh"), ""); err == nil ||
			!strings.Contains(err.Error(), `exec: "sh": executable file not found in $PATH`) {
			t.Errorf("%s: no shell: %v", protocol, err)
		}
		if _, _, err := execute("postgres-9", "exec", with("sh"), ""); err == nil ||
			!strings.Contains(err.Error(), `pods "postgres-9" not found`) {
			t.Errorf("%s: no pod: %v", protocol, err)
		}
		o = with("sh")
		o.Container = "other"
		if _, _, err := execute(backend, "exec", o, ""); err == nil ||
			!strings.Contains(err.Error(), "container other is not valid for pod") {
			t.Errorf("%s: no container: %v", protocol, err)
		}
		if _, _, err := execute(backend, "attach", both, ""); err == nil ||
			!strings.Contains(err.Error(), "attach to a container of an image is not simulated") {
			t.Errorf("%s: attach: %v", protocol, err)
		}
	}
	c.Deny(sim.Rule{Verb: "create", Resource: "pods/exec"})
	target := kube.CoreV1().RESTClient().Get().Namespace("todo-app").Resource("pods").Name(backend).SubResource("exec")
	if err := target.Do(t.Context()).Error(); !apierrors.IsForbidden(err) {
		t.Errorf("without the right: %v", err)
	}
}

// TestEphemeralContainers: one that is added runs, sees the processes of its
// target, and can be attached to, as kubectl debug does.
func TestEphemeralContainers(t *testing.T) {
	t.Parallel()
	_, kube, config := execWorld(t)
	patch := `{"spec":{"ephemeralContainers":[{"name":"debug","image":"busybox","targetContainerName":"postgres"}]}}`
	if _, err := kube.CoreV1().Pods("todo-app").Patch(t.Context(), "postgres-0", types.StrategicMergePatchType,
		[]byte(patch), metav1.PatchOptions{}, "ephemeralcontainers"); err != nil {
		t.Fatal(err)
	}
	pod, err := kube.CoreV1().Pods("todo-app").Get(t.Context(), "postgres-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := pod.Status.EphemeralContainerStatuses; len(s) != 1 || s[0].Name != "debug" || s[0].State.Running == nil {
		t.Fatalf("%+v", s)
	}
	target := kube.CoreV1().RESTClient().Post().Namespace("todo-app").Resource("pods").Name("postgres-0").
		SubResource("attach").
		VersionedParams(&corev1.PodAttachOptions{Container: "debug", Stdin: true, Stdout: true}, scheme.ParameterCodec).
		URL()
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", target.String())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := executor.StreamWithContext(t.Context(),
		remotecommand.StreamOptions{Stdin: strings.NewReader("cat /proc/1/comm\n"), Stdout: &out}); err != nil ||
		out.String() != "postgres\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// TestKubelet: what a node runs, and what that uses.
func TestKubelet(t *testing.T) {
	t.Parallel()
	_, kube, _ := execWorld(t)
	get := func(path string) string {
		t.Helper()
		body, err := kube.RESTClient().Get().AbsPath("/api/v1/nodes/node-1/proxy/" + path).DoRaw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	if pods := get("pods"); !strings.Contains(pods, `"kind":"PodList"`) ||
		strings.Contains(pods, `"nodeName":"node-2"`) || !strings.Contains(pods, `"nodeName":"node-1"`) {
		t.Errorf("%s", pods)
	}
	if stats := get("stats/summary"); !strings.Contains(stats, `"nodeName":"node-1"`) ||
		!strings.Contains(stats, "usageNanoCores") {
		t.Errorf("%s", stats)
	}
	if err := kube.RESTClient().Get().AbsPath("/api/v1/nodes/node-9/proxy/pods").Do(t.Context()).
		Error(); !apierrors.IsNotFound(err) {
		t.Errorf("a node that is none: %v", err)
	}
}
