package tui

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/plural"
	"irctl/internal/runbook"
	"irctl/internal/steps/contain"
	recovery "irctl/internal/steps/recover"
)

// after is what came of a step: what was verified, and what remains open. It
// stays on the screen until somebody has read it.
type after struct {
	title    string
	word     string // the verdict, or the outcome
	style    style
	error    string
	checks   []contain.Check
	open     []contain.Exposure
	notes    []contain.Exposure
	putBack  []string
	failures []string
	facts    [][2]string
	lines    []workLine
	// fixes are what would close what is open.
	fixes []string
	step  string // "": of no step
	// live: it is a verdict on the containment, which is kept up to date for as
	// long as it is shown.
	live    bool
	verdict contain.Verdict // "": it is none on a containment
	uses    string          // the step's operation
	passed  bool            // the run goes on after it by itself
	judged  int             // how many suspects it judges
	sealed  string          // the evidence that was sealed before anything was changed
	// unknown is what could not be told, and so is for a person to look at.
	unknown []contain.Exposure
}

// worthReading tells results that must not pass by unseen from those that may.
func worthReading(r *engine.StepResult) bool {
	if r.NotNeeded {
		return false
	}
	if r.Err() != nil {
		return true
	}
	switch r.Uses {
	case "manual", "note", "close":
		return false
	}
	return r.Outcome != "skipped"
}

func afterStep(r *engine.StepResult, lines []workLine) *after {
	a := &after{step: r.Name, uses: r.Uses, passed: r.Done(), title: r.Title, word: strings.ToUpper(r.Outcome),
		style: outcomeStyle(r.Outcome), lines: lines}
	if err := r.Err(); err != nil {
		a.error = err.Error()
	}
	switch d := r.Detail.(type) {
	case *engine.ContainResult:
		a.contained(d)
	case *engine.StatusResult:
		a.live = true
		a.judge(d.Verdict, d.Targets, d.Workloads, d.Unsettled)
		for _, text := range doubtsOf(d) {
			a.unknown = append(a.unknown, contain.Exposure{Code: "doubt", Text: text})
		}
		for _, c := range d.Standing {
			if c.State != "after" {
				a.failures = append(a.failures, fmt.Sprintf("%s: it is %s", c.Summary, c.State))
			}
		}
	case *engine.UndoResult:
		a.undone(d)
	case *engine.EradicateResult:
		a.eradicated(d)
		if d.Verdict == engine.NotEradicated && r.Outcome == "done" {
			a.word, a.style = "DONE, MORE IS TO BE ERADICATED", notice
		}
	case *engine.RecoverResult:
		a.recovered(d)
	case *engine.MonitorResult:
		a.monitored(d)
	case evidence.Result:
		if d.Receipt.Path != "" {
			a.facts = append(a.facts, [2]string{"sealed in", d.Receipt.Path}, [2]string{"sha256", d.Receipt.SHA256},
				[2]string{"artefacts", artefactsText(d.Receipt.Artefacts)},
				[2]string{"signed by", cmp.Or(d.Receipt.Signer, "nobody")})
			if !d.Receipt.Complete {
				a.unknown = append(a.unknown, contain.Exposure{Code: "evidence", Text: missingText(d.Receipt.Summary)})
			}
		}
	default:
		a.results(r)
	}
	return a
}

// again tells a containment that was done and did not hold: somebody put it
// back. Of one that failed the run asks by itself.
func (a *after) again() bool {
	return a.uses == "contain" && a.passed && a.verdict == contain.NotContained
}

func outcomeStyle(outcome string) style {
	switch outcome {
	case "done":
		return fine
	case "failed":
		return danger
	}
	return notice
}

// results are those of an operation that has no verdict.
func (a *after) results(r *engine.StepResult) {
	for _, name := range slices.Sorted(maps.Keys(r.Results)) {
		if text := runbook.Format(r.Results[name]); text != "" {
			a.facts = append(a.facts, [2]string{name, text})
		}
	}
	if r.Summary != "" && len(a.facts) == 0 && r.Err() == nil {
		a.facts = append(a.facts, [2]string{"result", r.Summary})
	}
}

