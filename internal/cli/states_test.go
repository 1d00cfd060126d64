package cli_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/cli"
	"irctl/internal/drill"
	"irctl/internal/drill/sim"
	"irctl/internal/fixture"
)

// states are the fixtures, in the order in which an incident goes through them.
var states = []string{"open", "interrupted", "denied", "denied-by-webhook", "exposed", "contained", "run", "drill",
	"undone", "rotated", "recovered", "closed"}

// row is a command line of the table. In it stand SUSPECT and OTHER for pods,
// INCIDENT for the incident, BUNDLE for its evidence, and HOME for the responder's
// directory.
type row struct {
	line string
	// once says why the states make no difference: it is run in the first only.
	once string
	// never says why it is not run at all.
	never string
}

const (
	noIncident = "reads no incident and no cluster"
	noCluster  = "reads alerts alone"
	aGroup     = "is only a group of commands"
	noTerminal = "needs a terminal, and says so"
)

// table has every command. A command with several lines has one for each thing
// that it does differently.
var table = []row{
	{line: "", once: noTerminal},
	{line: "detect"},
	{line: "detect -n todo-app --open --severity sev3"},
	{line: "detect --no-cluster --falco HOME/alerts.jsonl", once: noCluster},
	{line: "detect --no-cluster --falco HOME/nonsense.jsonl", once: noCluster},
	{line: "contain --pod SUSPECT --yes"},
	{line: "contain --pod SUSPECT --dry-run"},
	{line: "contain --pod SUSPECT --incident INCIDENT --yes"},
	{line: "contain --pod OTHER --incident INCIDENT --yes"},
	{line: "contain -l app=nonesuch --yes"},
	{line: "contain --pod nonesuch --yes"},
	{line: "investigate --pod SUSPECT --yes"},
	{line: "investigate --pod SUSPECT --dry-run"},
	{line: "eradicate --plan"},
	{line: "eradicate --all-secrets --generate-rest random " + fromIssuer + " --yes"},
	{line: "eradicate --all-secrets --generate-rest random " + fromIssuer +
		" --revoked GROQ_API_KEY --incident INCIDENT --yes"},
	{line: "eradicate --all-secrets --generate-rest random " + fromIssuer + " --dry-run"},
	{line: "eradicate --secret nonesuch --yes"},
	{line: "eradicate --image backend=" + patched + " --yes"},
	{line: "eradicate --image backend=registry.example.com/todo-backend:1.4.2 --allow-tag --timeout 10s --yes"},
	{line: "eradicate --remove-bindings --yes"},
	{line: "recover --wait 3s --yes"},
	{line: "recover --dry-run"},
	{line: "recover --wait 3s --same-image --yes"},
	{line: "recover --wait 3s --suspect delete --incident INCIDENT --yes"},
	{line: "recover --wait 3s --monitor 3s --every 100ms --yes"},
	{line: "undo --yes"},
	{line: "undo --all --yes"},
	{line: "undo --all --dry-run"},
	{line: "undo --all --incident INCIDENT --yes"},
	{line: "undo --step scale --yes"},
	{line: "undo --step nonsense --yes"},
	{line: "accept"},
	{line: "accept token --reason revoked"},
	{line: "accept token --withdraw --incident INCIDENT"},
	{line: "accept nonesuch --reason why"},
	{line: "status"},
	{line: "status INCIDENT"},
	{line: "status nonesuch"},
	{line: "run cut-off --runbook-dir HOME/runbooks --set pod=SUSPECT --yes"},
	{line: "run cut-off --runbook-dir HOME/runbooks --set pod=SUSPECT --incident INCIDENT --yes"},
	{line: "run compromised-pod --set pod=SUSPECT --dry-run"},
	{line: "report"},
	{line: "report INCIDENT"},
	{line: "report INCIDENT --format html -f HOME/report.html"},
	{line: "report INCIDENT --format json"},
	{line: "incident", once: aGroup},
	{line: "incident list"},
	{line: "incident list --all"},
	{line: "incident show"},
	{line: "incident show INCIDENT"},
	{line: "incident open --title Another"},
	{line: "incident set severity=sev1"},
	{line: "incident set INCIDENT severity=sev1"},
	{line: "incident close --note over"},
	{line: "incident close INCIDENT --note over"},
	{line: "incident close INCIDENT --leave-standing evidence"},
	{line: "incident reopen INCIDENT --reason return"},
	{line: "incident repair INCIDENT"},
	{line: "timeline", once: aGroup},
	{line: "timeline show"},
	{line: "timeline show --incident INCIDENT"},
	{line: "timeline verify --incident INCIDENT"},
	{line: "timeline note --incident INCIDENT seen"},
	{line: "timeline export --incident INCIDENT --format csv"},
	{line: "evidence", once: aGroup},
	{line: "evidence verify BUNDLE"},
	{line: "evidence verify BUNDLE --content --key HOME/keys/responder.secret.asc"},
	{line: "evidence ls BUNDLE --key HOME/keys/responder.secret.asc"},
	{line: "evidence cat BUNDLE manifest-sha256.txt --key HOME/keys/responder.secret.asc"},
	{line: "evidence extract BUNDLE HOME/extracted --key HOME/keys/responder.secret.asc"},
	{line: "evidence clean INCIDENT --yes"},
	{line: "evidence custody", once: aGroup},
	{line: "evidence custody add BUNDLE --from responder --to forensics"},
	{line: "evidence custody list BUNDLE"},
	{line: "evidence timestamp BUNDLE --tsa-query"},
	{line: "doctor"},
	{line: "doctor --roles", once: noIncident},
	{line: "runbook", once: aGroup},
	{line: "runbook list --runbook-dir HOME/runbooks", once: noIncident},
	{line: "runbook lint HOME/runbooks/cut-off.yaml", once: noIncident},
	{line: "runbook show cut-off --runbook-dir HOME/runbooks", once: noIncident},
	{line: "runbook graph cut-off --runbook-dir HOME/runbooks", once: noIncident},
	{line: "runbook new ours -f HOME/ours.yaml", once: noIncident},
	{line: "runbook operations", once: noIncident},
	{line: "runbook schema", once: noIncident},
	{line: "config", once: aGroup},
	{line: "config view", once: noIncident},
	{line: "config validate", once: noIncident},
	{line: "drill", once: noTerminal},
	{line: "drill list", once: noIncident},
	{line: "drill schema", once: noIncident},
	{line: "drill serve", never: "makes a cluster of its own, and serves it until it is stopped: script/drill.txtar"},
	{line: "version", once: noIncident},
	{line: "completion bash", once: noIncident},
	{line: "options", once: noIncident},
}

