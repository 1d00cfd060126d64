package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"irctl/internal/engine"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/steps"
	"irctl/internal/steps/eradicate"
)

// eradicateOptions are the flags of eradicate.
type eradicateOptions struct {
	incident          string
	plan, dryRun, yes bool
	in                eradicate.Inputs
}

func (a *App) eradicate() *cobra.Command {
	o := &eradicateOptions{}
	cmd := &cobra.Command{
		Use:   "eradicate [INCIDENT] [--secret NAME … | --all-secrets]",
		Short: "Find every secret that the suspects could read, and replace it",
		Long: `Find every Secret that the suspects of an incident could read, by their pods and by
their service account, and what uses each; then replace those that you choose:
new value, store, update the Secret, restart what uses it, verify, make the old
value worthless. Before that, --image deploys the patched version, --apply applies the
team's manifests and --remove-bindings takes the suspects' accounts their rights; irctl
undo takes these back. Each step is in the timeline. Without a choice, or with --plan, it
shows the blast radius and changes nothing.

Values are never shown, never in the timeline, never on a command line. A run that
was interrupted goes on with the same command. What was rotated cannot be undone:
that would put a leaked secret back.

Exit codes: 0 done; 1 error; 2 usage; 3 done, but something still accepts or runs
with an old value or is not replaced; 4 refused; 5 nothing could be looked at.`,
		Example: `  irctl eradicate --plan
  irctl eradicate --secret backend-secret --generate SECRET_KEY=random --set-from GROQ_API_KEY=new.key
  irctl eradicate --all-secrets --keep POSTGRES_USER --postgres POSTGRES_PASSWORD=todo \
    --postgres-admin admin.dsn --postgres-forward service/postgres
  irctl eradicate --apply ./policies --apply backend.yaml --remove-bindings
  irctl eradicate --secret serviceaccount/backend-sa --yes -o json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runEradicate(c, o) },
	}
	f := cmd.Flags()
	takesIncident(cmd, &o.incident, onlyOpen)
	f.StringSliceVar(&o.in.Secrets, "secret", nil,
		"a Secret to replace, as NAME or NAMESPACE/NAME; serviceaccount/NAME for the tokens of one")
	f.BoolVar(&o.in.All, "all-secrets", false, "replace every secret that the suspects could read")
	f.BoolVar(&o.plan, "plan", false, "show the blast radius: which secrets, what uses them, in which order")
	f.StringSliceVar(&o.in.Generate, "generate", nil, "[SECRET/]KEY=KIND: generate random, password, rsa, ecdsa or "+
		"ed25519; KIND:KEY puts the public half in another key")
	f.StringVar(&o.in.GenerateRest, "generate-rest", "", "random or password: how keys are made of which nothing "+
		"else is said, and which no third party is known to issue")
	f.StringArrayVar(&o.in.SetFrom, "set-from", nil,
		"[SECRET/]KEY=FILE: a value that only a third party can issue; - is standard input")
	f.StringSliceVar(&o.in.Keep, "keep", nil, "[SECRET/]KEY: it is no secret")
	f.StringSliceVar(&o.in.Postgres, "postgres", nil,
		"[SECRET/]KEY=ROLE: the password of a PostgreSQL role, or a URL that holds it")
	f.StringVar(&o.in.PostgresAdmin, "postgres-admin", "", "file with the connection string of who may alter the "+
		"roles; PG* variables and ~/.pgpass fill what it leaves open")
	f.StringVar(&o.in.PostgresForward, "postgres-forward", "", "[NAMESPACE/]pod|service/NAME[:PORT] of that server, "+
		"which is reached through the API server, as by kubectl port-forward")
	f.StringArrayVar(&o.in.StoreCommands, "store-command", nil,
		`[SECRET/]KEY=["argv", …]: your own command, which stores the new value that it gets on standard input`)
	f.StringSliceVar(&o.in.Revoked, "revoked", nil, "[SECRET/]KEY: its old value was revoked at its issuer")
	f.StringSliceVar(&o.in.Images, "image", nil, "[CONTAINER=]IMAGE@sha256:…: deploy the patched version in the "+
		"incident's workloads, before any secret is replaced; irctl undo takes it back")
	f.BoolVar(&o.in.AllowTag, "allow-tag", false, "with --image: take one that is named by a tag")
	f.StringSliceVar(&o.in.Apply, "apply", nil, "a file or folder of the team's manifests, applied server-side; what "+
		"each changes is shown first, and irctl undo takes it back")
	f.BoolVar(&o.in.ForceConflicts, "force-conflicts", false, "with --apply: take fields from other field managers")
	f.BoolVar(&o.in.RemoveBindings, "remove-bindings", false,
		"take the suspects' service accounts out of the bindings that give them rights; irctl undo puts them back")
	f.BoolVar(&o.in.Again, "again", false, "replace also what this incident has replaced already")
	f.BoolVar(&o.dryRun, "dry-run", false, "ask the servers whether they would do it; change nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	a.mustComplete(cmd, "incident", a.completeOpenIncidents)
	return cmd
}

// options checks the flags and reads the files that they name.
func (o *eradicateOptions) options(ctx context.Context, stdin io.Reader) (eradicate.Options, error) {
	out, err := o.in.Options(ctx, stdin)
	switch {
	case errors.Is(err, eradicate.ErrTag):
		return out, fmt.Errorf("%w: %w; --allow-tag takes it all the same", engine.ErrRefused, err)
	case err != nil:
		return out, usageError{err}
	}
	return out, nil
}

func (a *App) runEradicate(c *cobra.Command, o *eradicateOptions) error {
	if slices.ContainsFunc(o.in.SetFrom, func(s string) bool { return strings.HasSuffix(s, "=-") }) && !o.yes &&
		!o.dryRun && !o.plan {
		return usagef("--set-from …=- takes standard input, so there is nowhere to ask: give --yes")
	}
	var err error
	if o.in.Context, err = a.namespace(); err != nil {
		return err
	}
	o.in.Namespace = a.givenNamespace()
	options, err := o.options(c.Context(), a.In)
	if err != nil {
		return err
	}
	ctx, cancel := a.context(c)
	defer cancel()
	if err := a.knowIncident(o.incident); err != nil {
		return err
	}
	e, err := a.engineFor(ctx, a.frontEnd(o.yes), o.dryRun || o.plan || !options.Changes())
	if err != nil {
		return err
	}
	id, err := findIncident(ctx, e.Store, o.incident)
	if err != nil {
		return err
	}
	planOnly := o.plan || !options.Changes()
	// it bounds itself
	res, err := e.Eradicate(c.Context(), engine.EradicateRequest{Incident: id, Options: options, PlanOnly: planOnly,
		DryRun: o.dryRun})
	if err != nil {
		return err
	}
	if err := a.printEradicate(res, planOnly); err != nil {
		return err
	}
	return a.explained(eradicateExit(res, planOnly), func(people *App) error {
		return people.printEradicate(res, planOnly)
	})
}

func eradicateExit(res *engine.EradicateResult, planOnly bool) error {
	if res.Radius.Blind() && (planOnly || res.DryRun) {
		return exitError{code: ExitUndetermined,
			err: fmt.Errorf("what the suspects could read could not be looked at: %s", strings.Join(res.Unknown, "; "))}
	}
	if planOnly {
		return nil
	}
	o := outcome{cancelled: res.Cancelled, actions: res.Actions, refusals: res.Refusals, failures: res.Failures}
	switch res.Verdict {
	case engine.NotEradicated:
		o.also = []exitError{{code: ExitNotContained}}
	case engine.EradicationUnknown:
		o.also = []exitError{{code: ExitUndetermined}}
	}
	return o.exit()
}

func (a *App) printEradicate(res *engine.EradicateResult, planOnly bool) error {
	names := named(res.Radius.Items, func(i *eradicate.Item) string { return strings.ToLower(i.Kind) + "/" + i.Name })
	if done, err := a.printNamed(res, names...); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	if planOnly {
		return a.printEradicatePlan(res, st)
	}
	if res.DryRun {
		a.printWarnings(res.Warnings, st)
		fmt.Fprintf(a.Out, "dry run: nothing was changed; %s would be made\n", plural.Count(len(res.Actions), "change"))
		a.printPlanned(res.Actions, st)
	}
	a.printRefused(res.Refusals, st)
	for _, f := range res.Failures {
		fmt.Fprintf(a.Out, "%s %s\n", st.bad("✗"), sanitize.Line(f))
	}
	if res.DryRun || res.Cancelled || res.Verdict == "" {
		return nil
	}
	a.printEradicated(res, st)
	return nil
}

func (a *App) printEradicated(res *engine.EradicateResult, st style) {
	for _, r := range res.Actions {
		if r.Err() != nil && !(a.OutTerminal && a.ErrTerminal) {
			fmt.Fprintf(a.Out, "%s %s: %s\n", st.bad("✗"), sanitize.Line(r.Summary), sanitize.Line(r.Error))
		}
	}
	for _, k := range res.Kept {
		fmt.Fprintf(a.Out, "%s %s\n", st.warn("!"), sanitize.Line(k))
	}
	for _, l := range res.Left {
		fmt.Fprintf(a.Out, "%s left for you: %s\n", st.warn("!"), sanitize.Line(l))
	}
	for _, u := range res.Unrotated {
		fmt.Fprintf(a.Out, "%s not rotated: %s\n", st.warn("!"), sanitize.Line(u))
	}
	for _, k := range res.KeptKeys {
		fmt.Fprintf(a.Out, "%s kept, as no secret: %s\n", st.warn("!"), sanitize.Line(k))
	}
	for _, u := range res.Unknown {
		fmt.Fprintf(a.Out, "%s not looked at: %s\n", st.warn("!"), sanitize.Line(u))
	}
	verdict := st.bad(strings.ToUpper(string(res.Verdict)))
	if res.Verdict == engine.Eradicated {
		verdict = st.good(strings.ToUpper(string(res.Verdict)))
	}
	fmt.Fprintf(a.Out, "%s  %s\n", verdict, res.Count())
}

func (a *App) printRefused(list []steps.Refusal, st style) {
	for _, r := range list {
		override := ""
		if r.Override != "" {
			override = "; " + r.Override + " would do it"
		}
		fmt.Fprintf(a.Out, "%s refused: %s: %s%s\n", st.warn("–"), sanitize.Line(r.Object), sanitize.Line(r.Reason),
			sanitize.Line(override))
	}
}

func (a *App) printWarnings(list []steps.Warning, st style) {
	for _, w := range list {
		fmt.Fprintf(a.Err, "%s %s\n", st.warn("!"), sanitize.Line(w.Text))
		if w.Fix != "" {
			fmt.Fprintf(a.Err, "    %s %s\n", st.dim("→"), sanitize.Line(w.Fix))
		}
	}
}

// printEradicatePlan prints what could be rotated, what gives the suspects
// rights, and what would be changed before.
func (a *App) printEradicatePlan(res *engine.EradicateResult, st style) error {
	a.printWarnings(append(slices.Clone(res.Radius.Warnings), res.Warnings...), st)
	if err := a.printRadius(res.Radius, st); err != nil {
		return err
	}
	if err := a.printBindings(res.Radius.Bindings); err != nil {
		return err
	}
	a.printPlanned(res.Actions, st)
	changes := slices.DeleteFunc(slices.Clone(res.Refusals), func(r steps.Refusal) bool { return r.Action == "rotate" })
	a.printRefused(changes, st) // of secrets the table says it
	return nil
}

// printBindings prints what the suspects' accounts may do, and by what.
func (a *App) printBindings(list []*eradicate.Binding) error {
	if len(list) == 0 {
		return nil
	}
	rows := [][]string{{"BINDING", "ACCOUNT", "ROLE", "ALLOWS", "OTHERS"}}
	for _, b := range list {
		account := strings.Join(b.Accounts, ",")
		if b.Group {
			account += " (by a group)"
		}
		first := []string{b.Object, account, b.Role}
		for n, allows := range b.Allows {
			others := ""
			if n == 0 {
				others = fmt.Sprint(b.Others)
			}
			rows = append(rows, append(first, allows, others))
			first = []string{"", "", ""}
		}
	}
	fmt.Fprintln(a.Out)
	return table(a.Out, rows)
}

// printRadius prints secrets × what uses them, in the order of rotation.
func (a *App) printRadius(r *eradicate.Radius, st style) error {
	rows := [][]string{{"ORDER", "SECRET", "KEYS", "ROTATED BY", "USED BY", "RESTART"}}
	for _, i := range r.Items {
		first := []string{fmt.Sprint(i.Order), i.Kind + " " + i.Namespace + "/" + i.Name, keys(i), how(i)}
		if len(i.Users) == 0 {
			rows = append(rows, append(first, "-", "-"))
		}
		for _, u := range i.Users {
			restart := "yes"
			if !u.Restart {
				restart = "no: " + u.Reason
			}
			rows = append(rows, append(first, u.Object, restart))
			first = []string{"", "", "", ""}
		}
	}
	if err := table(a.Out, rows); err != nil {
		return err
	}
	for _, i := range r.Items {
		if i.Problem != "" {
			fmt.Fprintf(a.Out, "%s %s: %s\n", st.warn("!"), sanitize.Line(i.Key()), sanitize.Line(i.Problem))
		}
		for _, k := range i.Open() {
			fmt.Fprintf(a.Out, "%s %s key %s: %s\n", st.warn("!"), sanitize.Line(i.Key()), sanitize.Line(k.Name),
				sanitize.Line(k.Problem))
		}
		if a.verbose {
			for _, e := range i.Exposed {
				fmt.Fprintf(a.Out, "  %s: %s\n", sanitize.Line(i.Key()), sanitize.Line(e))
			}
		}
	}
	return nil
}

func keys(i *eradicate.Item) string {
	var list []string
	for _, k := range i.Keys {
		list = append(list, k.Name)
	}
	return dash(strings.Join(list, ","))
}

func how(i *eradicate.Item) string {
	switch {
	case i.Rotated:
		return i.Rotator + " (done)"
	case i.Nothing():
		return "nothing to replace"
	case i.Rotator == "":
		return "see below"
	}
	return i.Rotator
}