func (a *after) contained(d *engine.ContainResult) {
	a.live = true
	a.judge(d.Verdict, d.Targets, d.Workloads, d.Unsettled)
	a.putBack = d.PutBack
	a.failures = append(a.failures, d.Failures...)
	for _, r := range d.Refusals {
		a.failures = append(a.failures, fmt.Sprintf("not done: %s: %s (%s would allow it)", r.Object, r.Reason,
			r.Override))
	}
	for _, r := range d.Actions {
		if r.Err() != nil {
			a.failures = append(a.failures, r.Summary+": "+r.Error)
		}
	}
	switch {
	case d.Evidence == nil || d.Evidence.Text == "":
	case d.Evidence.Taken:
		a.sealed = d.Evidence.Text
	default:
		a.facts = append(a.facts, [2]string{"evidence", d.Evidence.Text})
	}
}

// judgedAnew is it with the verdict that the cluster gives now. What a person
// reads is not turned round under their eyes for nothing: only another verdict,
// or other grounds for it, are shown.
func (a *after) judgedAnew(s *engine.StatusResult) *after {
	if a == nil || !a.live || len(s.Targets) != a.judged || s.Verdict == "" {
		return a
	}
	b := *a
	b.checks, b.open, b.notes, b.fixes = nil, nil, nil, nil
	b.judge(s.Verdict, s.Targets, s.Workloads, s.Unsettled)
	if b.verdict == a.verdict && slices.Equal(b.checks, a.checks) && slices.Equal(b.open, a.open) {
		return a
	}
	return &b
}

// judge takes a verdict, with what it was made of.
func (a *after) judge(v contain.Verdict, findings []contain.Finding, workloads []contain.Check,
	unsettled []engine.Unsettled) {
	if v == "" {
		return
	}
	a.verdict = v
	a.word, a.style = verdictStyle(v)
	a.judged = len(findings)
	many := len(findings) > 1
	for _, f := range findings {
		prefix := ""
		if many {
			prefix = f.Namespace + "/" + f.Pod + ": "
		}
		for _, c := range f.Checks {
			c.Text = prefix + c.Text
			a.checks = append(a.checks, c)
		}
		for _, x := range f.Exposures {
			x.Text = prefix + x.Text
			if x.Severity == contain.Note || x.Accepted != nil {
				a.notes = append(a.notes, x)
				continue
			}
			a.open = append(a.open, x)
			if x.Close != "" {
				a.fixes = append(a.fixes, x.Close)
			}
		}
	}
	a.checks = append(a.checks, workloads...)
	for _, u := range unsettled {
		if u.Accepted == nil {
			a.open = append(a.open, contain.Exposure{Code: "not done", Severity: contain.Open, Text: u.Summary + ": " +
				u.Reason, Close: u.Close})
			a.fixes = append(a.fixes, u.Close)
			continue
		}
		a.notes = append(a.notes, contain.Exposure{Text: "not done: " + u.Summary, Accepted: u.Accepted})
	}
	if n := engine.Accepted(findings, unsettled); n > 0 {
		a.word += fmt.Sprintf(", %d ACCEPTED", n)
		if a.style == fine {
			a.style = notice
		}
	}
}

func verdictStyle(v contain.Verdict) (string, style) {
	return strings.ToUpper(string(v)), map[contain.Verdict]style{contain.Contained: fine, contain.Exposed: notice,
		contain.Undetermined: notice, contain.NotContained: danger}[v]
}

func (a *after) undone(d *engine.UndoResult) {
	done := 0
	for _, r := range d.Actions {
		if r.Err() != nil {
			a.failures = append(a.failures, r.Summary+": "+r.Error)
			continue
		}
		done++
		a.checks = append(a.checks, contain.Check{OK: true, Text: r.Summary})
	}
	a.word, a.style = fmt.Sprintf("%d UNDONE", done), fine
	if len(a.failures) > 0 {
		a.word, a.style = fmt.Sprintf("%d UNDONE, %d NOT", done, len(a.failures)), danger
	}
}

