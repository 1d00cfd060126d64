package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/change"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

func (a *App) status() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "status [INCIDENT]",
		Short: "How open incidents stand now: what was changed, whether it holds, what is open",
		Long: `Look at an incident, or at all that are open: which changes stand, whether somebody
put one back, and the verdict on every suspect as the cluster is now. It changes
nothing, neither in the cluster nor in the journal.

Exit codes: 0 contained, or nothing was to be; 3 not, or not fully; 5 could not tell.`,
		Args: noArgs, ValidArgsFunction: a.completeOpenIncidents,
		RunE: func(c *cobra.Command, _ []string) error { return a.runStatus(c, prefix) },
	}
	takesIncident(cmd, &prefix, "the incident (default: all open ones)")
	return cmd
}

func (a *App) runStatus(c *cobra.Command, prefix string) error {
	ctx, cancel := a.context(c)
	defer cancel()
	store, err := a.store()
	if err != nil {
		return err
	}
	var ids []incident.ID
	var unreadable []error
	if prefix != "" {
		id, err := lookUp(store, prefix)
		if err != nil {
			return err
		}
		ids = []incident.ID{id}
	} else {
		var open []incident.Incident
		open, unreadable = store.FindOpen(ctx, func(incident.Incident) bool { return true })
		for _, i := range open {
			ids = append(ids, i.ID)
		}
	}
	results := []*engine.StatusResult{}
	if len(ids) > 0 {
		e, err := a.engine(ctx, a.frontEnd(false))
		if err != nil {
			return err
		}
		for _, id := range ids {
			i, entries, err := recorded(store, id)
			if err != nil {
				return err
			}
			results = append(results, e.Status(ctx, i, entries))
		}
	}
	if err := a.printStatus(results); err != nil {
		return err
	}
	if err := a.listErrors(unreadable); err != nil {
		return err
	}
	end := ended(coded(verdictCode(engine.Verdicts(results)))...)
	return a.explained(end, func(people *App) error { return people.printStatus(results) })
}

func (a *App) printStatus(list []*engine.StatusResult) error {
	names := named(list, func(s *engine.StatusResult) string { return "incident/" + string(s.Incident.ID) })
	if done, err := a.printNamed(map[string]any{"incidents": list}, names...); done || err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(a.Err, "no open incidents")
		return nil
	}
	for n, s := range list {
		if n > 0 {
			fmt.Fprintln(a.Out)
		}
		a.printOneStatus(s)
	}
	return nil
}

func (a *App) printOneStatus(s *engine.StatusResult) {
	st := a.style(a.OutTerminal)
	i := s.Incident
	fmt.Fprintf(a.Out, "incident %s  %s", st.bold(string(i.ID)), i.State)
	if i.Severity != "" {
		fmt.Fprintf(a.Out, "  %s", i.Severity)
	}
	if i.Title != "" {
		fmt.Fprintf(a.Out, "  %s", sanitize.Line(i.Title))
	}
	fmt.Fprintf(a.Out, "\n  %s\n", clocks(s))
	if s.LeftStanding != nil {
		fmt.Fprintf(a.Out, "%s closed with containment left standing; %s\n", st.dim("·"),
			sanitize.Line(s.LeftStanding.String()))
	}
	printDoubts(a.Out, st, s.Doubts, s.Strays)
	a.printRepair(a.Out, i)
	for _, l := range s.Leftovers {
		fmt.Fprintf(a.Out,
			"%s unfinished evidence of a killed irctl, of no use: %s\n    %s irctl evidence clean %s removes it\n",
			st.warn("!"), sanitize.Line(leftoverText(l, a.clock.Now())), st.dim("→"), i.ID)
	}
	for _, c := range s.Standing {
		sign, text := standingText(st, c)
		fmt.Fprintf(a.Out, "%s %s%s\n", sign, sanitize.Line(c.Summary), sanitize.Line(text))
	}
	a.printFindings(s.Targets, st)
	for _, w := range s.Workloads {
		fmt.Fprintf(a.Out, "%s %s\n", checkMark(st, w), sanitize.Line(w.Text))
	}
	a.printUnsettled(s.Unsettled, st)
	if s.Verdict == "" && len(s.Standing) == 0 {
		fmt.Fprintln(a.Out, "nothing stands: nothing was contained, or all was undone")
		return
	}
	verdict := verdictText(st, s.Verdict, engine.Accepted(s.Targets, s.Unsettled))
	if s.Verdict == "" {
		verdict = "no pod is contained"
	}
	fmt.Fprintf(a.Out, "%s  %s, standing: %s (irctl undo --all --incident %s puts them back)\n",
		verdict, plural.Count(len(s.Targets), "pod"), standingCount(s.Standing), i.ID)
}

