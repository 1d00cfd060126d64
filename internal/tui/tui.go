// Package tui is the terminal UI: it asks and shows, and the engine decides
// and does. What is done here is in the journal like what the commands do, and
// each can go on with, or undo, what the other began.
//
// A model per screen; update functions are pure, and all input and output goes
// through commands: no key press waits for the network. Text from elsewhere
// (names, labels, logs, alerts) is made safe by [theme.safe] where it enters a
// view, and every finished frame passes [theme.frame], behind which no byte
// and no line of it can break out.
package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	_ "beforetea" // first of all

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/report"
	"irctl/internal/runbook"
)

// Options are what the UI is started with.
type Options struct {
	// Connect reaches the cluster. It is called in the background, after the
	// first paint, and again when a person asks for it.
	Connect func(ctx context.Context, front engine.FrontEnd) (*engine.Engine, error)
	// Store holds the incidents; it is read before there is a cluster.
	Store   *incident.Store
	Library *runbook.Library
	// Namespace completes the names of pods that have none.
	Namespace string
	// Only is the namespace in which pods and suspects are looked for; "": all.
	Only string
	// Context is the name of the kubeconfig's context, known before there is a
	// connection.
	Context string
	// Prepare adds to a run what the front end has no business with: how
	// evidence is sealed, contacts, the environment of commands. nil: nothing.
	Prepare func(ctx context.Context, req *engine.RunRequest) error
	// Signer is the one that Prepare has sign for evidence; nil: none. It may be
	// locked: its passphrase is asked for before a step that seals evidence.
	Signer *evidence.Signer
	// Title makes the title of an incident that is opened of what a person typed
	// as one, which may be nothing; nil: that, or what its findings suggest.
	Title func(typed string) string
	// Contacts are whom the team has agreed to call.
	Contacts []report.Contact
	// Tool is what reports say they were made with.
	Tool string
	// Alerts are Falco's, as JSON lines, read before the terminal is taken; nil: none.
	Alerts []byte
	// Pod, as NAMESPACE/NAME, or Incident begin with that one chosen.
	Pod      string
	Incident incident.ID
	// Runbook is the one that is chosen at first; "": one that fits the suspect.
	Runbook string
	// Suggested are values for that runbook's parameters of these names, where the
	// suspect gives nothing better.
	Suggested map[string]string
	// Banner is shown on every screen, such as DRILL.
	Banner string
	// Briefing is shown before the first screen, until somebody has read it, and
	// again in the help; "": nothing.
	Briefing string
	// In and Out are the terminal; nil: that of the process.
	In  io.Reader
	Out io.Writer
	// Gone is closed when the terminal is gone and nothing is to end for it: a
	// step at work is seen to its verdict, and then the UI is left.
	Gone <-chan struct{}
	// NoColor shows everything without colours, ASCII without other characters
	// than those.
	NoColor, ASCII bool
	// Now is the clock; nil: that of this machine.
	Now func() time.Time
	// Timeout bounds what is asked of the cluster, each; 0: two minutes.
	Timeout time.Duration
	// OnEvent, if set, is told what a run tells; it must not block.
	OnEvent func(engine.Event)
}

// Result is how the UI was left.
type Result struct {
	// Incident is the last one that was worked on; "": none.
	Incident incident.ID
	// Run is what came of its run; nil: there was none in this session.
	Run *engine.RunResult
}

// Run opens the UI and returns when it is left. Whatever way that happens, the
// journal knows where to go on. When ctx ends, the UI is left as by its keys:
// what is under way stops after the call in flight, and that is recorded.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Store == nil || o.Library == nil || o.Connect == nil {
		return Result{}, errors.New("the terminal UI needs a store, runbooks and a way to connect")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	outside := ctx.Done()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	keys, unread := keyboardOf(o.In)
	options := []tea.ProgramOption{tea.WithAltScreen(), tea.WithContext(ctx), tea.WithoutSignalHandler(),
		tea.WithInput(keys)}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	screen := &glass{}
	o.Out = screen.drawnOn(o.Out)
	options = append(options, tea.WithOutput(o.Out))
	if _, err := io.WriteString(o.Out, wheelMoves); err != nil {
		return Result{}, fmt.Errorf("the terminal: %w", err)
	}
	defer func() { _, _ = io.WriteString(o.Out, wheelBefore) }()
	first := newRoot(ctx, o)
	first.glass = screen
	program := tea.NewProgram(first, options...)
	go func() {
		for gone := o.Gone; ; {
			select {
			case <-outside:
				program.Send(told{now: true})
				return
			case <-gone:
				gone = nil
			case <-unread:
				unread = nil
			case <-ctx.Done():
				return
			}
			program.Send(told{})
		}
	}()
	last, err := program.Run()
	if err != nil && !errors.Is(err, tea.ErrProgramKilled) {
		return Result{}, fmt.Errorf("the terminal: %w", err)
	}
	if m, ok := last.(root); ok {
		return m.result(), nil
	}
	return Result{}, nil
}

// The mouse is left to the terminal, so that text can be selected with it as
// everywhere else. Its wheel moves as the arrow keys do, where the terminal
// knows xterm's alternate scroll mode (1007; s saves, and r restores, a mode:
// XTSAVE and XTRESTORE in xterm's ctlseqs).
const (
	wheelMoves  = "\x1b[?1007s\x1b[?1007h"
	wheelBefore = "\x1b[?1007r"
)

// told is that the UI is to be left, by nobody's key: now, which stops what is
// under way, or once that has come to its verdict.
type told struct{ now bool }

func (m *root) told(t told) tea.Cmd {
	m.leaving = true
	if m.walk.number != 0 && (t.now || m.walk.plan != nil || m.walk.question != nil) {
		return m.walk.pause()
	}
	return m.leave()
}

// keyboard is where keys come from. A terminal that is gone is the end of them,
// and no failure of the program: it may be in the middle of something.
type keyboard struct {
	*os.File
	gone func()
}

func (k *keyboard) Read(b []byte) (int, error) {
	n, err := k.File.Read(b)
	if err != nil {
		k.gone()
		return n, io.EOF
	}
	return n, nil
}

// keyboardOf is where the keys come from, and is closed when no more can come.
func keyboardOf(in io.Reader) (keys io.Reader, gone <-chan struct{}) {
	if in == nil {
		in = os.Stdin
	}
	f, ok := in.(*os.File)
	if !ok || runtime.GOOS == "windows" { // whose console bubbletea wants itself
		return in, nil
	}
	closed := make(chan struct{})
	return &keyboard{f, sync.OnceFunc(func() { close(closed) })}, closed
}