func (a *after) eradicated(d *engine.EradicateResult) {
	if d.Verdict != "" {
		a.word = strings.ToUpper(string(d.Verdict))
		a.style = map[engine.EradicateVerdict]style{engine.Eradicated: fine, engine.NotEradicated: danger,
			engine.EradicationUnknown: danger}[d.Verdict]
	}
	for _, r := range d.Actions {
		if r.Err() != nil {
			a.failures = append(a.failures, r.Summary+": "+r.Error)
			continue
		}
		a.checks = append(a.checks, contain.Check{OK: true, Text: r.Summary})
	}
	for _, s := range slices.Concat(d.Left, d.Kept) {
		a.failures = append(a.failures, "left for you: "+s)
	}
	for _, s := range d.Unrotated {
		a.failures = append(a.failures, "not replaced: "+s)
	}
	for _, s := range d.Unknown {
		a.unknown = append(a.unknown, contain.Exposure{Code: "secrets", Text: "not looked at: " + s})
	}
	for _, s := range d.KeptKeys {
		a.open = append(a.open, contain.Exposure{Code: "kept", Text: s + " is kept as no secret, and not replaced"})
	}
	a.failures = append(a.failures, d.Failures...)
}

// recovered takes how workloads came back, and what became of the suspects.
func (a *after) recovered(d *engine.RecoverResult) {
	if d.Verdict != "" {
		a.word = strings.ToUpper(string(d.Verdict))
		a.style = map[engine.RecoverVerdict]style{engine.Recovered: fine, engine.RecoveredOpen: notice,
			engine.NothingRecovered: notice, engine.NotRecovered: danger}[d.Verdict]
	}
	for _, r := range d.Refusals {
		a.failures = append(a.failures, fmt.Sprintf("not done: %s: %s", r.Object, r.Reason))
	}
	a.failures = append(a.failures, d.Failures...)
	for _, r := range d.Actions {
		if r.Err() != nil {
			a.failures = append(a.failures, r.Summary+": "+r.Error)
		}
	}
	for _, w := range d.Workloads {
		a.checks = append(a.checks, contain.Check{OK: w.OK, Text: w.Object + ": " +
			strings.TrimPrefix(w.Rollout, w.Object+": ")})
		switch {
		case w.WayIn.Text == "":
		case w.WayIn.State == recovery.Closed:
			a.checks = append(a.checks, contain.Check{OK: true, Text: w.WayIn.Text})
		default:
			a.open = append(a.open, contain.Exposure{Code: "way in", Text: w.WayIn.Text})
		}
		for _, c := range w.Checks {
			switch {
			case c.Result == recovery.NotKnown:
				a.unknown = append(a.unknown, contain.Exposure{Code: c.Code, Text: c.Text})
			case c.Result == recovery.Failed && c.Accepted:
				a.open = append(a.open, contain.Exposure{Code: c.Code, Text: "accepted: " + c.Text})
			default:
				a.checks = append(a.checks, contain.Check{OK: c.Result != recovery.Failed, Text: c.Code + ": " +
					c.Text})
			}
		}
	}
	for _, s := range d.Suspects {
		text := s.Fate
		if s.Text != "" {
			text += ": " + s.Text
		}
		a.facts = append(a.facts, [2]string{"suspect", s.Namespace + "/" + s.Pod + " " + text})
	}
	for _, s := range d.Stays {
		a.facts = append(a.facts, [2]string{"stays", s})
	}
	if len(d.Left) > 0 {
		a.facts = append(a.facts, [2]string{"for you", "only you can tell whether: " + strings.Join(d.Left, "; ")})
	}
}

// mostExposed is how many pods that are also exposed are named.
const mostExposed = 10