// clocks are when it was detected, which is not known of an incident that somebody
// opened by hand, and how long it took until it was contained.
func clocks(s *engine.StatusResult) string {
	m := s.Metrics
	text := "detected "
	if m.Sources[timeline.Detected] == 0 {
		text = "opened "
	}
	text += m.DetectedAt.UTC().Format(time.RFC3339)
	if d, ok := m.TimeToContain(); ok {
		was := ", contained "
		if s.Verdict != contain.Contained && s.Verdict != contain.Exposed {
			was = ", had been contained "
		}
		text += was + d.Round(time.Second).String() + " later"
	}
	return text
}

// standingCount counts what stands of the changes: what somebody put back, or
// whose object is gone, does not.
func standingCount(list []engine.StandingChange) string {
	count := map[change.State]int{}
	notDone := 0
	for _, c := range list {
		if c.Uncertain && c.State == change.Before {
			notDone++
			continue
		}
		count[c.State]++
	}
	var others []string
	if notDone > 0 {
		others = append(others, fmt.Sprintf("%d not done", notDone))
	}
	known := count[change.After] + notDone
	for _, s := range []struct {
		state change.State
		text  string
	}{{change.Before, "put back by somebody"}, {change.Drifted, "changed by somebody since"},
		{change.Missing, "gone"}} {
		if n := count[s.state]; n > 0 {
			others = append(others, fmt.Sprintf("%d %s", n, s.text))
			known += n
		}
	}
	if n := len(list) - known; n > 0 {
		others = append(others, fmt.Sprintf("%d could not be looked at", n))
	}
	if len(others) == 0 {
		return plural.Count(len(list), "change")
	}
	return fmt.Sprintf("%d of %s, %s", count[change.After], plural.Count(len(list), "change"),
		strings.Join(others, ", "))
}

// printDoubts says why more may stand than is known.
func printDoubts(w io.Writer, st style, doubts []string, strays []engine.Stray) {
	for _, d := range doubts {
		fmt.Fprintf(w, "%s %s\n", st.warn("!"), sanitize.Line(d))
	}
	for _, s := range strays {
		if s.Accepted != nil {
			fmt.Fprintf(w, "%s %s carries the incident's label, and the journal does not know it: accepted by %s: %s\n",
				st.dim("·"), sanitize.Line(s.Object), sanitize.Line(s.Accepted.By), sanitize.Line(s.Accepted.Reason))
			continue
		}
		fmt.Fprintf(w, "%s %s carries the incident's label, and the journal does not know it\n    %s %s\n",
			st.warn("!"), sanitize.Line(s.Object), st.dim("→"), sanitize.Line(s.Undo))
	}
}

// printRepair says what makes an incident usable again that is not.
func (a *App) printRepair(w io.Writer, i incident.Incident) {
	if slices.ContainsFunc(i.Doubts, func(d incident.Doubt) bool { return d.Repair }) {
		fmt.Fprintf(w,
			"    → irctl incident repair %s shows what of it is in the cluster; until then nothing is written to it\n",
			i.ID)
	}
}

// standingText says where the object of a change stands, when it is not as
// irctl left it.
func standingText(st style, c engine.StandingChange) (sign, text string) {
	switch c.State {
	case change.After:
		return st.good("✓"), ""
	case change.Before:
		if c.Uncertain {
			return st.bad("✗"), ": it was begun and not done"
		}
		return st.bad("✗"), ": somebody put it back"
	case change.Drifted:
		return st.bad("✗"), ": somebody changed it since"
	case change.Missing:
		return st.bad("✗"), ": the object is gone"
	}
	if c.Error == "" {
		return st.warn("?"), ""
	}
	return st.warn("?"), ": " + c.Error
}
