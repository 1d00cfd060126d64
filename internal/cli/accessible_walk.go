package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"irctl/internal/engine"
	"irctl/internal/plural"
	"irctl/internal/runbook"
	"irctl/internal/sanitize"
	"irctl/internal/timeline"
)

// The words that can be said at every question of the walk.
const (
	sayHelp     = "?"
	sayNote     = "note"
	sayUndo     = "undo"
	sayEdit     = "edit"
	sayStatus   = "status"
	sayTimeline = "timeline"
)

// more explains a word.
var more = map[string]string{
	sayNote:            "writes a note into the timeline",
	sayUndo:            "puts back what was changed before",
	sayEdit:            "changes what the step is done with",
	sayStatus:          "says what is contained, and what is still open",
	sayTimeline:        "says what was done so far",
	engine.AnswerDo:    "does the step",
	engine.AnswerSkip:  "leaves the step out",
	engine.AnswerStop:  "leaves the runbook here; it can be gone on with later",
	engine.AnswerRetry: "does the step again", engine.AnswerContinue: "goes on without it",
	"yes": "makes the changes", "no": "changes nothing: the step is not done",
}

// Observe remembers what the step at hand is done with.
func (m *accessible) Observe(e engine.Event) {
	if e.Kind == engine.Ready {
		m.mu.Lock()
		m.ready = e
		m.mu.Unlock()
	}
	m.guide.Observe(e)
}

// atHand is the step at hand, with its inputs; nil: there is none.
func (m *accessible) atHand() (*runbook.Step, runbook.Inputs) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.book.Step(m.ready.Step), m.ready.Inputs
}

// Ask asks a question of the runbook.
func (m *accessible) Ask(ctx context.Context, q engine.Question) (engine.Answer, error) {
	if q.Kind == engine.AskParameter || !m.InTerminal {
		return m.guide.Ask(ctx, q)
	}
	fmt.Fprintf(m.out, "%s\n", m.instruction(q.Text))
	editable := q.Kind != engine.AskManual && q.Kind != engine.AskFailed && q.Step != nil && len(q.Step.Editable()) > 0
	choice, err := m.say(ctx, "", q.Choices, editable)
	if err != nil {
		return engine.Answer{}, err
	}
	if q.Seals && choice == engine.AnswerDo {
		if err := m.unlock(ctx); err != nil {
			return engine.Answer{}, err
		}
	}
	a := engine.Answer{Choice: choice}
	if choice == sayEdit {
		a.Choice = engine.AnswerEdit
		a.Inputs, err = m.edit(ctx, q.Step, q.Inputs)
		return a, err
	}
	if q.Kind == engine.AskManual && choice != engine.AnswerStop {
		if a.By, err = m.line(ctx, "Who did it, or decided? (empty: you)"); err != nil {
			return a, err
		}
	}
	if q.Kind == engine.AskManual && choice != engine.AnswerStop || choice == engine.AnswerSkip {
		a.Note, err = m.line(ctx, "A note, or why? (empty: none)")
	}
	return a, err
}

// Approve shows a plan and asks.
func (m *accessible) Approve(ctx context.Context, p engine.Proposal) (engine.Decision, error) {
	if p.Collection != nil || !m.InTerminal {
		return m.guide.Approve(ctx, p)
	}
	m.plan(p, m.verbose)
	if m.undoing {
		return m.lines.ask(ctx, fmt.Sprintf("Put back %s?", plural.Count(p.Actions(), "change")))
	}
	question := fmt.Sprintf("Make %s?", plural.Count(p.Actions(), "change"))
	step, inputs := m.atHand()
	choice, err := m.say(ctx, question, []string{"yes", "no", engine.AnswerSkip}, step != nil &&
		len(step.Editable()) > 0)
	switch {
	case err != nil:
		return engine.No, err
	case choice == sayEdit:
		changed, err := m.edit(ctx, step, inputs)
		if err != nil {
			return engine.No, err
		}
		return engine.No, &engine.Instead{Answer: engine.Answer{Choice: engine.AnswerEdit, Inputs: changed}}
	case choice == "yes" && p.Sealed:
		if err := m.unlock(ctx); err != nil {
			return engine.No, err
		}
		return engine.Yes, nil
	case choice == "yes":
		return engine.Yes, nil
	case choice == engine.AnswerSkip:
		why, err := m.line(ctx, "Why is it left out? (empty: no reason)")
		if err != nil {
			return engine.No, err
		}
		return engine.No, &engine.Instead{Answer: engine.Answer{Choice: engine.AnswerSkip, Note: why}}
	}
	return engine.No, nil
}

