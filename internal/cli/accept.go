package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"irctl/internal/casefile"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/sanitize"
	"irctl/internal/steps/contain"
)

type acceptOptions struct {
	incident string
	reason   string
	withdraw bool
}

func (a *App) accept() *cobra.Command {
	o := &acceptOptions{}
	cmd := &cobra.Command{
		Use:   "accept [CODE[=OBJECT]]",
		Short: "Take a finding of a containment upon yourself: it is closed elsewhere, or borne",
		Long: `Take a finding upon yourself that irctl cannot see closed: a cloud credential that was
revoked, a port that a firewall blocks. It no longer weighs in the verdict and the exit
code; status, report and timeline say who accepted it, when and why. Without CODE it
lists what can be accepted. --withdraw takes an acceptance back.

CODE is that of an exposure, as -o json tells it; "unsettled", a change that was meant and
did not happen; or "stray", what carries the incident's label and is not in its timeline.
OBJECT is the pod, NAMESPACE/NAME, or the object, KIND NAMESPACE/NAME; without
it the finding is accepted wherever it is, also of pods to come. The cut itself (a label, the
quarantine) cannot be accepted: do it, or undo it.

Exit codes: 0 accepted; 1 there is no such finding; 2 usage; 4 refused.`,
		Example: `  irctl accept
  irctl accept cloud-identity --reason "role revoked in AWS by ops, 14:20"
  irctl accept node-suspect=todo-app/backend-688d67cddc-dxv5m --reason "the node is drained"
  irctl accept cloud-identity --withdraw`,
		Args: atMostOneArg, ValidArgsFunction: cobra.FixedCompletions(
			append(slices.Clone(contain.Codes), casefile.Unsettled), noFiles),
		RunE: func(c *cobra.Command, args []string) error { return a.runAccept(c, o, first(args)) },
	}
	f := cmd.Flags()
	f.StringVar(&o.reason, "reason", "", "why it no longer weighs, for the timeline and the report")
	f.BoolVar(&o.withdraw, "withdraw", false, "take an acceptance back")
	takesIncident(cmd, &o.incident, onlyOpen)
	a.mustComplete(cmd, "incident", a.completeOpenIncidents)
	return cmd
}

func (a *App) runAccept(c *cobra.Command, o *acceptOptions, what string) error {
	code, object, _ := strings.Cut(what, "=")
	switch {
	case what == "" && (o.reason != "" || o.withdraw):
		return usagef("which finding? irctl accept lists them")
	case what != "" && code == "":
		return usagef("%q is not CODE or CODE=OBJECT", what)
	case what != "" && strings.TrimSpace(o.reason) == "" && !o.withdraw:
		return usagef("why? give --reason TEXT")
	}
	ctx, cancel := a.context(c)
	defer cancel()
	if what == "" {
		return a.listAcceptables(ctx, o)
	}
	e, err := a.engineToWrite(ctx, a.frontEnd(false))
	if err != nil {
		return err
	}
	id, err := findIncident(ctx, e.Store, o.incident)
	if err != nil {
		return err
	}
	h, err := e.Store.Open(ctx, id, e.Actor())
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }() // every entry is on disk already
	found, err := e.Accept(ctx, h, engine.AcceptRequest{Code: code, Object: object, Reason: o.reason,
		Withdraw: o.withdraw})
	if err != nil {
		return err
	}
	return a.printAcceptables(id, found, o.withdraw, what)
}

// listAcceptables prints what weighs and can be accepted, and what is.
func (a *App) listAcceptables(ctx context.Context, o *acceptOptions) error {
	e, err := a.engine(ctx, a.frontEnd(false))
	if err != nil {
		return err
	}
	id, err := findIncident(ctx, e.Store, o.incident)
	if err != nil {
		return err
	}
	i, entries, err := recorded(e.Store, id)
	if err != nil {
		return err
	}
	list, err := e.Acceptables(ctx, i, entries)
	if err != nil {
		return err
	}
	return a.printAcceptables(id, list, false, "")
}

func (a *App) printAcceptables(id incident.ID, list []engine.Acceptable, withdrawn bool, what string) error {
	names := named(list, engine.Acceptable.Named)
	if done, err := a.printNamed(map[string]any{"incident": id, "findings": list}, names...); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	switch {
	case withdrawn:
		fmt.Fprintf(a.Out, "%s weighs again in incident %s\n", sanitize.Line(what), id)
	case len(list) == 0:
		fmt.Fprintf(a.Out, "nothing of incident %s is open that could be accepted (irctl status %s)\n", id, id)
	}
	for _, f := range list {
		if f.Accepted != nil {
			fmt.Fprintf(a.Out, "%s %s  %s\n    %s\n", st.dim("·"), sanitize.Line(f.Named()), sanitize.Line(f.Text),
				sanitize.Line(f.Accepted.String()))
			continue
		}
		fmt.Fprintf(a.Out, "%s %s  %s\n", st.warn("!"), sanitize.Line(f.Named()), sanitize.Line(f.Text))
	}
	return nil
}
