package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/timeline"
)

type undoOptions struct {
	incident string
	journal  string
	despite  []string
	request  engine.UndoRequest
	yes      bool
}

func (a *App) undo() *cobra.Command {
	o := &undoOptions{}
	cmd := &cobra.Command{
		Use:   "undo [INCIDENT]",
		Short: "Put back what was there before: the last action, a step, or all of an incident",
		Long: `Put back exactly what was there before an action: labels, replicas, policy. Without
--all or --step it undoes the last action. What somebody else changed since is left
as it is, and the difference shown (exit code 4); so is what was done for the same
suspects before that, and what another incident holds as well, unless it is named with
--despite. A suspect is not handed back to a controller that would delete it.

The journal alone is needed: --journal takes a copy of an incident's directory from
another machine.`,
		Example: `  irctl undo --all
  irctl undo --step scale --incident inc-20261124-143000-k7qm
  irctl undo --all --journal ./inc-20261124-143000-k7qm`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runUndo(c, o) },
	}
	f := cmd.Flags()
	takesIncident(cmd, &o.incident, "the incident (default: the only open one with something to undo)")
	f.StringVar(&o.journal, "journal", "", "directory of an incident that was copied from another machine")
	f.BoolVar(&o.request.All, "all", false, "everything of the incident")
	f.StringVar(&o.request.Step, "step", "", "everything of one step: "+strings.Join(engine.UndoSteps, ", "))
	f.BoolVar(&o.request.DryRun, "dry-run", false,
		"show what would be put back, and ask the server whether it would; change nothing")
	f.BoolVar(&o.request.AllowEvidenceLoss, "allow-evidence-loss", false,
		"hand a suspect back also to a controller that would delete it")
	f.StringSliceVar(&o.despite, "despite", nil,
		"another incident, from which what it holds as well is taken all the same")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	a.mustComplete(cmd, "incident", a.completeIncidents)
	a.mustComplete(cmd, "despite", a.completeOpenIncidents)
	a.mustComplete(cmd, "step", cobra.FixedCompletions(engine.UndoSteps, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// incidentIDs are the IDs of incidents, which need not be on this machine.
func incidentIDs(list []string) ([]incident.ID, error) {
	var ids []incident.ID
	for _, text := range list {
		id, err := incident.ParseID(text)
		if err != nil {
			return nil, usagef("--despite: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

func (a *App) runUndo(c *cobra.Command, o *undoOptions) error {
	if o.request.All && o.request.Step != "" {
		return usagef("give either --all or --step")
	}
	if o.incident != "" && o.journal != "" {
		return usagef("give either --incident or --journal")
	}
	if err := o.request.Check(); err != nil {
		return usageError{err}
	}
	var err error
	if o.request.Despite, err = incidentIDs(o.despite); err != nil {
		return err
	}
	ctx, cancel := a.context(c)
	defer cancel()
	// A copy is written to where it is, whatever the state directory is.
	if err := a.knowIncident(o.incident); err != nil {
		return err
	}
	e, err := a.engineFor(ctx, a.frontEnd(o.yes), o.request.DryRun || o.journal != "")
	if err != nil {
		return err
	}
	var h *incident.Handle
	if o.journal != "" {
		h, err = openCopy(ctx, e, o)
	} else {
		var id incident.ID
		if id, err = incidentToUndo(ctx, e.Store, o.incident); err == nil {
			h, err = openToUndo(ctx, e, id, o.request.DryRun)
		}
	}
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }() // every entry is on disk already
	a.tellDoubts(h.Incident())
	res, err := e.Undo(c.Context(), h, o.request) // it bounds itself, without the time for the answer
	if err != nil {
		return err
	}
	if err := a.printUndo(res, o.request.Step); err != nil {
		return err
	}
	return a.explained(undoExit(res), func(people *App) error { return people.printUndo(res, o.request.Step) })
}

// openToUndo opens an incident; a dry run only reads it.
func openToUndo(ctx context.Context, e *engine.Engine, id incident.ID, dryRun bool) (*incident.Handle, error) {
	if dryRun {
		return e.Store.Look(id)
	}
	return e.Store.Open(ctx, id, e.Actor())
}

func openCopy(ctx context.Context, e *engine.Engine, o *undoOptions) (*incident.Handle, error) {
	if o.request.DryRun {
		return e.Store.LookDir(o.journal)
	}
	return e.Store.OpenDir(ctx, o.journal, e.Actor())
}

// incidentToUndo is the one named; else the only open one in which there is
// something to undo, or the only open one.
func incidentToUndo(ctx context.Context, store *incident.Store, prefix string) (incident.ID, error) {
	if prefix != "" {
		return lookUp(store, prefix)
	}
	open, _ := store.FindOpen(ctx, func(incident.Incident) bool { return true })
	var changed []incident.Incident
	for _, i := range open {
		// One that cannot be read might have something to undo.
		if entries, err := store.Entries(i.ID); err != nil || len(timeline.Standing(entries)) > 0 {
			changed = append(changed, i)
		}
	}
	switch {
	case len(changed) > 0:
		return only(changed)
	case len(open) > 0:
		return open[0].ID, nil // whichever: there is nothing to undo in any
	}
	return only(nil)
}

func undoExit(res *engine.UndoResult) error {
	o := outcome{cancelled: res.Cancelled, actions: res.Actions}
	if res.Weighs() {
		o.also = []exitError{{code: ExitUndetermined}}
	}
	return o.exit()
}

func (a *App) printUndo(res *engine.UndoResult, step string) error {
	if done, err := a.printNamed(res, "incident/"+res.Incident); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	if !res.Cancelled {
		defer printDoubts(a.Out, st, res.Doubts, res.Strays)
	}
	if res.DryRun && len(res.Actions) > 0 {
		refused := 0
		for _, r := range res.Actions {
			if r.Err() != nil {
				refused++
			}
		}
		text := plural.Count(len(res.Actions)-refused, "change") + " would be undone"
		if refused > 0 {
			text += fmt.Sprintf(", %d not", refused)
		}
		fmt.Fprintf(a.Out, "dry run: nothing was changed; %s\n", text)
		a.printPlanned(res.Actions, st)
		return nil
	}
	if res.Cancelled {
		return nil
	}
	undone, left := 0, 0
	for _, r := range res.Actions {
		if r.Err() == nil {
			undone++
			continue
		}
		left++
		if a.OutTerminal && a.ErrTerminal {
			continue // the progress has just said so, on the same screen
		}
		fmt.Fprintf(a.Out, "%s %s: %s\n", st.bad("✗"), sanitize.Line(r.Summary), sanitize.Line(r.Error))
	}
	switch {
	case undone+left == 0:
		a.printNothing(res, step)
	case left == 0:
		fmt.Fprintf(a.Out, "%s %s of incident %s undone\n", st.good("✓"), plural.Count(undone, "change"), res.Incident)
	default:
		fmt.Fprintf(a.Out, "%s %s of incident %s undone, %d not\n", st.warn("!"), plural.Count(undone, "change"),
			res.Incident, left)
	}
	return nil
}

// printNothing says that what was asked for has nothing that stands, and what has.
func (a *App) printNothing(res *engine.UndoResult, step string) {
	text := "nothing to undo in incident " + res.Incident
	if step != "" && len(res.StandingSteps) > 0 {
		text = fmt.Sprintf("nothing of the step %s to undo in incident %s; there is of: %s",
			step, res.Incident, strings.Join(res.StandingSteps, ", "))
	}
	fmt.Fprintln(a.Out, text)
}
