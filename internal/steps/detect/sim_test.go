package detect_test

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/incident"
	"irctl/internal/steps/detect"
	"irctl/internal/timeline"
)

// world is a simulated cluster with the todo-app.
type world struct {
	*sim.Cluster
	client  *cluster.Client
	suspect string // a pod of the backend
	now     time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC)}
	var err error
	if w.Cluster, err = sim.New(sim.Options{Now: func() time.Time { return w.now }}); err == nil {
		err = w.Apply(sim.TodoApp)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.Server(nil))
	t.Cleanup(server.Close)
	if w.client, err = cluster.New(&rest.Config{Host: server.URL}); err != nil {
		t.Fatal(err)
	}
	for i, p := range w.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), "backend-") {
			w.suspect = p.GetName()
		}
		// A node reports digests; the simulated one does not.
		w.edit(t, p.GetName(), func(o *unstructured.Unstructured) {
			status(o, func(c map[string]any) {
				c["imageID"], c["containerID"] = fmt.Sprint(c["image"])+"@sha256:"+strings.Repeat("a", 64),
					fmt.Sprintf("containerd://%064d", i)
			})
		})
	}
	return w
}

func (w *world) edit(t *testing.T, pod string, change func(*unstructured.Unstructured)) {
	t.Helper()
	if err := w.Edit(sim.Pods, "todo-app", pod, change); err != nil {
		t.Fatal(err)
	}
}

func status(o *unstructured.Unstructured, change func(map[string]any)) {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "containerStatuses")
	for _, c := range list {
		change(c.(map[string]any))
	}
	_ = unstructured.SetNestedSlice(o.Object, list, "status", "containerStatuses")
}

func (w *world) find(t *testing.T, inputs ...detect.Input) *detect.Result {
	t.Helper()
	res, err := detect.Find(t.Context(), detect.Request{Client: w.client, NewSince: w.now.Add(-time.Hour),
		Inputs: inputs})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func falco(pod, rule, priority, at string) detect.Input {
	return detect.Input{Source: detect.SourceFalco, Path: "alerts", Reader: strings.NewReader(fmt.Sprintf(
		`{"rule":%q,"priority":%q,"time":%q,"hostname":"node-1","tags":["T1496"],`+
			`"output_fields":{"k8s.ns.name":"todo-app","k8s.pod.name":%q,"proc.cmdline":"xmrig"}}`+"\n", rule, priority,
		at, pod))}
}

func TestACleanTodoAppHasNoSuspectOfHighSeverity(t *testing.T) {
	w := newWorld(t)
	res := w.find(t)
	if len(res.Gaps) > 0 {
		t.Errorf("gaps: %+v", res.Gaps)
	}
	if detect.AtLeastHigh(res.Suspects) {
		t.Errorf("%+v", res.Suspects[0])
	}
	for _, s := range res.Suspects {
		if s.Subject.Namespace == "todo-app" && s.Score.Sign() {
			t.Errorf("%s %s: %+v", s.Kind, s.Name, s.Findings[0])
		}
	}
}

func TestTheAttackedPodIsOnTop(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, w *world) []detect.Input{
		"an alert of Falco": func(_ *testing.T, w *world) []detect.Input {
			return []detect.Input{falco(w.suspect, "Known Cryptominer Process Executed", "Critical",
				"2026-02-12T09:00:00Z")}
		},
		"another image": func(t *testing.T, w *world) []detect.Input {
			w.edit(t, w.suspect, func(o *unstructured.Unstructured) {
				status(o, func(c map[string]any) {
					c["imageID"] = "registry.example.com/todo-backend@sha256:" + strings.Repeat("e", 64)
				})
			})
			return nil
		},
		"an ephemeral container": func(t *testing.T, w *world) []detect.Input {
			w.edit(t, w.suspect, func(o *unstructured.Unstructured) {
				_ = unstructured.SetNestedSlice(o.Object, []any{map[string]any{"name": "debug", "image": "busybox"}},
					"spec", "ephemeralContainers")
			})
			return nil
		},
		"exec": func(_ *testing.T, w *world) []detect.Input {
			return []detect.Input{{Source: detect.SourceAudit, Path: "audit", Reader: strings.NewReader(fmt.Sprintf(
				`{"kind":"Event","apiVersion":"audit.k8s.io/v1","stage":"ResponseComplete","auditID":"a",`+
					`"verb":"get","requestURI":"/api/v1/namespaces/todo-app/pods/%s/exec?command=sh",`+
					`"user":{"username":"system:serviceaccount:todo-app:default"},"objectRef":{"resource":"pods",`+
					`"namespace":"todo-app","name":%q,"subresource":"exec"},"responseStatus":{"code":101},`+
					`"requestReceivedTimestamp":"2026-02-12T09:00:00Z"}`, w.suspect, w.suspect))}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			res := w.find(t, attack(t, w)...)
			top := res.Suspects[0]
			if top.Name != "todo-app/"+w.suspect || !top.Score.Sign() || top.Subject.Workload != "Deployment/backend" ||
				top.Subject.ServiceAccount != "backend-sa" {
				t.Errorf("on top is %+v", top)
			}
		})
	}
}