// monitored takes whether the attacker was seen again.
func (a *after) monitored(d *engine.MonitorResult) {
	took := d.Until.Sub(d.From).Round(time.Second)
	switch {
	case len(d.Hits) > 0:
		a.word, a.style = "SIGNS OF THE ATTACKER'S RETURN", danger
	case d.Undetermined != "":
		a.word, a.style = "COULD NOT TELL", danger
		a.failures = append(a.failures, d.Undetermined)
	case d.Failure == "" && !d.Interrupted:
		a.word, a.style = "NOTHING SEEN", fine
	}
	for _, h := range d.Hits {
		a.failures = append(a.failures, h.Code+": "+h.Text)
	}
	if d.Failure != "" {
		a.failures = append(a.failures, d.Failure)
	}
	for _, g := range d.Gaps {
		a.open = append(a.open, contain.Exposure{Code: "not seen", Text: g})
	}
	for n, x := range d.Exposed {
		if n == mostExposed {
			a.open = append(a.open, contain.Exposure{Code: "also exposed",
				Text: plural.Count(len(d.Exposed)-n, "more pod")})
			break
		}
		a.open = append(a.open, contain.Exposure{Code: "also exposed", Text: x.Text})
	}
	for _, n := range d.NotTouched {
		a.open = append(a.open, contain.Exposure{Code: "not touched", Text: n.Object + ": " + n.Reason,
			Close: n.Command})
	}
	if d.Contained != nil {
		a.facts = append(a.facts, [2]string{"contained", "again: " + string(d.Contained.Verdict)})
	}
	a.facts = append(a.facts, [2]string{"watched", plural.Count(d.Looks, "look") + " in " + took.String()})
}

func (a *after) view(g *page, p place) {
	g.line(p.paint(a.style, " "+p.safe(a.word)+" ") + "  " + p.safe(a.title))
	if a.error != "" {
		g.text(bad, p.g.failed+" ", a.error)
	}
	if n := len(a.open) + len(a.putBack) + len(a.failures) + a.unmet(); n > 0 {
		g.heading("Remains open: " + itoa(n))
		for _, c := range a.checks {
			if !c.OK {
				g.text(bad, p.paint(bad, p.g.failed)+" ", c.Text)
			}
		}
		for _, f := range a.failures {
			g.text(bad, p.paint(bad, p.g.failed)+" ", f)
		}
		for _, b := range a.putBack {
			g.text(bad, p.paint(bad, p.g.failed)+" ", "somebody put it back: "+b)
		}
		for _, x := range a.open {
			g.text(none, p.paint(warning, p.g.warn)+" "+p.paint(strong, p.safe(x.Code))+"  ", x.Text)
			if x.Close != "" {
				g.text(faint, "  "+p.g.arrow+" ", x.Close)
			}
		}
	}
	if len(a.unknown) > 0 {
		g.heading("Not known, for you to look at: " + itoa(len(a.unknown)))
		for _, x := range a.unknown {
			g.text(none, p.paint(warning, p.g.warn)+" "+p.paint(strong, p.safe(x.Code))+"  ", x.Text)
		}
	}
	if a.sealed != "" {
		g.blank()
		g.text(none, p.paint(good, p.g.done)+" evidence  ", a.sealed)
	}
	if len(a.checks) > a.unmet() {
		g.heading("Verified")
		for _, c := range a.checks {
			if c.OK {
				g.text(none, p.paint(good, p.g.done)+" ", c.Text)
			}
		}
	}
	if len(a.facts) > 0 {
		g.blank()
		for _, f := range a.facts {
			g.fact(p.safe(f[0]), f[1])
		}
	}
	for _, x := range a.notes {
		text := x.Text
		if x.Accepted != nil {
			text += "; " + x.Accepted.String()
		}
		g.text(faint, p.g.todo+" ", text)
	}
}

func (a *after) unmet() (n int) {
	for _, c := range a.checks {
		if !c.OK {
			n++
		}
	}
	return n
}

func total[K comparable](counts map[K]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