// say asks until the answer is one of the choices. What else can be said is done,
// and the question asked again.
func (m *accessible) say(ctx context.Context, prompt string, choices []string, editable bool) (string, error) {
	const most = 20
	words := []string{sayNote, sayUndo, sayStatus, sayTimeline}
	if editable {
		words = append([]string{sayEdit}, words...)
	}
	for range most {
		text, err := m.line(ctx, strings.TrimSpace(fmt.Sprintf("%s %s, or ?", prompt, strings.Join(choices, ", "))))
		if err != nil {
			return "", err
		}
		word, rest, _ := strings.Cut(text, " ")
		switch chosen := meant(strings.ToLower(word), choices, words); chosen {
		case sayHelp:
			for _, w := range slices.Concat(choices, words) {
				fmt.Fprintf(m.out, "  %s\n", strings.TrimSuffix(w+": "+more[w], ": "))
			}
			fmt.Fprintln(m.out, "  The first letters are enough, where they fit only one word.")
		case sayNote:
			if err := m.note(ctx, strings.TrimSpace(rest)); err != nil {
				return "", err
			}
		case sayUndo:
			m.between = m.undo
			return "", engine.ErrPaused
		case sayStatus:
			m.tellStatus(ctx)
		case sayTimeline:
			m.tellTimeline()
		case "":
			fmt.Fprintln(m.out, "That is none of the answers. Nothing was done.")
		default:
			return chosen, nil
		}
	}
	return "", fmt.Errorf("%w: no answer was given", engine.ErrRefused)
}

// meant is the choice, or else the word, of which this is enough; "": none. A
// choice comes before a word, so that no answer of a runbook can become an undo.
func meant(text string, choices, words []string) string {
	switch {
	case text == sayHelp:
		return text
	case (text == "y" || text == "yes") && slices.Contains(choices, engine.AnswerDo):
		return engine.AnswerDo
	}
	for _, list := range [][]string{choices, words} {
		var fits []string
		for _, c := range list {
			if strings.ToLower(c) == text {
				return c
			}
			if text != "" && strings.HasPrefix(strings.ToLower(c), text) {
				fits = append(fits, c)
			}
		}
		if len(fits) == 1 {
			return fits[0]
		}
		if len(fits) > 1 {
			return ""
		}
	}
	return ""
}

// note writes a note: at once, or as soon as there is an incident.
func (m *accessible) note(ctx context.Context, text string) error {
	if text == "" {
		var err error
		if text, err = m.line(ctx, "The note (empty: none)"); err != nil || text == "" {
			return err
		}
	}
	write := func(context.Context) error {
		_, err := m.engine.Store.Append(m.incident, m.engine.Actor(),
			timeline.Entry{Kind: timeline.KindNote, Summary: text})
		if err == nil {
			fmt.Fprintln(m.out, "The note is in the timeline.")
		}
		return err
	}
	if m.incident == "" {
		m.between = write
		return engine.ErrPaused
	}
	return write(ctx)
}

// undo asks what to put back, and does it.
func (m *accessible) undo(ctx context.Context) error {
	entries, err := m.engine.Store.Entries(m.incident)
	if err != nil {
		return err
	}
	standing := timeline.Standing(entries)
	if len(standing) == 0 {
		fmt.Fprintln(m.out, "There is nothing to put back.")
		return nil
	}
	rows, requests := undoRows(standing)
	n, err := m.number(ctx, "What is put back?", rows)
	if err != nil || n < 0 {
		return err
	}
	m.undoing = true
	defer func() { m.undoing = false }()
	res, err := m.engine.UndoWithin(ctx, m.incident, m.book, requests[n])
	if err != nil {
		return err
	}
	if res.Cancelled {
		fmt.Fprintln(m.out, "Nothing was put back.")
		return nil
	}
	if err := m.printUndo(res, requests[n].Step); err != nil {
		return err
	}
	if n := len(standing) - undone(res); n > 0 {
		fmt.Fprintf(m.out, "%s still in place. What was put back is not done again by this run: irctl contain "+
			"--incident %s --pod NAME does it.\n", plural.Count(n, "change"), m.incident)
	}
	return nil
}

