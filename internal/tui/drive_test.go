package tui

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/teatest"
	"k8s.io/client-go/rest"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/runbooks"
)

// todoApp is made once; every test has a copy of it.
var todoApp = sync.OnceValues(func() (*sim.Cluster, error) {
	c, err := sim.New(sim.Options{})
	if err == nil {
		err = c.Apply(sim.TodoApp)
	}
	return c, err
})

// lab is a simulated cluster, and the state directory of a responder.
type lab struct {
	*sim.Cluster
	server  *sim.Server
	url     string
	store   *incident.Store
	suspect string // NAMESPACE/NAME of a pod of the backend
	now     func() time.Time
}

func newLab(t testing.TB) *lab {
	t.Helper()
	c, err := todoApp()
	if err == nil {
		c, err = c.Clone()
	}
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC) }
	l := &lab{Cluster: c, now: now, server: c.Server(nil)}
	http := httptest.NewServer(l.server)
	t.Cleanup(http.Close)
	l.url = http.URL
	t.Chdir(t.TempDir()) // so that the paths in the frames are always the same
	if l.store, err = incident.NewStore("state",
		incident.Options{Now: now, Random: rand.NewChaCha8([32]byte{1})}); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.List(sim.Pods, "todo-app") {
		if l.suspect == "" && strings.HasPrefix(p.GetName(), "backend-") {
			l.suspect = "todo-app/" + p.GetName()
		}
	}
	return l
}

func (l *lab) connect(ctx context.Context, front engine.FrontEnd) (*engine.Engine, error) {
	client, err := cluster.New(&rest.Config{Host: l.url})
	if err != nil {
		return nil, err
	}
	e, err := engine.New(ctx, client, l.store, front, "sim")
	if err != nil {
		return nil, err
	}
	e.Now, e.Random = l.now, rand.NewChaCha8([32]byte{2})
	return e, nil
}

// alertOf is an alert of Falco about the suspect.
func (l *lab) alert() string {
	namespace, name, _ := strings.Cut(l.suspect, "/")
	return `{"output":"A shell was spawned in a container","priority":"Critical","rule":"Terminal shell in ` +
		`container","time":"2026-02-12T09:20:00Z","output_fields":{"k8s.ns.name":"` +
		namespace + `","k8s.pod.name":"` + name + `","proc.cmdline":"sh -i"}}` + "\n"
}

func (l *lab) options() Options {
	return Options{Connect: l.connect, Store: l.store,
		Library: runbook.NewLibrary(filepath.Join(sourceDir, "testdata", "runbooks"), "", runbooks.Files,
			engine.Operations()), Namespace: "todo-app", Context: "sim",
		Now: l.now, Timeout: time.Minute, Tool: "irctl test"}
}

// driver is a person at a UI: it presses keys, and waits for what it wants to
// see. The program is bubbletea's, with its loop and its renderer, in teatest.
//
// m is the model as it is now. A test may read and change it: the program
// stands still while the test does not press, send or wait.
type driver struct {
	t       testing.TB
	cancel  context.CancelFunc
	program *teatest.TestModel
	mu      sync.Mutex // held by the test, but while it waits
	running atomic.Int32
	quits   chan struct{} // closed once the program is about to end
	once    sync.Once

	m       root
	presses int
}

// driven is the model that the program has: that of the driver.
type driven struct{ *driver }

func (d driven) Init() tea.Cmd { return d.counted(d.m.Init()) }

func (d driven) View() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.m.View()
}

func (d driven) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if done, ok := msg.(chan struct{}); ok {
		close(done)
		return d, nil
	}
	next, cmd := d.m.Update(msg)
	d.m = next.(root)
	return d, d.counted(cmd)
}

// counted is a command that is known to be at work.
func (d *driver) counted(cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}
	return func() tea.Msg {
		d.running.Add(1)
		defer d.running.Add(-1)
		msg := cmd()
		switch msg := msg.(type) {
		case tea.BatchMsg:
			for i := range msg {
				msg[i] = d.counted(msg[i])
			}
		case tea.QuitMsg:
			d.once.Do(func() { close(d.quits) })
		}
		return msg
	}
}