const fromIssuer = "--set-from GROQ_API_KEY=HOME/new.key"

var patched = "registry.example.com/todo-backend@sha256:" + strings.Repeat("a", 64)

// TestStates is the table of what every command ends with in every state of an
// incident: exit code and verdict, in testdata/states.golden. With -short it is a
// sample of it, in which every command is.
func TestStates(t *testing.T) {
	if *update && testing.Short() {
		t.Fatal("-update needs the whole table: leave -short out")
	}
	fixtures := load(t)
	var cells []*cell
	for i, r := range table {
		cells = append(cells, &cell{text: strings.TrimSpace("# irctl " + r.line)})
		switch {
		case r.never != "":
			cells = append(cells, &cell{text: fmt.Sprintf("%-18s %s", "never", r.never)})
		case r.once != "":
			cells = append(cells, &cell{row: r, state: states[0], name: "once", why: "   (" + r.once + ")"})
		default:
			for j, state := range states {
				left := testing.Short() && (i+j)%6 != 0
				cells = append(cells, &cell{row: r, state: state, name: state, left: left})
			}
		}
		cells = append(cells, &cell{})
	}
	var all sync.WaitGroup
	free := make(chan struct{}, 8) // some wait for what their cluster does
	for _, c := range cells {
		if c.state == "" || c.left {
			continue
		}
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			c.text = fmt.Sprintf("%-18s %s%s", c.name, newDesk(t, fixtures[c.state]).ends(c.row.line), c.why)
		})
	}
	all.Wait()
	compare(t, "testdata/states.golden", cells)
}

// cell is a line of the table. Where it has a state, it is what the row's command
// ends with in it.
type cell struct {
	row              row
	state, name, why string
	text             string
	left             bool // out of the sample
}

