package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Diagnosis is one thing that doctor looked at.
type Diagnosis struct {
	Check string `json:"check"`
	State string `json:"state"`
	Text  string `json:"text"`
}

func (p *Person) doctor(code int, args ...string) []Diagnosis {
	p.t.Helper()
	var printed struct {
		Checks []Diagnosis `json:"checks"`
	}
	run := p.irctl(append([]string{"doctor", "-o", "json"}, args...)...).exits(code)
	run.decode(&printed)
	if len(printed.Checks) == 0 {
		p.t.Fatalf("doctor looked at nothing%s", run)
	}
	return printed.Checks
}

// The role that ships is enough for a responder, in one namespace and in all;
// replacing secrets and deleting suspects have roles of their own.
func TestDoctorFindsTheResponderHealthy(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"-A"}} {
		for _, d := range newPerson(t, responder).doctor(exitDone, args...) {
			expected := slices.Contains([]string{"recipients", "right to eradicate", "right to recover"}, d.Check)
			if d.State == "bad" || d.State == "warning" && world.Cluster != nil && !expected {
				t.Errorf("doctor %s: %s: %s: %s", strings.Join(args, " "), d.Check, d.State, d.Text)
			}
		}
	}
}

// An investigator learns before the incident what they will not be able to do.
func TestDoctorTellsTheInvestigatorWhatIsMissing(t *testing.T) {
	t.Parallel()
	bad := map[string]string{}
	for _, d := range newPerson(t, investigator).doctor(exitError) {
		if d.State == "bad" {
			bad[d.Check] += d.Text
		}
	}
	if text := bad["right to contain"]; !strings.Contains(text, "networkpolicies") {
		t.Errorf("the right to create policies is not missed: %v", bad)
	}
	if text, missed := bad["right to investigate"]; missed {
		t.Errorf("an investigator may not investigate: %s", text)
	}
}

// missing are the rights of a check that doctor says are not there.
func missing(list []Diagnosis, check string) string {
	var all []string
	for _, d := range list {
		if d.Check == check && d.State != "ok" {
			all = append(all, d.Text)
		}
	}
	return strings.Join(all, "\n")
}

// What it takes to take a suspect out of its bindings is known beforehand: the
// role that ships, and bind on what the binding binds, or the rights of that.
func TestDoctorTellsWhatRemovingBindingsNeeds(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.todoApp()
	jane := newPerson(t, responder)
	const patch, bind = "may not patch rolebindings", "may not bind roles"
	if text := missing(jane.doctor(exitDone, "-n", n.name), "right to eradicate"); !strings.Contains(text, patch) ||
		!strings.Contains(text, bind) {
		t.Errorf("not missed: %s", text)
	}
	n.grant("irctl-unbinder")
	if text := missing(jane.doctor(exitDone, "-n", n.name), "right to eradicate"); strings.Contains(text, patch) ||
		!strings.Contains(text, bind) {
		t.Errorf("with irctl-unbinder is missing: %s", text)
	}

	jane.contain("--pod", n.pod("app=backend").Name, "-n", n.name).exitsContained()
	bound := func() int {
		b, err := world.Client.RbacV1().RoleBindings(n.name).
			Get(t.Context(), "backend-rolebinding", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return len(b.Subjects)
	}
	// The responder may not read secrets, as the role allows.
	r := jane.irctl("eradicate", "--remove-bindings", "--yes", "-o", "json").exits(exitError)
	if bound() != 1 || !strings.Contains(r.stderr, "may bind that role") {
		t.Errorf("%d subjects; without the rights of the role%s", bound(), r)
	}
	n.grantRule("irctl-bind",
		`{apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [bind], resourceNames: [backend-role]}`)
	if r := jane.irctl("eradicate", "--remove-bindings", "--yes", "-o", "json").exits(exitNotContained); bound() != 0 {
		t.Errorf("%d subjects are left%s", bound(), r)
	}
	if jane.undo("--step", "bindings").exits(exitDone); bound() != 1 {
		t.Errorf("undone, the binding has %d subjects", bound())
	}
}

// What the team's manifests need depends on their kinds; what doctor asks for is
// enough to apply them, and to undo it.
func TestDoctorTellsWhatManifestsNeed(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.todoApp()
	jane := newPerson(t, responder)
	manifests := filepath.Join(jane.home, "team.yaml")
	if err := os.WriteFile(manifests, []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: team}, data: {a: b}}"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if text := missing(jane.doctor(exitError, "-n", n.name, "--apply", manifests),
		"right to apply"); !strings.Contains(text, "may not create configmaps in namespace "+n.name) {
		t.Errorf("not missed: %s", text)
	}
	n.grantRule("irctl-applier", `{apiGroups: [""], resources: [configmaps], verbs: [get, patch, create, delete]}`)
	if text := missing(jane.doctor(exitDone, "-n", n.name, "--apply", manifests), "right to apply"); text != "" {
		t.Errorf("with the rights that were asked for: %s", text)
	}

	jane.contain("--pod", n.pod("app=backend").Name, "-n", n.name).exitsContained()
	there := func() bool {
		_, err := world.Client.CoreV1().ConfigMaps(n.name).Get(t.Context(), "team", metav1.GetOptions{})
		if ignoreNotFound(err) != nil {
			t.Fatal(err)
		}
		return err == nil
	}
	if r := jane.irctl("eradicate", "--apply", manifests, "-n", n.name, "--yes", "-o", "json").
		exits(exitNotContained); !there() {
		t.Errorf("not applied%s", r)
	}
	if jane.undo("--step", "apply").exits(exitDone); there() {
		t.Error("undone, it is still there")
	}
}

// A server that is not there is an error of its own, soon.
func TestDoctorTellsThatTheServerIsGone(t *testing.T) {
	t.Parallel()
	jane := newPerson(t, responder)
	jane.kubeconfig = filepath.Join(jane.home, "kubeconfig")
	const nobody = `
apiVersion: v1
kind: Config
current-context: x
clusters: [{name: x, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: x, context: {cluster: x, user: x}}]
users: [{name: x, user: {token: x}}]
`
	if err := os.WriteFile(jane.kubeconfig, []byte(nobody), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range jane.doctor(exitError) {
		if d.Check == "server" && d.State == "bad" {
			return
		}
	}
	t.Error("doctor does not say that the server is out of reach")
}

// Credentials that are no longer valid are told apart from rights that are missing.
func TestExpiredCredentials(t *testing.T) {
	t.Parallel()
	if world.Cluster == nil {
		t.Skip("impersonation has no credentials of its own to spoil")
	}
	jane := newPerson(t, responder)
	r := jane.irctl("contain", "--yes", "--pod", "x", "--token", "not-a-token").exits(exitError)
	if !strings.Contains(r.stderr, "credentials") {
		t.Errorf("the credentials are not blamed%s", r)
	}
}