func TestHabitsNeverOutrankASign(t *testing.T) {
	w := newWorld(t)
	// Everything that the baseline forbids, at once.
	if err := w.Apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: worst, namespace: todo-app}
spec:
  selector: {matchLabels: {app: worst}}
  template:
    metadata: {labels: {app: worst}}
    spec:
      hostPID: true
      hostIPC: true
      hostNetwork: true
      volumes: [{name: root, hostPath: {path: /}}, {name: sock, hostPath: {path: /run/containerd/containerd.sock}}]
      containers: [{name: worst, image: worst, securityContext: {privileged: true, runAsUser: 0,
          capabilities: {add: [ALL]}}}]
`); err != nil {
		t.Fatal(err)
	}
	res := w.find(t, falco(w.suspect, "Terminal shell in container", "Notice", "2026-02-12T09:00:00Z"))
	if res.Suspects[0].Name != "todo-app/"+w.suspect {
		t.Errorf("on top is %+v", res.Suspects[0])
	}
	worst := slices.IndexFunc(res.Suspects, func(s detect.Suspect) bool {
		return strings.HasPrefix(s.Name, "todo-app/worst-")
	})
	if worst < 0 || res.Suspects[worst].Severity != detect.Low || len(res.Suspects[worst].Findings) < 10 {
		t.Errorf("%d: %+v", worst, res.Suspects)
	}
}

func TestAMissingRightCostsOneCheckAndIsNamed(t *testing.T) {
	for resource, checks := range map[string][]string{
		"clusterrolebindings": {"new-cluster-role-binding"},
		"events":              {"events"},
		"networkpolicies":     {"network-policy"},
		"daemonsets":          {"system-workload"},
		"namespaces":          nil,
	} {
		t.Run(resource, func(t *testing.T) {
			w := newWorld(t)
			w.Deny(sim.Rule{Resource: resource})
			res := w.find(t)
			var got []string
			for _, g := range res.Gaps {
				got = append(got, g.Check)
				if !strings.Contains(g.Text, resource) || g.Err() == nil {
					t.Errorf("the gap does not name it: %s", g.Text)
				}
			}
			if !slices.Equal(got, checks) {
				t.Errorf("gaps %q, want %q", got, checks)
			}
			if len(res.Suspects) == 0 {
				t.Error("nothing else was checked")
			}
		})
	}
}

func TestNothingMayBeRead(t *testing.T) {
	w := newWorld(t)
	w.Deny(sim.Rule{})
	if _, err := detect.Find(t.Context(), detect.Request{Client: w.client}); err == nil ||
		!strings.Contains(err.Error(), "forbidden") {
		t.Errorf("the error is %v", err)
	}
	res := w.find(t, falco("backend-1", "x", "Critical", "2026-02-12T09:00:00Z"))
	if len(res.Suspects) != 1 || len(res.Gaps) == 0 || res.Suspects[0].Gone {
		t.Errorf("the alerts alone are worth a look: %+v", res)
	}
	if lines, errs := res.Gaps.Lines(); len(lines) != 4 || len(errs) != 4 ||
		!strings.HasPrefix(lines[0], "privileged, host-namespaces, ") {
		t.Errorf("each list that is missing is told of once: %q", lines)
	}
}

func TestAnAlertOfAContainerFindsItsPod(t *testing.T) {
	w := newWorld(t)
	alert := fmt.Sprintf(`{"rule":"x","priority":"Critical","output_fields":{"container.id":"%.12s"}}`,
		fmt.Sprintf("%064d", 0))
	res := w.find(t, detect.Input{Source: detect.SourceFalco, Path: "alerts", Reader: strings.NewReader(alert)})
	if res.Suspects[0].Kind != "pod" {
		t.Errorf("%+v", res.Suspects[0])
	}
}

func TestWhatIsGoneOrContainedAlreadyIsSaid(t *testing.T) {
	w := newWorld(t)
	w.edit(t, w.suspect, func(o *unstructured.Unstructured) {
		o.SetLabels(map[string]string{"quarantine": "true", "irctl/incident": "inc-20260212-090000-abcd"})
	})
	res := w.find(t, falco(w.suspect, "x", "Critical", ""), falco("backend-gone", "x", "Critical", ""))
	// A time that cannot be read makes an alert malformed.
	if res.Sources[0].Malformed != 1 {
		t.Errorf("%+v", res.Sources)
	}
	res = w.find(t, falco(w.suspect, "x", "Critical", "2026-02-12T09:00:00Z"),
		falco("backend-gone", "x", "Critical", "2026-02-12T09:00:00Z"))
	for _, s := range res.Suspects {
		switch s.Name {
		case "todo-app/" + w.suspect:
			if s.Incident != "inc-20260212-090000-abcd" || s.Gone {
				t.Errorf("%+v", s)
			}
		case "todo-app/backend-gone":
			if !s.Gone {
				t.Errorf("%+v", s)
			}
		}
	}
}

func TestOpen(t *testing.T) {
	w := newWorld(t)
	store, err := incident.NewStore(filepath.Join(t.TempDir(), "irctl"), incident.Options{Now: func() time.Time {
		return w.now
	}})
	if err != nil {
		t.Fatal(err)
	}
	open := func(s detect.Suspect) detect.Opened {
		t.Helper()
		o, err := detect.Open(t.Context(), store, detect.Opening{Suspect: s, Client: w.client,
			Cluster: incident.Cluster{Server: "s", UID: "u"}, Now: func() time.Time { return w.now }})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	suspect := w.find(t, falco(w.suspect, "Known Cryptominer Process Executed", "Critical",
		"2026-02-12T09:30:00+01:00")).Suspects[0]
	first := open(suspect)
	if !first.Created || first.Incident.Severity != incident.Sev1 || len(first.Incident.Targets) != 1 {
		t.Fatalf("%+v", first)
	}
	target := first.Incident.Targets[0]
	if target.Name != w.suspect || target.UID == "" || len(target.Owners) != 2 || target.Owners[1].Name != "backend" {
		t.Errorf("the target is %+v", target)
	}
	if again := open(suspect); again.Created || again.Incident.ID != first.Incident.ID {
		t.Errorf("the same suspect opened another: %+v", again)
	}
	path, err := store.TimelinePath(first.Incident.ID)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := timeline.Read(path)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if e := entries[1]; e.Phase != detect.Phase || !strings.Contains(e.Data.String(), `"2026-02-12T09:30:00+01:00"`) ||
		!strings.Contains(e.Data.String(), `"proc.cmdline":"xmrig"`) {
		t.Errorf("the entry lost the alert: %+v\n%s", e, e.Data)
	}
	// Falco raised the alarm an hour before anybody opened an incident.
	if m := timeline.MetricsOf(entries); !m.DetectedAt.Equal(w.now.Add(-time.Hour)) || !m.AcknowledgedAt.Equal(w.now) ||
		!m.StartedAt.Equal(w.now.Add(-time.Hour)) {
		t.Errorf("%+v", m)
	}
}

func TestOpenForWhatCannotBeContained(t *testing.T) {
	store, err := incident.NewStore(filepath.Join(t.TempDir(), "irctl"), incident.Options{})
	if err != nil {
		t.Fatal(err)
	}
	hostile := "mallory\x1b[2J\n\u202e"
	suspects := detect.Rank([]detect.Finding{{Code: "rbac-change", Score: 72, Reason: hostile,
		Subject: detect.Subject{User: hostile}}})
	for _, created := range []bool{true, false} {
		o, err := detect.Open(t.Context(), store, detect.Opening{Suspect: suspects[0], Now: time.Now})
		if err != nil || o.Created != created || len(o.Incident.Targets) != 0 {
			t.Errorf("%+v, %v", o, err)
		}
	}
}

func TestOpenWithoutACluster(t *testing.T) {
	store, err := incident.NewStore(filepath.Join(t.TempDir(), "irctl"), incident.Options{})
	if err != nil {
		t.Fatal(err)
	}
	finding := detect.Finding{Code: "falco", Score: 90, Reason: "r", Subject: detect.Subject{Namespace: "n", Pod: "p"}}
	o, err := detect.Open(t.Context(), store, detect.Opening{Suspect: detect.Rank([]detect.Finding{finding})[0],
		Now: time.Now, Title: "mine", Severity: incident.Sev4})
	if err != nil || len(o.Incident.Targets) != 1 || o.Incident.Title != "mine" ||
		o.Incident.Severity != incident.Sev4 {
		t.Errorf("%+v, %v", o, err)
	}
}
