package tui

import (
	"errors"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"irctl/internal/runbook"
)

// A step at work is stopped by two keys that somebody pressed, one after the
// other: neither by one, whichever, nor by what is pasted or comes in a rush.
func TestAStepAtWorkIsStoppedOnlyKnowingly(t *testing.T) {
	t.Parallel()
	pasted := func(text string) tea.KeyMsg { return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text), Paste: true} }
	rush := func(text string) tea.KeyMsg { return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text)} }
	ctrlC, q, yes := tea.KeyMsg{Type: tea.KeyCtrlC}, keyOf(t, "q"), keyOf(t, confirmKey)
	for name, c := range map[string]struct {
		keys   []tea.KeyMsg
		leaves bool
	}{
		"ctrl+c":               {[]tea.KeyMsg{ctrlC}, false},
		"q":                    {[]tea.KeyMsg{q}, false},
		"ctrl+c, Y":            {[]tea.KeyMsg{ctrlC, yes}, true},
		"q, Y":                 {[]tea.KeyMsg{q, yes}, true},
		"ctrl+c twice":         {[]tea.KeyMsg{ctrlC, ctrlC}, true},
		"Y alone":              {[]tea.KeyMsg{yes}, false},
		"q, a pasted Y":        {[]tea.KeyMsg{q, pasted(confirmKey)}, false},
		"q, Y in a rush":       {[]tea.KeyMsg{q, rush("Y1")}, false},
		"q, YY in a rush":      {[]tea.KeyMsg{q, rush("YY")}, false},
		"q, another, Y":        {[]tea.KeyMsg{q, keyOf(t, "n"), yes}, false},
		"q, y":                 {[]tea.KeyMsg{q, keyOf(t, "y")}, false},
		"q, enter":             {[]tea.KeyMsg{q, {Type: tea.KeyEnter}}, false},
		"a paste that has all": {[]tea.KeyMsg{pasted("qY")}, false},
	} {
		s := newStage()
		if !s.atWork() {
			t.Fatal("no step is at work")
		}
		for _, k := range c.keys {
			s.send(k)
		}
		if s.leaving != c.leaves {
			t.Errorf("%s: it leaves: %v", name, s.leaving)
		}
	}
}

// A form is taken only when nothing is wrong with it.
func TestAFormWithAnErrorIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		stays bool
	}{"an error": {errors.New("it needs a number"), true}, "none": {nil, false}} {
		s := newStage()
		s.planned()
		s.walk.form = &form{step: s.walk.step(), fields: []runbook.Field{{Name: "x"}}, texts: map[string]string{},
			err: c.err}
		_ = s.formPressed(actRun)
		if stays := s.walk.form != nil; stays != c.stays {
			t.Errorf("%s: the form stays: %v", name, stays)
		}
	}
	s := newStage()
	s.planned()
	s.walk.form = &form{step: s.walk.step(), fields: []runbook.Field{{Name: "x"}}, texts: map[string]string{"x": "y"},
		err: errors.New("no")}
	if cmd := s.formPressed(actRun); cmd != nil || s.walk.form == nil || s.walk.plan == nil {
		t.Error("what is wrong is planned")
	}
	if _ = s.formPressed(actBack); s.walk.form != nil {
		t.Error("it cannot be left")
	}
}