func compare(t *testing.T, path string, cells []*cell) {
	t.Helper()
	if *update {
		var b strings.Builder
		for _, c := range cells {
			b.WriteString(c.text + "\n")
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(want) != len(cells) {
		t.Errorf("%s has %d lines, and the table %d", path, len(want), len(cells))
	}
	for i := range min(len(want), len(cells)) {
		if c := cells[i]; !c.left && c.text != want[i] {
			t.Errorf("%s:%d: irctl %s\n  is    %s\n  was   %s", path, i+1, c.row.line, c.text, want[i])
		}
	}
	if t.Failed() {
		t.Log("where that is as it should be: go test ./internal/cli -run TestStates -update")
	}
}

// Every command is in the table, and no cell of it is empty without a reason.
func TestStatesHasEveryCommand(t *testing.T) {
	root := cli.Commands()
	seen := map[string]bool{}
	for _, r := range table {
		c, _, err := root.Find(strings.Fields(r.line))
		if err != nil {
			t.Fatalf("%q: %v", r.line, err)
		}
		seen[c.CommandPath()] = true
		if r.once == aGroup && !c.HasSubCommands() {
			t.Errorf("%q is no group of commands", r.line)
		}
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if !seen[c.CommandPath()] {
			t.Errorf("%s is not in the table: add a row, with a reason if it is not run in every state",
				c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// What an earlier version left is read by this one: the journal is whole, the
// report is made, and undo knows what stands.
func TestFixturesStillOpen(t *testing.T) {
	standing := map[string]string{"open": "nothing to undo", "interrupted": "2 ch", "exposed": "3 ch",
		"undone": "nothing to undo"}
	for state, f := range load(t) {
		code, out, _ := newDesk(t, f).irctl("timeline verify --incident INCIDENT")
		if code != 0 || !strings.Contains(out, "unbroken") {
			t.Errorf("%s: timeline verify: %d %s", state, code, out)
		}
		code, out, _ = newDesk(t, f).irctl("report INCIDENT")
		if code != 0 || !strings.Contains(out, "ost-mortem of incident ") || !strings.Contains(out, "verified, ") {
			t.Errorf("%s: report: %d %s", state, code, out)
		}
		code, out, errs := newDesk(t, f).irctl("undo --all --dry-run --incident INCIDENT")
		if want := cmp.Or(standing[state], "would be undone"); code != 0 || !strings.Contains(out+errs, want) {
			t.Errorf("%s: undo --all --dry-run: %d, without %q: %s%s", state, code, want, out, errs)
		}
	}
}

func load(t *testing.T) map[string]*fixture.Fixture {
	t.Helper()
	all, err := fixture.Load("v1")
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*fixture.Fixture{}
	for _, f := range all {
		byName[f.Name] = f
	}
	for _, s := range states {
		if byName[s] == nil {
			t.Fatalf("there is no fixture %s", s)
		}
	}
	if len(byName) != len(states) {
		t.Fatalf("%d fixtures, and %d states in the table", len(byName), len(states))
	}
	return byName
}

// desk is where a responder sits before a fixture.
type desk struct {
	f    *fixture.Fixture
	t    *testing.T
	home string

	operation string    // a runbook, HOME/operation.yaml
	forbid    bool      // every read
	emptied   string    // a file of the incident, which is empty
	out       io.Writer // standard output; nil: it is kept
}

func newDesk(t *testing.T, f *fixture.Fixture) *desk {
	return &desk{f: f, t: t, home: t.TempDir()}
}

// Now is the fixture's time.
func (d *desk) Now() time.Time { return d.f.Now() }

// Sleep waits.
func (d *desk) Sleep(ctx context.Context, wait time.Duration) error {
	return drill.RealClock{}.Sleep(ctx, wait)
}

// ends is what a command line ends with on the fixture.
func (d *desk) ends(line string) string {
	code, out, err := d.irctl(line)
	return fmt.Sprintf("%d  %s", code, d.tidied(gist(out, err)))
}

func (d *desk) irctl(line string) (code int, stdout, stderr string) {
	cluster, err := d.f.Cluster()
	if err != nil {
		d.t.Error(err)
		return -1, "", ""
	}
	if d.forbid {
		for _, verb := range []string{"get", "list", "watch"} {
			cluster.Deny(sim.Rule{Verb: verb})
		}
	}
	server := httptest.NewServer(punctual(cluster.Server(d.f.Webhook)))
	defer server.Close()
	defer cluster.Stop()
	if err := d.f.Install(d.home, server.URL); err != nil {
		d.t.Error(err)
		return -1, "", ""
	}
	files := map[string]string{"new.key": "gsk_a_new_value\n", "alerts.jsonl": alert, "nonsense.jsonl": "no JSON\n{}\n",
		"operation.yaml": d.filled(strings.ReplaceAll(d.operation, "SUSPECT", d.f.Scene.Suspect))}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(d.home, name), []byte(text), 0o600); err != nil {
			d.t.Error(err)
		}
	}
	if err := emptyFiles(d.home); err != nil {
		d.t.Error(err)
	}
	if d.emptied != "" {
		if err := os.Truncate(filepath.Join(d.home, "state", "incidents", d.f.Scene.Incident, d.emptied),
			0); err != nil {
			d.t.Error(err)
		}
	}
	args := strings.Fields(d.filled(line))
	args = append(args, "--kubeconfig", filepath.Join(d.home, "kubeconfig"), "--state-dir",
		filepath.Join(d.home, "state"))
	if !strings.Contains(line, "--config") {
		args = append(args, "--config", filepath.Join(d.home, "irctl.yaml"))
	}
	if !strings.Contains(line, "--timeout") {
		args = append(args, "--timeout", "1m")
	}
	if c, _, err := cli.Commands().Find(args); err == nil && c.Flags().Lookup("second-look") != nil {
		args = append(args, "--second-look", "0")
	}
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(d.t.Context(), 3*time.Minute)
	defer cancel()
	environment := map[string]string{"HOME": d.home, "XDG_CONFIG_HOME": d.home, "XDG_STATE_HOME": d.home}
	streams := cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}
	if d.out != nil {
		streams.Out = d.out
	}
	code = cli.MainAt(ctx, d, args, streams, func(name string) string { return environment[name] })
	return code, out.String(), errs.String()
}

// alert is one that Falco gives.
const alert = `{"time":"2026-12-01T00:00:00Z","priority":"Critical","rule":"Outbound Connection to C2 Server",` +
	`"output":"mining","output_fields":{"k8s.ns.name":"todo-app","k8s.pod.name":"backend-1",` +
	`"container.name":"backend"}}` + "\n"

// filled is a line with the fixture's names.
func (d *desk) filled(line string) string {
	bundles, _ := filepath.Glob(filepath.Join(d.home, "state", "incidents", "*", "*.gpg"))
	bundle := append(bundles, filepath.Join(d.home, "none.tar.gz.gpg"))[0]
	suspect := d.f.Scene.Suspect
	if !strings.Contains(line, "pod=SUSPECT") {
		_, suspect, _ = strings.Cut(suspect, "/")
	}
	_, other, _ := strings.Cut(d.f.Scene.Other, "/")
	return strings.NewReplacer("SUSPECT", suspect, "OTHER", other, "INCIDENT", d.f.Scene.Incident, "BUNDLE", bundle,
		"HOME", d.home).Replace(line)
}

// punctual answers with this machine's time: the fixture's clock is not the one
// by which irctl finds out whether the cluster's is right.
func punctual(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(punctualWriter{w}, r) })
}

type punctualWriter struct{ http.ResponseWriter }

func (w punctualWriter) WriteHeader(code int) {
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.ResponseWriter.WriteHeader(code)
}

func (w punctualWriter) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

// passing is what differs from run to run only here.
var passing = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "SERVER"},
	{regexp.MustCompile(`\d{8}t\d{6}\.\d{3}z`), "TIME"},
	{regexp.MustCompile(`\b\d+(\.\d+)?m?s\b`), "0s"},
	{regexp.MustCompile(`\b\d+ looks`), "N looks"},
	// What was under way when the time was over.
	{regexp.MustCompile(`error: .*context deadline exceeded.*`), "error: --timeout is over"},
	{regexp.MustCompile(`^irctl \S+ go\S+ \S+`), "irctl VERSION"},
}

