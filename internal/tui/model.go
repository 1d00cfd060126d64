package tui

import (
	"context"

	tea "github.com/charmbracelet/bubbletea"
)

// root is the whole program: it has the screens, and gives each what is its.
type root struct {
	ctx context.Context
	o   Options
}

func newRoot(ctx context.Context, o Options) root { return root{ctx: ctx, o: o} }

func (m root) Init() tea.Cmd { return nil }

func (m root) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if key, ok := msg.(tea.KeyMsg); ok && key.String() == "q" {
		return m, tea.Quit
	}
	return m, nil
}

func (m root) View() string { return m.o.Banner + " q quits" }

func (m root) result() Result { return Result{} }
