package tui

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/report"
	"irctl/internal/runbook"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	"irctl/internal/timeline"
)

// update tells that the golden files are to be written anew. The flag is that
// of teatest's own golden files.
func update() bool { return flag.Lookup("update").Value.String() == "true" }

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// sizes are those that must look right.
var sizes = [][2]int{{80, 24}, {120, 40}, {200, 50}}

// album collects frames by size.
type album struct {
	t      *testing.T
	frames map[string]*strings.Builder
}

// take takes the screen at every size, and checks that it is sound.
func (a *album) take(title string, d *driver) {
	a.t.Helper()
	d.settle()
	for _, s := range sizes {
		frame := d.at(s[0], s[1])
		checkFrame(a.t, title, d.m.theme, frame, s[0], s[1])
		name := fmt.Sprintf("%dx%d", s[0], s[1])
		if a.frames[name] == nil {
			a.frames[name] = &strings.Builder{}
		}
		fmt.Fprintf(a.frames[name], "=== %s\n", title)
		for l := range strings.Lines(ansi.Strip(frame) + "\n") {
			a.frames[name].WriteString(strings.TrimRight(l, " \n") + "\n")
		}
	}
}

func checkFrame(t testing.TB, title string, th theme, frame string, w, h int) {
	t.Helper()
	lines := strings.Split(frame, "\n")
	if len(lines) != h {
		t.Errorf("%s at %dx%d: %d lines", title, w, h, len(lines))
	}
	for _, l := range lines {
		if n := ansi.StringWidth(l); n > w {
			t.Errorf("%s at %dx%d: a line is %d wide: %.100q", title, w, h, n, l)
		}
		if th.printable(l) != l {
			t.Errorf("%s at %dx%d: a line holds what does not print: %.100q", title, w, h, l)
		}
	}
}

// me is what differs from one machine to the next.
func me() []string {
	host, _ := os.Hostname()
	name := "?"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return []string{name + "@" + host, "USER@HOST", "by " + name + "\n", "by USER\n", host, "HOST"}
}

