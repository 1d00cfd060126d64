package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/test/e2e/cluster"
)

// The values that the todo-app is deployed with, and that the attacker has.
const (
	stolenPassword = "not-a-secret-password"
	stolenKey      = "gsk_not_a_secret"
)

// runbook is the one that ships.
const runbook = "compromised-pod"

// issuedKey is what the third party issued instead.
const issuedKey = "gsk_issued_for_the_e2e_test"

// How long before anybody ran irctl things happened.
const (
	beforeSign  = 14 * time.Minute // the API server saw a command in the pod
	beforeAlert = 9 * time.Minute  // Falco raised the alarm
)

// An Affair is an attack on the todo-app, and who deals with it.
type Affair struct {
	*Namespace
	jane    *Person
	keys    *Keyring
	suspect *corev1.Pod
	account *corev1.ServiceAccount
	began   time.Time // when jane took it up
	files   string    // what jane was given: not where irctl writes
	patched string    // the image
	id      string
}

// newAffair deploys the app and lets a shell appear in a pod of its backend.
func newAffair(t *testing.T) *Affair {
	t.Helper()
	if world.Cluster == nil {
		t.Skip("the patched image is on our own node only")
	}
	n := newNamespace(t)
	n.todoApp()
	a := &Affair{Namespace: n, jane: newPerson(t, responder), keys: newKeyring(t), suspect: n.pod("app=backend"),
		files: t.TempDir(), began: time.Now()}
	a.grant("irctl-eradicator", "irctl-recoverer")
	var err error
	if a.account, err = world.Client.CoreV1().ServiceAccounts(n.name).
		Get(n.ctx(), "backend-sa", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if a.patched, err = world.Cluster.ImageByDigest(n.ctx(), cluster.PatchedImage); err != nil {
		t.Fatal(err)
	}
	a.file("admin.dsn",
		"host=postgres port=5432 user=postgres password=not-a-secret-admin-password dbname=postgres sslmode=disable\n")
	a.file("groq.key", issuedKey+"\n")
	a.file("alerts.jsonl", a.alert("Notice", "Terminal shell in container", "sh -i", beforeAlert)+
		a.alert("Critical", "Detect outbound connections to common miner pool ports", "xmrig -o 203.0.113.80:3333",
			beforeAlert-time.Minute))
	a.file("audit.jsonl", a.command(beforeSign))
	// Somebody used the app: its data must be there afterwards.
	if got := a.sql(stolenPassword, "INSERT INTO todos (title) VALUES ('buy milk') RETURNING title"); !strings.Contains(
		got, "buy milk") {
		t.Fatalf("the database is not as the app needs it: %s", got)
	}
	return a
}

func (a *Affair) path(name string) string { return filepath.Join(a.files, name) }

func (a *Affair) file(name, content string) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), []byte(content), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// alert is a line as Falco writes it.
func (a *Affair) alert(priority, rule, command string, ago time.Duration) string {
	at := a.began.Add(-ago).UTC()
	line, err := json.Marshal(map[string]any{
		"hostname": a.suspect.Spec.NodeName, "priority": priority, "rule": rule, "source": "syscall",
		"output": fmt.Sprintf("%s: %s %s | command=%s container_name=backend k8s_pod_name=%s k8s_ns_name=%s",
			at.Format("15:04:05.000000000"), priority, rule, command, a.suspect.Name, a.name),
		"tags": []string{"T1059", "container", "maturity_stable", "mitre_execution", "shell"},
		"time": at.Format(time.RFC3339Nano),
		"output_fields": map[string]any{"container.name": "backend", "evt.type": "execve", "k8s.ns.name": a.name,
			"k8s.pod.name": a.suspect.Name,
			"proc.cmdline": command, "user.name": "root", "user.uid": 0},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(line) + "\n"
}

// command is a line of the API server's audit log about a command in the suspect.
func (a *Affair) command(ago time.Duration) string {
	at := a.began.Add(-ago).UTC().Format("2006-01-02T15:04:05.000000Z")
	line, err := json.Marshal(map[string]any{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "9f0a",
		"stage": "ResponseStarted", "verb": "create",
		"requestURI": fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/exec?command=sh&container=backend&stdin=true&tty=true",
			a.name, a.suspect.Name),
		"user": map[string]any{"username": "system:serviceaccount:ci:deployer",
			"groups": []string{"system:serviceaccounts", "system:authenticated"}},
		"sourceIPs": []string{"198.51.100.7"}, "userAgent": "kubectl/v1.32.4",
		"objectRef": map[string]any{"resource": "pods", "namespace": a.name, "name": a.suspect.Name,
			"apiVersion": "v1", "subresource": "exec"},
		"responseStatus":           map[string]any{"code": 101},
		"requestReceivedTimestamp": at, "stageTimestamp": at,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(line) + "\n"
}

// sql asks the database as the app's role, from within its pod, where a password
// is needed too.
func (a *Affair) sql(password, statement string) (answer string) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.ctx(), waitLimit)
	defer cancel()
	connection := fmt.Sprintf("host=127.0.0.1 user=todo password=%s dbname=todo_db", password)
	answer, _, err := world.exec(ctx, a.pod("app=postgres"), "psql", "-At", "-c", statement, connection)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer
}

// secret is a value of a Secret as it is now.
func (a *Affair) secret(name, key string) string {
	a.t.Helper()
	secret, err := world.Client.CoreV1().Secrets(a.name).Get(a.ctx(), name, metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(secret.Data[key])
}

// detect opens the incident from the alerts.
func (a *Affair) detect() {
	a.t.Helper()
	var found struct {
		Incident string `json:"incident"`
		Opened   bool   `json:"opened"`
		Suspects []struct {
			Name     string `json:"name"`
			Severity string `json:"severity"`
		} `json:"suspects"`
	}
	a.jane.irctl("detect", "-n", a.name, "--falco", a.path("alerts.jsonl"), "--audit-log", a.path("audit.jsonl"),
		"--open", "-o", "json").exits(exitNotContained).decode(&found)
	if !found.Opened || len(found.Suspects) == 0 || found.Suspects[0].Name != a.name+"/"+a.suspect.Name ||
		found.Suspects[0].Severity != "critical" {
		a.t.Fatalf("the suspect is not found first: %+v", found)
	}
	a.id = found.Incident
}

// values are the runbook's parameters, in its order. It does not watch for the attacker's
// return: the same image runs in other tests.
func (a *Affair) values() [][2]string {
	return [][2]string{
		{"alert", "Terminal shell in container"},
		{"image", a.patched},
		{"generate", "BETTER_AUTH_SECRET=random,SECRET_KEY=random"},
		{"setFrom", "GROQ_API_KEY=" + a.path("groq.key")},
		{"keep", "POSTGRES_USER,POSTGRES_DB"},
		{"postgres", "POSTGRES_PASSWORD=todo"},
		{"postgresAdmin", a.path("admin.dsn")},
		{"postgresForward", a.name + "/service/postgres"},
		{"revoked", "GROQ_API_KEY"},
		{"watch", "0s"},
	}
}

// run is the one command that takes an incident from there to its end.
func (a *Affair) run() []string {
	command := []string{"run", runbook, "--yes", "-o", "json", "-r", a.keys.public,
		"--set", "pod=" + a.name + "/" + a.suspect.Name}
	for _, v := range a.values() {
		command = append(command, "--set", v[0]+"="+v[1])
	}
	return command
}

// The whole procedure, on the whole app, by one command: from the alert to the
// report.
func TestTheWholeIncident(t *testing.T) {
	t.Parallel()
	needsEnforcement(t)
	a := newAffair(t)
	traffic := []Flow{flow(a.pod("app=frontend"), a.suspect, 8000), flow(a.suspect, a.pod("app=postgres"), 5432)}
	a.flows(traffic...)
	a.detect()

	a.gone(a.jane.irctl(a.run()...))

	a.over()
	a.evidence()
	a.reports()
}

// gone fails the test unless a run went through everything, and nothing is left:
// with its account made anew, the suspect's token is worth nothing, too.
func (a *Affair) gone(run *Run) {
	a.t.Helper()
	var result struct {
		Incident string
		Opened   bool
		State    string
		Verdict  string
		Steps    []struct {
			Name, Uses, Outcome, Error string
			NotNeeded                  bool
			Results                    struct {
				Verdict    string
				Eradicated bool
				Patched    bool
				Unknown    []string
			}
		}
	}
	run.exits(exitDone).decode(&result)
	if result.Incident != a.id || result.Opened || result.State != "finished" || result.Verdict != contained {
		a.t.Errorf("%s: %+v; want the incident %s that detect opened, finished, contained", run.command, result, a.id)
	}
	done := map[string]bool{}
	for _, step := range result.Steps {
		done[step.Uses] = done[step.Uses] || step.Outcome == "done"
		if step.Outcome != "done" && !step.NotNeeded {
			a.t.Errorf("step %s: %s: %s", step.Name, step.Outcome, step.Error)
		}
		if verdict := step.Results.Verdict; step.Uses == "restore" &&
			(verdict != "recovered" || len(step.Results.Unknown) > 0) {
			a.t.Errorf("step %s: %s, not known: %v", step.Name, verdict, step.Results.Unknown)
		}
	}
	for _, uses := range []string{"contain", "investigate", "detect", "eradicate", "restore", "release", "report"} {
		if !done[uses] {
			a.t.Errorf("the run did not %s", uses)
		}
	}
}

// Whatever phase irctl is killed in, the same command goes on, and the end is the
// same.
func TestAnIncidentKilledInEachPhase(t *testing.T) {
	t.Parallel()
	needsEnforcement(t)
	a := newAffair(t)
	a.detect()
	for _, kill := range []struct {
		phase string
		at    func(JournalEntry) bool
	}{
		{"detect", func(e JournalEntry) bool { return e.Data.Run.Phase == "detect" }},
		{"contain", func(e JournalEntry) bool { return e.Phase == "contain" && e.Kind == "intent" }},
		{"investigate", func(e JournalEntry) bool {
			return e.Phase == "investigate" && e.Data.Run.Event == "step-begun"
		}},
		{"eradicate", func(e JournalEntry) bool { return e.Step == "update" && e.Kind == "intent" }},
		{"eradicate", func(e JournalEntry) bool { return e.Step == "restart" && e.Kind == "outcome" }},
		{"recover", func(e JournalEntry) bool { return e.Undoes > 0 }},
		{"post-mortem", func(e JournalEntry) bool { return e.Phase == "post-mortem" }},
	} {
		a.killed(kill.phase, a.run(), kill.at)
	}

	a.gone(a.jane.irctl(a.run()...))

	a.over()
	a.evidence()
	a.reports()
}

// A JournalEntry is what the tests read of a line of timeline.jsonl.
type JournalEntry struct {
	Seq, Undoes       int64
	Kind, Phase, Step string
	Data              struct {
		Run struct{ Event, Phase, Step string }
	}
}

// journal is the incident's timeline. A line that is being written is not read.
func (a *Affair) journal() (entries []JournalEntry) {
	a.t.Helper()
	data, err := os.ReadFile(filepath.Join(a.jane.state(), "incidents", a.id, "timeline.jsonl"))
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var entry JournalEntry
		if json.Unmarshal([]byte(line), &entry) == nil { // other data has other fields
			entries = append(entries, entry)
		}
	}
	return entries
}

// killed runs a command and kills it as soon as it has written an entry of the
// kind that is waited for.
func (a *Affair) killed(phase string, args []string, at func(JournalEntry) bool) {
	a.t.Helper()
	before := len(a.journal())
	command := a.jane.prepare(context.Background(), args...)
	if err := command.Start(); err != nil {
		a.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	limit := time.After(runLimit)
	for {
		select {
		case err := <-ended:
			a.t.Fatalf("irctl ended (%v) before it was killed in the phase %s", err, phase)
		case <-limit:
			_ = command.Process.Kill()
			a.t.Fatalf("irctl does not come to the phase %s", phase)
		case <-time.After(time.Millisecond):
		}
		if entries := a.journal(); slices.ContainsFunc(entries[min(before, len(entries)):], at) {
			_ = command.Process.Kill() // it may have ended
			<-ended
			last := a.journal()
			a.t.Logf("killed in the phase %s at entry %d", phase, last[len(last)-1].Seq)
			return
		}
	}
}

// over fails the test unless the cluster is as it should be after the incident.
func (a *Affair) over() {
	a.t.Helper()
	// The app serves again, patched, without the suspect, with its data.
	a.awaitPods("app=backend", 2)
	for _, pod := range a.pods("app=backend") {
		if pod.UID == a.suspect.UID {
			a.t.Error("the suspect serves again")
		}
		if image := pod.Spec.Containers[0].Image; image != a.patched {
			a.t.Errorf("%s runs %s, want %s", pod.Name, image, a.patched)
		}
		// It runs only since there is a new password: this is a log-in with it.
		a.logs(&pod, "backend", false, "as todo")
		a.logs(&pod, "backend", false, "todo-backend 1.4.2")
	}
	if served := a.endpoints("backend"); len(served) != 2 || slices.Contains(served, a.suspect.Name) {
		a.t.Errorf("the Service sends to %v", served)
	}
	service, err := world.Client.CoreV1().Services(a.name).Get(a.ctx(), "backend", metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	a.flows(Flow{a.pod("app=frontend"), service.Spec.ClusterIP + ":8000", "frontend → Service backend"})

	// The suspect is there, as it ran, and cut off.
	a.survives(a.suspect)
	if label := a.again(a.suspect).Labels["quarantine"]; label != "true" {
		a.t.Errorf("quarantine=%q", label)
	}
	a.stopped(flow(a.pod("app=frontend"), a.suspect, 8000), flow(a.suspect, a.pod("app=postgres"), 5432))

	// What the attacker has is worth nothing.
	if answer := a.sql(stolenPassword, "SELECT 1"); !strings.Contains(answer, "password authentication failed") {
		a.t.Errorf("the old password: %s", answer)
	}
	if answer := a.sql(a.secret("postgres-secret", "POSTGRES_PASSWORD"),
		"SELECT title FROM todos WHERE title = 'buy milk'"); answer != "buy milk\n" {
		a.t.Errorf("the new password, and the data: %s", answer)
	}
	for key, old := range map[string]string{"BETTER_AUTH_SECRET": "not-a-secret-better-auth",
		"SECRET_KEY": "not-a-secret-key"} {
		if now := a.secret("backend-secret", key); now == old || now == "" {
			a.t.Errorf("%s is %q", key, now)
		}
	}
	if now := a.secret("backend-secret", "GROQ_API_KEY"); now != issuedKey {
		a.t.Errorf("GROQ_API_KEY is %q", now)
	}
	if user := a.secret("postgres-secret", "POSTGRES_USER"); user != "todo" {
		a.t.Errorf("what is no secret was replaced: %q", user)
	}
	account, err := world.Client.CoreV1().ServiceAccounts(a.name).Get(a.ctx(), "backend-sa", metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	if account.UID == a.account.UID {
		a.t.Error("tokens of the service account are valid still")
	}
	// Of none of them is anything on the disk.
	for _, value := range []string{stolenPassword, stolenKey, issuedKey, "not-a-secret-admin-password",
		a.secret("postgres-secret", "POSTGRES_PASSWORD"), a.secret("backend-secret", "SECRET_KEY")} {
		if holds(a.t, a.jane.home, value) {
			a.t.Errorf("%.6s… is on the disk", value)
		}
	}
	a.jane.irctl("timeline", "verify", "--incident", a.id).exits(exitDone)
}

// evidence fails the test unless stock tools open what was sealed.
func (a *Affair) evidence() {
	a.t.Helper()
	bundles, err := filepath.Glob(filepath.Join(a.jane.state(), "incidents", a.id, "*.tar.*.gpg"))
	if err != nil || len(bundles) < 2 {
		a.t.Fatalf("bundles: %v, %v; want the snapshot and the investigation", bundles, err)
	}
	for _, bundle := range bundles {
		bag := a.keys.open(bundle)
		for _, text := range []string{"todo-backend 1.4.1", "database: connected to"} {
			if !holds(a.t, bag, text) {
				a.t.Errorf("%s has no log that holds %q", filepath.Base(bundle), text)
			}
		}
		checkDigests(a.t, bag)
	}
}

// checkDigests has sha256sum check a bag.
func checkDigests(t *testing.T, bag string) {
	t.Helper()
	manifests, err := filepath.Glob(filepath.Join(bag, "*", "manifest-sha256.txt"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests: %v, %v; want one", manifests, err)
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "--quiet",
		filepath.Base(manifests[0]))
	check.Dir = filepath.Dir(manifests[0])
	if output, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// reports fails the test unless the report tells what happened, and when, in
// every format.
func (a *Affair) reports() {
	a.t.Helper()
	var report struct {
		Chain     struct{ State string }
		Durations []struct {
			Name    string
			Seconds *float64
			Note    string
		}
		Evidence  []struct{ SHA256 string }
		Rotations []struct{ Object, Outcome string }
	}
	a.jane.irctl("report", a.id, "--format", "json").exits(exitDone).decode(&report)
	if report.Chain.State != "verified" {
		a.t.Errorf("the chain is %s", report.Chain.State)
	}
	since := time.Since(a.began)
	for name, want := range map[string]struct{ least, most time.Duration }{
		"detect":      {beforeSign - beforeAlert, beforeSign - beforeAlert},
		"acknowledge": {beforeAlert, beforeAlert + since},
		"contain":     {beforeAlert, beforeAlert + since},
		"eradicate":   {beforeAlert, beforeAlert + since},
		"recover":     {beforeAlert, beforeAlert + since},
	} {
		n := slices.IndexFunc(report.Durations, func(d struct {
			Name    string
			Seconds *float64
			Note    string
		}) bool {
			return d.Name == name
		})
		if n < 0 || report.Durations[n].Seconds == nil {
			a.t.Errorf("the time to %s is not known: %+v", name, report.Durations)
			continue
		}
		took := time.Duration(*report.Durations[n].Seconds * float64(time.Second))
		if took < want.least-time.Second || took > want.most+time.Second {
			a.t.Errorf("the time to %s is %s, want %s to %s", name, took, want.least, want.most)
		}
	}
	if len(report.Evidence) < 2 || len(report.Rotations) == 0 {
		a.t.Errorf("evidence %+v, rotations %+v", report.Evidence, report.Rotations)
	}
	for _, format := range []string{"markdown", "html"} {
		text := a.jane.irctl("report", a.id, "--format", format).exits(exitDone).stdout
		for _, want := range []string{a.suspect.Name, report.Evidence[0].SHA256, "postgres-secret", "backend-sa"} {
			if !strings.Contains(text, want) {
				a.t.Errorf("%s: nothing about %s", format, want)
			}
		}
		if folder := os.Getenv("IRCTL_E2E_REPORTS"); folder != "" {
			if err := os.WriteFile(filepath.Join(folder, "report."+format), []byte(text), 0o600); err != nil {
				a.t.Error(err)
			}
		}
	}
}