func undone(res *engine.UndoResult) int {
	n := 0
	for _, a := range res.Actions {
		if a.Err() == nil {
			n++
		}
	}
	return n
}

// undoRows are what can be undone: the last change, each step, everything.
func undoRows(standing []timeline.Action) (rows []string, requests []engine.UndoRequest) {
	add := func(row string, r engine.UndoRequest) { rows, requests = append(rows, row), append(requests, r) }
	last := standing[len(standing)-1].Intent
	add("The last change: "+last.Summary, engine.UndoRequest{})
	var steps []string
	of := map[string][]string{}
	for _, a := range slices.Backward(standing) {
		if of[a.Intent.Step] == nil {
			steps = append(steps, a.Intent.Step)
		}
		of[a.Intent.Step] = append(of[a.Intent.Step], a.Intent.Summary)
	}
	for _, step := range steps {
		switch n := len(of[step]); {
		case n > 1:
			add(fmt.Sprintf("The step %s: %s", step, plural.Count(n, "change")), engine.UndoRequest{Step: step})
		case step != last.Step:
			add(fmt.Sprintf("The step %s: %s", step, of[step][0]), engine.UndoRequest{Step: step})
		}
	}
	if len(standing) > 1 {
		add(fmt.Sprintf("Everything: %s", plural.Count(len(standing), "change")), engine.UndoRequest{All: true})
	}
	return rows, requests
}

// edit asks for the inputs of a step, and gives those that were changed.
func (m *accessible) edit(ctx context.Context, s *runbook.Step, in runbook.Inputs) (map[string]string, error) {
	changed := map[string]string{}
	for {
		for _, f := range s.Editable() {
			value, ok := changed[f.Name]
			if v, set := in[f.Name]; set && !ok {
				value = runbook.Format(v)
			}
			fmt.Fprintf(m.out, "%s\n", wrap(m.columns(), "  ",
				sanitize.Line(fmt.Sprintf("%s = %s: %s", f.Name, value, f.Doc))))
		}
		text, err := m.line(ctx, "NAME=VALUE to change one, empty when done")
		if err != nil || text == "" {
			return changed, err
		}
		name, value, _ := strings.Cut(text, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !slices.ContainsFunc(s.Editable(), func(f runbook.Field) bool { return f.Name == name }) {
			fmt.Fprintln(m.out, "That is none of them, as NAME=VALUE.")
			continue
		}
		namespace, err := m.namespace()
		if err != nil {
			return nil, err
		}
		if _, err := s.ParseInput(name, value, namespace); err != nil && value != "" {
			fmt.Fprintln(m.out, sanitize.Line(err.Error()))
			continue
		}
		changed[name] = value
	}
}

// tellStatus looks at how the incident stands in the cluster.
func (m *accessible) tellStatus(ctx context.Context) {
	if m.incident == "" {
		fmt.Fprintln(m.out, "Nothing was done yet.")
		return
	}
	i, err := m.engine.Store.Load(m.incident)
	if err == nil {
		var entries []timeline.Entry
		if entries, err = m.engine.Store.Entries(m.incident); err == nil {
			bounded, cancel := context.WithTimeout(ctx, m.timeout)
			defer cancel()
			err = m.printStatus([]*engine.StatusResult{m.engine.Status(bounded, i, entries)})
		}
	}
	if err != nil {
		fmt.Fprintln(m.out, sanitize.Line(err.Error()))
	}
}

// tellTimeline reads out what was done so far.
func (m *accessible) tellTimeline() {
	if m.incident == "" {
		fmt.Fprintln(m.out, "Nothing is in the timeline yet.")
		return
	}
	entries, err := m.engine.Store.Entries(m.incident)
	if err != nil {
		fmt.Fprintln(m.out, sanitize.Line(err.Error()))
		return
	}
	const most = 20
	if len(entries) > most {
		fmt.Fprintf(m.out, "The last %d of %d entries; irctl timeline show has all.\n", most, len(entries))
		entries = entries[len(entries)-most:]
	}
	for _, e := range entries {
		text := e.Time.Local().Format(time.TimeOnly) + " " + e.Summary
		if e.Outcome != "" && e.Outcome != timeline.OutcomeDone {
			text += ", " + string(e.Outcome)
		}
		fmt.Fprintf(m.out, "  %s\n", sanitize.Line(text))
	}
}