func TestFrames(t *testing.T) {
	l := newLab(t)
	golden := filepath.Join(sourceDir, "testdata", "frames")
	a := &album{t, map[string]*strings.Builder{}}
	d := l.open(t, withAlert(l), func(o *Options) {
		o.Contacts = []report.Contact{{Role: "Security Team", Name: "Sam", Phone: "+49 30 1234"}}
		o.Briefing = "What happens\n\nA pod of the backend mines."
	})
	d.until("mines", "[Enter] begin")
	a.take("briefing", d)
	d.press("enter")
	d.until("critical", "medium")
	d.wait("the runbooks", func() bool { return len(d.m.library.books) > 0 })
	a.take("home", d)
	d.press("p")
	d.until(" pods", "critical 95")
	a.take("pods", d)
	d.write("bnd")
	d.until(" pods")
	a.take("pods, filtered", d)
	d.press("esc", "esc", "a")
	d.paste(l.alert())
	d.until("critical todo-app/backend")
	a.take("alert", d)
	d.press("esc", "enter")
	d.until("pod todo-app/backend", "compromised-pod")
	a.take("runbook and parameters", d)
	d.press("s")
	d.until("1 real")
	a.take("a question", d)
	d.press("1")
	d.until("It will make 3 changes")
	a.take("a plan", d)
	d.press("e")
	a.take("its inputs", d)
	d.press("esc", "r")
	a.take("a plan, to be confirmed", d)
	field := newInput("Passphrase:", passphrase)
	field.line.EchoMode = textinput.EchoPassword
	d.m.walk.signer, d.m.walk.unlocking = evidence.LockedSigner("responder@example.org"),
		&unlocking{err: evidence.ErrKeyLocked, field: field}
	a.take("a plan that was agreed to, and the key that signs is locked", d)
	d.m.walk.unlocking, d.m.walk.armed = nil, nil
	d.press("r", "Y")
	d.until("CONTAINED WITH EXPOSURES", "CONTAINED, 1 OPEN")
	a.take("after a step", d)
	d.press("enter")
	d.until("Tell the Incident Commander", "1 done", "undo")
	d.press("tab")
	a.take("all steps", d)
	d.press("tab", "u")
	a.take("what can be undone", d)
	d.press("G", "enter")
	d.until("It puts back 3 changes")
	a.take("an undo, planned", d)
	d.press("esc")
	d.until("Tell the Incident Commander", "1 done")
	d.press("s")
	a.take("why it is left out", d)
	d.press("esc", "n")
	a.take("a note", d)
	d.press("esc")
	f := *d.m.file
	f.dir = "/state/incidents/" + string(f.ID)
	d.m.file = &f
	for _, look := range []struct{ key, title string }{{"t", "timeline"}, {"v", "evidence"}, {"c", "contacts"},
		{"o", "what remains open"}, {"?", "help"}} {
		d.press(look.key)
		a.take(look.title, d)
		d.press("esc")
	}
	d.press("m")
	d.until("Summary")
	a.take("report so far", d)
	d.press("esc")
	d.m.screen = onEnd
	a.take("the end", d)
	d.m.screen = onWalk
	d.press("esc")
	d.until("Open incidents", "3 of 18 steps", "goes on at: Tell", "critical 95")
	d.wait("the look to be over", func() bool { return !strings.Contains(d.text(), "looking") })
	a.take("home, with an incident", d)

	for name, text := range a.frames {
		path := filepath.Join(golden, name+".txt")
		got := strings.NewReplacer(me()...).Replace(port.ReplaceAllString(text.String(), "127.0.0.1:PORT"))
		if update() {
			if err := os.MkdirAll(golden, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := firstDifference(string(want), got); diff != "" {
			t.Errorf("%s (run with -update, and look at what changed): %s", name, diff)
		}
	}
}

var port = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	title := ""
	for i := range min(len(w), len(g)) {
		if strings.HasPrefix(w[i], "=== ") {
			title = w[i]
		}
		if w[i] != g[i] {
			return fmt.Sprintf("%s, line %d\nwant %q\ngot  %q", title, i+1, w[i], g[i])
		}
	}
	if len(w) != len(g) {
		return fmt.Sprintf("%d lines, want %d", len(g), len(w))
	}
	return ""
}

// sourceDir is where the package is; the tests work elsewhere.
var sourceDir, _ = os.Getwd()

func TestColourIsNeverTheOnlyMark(t *testing.T) {
	t.Setenv("NO_COLOR", "1") // the options say what is shown, and nothing else
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.contained()
	for _, code := range []string{"\x1b[1;7;33m", "\x1b[1m", "\x1b[33m"} { // what nothing here decides but the options
		if !strings.Contains(d.at(80, 24), code) {
			t.Errorf("the screen is not coloured with %q: %q", code, d.at(80, 24))
		}
	}
	coloured := ansi.Strip(d.at(80, 24))
	d.m.theme = newTheme(true, false)
	plain := d.at(80, 24)
	if !strings.Contains(plain, "\x1b[1m") || !strings.Contains(plain, "\x1b[1;7m") {
		t.Errorf("without colours there is neither bold nor reverse: %q", plain)
	}
	for _, code := range []string{"31", "32", "33", "34", "35", "36"} {
		if strings.Contains(plain, "["+code+"m") || strings.Contains(plain, ";"+code+"m") {
			t.Errorf("NO_COLOR shows colour %s", code)
		}
	}
	if ansi.Strip(plain) != coloured {
		t.Error("without colours the text is another")
	}
	d.m.theme = newTheme(true, true)
	if ascii := d.at(80, 24); !isASCII(ascii) {
		t.Errorf("an ASCII terminal is sent more: %q", ascii)
	}
}

func TestFirstPaintWaitsForNobody(t *testing.T) {
	l := newLab(t)
	never := make(chan struct{})
	o := l.options()
	o.Connect = func(ctx context.Context, _ engine.FrontEnd) (*engine.Engine, error) {
		select {
		case <-never:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	}
	started := time.Now()
	m := newRoot(t.Context(), o)
	frame := m.View()
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("the first paint took %s", took)
	}
	if !strings.Contains(frame, "Open incidents") || !strings.Contains(frame, "connecting") {
		t.Error(frame)
	}
	// No key waits either; on a busy machine it takes its time.
	d := l.open(t, func(opt *Options) { opt.Connect = o.Connect })
	started = time.Now()
	d.press("p", "R", "a", "esc", "?", "esc", "t", "esc", "enter", "down")
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("ten keys took %s", took)
	}
	d.until("Open incidents none")
}

