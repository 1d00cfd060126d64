package drill_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"irctl/internal/drill"
	"irctl/internal/drill/box"
	"irctl/internal/drill/sim"
)

// inPod runs a shell's script in a pod of a world.
func inPod(t *testing.T, w *drill.World, pod, script string) string {
	t.Helper()
	listener := httptest.NewServer(w.Cluster.Server(nil))
	defer listener.Close()
	config := &rest.Config{Host: listener.URL}
	namespace, name, _ := strings.Cut(pod, "/")
	target := kubernetes.NewForConfigOrDie(config).CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").
		Name(name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"sh", "-c", script}, Stdout: true},
			scheme.ParameterCodec).URL()
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", target.String())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out}); err != nil {
		t.Fatalf("%s in %s: %v", script, pod, err)
	}
	return out.String()
}

func world(t *testing.T, name string) (*drill.World, *drill.ManualClock) {
	t.Helper()
	s, err := drill.Find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	clock := drill.NewManualClock(time.Now())
	w, err := drill.NewWorld(s, drill.WorldOptions{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return w, clock
}

func other(t *testing.T, w *drill.World, app string) string {
	t.Helper()
	for _, p := range w.Cluster.List(sim.Pods, "todo-app") {
		if key := "todo-app/" + p.GetName(); p.GetLabels()["app"] == app && key != w.Suspect {
			return key
		}
	}
	t.Fatal("there is no other pod of " + app)
	return ""
}

// TestWhoLooksFindsTheAttacker: in the pod that the attacker has, and in no other.
func TestWhoLooksFindsTheAttacker(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ scenario, script, finds string }{
		{"crypto-miner", "ps", "/tmp/.x/kthreadd -c /tmp/.x/c.json"},
		{"crypto-miner", "ss -tnp", "198.51.100.23:443"},
		{"crypto-miner", "find / -xdev -type f -mtime -2; cat /tmp/.x/c.json /tmp/.x/i.sh || true", "/tmp/.x/kthreadd"},
		{"gitops", "ls -l /proc/44/exe; head -c 4 /proc/44/exe || true", "/tmp/.x/kthreadd (deleted)"},
		{"stolen-token", "netstat -an", "203.0.113.77:443"},
	} {
		w, _ := world(t, tc.scenario)
		if out := inPod(t, w, w.Suspect, tc.script); !strings.Contains(out, tc.finds) {
			t.Errorf("%s: %s in the suspect: %q", tc.scenario, tc.script, out)
		}
		if out := inPod(t, w, other(t, w, "backend"), tc.script+"; true"); strings.Contains(out, tc.finds) ||
			strings.Contains(out, "198.51.100.23") {
			t.Errorf("%s: %s in another pod: %q", tc.scenario, tc.script, out)
		}
	}
}

// TestInsideFollowsTheCluster: connections stand as long as the policies let
// them through, files come as time passes, and a pod goes on with the values it
// read when it started.
func TestInsideFollowsTheCluster(t *testing.T) {
	t.Parallel()
	w, _ := world(t, "crypto-miner")
	if out := inPod(t, w, w.Suspect, "ss -tnp | grep kthreadd; ls /tmp/.x"); !strings.HasPrefix(out, "tcp   ESTAB") ||
		strings.Contains(out, "env.tgz") {
		t.Errorf("at first: %q", out)
	}
	if err := w.Cluster.Apply("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: only, " +
		"namespace: todo-app}\nspec: {podSelector: {}, policyTypes: [Egress]}\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Cluster.Delete(sim.NetworkPolicies, "todo-app", "backend-network-policy"); err != nil {
		t.Fatal(err)
	}
	hands := drill.Hands{World: w}
	if err := hands.Do(t.Context(), []string{"wait 1m",
		`kubectl patch secret backend-secret -n todo-app -p '{"data":{"SECRET_KEY":"bmV3"}}'`}); err != nil {
		t.Fatal(err)
	}
	if out := inPod(t, w, w.Suspect, "ss -tnp | grep kthreadd; ls /tmp/.x; env | grep SECRET"); !strings.HasPrefix(out,
		"tcp   SYN-SENT") || !strings.Contains(out, "env.tgz") || !strings.Contains(out, "SECRET_KEY=not-a-secret") {
		t.Errorf("cut off, and rotated: %q", out)
	}
	if err := hands.Do(t.Context(), []string{"kubectl rollout restart deployment backend -n todo-app"}); err != nil {
		t.Fatal(err)
	}
	if out := inPod(t, w, other(t, w, "backend"),
		"env | grep SECRET; cat /run/secrets/kubernetes.io/serviceaccount/namespace"); out != "SECRET_KEY=new\n"+
		"todo-app" {
		t.Errorf("restarted: %q", out)
	}
}

func TestParseInside(t *testing.T) {
	t.Parallel()
	const valid = `
inside:
- image: registry.example.com/todo-backend
  processes: [{pid: 9, command: /x}]
  connections: [{pid: 9, to: {host: 192.0.2.1, port: 443}}]
  files: [{path: /x, size: 10, mode: '0700'}]
`
	if _, err := drill.Parse("ours.yaml", []byte(smallest+valid)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ old, new, want string }{
		{"todo-backend", "todo-backend:1.4.2", "without tag and digest"},
		{"pid: 9, command", "pid: 0, command", "a pid of at least 1"},
		{"command: /x}", "command: /x}, {pid: 9, command: /y}", "the pid 9 is there twice"},
		{"command: /x", "command: '${what}'", "${what} is unknown"},
		{"connections: [{pid: 9", "connections: [{pid: 8", "there is no process 8"},
		{"host: 192.0.2.1", "host: pool.example", "needs an address as host"},
		{"path: /x", "path: x", "path must be absolute"},
		{"path: /x", "path: /a/../x", "path must be absolute"},
		{"path: /x", "path: /proc/1/x", "not be in /proc"},
		{"size: 10", "size: 10, content: x", "exclude each other"},
		{"size: 10", "size: 1000000000", "size must not be more"},
		{"'0700'", "rwx", "use an octal number"},
		{"size: 10", "sise: 10", "field sise not found"},
	} {
		text := strings.Replace(valid, tc.old, tc.new, 1)
		if _, err := drill.Parse("ours.yaml", []byte(smallest+text)); text == valid ||
			!errors.Is(err, drill.ErrScenario) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, expected %q", tc.new, err, tc.want)
		}
	}
}

// TestCommandsAreDocumented: docs/drill.md names all that there are.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/drill.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range box.Commands() {
		if name != "sh" && !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/drill.md does not know %s", name)
		}
	}
}
