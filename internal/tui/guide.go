package tui

import (
	"context"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/engine"
)

// inbox carries what happens outside of the program into it. Putting something
// in never waits: the engine does not stand still because a screen is slow.
type inbox struct {
	mu    sync.Mutex
	items []tea.Msg
	wake  chan struct{}
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) put(m tea.Msg) {
	b.mu.Lock()
	b.items = append(b.items, m)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default: // it is awake already
	}
}

// arrived is what came since the last one.
type arrived []tea.Msg

// wait is the command that brings it.
func (b *inbox) wait(ctx context.Context) tea.Cmd {
	return func() tea.Msg {
		for {
			select {
			case <-b.wake:
			case <-ctx.Done():
				return nil
			}
			b.mu.Lock()
			items := b.items
			b.items = nil
			b.mu.Unlock()
			if len(items) > 0 {
				return arrived(items)
			}
		}
	}
}

// guide is the engine's front end: what the engine asks becomes a message, and
// the engine waits for the answer. Of two guides the older one's messages are
// told by their number and left aside.
type guide struct {
	inbox  *inbox
	number int
	now    func() time.Time
	told   func(engine.Event)
}

// proposed asks whether to make the changes of a plan.
type proposed struct {
	guide    int
	proposal engine.Proposal
	reply    chan<- approval
}

type approval struct {
	decision engine.Decision
	err      error
}

// asked is a question of a runbook.
type asked struct {
	guide    int
	question engine.Question
	reply    chan<- answered
}

type answered struct {
	answer engine.Answer
	err    error
}

// happened is an event of a run.
type happened struct {
	guide int
	event engine.Event
	at    time.Time
}

// Approve hands the plan to the screen and waits.
func (g *guide) Approve(ctx context.Context, p engine.Proposal) (engine.Decision, error) {
	reply := make(chan approval, 1)
	g.inbox.put(proposed{g.number, p, reply})
	select {
	case a := <-reply:
		return a.decision, a.err
	case <-ctx.Done():
		return engine.No, engine.ErrPaused
	}
}

// Ask hands the question to the screen and waits.
func (g *guide) Ask(ctx context.Context, q engine.Question) (engine.Answer, error) {
	reply := make(chan answered, 1)
	g.inbox.put(asked{g.number, q, reply})
	select {
	case a := <-reply:
		return a.answer, a.err
	case <-ctx.Done():
		return engine.Answer{}, engine.ErrPaused
	}
}

// Observe hands the event to the screen.
func (g *guide) Observe(e engine.Event) {
	if g.told != nil {
		g.told(e)
	}
	g.inbox.put(happened{g.number, e, g.now()})
}