func TestADeadClusterIsSaid(t *testing.T) {
	l := newLab(t)
	fail := true
	d := l.open(t, func(o *Options) {
		o.Pod = l.suspect
		connect := o.Connect
		o.Connect = func(ctx context.Context, front engine.FrontEnd) (*engine.Engine, error) {
			if fail {
				return nil, errors.New("dial tcp: connection refused")
			}
			return connect(ctx, front)
		}
	})
	d.until("New incident of pod "+l.suspect, "not connected")
	d.press("s")
	d.until("THE WALK STOPPED", "connection refused")
	fail = false
	d.press("r")
	d.until("1 real")
}

func TestEverySizeIsSound(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l))
	d.contained()
	for _, screen := range []screen{onHome, onPods, onAlert, onPrepare, onWalk, onEnd} {
		for _, over := range append([]action{""}, lookup...) {
			d.m.screen, d.m.overlay = screen, overlay{kind: over}
			for _, w := range []int{1, 2, 20, 39, 40, 41, 60, 80, 109, 110, 119, 120, 300} {
				for _, h := range []int{1, 2, 11, 12, 13, 24, 100} {
					checkFrame(t, fmt.Sprintf("screen %d, overlay %q", screen, over), d.m.theme, d.at(w, h), w, h)
				}
			}
		}
	}
	// A terminal that does not know its size, as a serial line.
	d.update(tea.WindowSizeMsg{})
	checkFrame(t, "no size", d.m.theme, d.m.View(), usualWidth, usualHeight)
	if d.m.small() != "" {
		t.Errorf("of 0×0: %s", d.m.small())
	}
	d.update(tea.WindowSizeMsg{Width: 30, Height: 5})
	d.until("too small")
}

