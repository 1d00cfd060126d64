package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
)

func (a *App) evidenceClean() *cobra.Command {
	yes, prefix := false, ""
	cmd := &cobra.Command{Use: "clean [INCIDENT]", Short: "Remove what a killed irctl left of evidence it was writing",
		Args: noArgs, ValidArgsFunction: a.completeIncidents,
		Long: `Remove the .partial files that a killed irctl left of the evidence of an incident. They
are encrypted and have no end, so nobody can open them. irctl status names them; what a
running irctl is writing is not among them. It shows them and asks.

Exit codes: 0 removed, or there are none; 1 error; 2 usage; 4 refused.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.runEvidenceClean(c.Context(), prefix, yes) }}
	takesIncident(cmd, &prefix, onlyOpen)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *App) runEvidenceClean(ctx context.Context, prefix string, yes bool) error {
	store, id, err := a.storeOf(ctx, prefix)
	if err != nil {
		return err
	}
	entries, err := store.Entries(id)
	if err != nil {
		return err
	}
	list, err := engine.Leftovers(store, id, entries)
	if err != nil {
		return err
	}
	for _, l := range list {
		fmt.Fprintf(a.Err, "%s\n", sanitize.Line(leftoverText(l, a.clock.Now())))
	}
	front := a.frontEnd(yes)
	switch {
	case len(list) == 0 || yes:
	case !a.InTerminal:
		return fmt.Errorf(
			"%w: nothing was removed, since there is no terminal to ask on; give --yes to go ahead without",
			engine.ErrRefused)
	default:
		answer, err := front.ask(ctx, fmt.Sprintf("Remove %s for good?", plural.Count(len(list), "file")))
		if err != nil {
			return err
		}
		if answer != engine.Yes {
			return exitError{code: ExitRefused, err: errors.New("nothing was removed: the answer was no")}
		}
	}
	removed := []evidence.Leftover{}
	var errs []error
	for _, l := range list {
		if err := l.Remove(); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, l)
	}
	names := named(removed, func(l evidence.Leftover) string { return l.Path })
	if done, err := a.printNamed(map[string]any{"removed": removed}, names...); err != nil {
		errs = append(errs, err)
	} else if !done {
		fmt.Fprintf(a.Out, "%s of incident %s removed\n", plural.Count(len(removed), "unfinished file"), id)
	}
	return errors.Join(errs...)
}

// leftoverText names a file with its size and age.
func leftoverText(l evidence.Leftover, now time.Time) string {
	return fmt.Sprintf("%s (%s, %s old)", l.Path, bytesText(l.Size), max(0, now.Sub(l.Modified)).Round(time.Second))
}