func (l *lab) open(t testing.TB, change ...func(*Options)) *driver {
	t.Helper()
	o := l.options()
	for _, f := range change {
		f(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d := &driver{t: t, cancel: cancel, quits: make(chan struct{}), m: newRoot(ctx, o)}
	d.mu.Lock()
	t.Cleanup(func() {
		cancel()
		d.mu.Unlock()
		_ = d.program.Quit()
		out, err := io.ReadAll(d.program.FinalOutput(t, teatest.WithFinalTimeout(time.Minute)))
		if err != nil {
			t.Error(err)
		}
		if bad := notForAScreen(out); bad != "" {
			t.Errorf("the terminal was sent %q", bad)
		}
		for d.running.Load() > 0 {
			time.Sleep(time.Millisecond) // the directory is removed after this
		}
	})
	d.program = teatest.NewTestModel(t, driven{d})
	return d
}

// notForAScreen is the first thing in what a terminal was sent that is neither
// text, nor one of the sequences with which bubbletea draws.
func notForAScreen(out []byte) string {
	for text, state := string(out), byte(0); text != ""; {
		seq, width, n, next := ansi.DecodeSequence(text, state, nil)
		plain := width > 0 || seq == "\r" || seq == "\n" || seq == "\b"
		if !plain && !drawing.MatchString(seq) {
			return seq
		}
		text, state = text[n:], next
	}
	return ""
}

// drawing are colours, moves of the cursor, what erases, and modes that are set
// and reset.
var drawing = regexp.MustCompile(`^\x1b\[(\??[0-9;]*[ABCDGHJKmhl])$`)

func (d *driver) update(msg tea.Msg) {
	done := make(chan struct{})
	d.mu.Unlock()
	defer d.mu.Lock()
	d.program.Send(msg)
	d.program.Send(done) // it is seen once msg was
	select {
	case <-done:
	case <-d.quits:
	}
}

// until takes what happens until the screen shows everything of want.
func (d *driver) until(want ...string) {
	d.t.Helper()
	d.wait(strings.Join(want, " and "), func() bool {
		text := d.text()
		for _, w := range want {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	})
}

func (d *driver) wait(what string, ok func() bool) {
	d.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			d.t.Fatalf("waited for %s; the screen is\n%s", what, d.text())
		}
		d.pause(2 * time.Millisecond)
	}
}

// pause lets the program run.
func (d *driver) pause(t time.Duration) {
	d.mu.Unlock()
	time.Sleep(t)
	d.mu.Lock()
}

// settle takes what happens until nothing does.
func (d *driver) settle() {
	for before := ""; before != d.m.View(); {
		before = d.m.View()
		d.pause(200 * time.Millisecond)
	}
}

// text is the screen, with the spaces of a broken line as one.
func (d *driver) text() string {
	return strings.Join(strings.Fields(ansi.Strip(d.m.View())), " ")
}

var named = map[string]tea.KeyType{"enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown,
	"left": tea.KeyLeft, "right": tea.KeyRight,
	"tab": tea.KeyTab, "ctrl+c": tea.KeyCtrlC, "ctrl+u": tea.KeyCtrlU, "pgdown": tea.KeyPgDown,
	"backspace": tea.KeyBackspace}

// press presses keys.
func (d *driver) press(keys ...string) {
	for _, k := range keys {
		d.presses++
		msg := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
		if typ, ok := named[k]; ok {
			msg = tea.KeyMsg{Type: typ}
		}
		d.update(msg)
	}
}

// write types a text.
func (d *driver) write(text string) {
	for _, r := range text {
		d.press(string(r))
	}
}

func (d *driver) paste(text string) {
	d.update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text), Paste: true})
}

// at is the screen at a size.
func (d *driver) at(w, h int) string {
	m := d.m
	m.w, m.h = w, h
	return m.View()
}

// quitted waits until the program has ended.
func (d *driver) quitted() {
	d.t.Helper()
	d.mu.Unlock()
	defer d.mu.Lock()
	d.program.WaitFinished(d.t, teatest.WithFinalTimeout(15*time.Second))
}

// contained goes from the first screen to a contained suspect.
func (d *driver) contained() {
	d.t.Helper()
	d.until("critical")
	d.press("enter")
	d.until("pod todo-app/backend")
	d.press("s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("r")
	d.until("Press Y to make 3 changes on Deployment todo-app/backend, Pod todo-app/backend-", "cluster sim")
	d.press("Y")
	d.until("CONTAINED WITH EXPOSURES", "Remains open: 1", "Enter goes on")
}

func withAlert(l *lab) func(*Options) {
	return func(o *Options) { o.Alerts = []byte(l.alert()) }
}
