package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"irctl/internal/engine"
	"irctl/internal/rotate"
	"irctl/internal/sanitize"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

// eradicateOptions are the flags of eradicate.
type eradicateOptions struct {
	incident string
	secrets  []string
	all      bool
	plan     bool
	dryRun   bool
	yes      bool
	again    bool
	images   []string
	allowTag bool

	generate, setFrom, keep, roles, commands, revoked []string
	admin, forward                                    string
}

func (a *App) eradicate() *cobra.Command {
	o := &eradicateOptions{}
	cmd := &cobra.Command{
		Use:   "eradicate [--secret NAME … | --all-secrets]",
		Short: "Find every secret that the suspects could read, and replace it",
		Long: `Find every Secret that the suspects of an incident could read, by their pods and by
their service account, and what uses each; then replace those that you choose:
new value, store, update the Secret, restart what uses it, verify, make the old
value worthless. --image deploys the patched version first. Each step is in the timeline. Without a choice, or with --plan,
it shows the blast radius and changes nothing.

Values are never shown, never in the timeline, never on a command line. A run that
was interrupted goes on with the same command. What was rotated cannot be undone:
that would put a leaked secret back.

Exit codes: 0 done; 1 error; 2 usage; 3 done, but something still accepts or runs
with an old value; 4 refused.`,
		Example: `  irctl eradicate --plan
  irctl eradicate --secret backend-secret --generate SECRET_KEY=random --set-from GROQ_API_KEY=new.key
  irctl eradicate --all-secrets --keep POSTGRES_USER --postgres POSTGRES_PASSWORD=todo --postgres-admin admin.dsn --postgres-forward service/postgres
  irctl eradicate --secret serviceaccount/backend-sa --yes -o json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runEradicate(c, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.incident, "incident", "", "the incident (default: the only open one)")
	f.StringSliceVar(&o.secrets, "secret", nil, "a Secret to replace, as NAME or NAMESPACE/NAME; serviceaccount/NAME for the tokens of one")
	f.BoolVar(&o.all, "all-secrets", false, "replace every secret that the suspects could read")
	f.BoolVar(&o.plan, "plan", false, "show the blast radius: which secrets, what uses them, in which order")
	f.StringSliceVar(&o.generate, "generate", nil, "[SECRET/]KEY=KIND: generate random, password, rsa, ecdsa or ed25519; KIND:KEY puts the public half in another key")
	f.StringArrayVar(&o.setFrom, "set-from", nil, "[SECRET/]KEY=FILE: a value that only a third party can issue; - is standard input")
	f.StringSliceVar(&o.keep, "keep", nil, "[SECRET/]KEY: it is no secret")
	f.StringSliceVar(&o.roles, "postgres", nil, "[SECRET/]KEY=ROLE: the password of a PostgreSQL role, or a URL that holds it")
	f.StringVar(&o.admin, "postgres-admin", "", "file with the connection string of who may alter the roles; PG* variables and ~/.pgpass fill what it leaves open")
	f.StringVar(&o.forward, "postgres-forward", "", "[NAMESPACE/]pod|service/NAME[:PORT] of that server, which is reached through the API server, as by kubectl port-forward")
	f.StringArrayVar(&o.commands, "store-command", nil, `[SECRET/]KEY=["argv", …]: your own command, which stores the new value that it gets on standard input`)
	f.StringSliceVar(&o.revoked, "revoked", nil, "[SECRET/]KEY: its old value was revoked at its issuer")
	f.StringSliceVar(&o.images, "image", nil, "CONTAINER=IMAGE@sha256:…: deploy the patched version in the incident's workloads, before any secret is replaced; irctl undo takes it back")
	f.BoolVar(&o.allowTag, "allow-tag", false, "with --image: take one that is named by a tag")
	f.BoolVar(&o.again, "again", false, "replace also what this incident has replaced already")
	f.BoolVar(&o.dryRun, "dry-run", false, "ask the servers whether they would do it; change nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	a.mustComplete(cmd, "incident", a.completeOpenIncidents)
	return cmd
}

// maxValue bounds a value that is read from a file; a Secret holds at most 1 MiB.
const maxValue = 1 << 20

// options checks the flags and reads the files that they name.
func (o *eradicateOptions) options(stdin io.Reader, namespace string) (eradicate.Options, error) {
	out := eradicate.Options{Secrets: o.secrets, All: o.all, Sources: map[string]rotate.Source{}, Revoked: o.revoked, Again: o.again}
	if o.all && len(o.secrets) > 0 {
		return out, usagef("give either --secret or --all-secrets")
	}
	set := func(flag, key string, s rotate.Source) error {
		if _, twice := out.Sources[key]; twice {
			return usagef("%s %s: the key was given already", flag, key)
		}
		out.Sources[key] = s
		return nil
	}
	for _, g := range o.generate {
		key, kind, ok := cutLast(g)
		kind, public, _ := strings.Cut(kind, ":")
		if !ok || !slices.Contains(rotate.Generated, rotate.Kind(kind)) {
			return out, usagef("--generate %s: use [SECRET/]KEY=KIND, where KIND is one of %v", g, rotate.Generated)
		}
		if err := set("--generate", key, rotate.Source{Kind: rotate.Kind(kind), Public: public}); err != nil {
			return out, err
		}
	}
	for _, k := range o.keep {
		if err := set("--keep", k, rotate.Source{Kind: rotate.Keep}); err != nil {
			return out, err
		}
	}
	for _, r := range o.roles {
		key, role, ok := cutLast(r)
		if !ok {
			return out, usagef("--postgres %s: use [SECRET/]KEY=ROLE", r)
		}
		if err := set("--postgres", key, rotate.Source{Kind: rotate.Role, Role: role}); err != nil {
			return out, err
		}
	}
	for _, text := range o.images {
		image, err := eradicate.ParseImage(text, o.allowTag)
		if errors.Is(err, eradicate.ErrTag) {
			return out, fmt.Errorf("%w: --image %s: %w; --allow-tag takes it all the same", engine.ErrRefused, text, err)
		}
		if err != nil {
			return out, usagef("--image %s: %v", text, err)
		}
		out.Images = append(out.Images, image)
	}
	if err := o.values(stdin, set); err != nil {
		return out, err
	}
	if err := o.storeCommands(out.Sources); err != nil {
		return out, err
	}
	return out, o.database(&out, namespace)
}

// cutLast splits KEY=VALUE; a key has no "=".
func cutLast(s string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(s, "=")
	return key, value, ok && key != "" && value != ""
}

// values reads what a third party has issued.
func (o *eradicateOptions) values(stdin io.Reader, set func(flag, key string, s rotate.Source) error) error {
	fromStdin := 0
	for _, s := range o.setFrom {
		key, file, ok := cutLast(s)
		if !ok {
			return usagef("--set-from needs [SECRET/]KEY=FILE")
		}
		in := stdin
		if file == "-" {
			fromStdin++
		} else {
			f, err := os.Open(file)
			if err != nil {
				return usagef("--set-from %s: its second half must be a file; a value has no place on a command line: %v", key, withoutPath(err))
			}
			defer func() { _ = f.Close() }() // it was only read
			in = f
		}
		if fromStdin > 1 {
			return usagef("--set-from: standard input can hold one value only")
		}
		data, err := io.ReadAll(io.LimitReader(in, maxValue+1))
		if err != nil {
			return usagef("--set-from %s: %v", key, withoutPath(err))
		}
		if data = []byte(strings.TrimRight(string(data), "\r\n")); len(data) == 0 || len(data) > maxValue {
			return usagef("--set-from %s: the value is empty or larger than %d bytes", key, maxValue)
		}
		if err := set("--set-from", key, rotate.Source{Kind: rotate.Supplied, Value: rotate.NewValue(data)}); err != nil {
			return err
		}
	}
	return nil
}

// withoutPath is an error of a file without its name, in case somebody put the
// value there.
func withoutPath(err error) error {
	if p, ok := err.(*os.PathError); ok { //nolint:errorlint // only the outermost names the file
		return p.Err
	}
	return err
}

func (o *eradicateOptions) storeCommands(sources map[string]rotate.Source) error {
	for _, c := range o.commands {
		key, text, ok := cutLast(c)
		var argv []string
		if !ok || json.Unmarshal([]byte(text), &argv) != nil || len(argv) == 0 || argv[0] == "" {
			return usagef(`--store-command %s: use [SECRET/]KEY=["program", "argument", …]`, key)
		}
		s, ok := sources[key]
		if !ok || s.Kind == rotate.Keep || s.Kind == rotate.Role {
			return usagef("--store-command %s: say with --generate or --set-from what the new value is", key)
		}
		s.Command = argv
		sources[key] = s
	}
	return nil
}

func (o *eradicateOptions) database(out *eradicate.Options, namespace string) error {
	if o.admin == "" && o.forward != "" {
		return usagef("--postgres-forward is the way to a database: say with --postgres-admin as whom to enter it")
	}
	if o.admin == "" {
		return nil
	}
	text, err := os.ReadFile(o.admin)
	if err != nil {
		return usagef("--postgres-admin must be a file: %v", withoutPath(err))
	}
	db, err := rotate.ParseDatabase(string(text))
	if err != nil {
		return usageError{err}
	}
	if o.forward != "" {
		forward, err := rotate.ParseForward(o.forward, namespace)
		if err != nil {
			return usagef("--postgres-forward: %v", err)
		}
		db = db.Through(forward)
	}
	out.Database = &db
	return nil
}

func (a *App) runEradicate(c *cobra.Command, o *eradicateOptions) error {
	if slices.ContainsFunc(o.setFrom, func(s string) bool { return strings.HasSuffix(s, "=-") }) && !o.yes && !o.dryRun && !o.plan {
		return usagef("--set-from …=- takes standard input, so there is nowhere to ask: give --yes")
	}
	namespace, err := a.namespace()
	if err != nil {
		return err
	}
	options, err := o.options(a.In, namespace)
	if err != nil {
		return err
	}
	ctx, cancel := a.context(c)
	defer cancel()
	e, err := a.engine(ctx, a.frontEnd(o.yes))
	if err != nil {
		return err
	}
	id, err := findIncident(ctx, e.Store, o.incident)
	if err != nil {
		return err
	}
	planOnly := o.plan || !options.Chooses() && len(options.Images) == 0
	res, err := e.Eradicate(c.Context(), engine.EradicateRequest{Incident: id, Options: options, PlanOnly: planOnly, DryRun: o.dryRun}) // it bounds itself
	if err != nil {
		return err
	}
	if err := a.printEradicate(res, planOnly); err != nil {
		return err
	}
	if planOnly {
		return nil
	}
	return eradicateExit(res)
}

func eradicateExit(res *engine.EradicateResult) error {
	var first error
	failed, refused := len(res.Failures) > 0, len(res.Refusals) > 0
	for _, r := range res.Actions {
		switch r.Outcome {
		case timeline.OutcomeFailed, timeline.OutcomeUnknown, timeline.OutcomeSkipped:
			if r.Err() != nil && first == nil {
				first = r.Err()
			}
		case timeline.OutcomeRefused:
			refused = true
		}
	}
	switch {
	case res.Cancelled:
		return exitError{code: ExitRefused, err: fmt.Errorf("nothing was changed: the answer was no")}
	case first != nil:
		return exitError{code: ExitError, err: first}
	case failed:
		return exitError{code: ExitError}
	case refused:
		return exitError{code: ExitRefused}
	case len(res.Kept)+len(res.Left) > 0:
		return exitError{code: ExitNotContained}
	}
	return nil
}

func (a *App) printEradicate(res *engine.EradicateResult, planOnly bool) error {
	if done, err := a.printObject(res); done || err != nil {
		return err
	}
	if a.output == "name" {
		for _, i := range res.Radius.Items {
			fmt.Fprintln(a.Out, sanitize.Line(strings.ToLower(i.Kind)+"/"+i.Name))
		}
		return nil
	}
	st := a.style(a.OutTerminal)
	if planOnly {
		return a.printRadius(res.Radius, st)
	}
	if res.DryRun {
		fmt.Fprintf(a.Out, "dry run: nothing was changed; %s would be made\n", count(len(res.Actions), "change"))
		a.printPlanned(res.Actions, st)
	}
	for _, r := range res.Refusals {
		fmt.Fprintf(a.Out, "%s refused: %s: %s\n", st.warn("–"), sanitize.Line(r.Object), sanitize.Line(r.Reason))
	}
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
	rotated := 0
	for _, i := range res.Radius.Items {
		if i.Rotated {
			rotated++
		}
	}
	verdict := st.bad(strings.ToUpper(string(res.Verdict)))
	if res.Verdict == engine.Eradicated {
		verdict = st.good(strings.ToUpper(string(res.Verdict)))
	}
	fmt.Fprintf(a.Out, "%s  %d of %s rotated\n", verdict, rotated, count(len(res.Radius.Items), "secret"))
}

// printRadius prints secrets × what uses them, in the order of rotation.
func (a *App) printRadius(r *eradicate.Radius, st style) error {
	for _, w := range r.Warnings {
		fmt.Fprintf(a.Err, "%s %s\n", st.warn("!"), sanitize.Line(w.Text))
		if w.Fix != "" {
			fmt.Fprintf(a.Err, "    %s %s\n", st.dim("→"), sanitize.Line(w.Fix))
		}
	}
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
	case i.Rotator == "":
		return "see below"
	}
	return i.Rotator
}
