package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