// everywhere puts a text wherever one can come from elsewhere.
func everywhere(o Options, s string, w, h int) []root {
	m := newRoot(context.Background(), o)
	m.w, m.h = w, h
	m.o.Context, m.o.Banner, m.o.Only, m.o.Briefing = s, s, s, s
	m.o.Contacts = []report.Contact{{Role: report.Text(s), Name: report.Text(s)}}
	m.engine = &engine.Engine{Context: s}
	suspect := detect.Suspect{Kind: "pod", Name: s, Severity: detect.High,
		Subject:  detect.Subject{Namespace: s, Pod: s, Workload: s, Node: s},
		Findings: []detect.Finding{{Reason: s, Rule: s}}}
	i := incident.Incident{ID: "inc-20260212-093000-abcd", Title: s,
		Targets: []incident.Target{{Kind: s, Namespace: s, Name: s}}, Cluster: incident.Cluster{Context: s, Server: s}}
	entries := []timeline.Entry{{Kind: timeline.KindNote, Phase: s, Summary: s, Error: s}}
	m.file = fileOf(i, entries, s, 1)
	m.home.open, m.home.suspects, m.home.errs,
		m.home.lookErr = []summary{{Incident: i, walk: &engine.Walk{Runbook: engine.RunbookRef{Name: s}, At: s}}},
		[]detect.Suspect{suspect}, []error{errors.New(s)}, errors.New(s)
	m.pods = m.pods.with(podList{rows: []podRow{{namespace: s, name: s, node: s, workload: s, image: s}},
		err: errors.New(s)}).suspected(m.home.suspects)
	m.alert = alert{text: s, suspects: m.home.suspects, err: errors.New(s)}
	book := &runbook.Runbook{Name: s, Title: s, Summary: s, Contacts: []runbook.Contact{{Role: s, For: s, Name: s}},
		Parameters: []runbook.Parameter{{Name: s, Prompt: s, Doc: s, Required: true}},
		Phases: []runbook.Phase{{Name: runbook.PhaseName(s),
			Steps: []runbook.Step{{Name: "x", Title: s, Why: s, Uses: "manual"}}}}}
	m.library = library{books: []*runbook.Runbook{book}, broken: []string{s}, err: errors.New(s), loaded: true}
	m.prepare = newPrepare(m.library, Options{Namespace: s, Runbook: s, Suggested: map[string]string{s: s}}).
		about(&suspect)
	m.changes = []changed{{object: s, text: s}}
	m.report = &reported{text: s + "\n# " + s + "\n> " + s + "\n| " + s + " |"}
	m.home.pods = portrayed{s: {namespace: s, name: s, node: s, workload: s, image: s, phase: s, account: s}}
	m.toast = toast{text: s, until: m.now.Add(time.Hour)}
	m.walk = walk{book: book, at: "x"}
	var all []root
	for _, sc := range []screen{onHome, onPods, onAlert, onPrepare, onEnd} {
		m.screen = sc
		all = append(all, m)
	}
	for _, over := range append([]action{actBriefing}, lookup...) {
		m.overlay = overlay{kind: over}
		all = append(all, m)
	}
	m.overlay, m.screen, m.prepare.err, m.prepare.typing = overlay{}, onPrepare, errors.New(s), newInput(s, s)
	all = append(all, m)
	m.screen, m.walk.allSteps = onWalk, true
	all = append(all, m)
	m.walk.allSteps, m.walk.signer = false, evidence.LockedSigner(s)
	m.walk.unlocking = &unlocking{err: errors.New(s)}
	all = append(all, m)
	field := newInput(s, s)
	field.line.EchoMode = textinput.EchoPassword
	m.walk.unlocking = &unlocking{err: evidence.ErrKeyLocked, field: field}
	all = append(all, m)
	m.walk.unlocking, m.walk.form = nil, &form{step: &book.Phases[0].Steps[0],
		fields: []runbook.Field{{Name: s, Doc: s}}, before: runbook.Inputs{s: s}, texts: map[string]string{s: s},
		err: errors.New(s)}
	all = append(all, m)
	m.walk.form = nil
	m.walk.stopped = &ended{err: errors.New(s)}
	all = append(all, m)
	m.walk.stopped, m.walk.number = nil, 1
	m.walk.doing, m.walk.work = s, work{current: s, waiting: s, lines: []workLine{{bad, "!", s}}, total: 3}
	all = append(all, m)
	m.walk.question = &asked{question: engine.Question{Kind: engine.AskManual, Text: s, Choices: []string{s, s}}}
	m.walk.by, m.walk.note = s, s
	all = append(all, m)
	m.walk.question = &asked{question: engine.Question{Kind: engine.AskFailed, Text: s}}
	all = append(all, m)
	m.walk.plan = &proposed{proposal: engine.Proposal{Evidence: s,
		Warnings: []steps.Warning{{Text: s, Fix: s, Targets: []string{s}}},
		Steps: []engine.StepPlan{{Plan: steps.Plan{Actions: []steps.Action{{Summary: s, Command: s,
			Diff:   []string{"-x: " + s, "+x: y" + s},
			Change: change.Change{Object: cluster.Ref{Kind: s, Namespace: s, Name: s}}}},
			Refusals: []steps.Refusal{{Object: s, Reason: s}}}}}}}
	m.walk.armed = &confirmation{what: s}
	all = append(all, m)
	m.walk.undoes = true
	all = append(all, m)
	m.walk.undoes = false
	m.walk.typing = newInput(s, s)
	all = append(all, m)
	m.walk.typing, m.walk.choice = nil, &choice{title: s, rows: []string{s}}
	all = append(all, m)
	m.walk.choice, m.walk.after = nil, &after{title: s, word: s, error: s,
		checks: []contain.Check{{Text: s}, {OK: true, Text: s}}, open: []contain.Exposure{{Code: s, Text: s, Close: s}},
		putBack: []string{s}, failures: []string{s}, facts: [][2]string{{s, s}}, sealed: s,
		unknown: []contain.Exposure{{Code: s, Text: s}}, notes: []contain.Exposure{{Text: s}},
		uses: "contain", passed: true, verdict: contain.NotContained, live: true}
	m.walk.again = 1
	return append(all, m)
}

func FuzzHostileText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, uint8(80), uint8(24), false)
		f.Add(s, uint8(130), uint8(30), true)
	}
	f.Fuzz(func(t *testing.T, s string, w, h uint8, ascii bool) {
		o := Options{Now: func() time.Time { return time.Unix(0, 0) }, ASCII: ascii}
		for i, m := range everywhere(o, s, max(1, int(w)), max(1, int(h))) {
			checkFrame(t, fmt.Sprintf("view %d of %.60q", i, s), m.theme, m.View(), m.w, m.h)
		}
	})
}

func TestProductionIsTold(t *testing.T) {
	for name, want := range map[string]bool{"prod": true, "eu-prod-1": true, "prod1": true, "PRODUCTION": true,
		"gke_x_europe_live": true, "": false,
		"product-search": false, "nonprod": false, "non-prod": false, "preprod": false, "delivery": false,
		"non-prod-vs-prod": true} {
		if isProduction(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	l := newLab(t)
	d := l.open(t, withAlert(l), func(o *Options) { o.Context = "shop-prod" })
	d.until("PRODUCTION shop-prod")
}
