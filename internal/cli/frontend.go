package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"irctl/internal/engine"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
)

// lines is the front end that prints line by line to standard error.
type lines struct {
	app *App
	yes bool
	out io.Writer
	st  style

	mu       sync.Mutex
	lastWait string
	progress *progressLine // nil: nothing is being read
}

func (a *App) frontEnd(yes bool) *lines {
	return &lines{app: a, yes: yes, out: a.Err, st: a.style(a.ErrTerminal)}
}

// manyActions is from how many on a plan is shown as counts, unless -v.
const manyActions = 12

// Approve shows the plan and asks, unless --yes was given. Without a terminal
// there is nobody to ask, so the answer is no.
func (l *lines) Approve(ctx context.Context, p engine.Proposal) (engine.Decision, error) {
	if p.Collection != nil {
		return l.approveCollection(ctx, p)
	}
	l.plan(p, l.app.verbose)
	if l.yes {
		return engine.Yes, nil
	}
	if !l.app.InTerminal {
		return engine.No, fmt.Errorf(
			"%w: nothing was changed, since there is no terminal to ask on; give --yes to go ahead without",
			engine.ErrRefused)
	}
	return l.ask(ctx, fmt.Sprintf("Make %s?", plural.Count(p.Actions(), "change")))
}

// approveCollection asks only about what leaves traces.
func (l *lines) approveCollection(ctx context.Context, p engine.Proposal) (engine.Decision, error) {
	if l.app.output == asTable || p.Traces && !l.yes { // what is asked about is shown
		printCollection(l.out, *p.Collection, l.app.verbose)
	}
	if !p.Traces || l.yes {
		return engine.Yes, nil
	}
	if !l.app.InTerminal {
		return engine.No, fmt.Errorf("%w: nothing was collected, since this leaves traces in the suspects and there "+
			"is no terminal to ask on; give --yes to go ahead without", engine.ErrRefused)
	}
	return l.ask(ctx, "This leaves traces in the suspects. Go ahead?")
}

func (l *lines) ask(ctx context.Context, question string) (engine.Decision, error) {
	answer, err := l.app.question(ctx, fmt.Sprintf("%s [y/N] ", l.st.bold(question)))
	if err != nil {
		fmt.Fprintln(l.out) // the question's line has no end yet
		return engine.No, err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a == "y" || a == "yes" {
		return engine.Yes, nil
	}
	return engine.No, nil
}

// awaited is what a person answers, unless the context ends before, or nobody
// can answer any more.
func awaited[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type reply struct {
		answer T
		err    error
	}
	replies := make(chan reply, 1)
	go func() {
		answer, err := read()
		replies <- reply{answer, err}
	}()
	select {
	case r := <-replies:
		return r.answer, r.err
	case <-ctx.Done():
	case <-signalsOf(ctx).hangup():
	}
	var none T
	return none, fmt.Errorf("%w: no answer was given", engine.ErrRefused)
}

func (l *lines) plan(p engine.Proposal, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	new := ""
	if p.Opens {
		new = " (new)"
	}
	fmt.Fprintf(l.out, "incident %s%s on %s\n", l.st.bold(p.Incident), new,
		l.st.bold(sanitize.Line(clusterName(p.Context, p.Server))))
	for _, w := range p.Warnings {
		l.tell(l.st.warn("!"), sanitize.Line(targetPrefix(w.Targets)+w.Text))
		if w.Fix != "" {
			fmt.Fprintf(l.out, "    %s %s\n", l.st.dim("→"), sanitize.Line(w.Fix))
		}
	}
	if p.Evidence != "" {
		mark := l.st.warn("!")
		if p.Sealed {
			mark = l.st.good("✓")
		}
		l.tell(mark, sanitize.Line(p.Evidence))
	}
	brief := p.Actions() > manyActions && !full
	for _, s := range p.Steps {
		if brief {
			if n := len(s.Plan.Actions); n > 0 {
				fmt.Fprintf(l.out, "  %s: %s (-v shows each)\n", s.Step.Name, plural.Count(n, "change"))
			}
			continue
		}
		for _, a := range s.Plan.Actions {
			l.tell(" ", sanitize.Line(a.Summary))
			fmt.Fprintf(l.out, "      %s\n", l.st.dim(sanitize.Line(a.Command)))
			if full || a.Reveal {
				for _, d := range a.Diff {
					fmt.Fprintf(l.out, "      %s\n", l.st.diff(sanitize.Line(d)))
				}
			}
		}
	}
}

// tell prints a line after its mark. On a terminal it is broken between words; a
// log keeps a line for each thing that happened.
func (l *lines) tell(mark, text string) {
	if l.app.ErrTerminal {
		fmt.Fprintln(l.out, wrap(l.app.columns(), mark+" ", text))
		return
	}
	fmt.Fprintf(l.out, "%s %s\n", mark, text)
}

// instruction is a text of several lines, safe to show. On a terminal it is
// broken between words where it has no room; what is indented is a command, and
// stays whole. A log keeps the lines as they are.
func (l *lines) instruction(text string) string {
	if l.app.ErrTerminal {
		return prose(l.app.columns(), "  ", text)
	}
	var out []string
	for line := range strings.Lines(strings.TrimRight(sanitize.Text(text), "\n")) {
		out = append(out, strings.TrimRight("  "+line, " \n"))
	}
	return strings.Join(out, "\n")
}

// clusterName is a cluster as people tell it from others.
func clusterName(context, server string) string {
	if context == "" {
		return server
	}
	return context + " (" + server + ")"
}

func targetPrefix(targets []string) string {
	switch len(targets) {
	case 0:
		return ""
	case 1:
		return targets[0] + ": "
	}
	return fmt.Sprintf("%d targets: ", len(targets))
}

// clear takes the progress off the screen, before a result is printed.
func (l *lines) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endProgress()
}

func (l *lines) endProgress() {
	if l.progress != nil {
		l.progress.end()
		l.progress = nil
	}
}

// Observe prints what happens.
func (l *lines) Observe(e engine.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Kind == engine.Progressed {
		if l.progress == nil {
			l.progress = l.app.progressLine()
		}
		l.progress.show(e)
		return
	}
	l.endProgress()
	text := sanitize.Line(e.Text)
	many := e.Total > manyActions && !l.app.verbose
	switch e.Kind {
	case engine.Finished:
		if many && e.Done != e.Total && e.Done%50 != 0 {
			return
		}
		if many {
			text = fmt.Sprintf("%d of %d changes", e.Done, e.Total)
		}
		l.tell(l.st.good("✓"), text)
	case engine.Failed:
		l.tell(l.st.bad("✗"), text+": "+sanitize.Line(e.Err.Error()))
	case engine.Refused:
		l.tell(l.st.warn("–"), text+": "+sanitize.Line(e.Err.Error()))
	case engine.Waiting:
		if text != l.lastWait && (l.app.verbose || e.Step == "verify" || e.Step == engine.StepAnswer) {
			atMost := ""
			if e.Left > 0 {
				atMost = ", for " + e.Left.Round(time.Second).String() + " more at most"
			}
			l.tell(l.st.dim("…"), "waiting: "+text+atMost)
		}
		l.lastWait = text
	case engine.Noticed:
		l.tell(l.st.warn("!"), text)
	case engine.Started:
		if e.Step == "snapshot" || l.app.verbose {
			l.tell(l.st.dim("…"), text)
		}
	}
}