// verdict is the line in which irctl says what came of it.
var verdict = regexp.MustCompile(`^(NOT )?[A-Z][A-Z' ]{5,}  [a-z0-9]|^dry run: `)

// marked is a line with a mark before it.
var marked = regexp.MustCompile(`^[✓✗!] `)

// gist is the verdict and the first error, else the last line that has a mark, or
// says something.
func gist(stdout, stderr string) string {
	found := last(stdout, verdict.MatchString)
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "error: ") {
			found = strings.TrimSpace(found + "  " + line)
			break
		}
	}
	says := func(line string) bool { return len(strings.Trim(line, " \t{}[]()")) > 3 }
	return cmp.Or(found, last(stdout, marked.MatchString), last(stdout, says), last(stderr, says), "says nothing")
}

func last(text string, is func(string) bool) (found string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); is(line) {
			found = strings.TrimSpace(line)
		}
	}
	return found
}

func (d *desk) tidied(text string) string {
	text = strings.ReplaceAll(text, d.home, "HOME")
	for _, n := range [][2]string{{d.f.Scene.Suspect, "todo-app/SUSPECT"}, {d.f.Scene.Other, "todo-app/OTHER"}} {
		if _, name, ok := strings.Cut(n[0], "/"); ok {
			text = strings.ReplaceAll(text, name, strings.TrimPrefix(n[1], "todo-app/"))
		}
	}
	for _, v := range slices.Concat(passing, volatile) {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	const most = 240
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}
