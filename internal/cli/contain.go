package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// containOptions are the flags of contain.
type containOptions struct {
	targets targetRequest

	steps, skip     []string
	keepReplicas    bool
	cordon, suspend bool
	options         contain.Options
	incident        string
	title, severity string
	recipients      []string
	dryRun, yes     bool
	secondLook      time.Duration
}

func (a *App) contain() *cobra.Command {
	o := &containOptions{}
	cmd := &cobra.Command{
		Use:   "contain (--pod NAME | -l SELECTOR | TYPE/NAME … | --incident INCIDENT)",
		Short: "Cut suspect pods off, keep them alive as evidence, take their workload down",
		Long: `Cut suspect pods off from the network and from their Services, keep them running
for forensics, and take their workload down. In this order, each step checked:

  quarantine   a NetworkPolicy that denies this incident's suspects everything
  detach       one patch: quarantine=true, and off with the labels by which
               controllers and Services select the pod (remembered for undo)
  scale        the workload to zero, once its controller has released the pod
               (a Job or CronJob is suspended, a DaemonSet kept off the node)

Then it waits until that is observed, and says what still remains open.
Doing it twice changes nothing the second time. With --incident alone it is done again
as the incident remembers it. irctl undo --all puts it back.

Exit codes: 0 contained; 1 error; 2 usage; 3 not fully contained (with exposures,
or not contained); 4 refused; 5 could not tell.`,
		Example: `  irctl contain --pod backend-688d67cddc-dxv5m -n todo-app
  irctl contain deployment/backend -n todo-app --dry-run
  irctl contain -l app=backend -A --yes -o json
  irctl contain --pod web-0 --steps quarantine,detach --allow-dns`,
		ValidArgsFunction: a.completeWorkloads,
		RunE: func(c *cobra.Command, args []string) error {
			o.targets.args = args
			return a.runContain(c, o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.targets.pods, "pod", nil, podHelp)
	f.StringVarP(&o.targets.selector, "selector", "l", "", "suspects by label selector")
	f.BoolVarP(&o.targets.allNamespaces, "all-namespaces", "A", false, "with -l: in all namespaces")
	f.BoolVar(&o.targets.includeNew, "include-new", false,
		"with -l or TYPE/NAME, again: also what matches now and did not at first")
	f.StringSliceVar(&o.steps, "steps", contain.DefaultSteps, "which steps to do: "+
		strings.Join(contain.AllSteps, ", "))
	f.StringSliceVar(&o.skip, "skip", nil, "steps to leave out")
	f.BoolVar(&o.options.KeepLabels, "keep-labels", false, "mark the pod but leave it with its controller and Services")
	f.BoolVar(&o.keepReplicas, "keep-replicas", false, "leave the workload running (the same as --skip scale)")
	f.StringSliceVar(&o.options.RemoveLabels, "remove-label", nil,
		"a further label to take off, by which an allowing policy selects the pod, say")
	f.BoolVar(&o.cordon, "cordon", false, "also cordon and label the suspect's node")
	f.BoolVar(&o.suspend, "suspend-controllers", false,
		"also suspend what would put the workload back: KEDA, Argo CD, Flux")
	f.BoolVar(&o.options.AllowEvidenceLoss, "allow-evidence-loss", false,
		"scale down even if that destroys a suspect or its volumes")
	f.BoolVar(&o.options.AllowDNS, "allow-dns", false, "let the suspect reach the cluster's DNS")
	f.StringSliceVar(&o.options.AllowNamespaces, "allow-namespace", nil,
		"a forensics namespace that may talk with the suspect")
	f.StringSliceVar(&o.options.AllowCIDRs, "allow-cidr", nil, "an address range that may talk with the suspect")
	takesIncident(cmd, &o.incident, "the incident to join (default: the open one of the same target, or a new one)")
	f.StringVar(&o.title, "title", "", "title of a new incident")
	f.StringVar(&o.severity, "severity", "", "severity of a new incident: sev1 to sev4")
	f.StringSliceVarP(&o.recipients, "recipient", "r", nil,
		"who can open the evidence: an OpenPGP key file, or an e-mail or fingerprint of the GnuPG keyring")
	f.BoolVar(&o.dryRun, "dry-run", false,
		"show what would be done, with diffs, and ask the server whether it would; change nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.DurationVar(&o.secondLook, "second-look", time.Second,
		"how long after the verification to look again whether anything was put back; 0: not")
	a.mustComplete(cmd, "pod", a.completePods)
	a.mustComplete(cmd, "incident", a.completeOpenIncidents)
	a.mustComplete(cmd, "steps", cobra.FixedCompletions(contain.AllSteps, cobra.ShellCompDirectiveNoFileComp))
	a.mustComplete(cmd, "skip", cobra.FixedCompletions(contain.AllSteps, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// complete checks the flags, and derives the steps from them. given is the
// namespace of -n.
func (o *containOptions) complete(given string) error {
	if _, err := o.targets.query(given); err != nil && !o.again() {
		return err
	}
	if o.keepReplicas {
		o.skip = append(o.skip, contain.StepScale)
	}
	for _, name := range append(slices.Clone(o.steps), o.skip...) {
		if !slices.Contains(contain.AllSteps, name) {
			return usagef("no step %q: there are %s%s", name, strings.Join(contain.AllSteps, ", "),
				didYouMean(name, contain.AllSteps))
		}
	}
	if o.cordon {
		o.steps = append(o.steps, contain.StepCordon)
	}
	if o.suspend {
		o.steps = append(o.steps, contain.StepSuspend)
	}
	for _, s := range o.steps {
		if !slices.Contains(o.skip, s) {
			o.options.Steps = append(o.options.Steps, s)
		}
	}
	if len(o.options.Steps) == 0 {
		return usagef("no step is left to do")
	}
	if o.secondLook < 0 {
		return usagef("--second-look must not be negative; 0 makes none")
	}
	if _, err := incident.ParseSeverity(o.severity); err != nil {
		return err
	}
	return o.options.Validate()
}

func (a *App) runContain(c *cobra.Command, o *containOptions) error {
	if err := o.complete(a.givenNamespace()); err != nil {
		return usageError{err}
	}
	ctx, cancel := a.context(c)
	defer cancel()
	var req engine.ContainRequest
	var err error
	// Before anything else: a key that cannot be used must not be found out afterwards.
	if req.Snapshot, req.EvidenceNote, err = a.snapshot(ctx, o.recipients); err != nil {
		return err
	}
	if err := a.knowIncident(o.incident); err != nil {
		return err
	}
	e, err := a.engineFor(ctx, a.frontEnd(o.yes), o.dryRun)
	if err != nil {
		return err
	}
	if req.Incident, err = toJoin(e.Store, o.incident); err != nil {
		return err
	}
	for _, ns := range o.options.AllowNamespaces {
		if err := e.Client.CheckNamespace(ctx, ns); err != nil {
			return fmt.Errorf("--allow-namespace: %w", err)
		}
	}
	if err := a.containsWhat(ctx, e, o, &req, c.Flags().Changed); err != nil {
		return err
	}
	req.DryRun, req.Title, req.Severity, req.SecondLook = o.dryRun, o.title, incident.Severity(o.severity), o.secondLook
	res, err := e.Contain(c.Context(), req) // it bounds itself, without the time for the answer
	if err != nil {
		return err
	}
	if err := a.printContain(res); err != nil {
		return err
	}
	return a.explained(containExit(res), func(people *App) error { return people.printContain(res) })
}

// howFlags are those that say how to contain.
var howFlags = []string{"steps", "skip", "keep-labels", "keep-replicas", "remove-label", "cordon",
	"suspend-controllers", "allow-evidence-loss",
	"allow-dns", "allow-namespace", "allow-cidr"}

// containsWhat finds the suspects, or, where none are named, those of the incident.
func (a *App) containsWhat(ctx context.Context, e *engine.Engine, o *containOptions, req *engine.ContainRequest,
	given func(string) bool) error {
	if o.again() {
		again, err := e.Again(ctx, req.Incident)
		if err != nil {
			return err
		}
		again.Snapshot, again.EvidenceNote = req.Snapshot, req.EvidenceNote
		if *req = again; slices.ContainsFunc(howFlags, given) {
			req.Options = o.options
		}
		return nil
	}
	q, err := a.query(o.targets)
	if err != nil {
		return err
	}
	t, id, err := e.Recall(ctx, q, req.Incident)
	if err != nil {
		return err
	}
	req.Incident, req.Options = id, o.options
	*req = req.Of(t)
	return nil
}

// again: only an incident is named, so what it remembers is done again.
func (o *containOptions) again() bool { return o.incident != "" && !o.targets.any() }

// containExit turns a result into the exit code.
func containExit(res *engine.ContainResult) error {
	o := outcome{cancelled: res.Cancelled, actions: res.Actions, refusals: res.Refusals, failures: res.Failures}
	if !res.DryRun {
		o.also = []exitError{{code: verdictCode(res.Verdict)}}
	}
	return o.exit()
}

// printNotDone prints what was refused, with what would allow it, and what
// went wrong beside the actions.
func (a *App) printNotDone(refusals []steps.Refusal, failures []string, st style) {
	for _, r := range refusals {
		fmt.Fprintf(a.Out, "%s refused: %s%s: %s\n", st.warn("–"), sanitize.Line(targetPrefix(r.Targets)),
			sanitize.Line(r.Object), sanitize.Line(r.Reason))
		if r.Override != "" {
			fmt.Fprintf(a.Out, "    %s %s\n", st.dim("allow it with"), sanitize.Line(r.Override))
		}
	}
	for _, f := range failures {
		fmt.Fprintf(a.Out, "%s %s\n", st.bad("✗"), sanitize.Line(f))
	}
}

func (a *App) printContain(res *engine.ContainResult) error {
	var names []string
	if res.Incident != "" {
		names = []string{"incident/" + res.Incident}
	}
	if done, err := a.printNamed(res, names...); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	p := func(format string, args ...any) { fmt.Fprintf(a.Out, format+"\n", args...) }
	if res.DryRun {
		a.printDryRun(res, st)
	}
	a.printNotDone(res.Refusals, res.Failures, st)
	if res.DryRun || res.Cancelled {
		return nil
	}
	if res.Evidence != nil {
		mark := st.warn("!")
		if res.Evidence.Taken {
			mark = st.good("✓")
		}
		p("%s evidence: %s", mark, sanitize.Line(res.Evidence.Text))
	}
	a.printFindings(res.Targets, st)
	for _, w := range res.Workloads {
		p("%s %s", checkMark(st, w), sanitize.Line(w.Text))
	}
	for _, b := range res.PutBack {
		p("%s put back by somebody since: %s", st.bad("✗"), sanitize.Line(b))
	}
	a.printUnsettled(res.Unsettled, st)
	changed := 0
	for _, r := range res.Actions {
		if r.Outcome == timeline.OutcomeDone {
			changed++
		}
	}
	if len(res.Targets) == 0 {
		p("%s there was no pod to judge: none belongs to what was named%s", st.warn("!"), detachedHint(res.Incident))
	}
	undo := ""
	if res.Incident != "" {
		undo = fmt.Sprintf(" (irctl undo --all --incident %s puts it back)", res.Incident)
	}
	p("%s  %s, %d changed%s", verdictText(st, res.Verdict, engine.Accepted(res.Targets, res.Unsettled)),
		plural.Count(len(res.Targets), "pod"), changed, undo)
	return nil
}

// detachedHint says where the pods may be that a workload had.
func detachedHint(id string) string {
	if id != "" {
		return "; irctl status " + id + " judges the suspects of the incident"
	}
	return ". Pods that were detached earlier carry the label " + contain.QuarantineLabel + "=" +
		contain.QuarantineValue
}

func (a *App) printDryRun(res *engine.ContainResult, st style) {
	fmt.Fprintf(a.Out, "dry run: nothing was changed; %s would be made\n", plural.Count(len(res.Actions), "change"))
	for _, w := range res.Warnings {
		fmt.Fprintf(a.Out, "%s %s\n", st.warn("!"), sanitize.Line(targetPrefix(w.Targets)+w.Text))
		if w.Fix != "" {
			fmt.Fprintf(a.Out, "    %s %s\n", st.dim("→"), sanitize.Line(w.Fix))
		}
	}
	a.printPlanned(res.Actions, st)
}

// printPlanned prints the actions of a dry run with their diffs.
func (a *App) printPlanned(actions []engine.ActionResult, st style) {
	for _, r := range actions {
		fmt.Fprintf(a.Out, "%s: %s\n    %s\n", st.bold(r.Step), sanitize.Line(r.Summary),
			st.dim(sanitize.Line(r.Command)))
		for _, d := range r.Diff {
			fmt.Fprintf(a.Out, "    %s\n", st.diff(sanitize.Line(d)))
		}
		if r.Error != "" {
			why := "it would fail: "
			switch r.Outcome {
			case timeline.OutcomeRefused:
				why = "irctl would not do it: "
			case timeline.OutcomeDenied:
				why = "the API server would not do it: "
			}
			fmt.Fprintf(a.Out, "    %s %s%s\n", st.bad("✗"), why, sanitize.Line(r.Error))
			if hint := explain(r.Err()); hint != "" {
				fmt.Fprintf(a.Out, "      %s %s\n", st.dim("→"), sanitize.Line(hint))
			}
		}
	}
}

func mark(st style, ok bool) string {
	if ok {
		return st.good("✓")
	}
	return st.bad("✗")
}

// checkMark is that of a check: one that could not be made is neither.
func checkMark(st style, c contain.Check) string {
	if c.Unknown {
		return st.warn("?")
	}
	return mark(st, c.OK)
}

func verdictText(st style, v contain.Verdict, accepted int) string {
	text := strings.ToUpper(string(v))
	if accepted > 0 {
		return st.warn(fmt.Sprintf("%s, %d accepted", text, accepted))
	}
	switch v {
	case contain.Contained:
		return st.good(text)
	case contain.Exposed, contain.Undetermined:
		return st.warn(text)
	}
	return st.bad(text)
}

// manyTargets is from how many on only what is wrong is printed, unless -v.
const manyTargets = 5

func (a *App) printFindings(findings []contain.Finding, st style) {
	brief := len(findings) >= manyTargets && !a.verbose
	for _, f := range findings {
		fmt.Fprintf(a.Out, "%s/%s  %s\n", sanitize.Line(f.Namespace), sanitize.Line(f.Pod),
			verdictText(st, f.Verdict, engine.Accepted([]contain.Finding{f}, nil)))
		for _, c := range f.Checks {
			if !brief || !c.OK {
				fmt.Fprintf(a.Out, "  %s %s\n", checkMark(st, c), sanitize.Line(c.Text))
			}
		}
		for _, e := range f.Exposures {
			if brief && e.Severity != contain.Open || e.Severity == contain.Note && e.Accepted == nil && !a.verbose {
				continue
			}
			sign := st.warn("!")
			if e.Accepted != nil {
				fmt.Fprintf(a.Out, "  %s %s; %s\n", st.dim("·"), sanitize.Line(e.Text),
					sanitize.Line(e.Accepted.String()))
				continue
			}
			if e.Severity == contain.Open {
				sign = st.bad("✗")
			}
			fmt.Fprintf(a.Out, "  %s %s\n", sign, sanitize.Line(e.Text))
			if e.Close != "" {
				fmt.Fprintf(a.Out, "      %s %s\n", st.dim("→"), sanitize.Line(e.Close))
			}
		}
		if !a.verbose && !brief {
			if n := notes(f); n > 0 {
				fmt.Fprintf(a.Out, "  %s\n", st.dim(fmt.Sprintf("· %d notes (-v shows them)", n)))
			}
		}
	}
}

// printUnsettled prints what was meant and did not happen.
func (a *App) printUnsettled(list []engine.Unsettled, st style) {
	for _, u := range list {
		if u.Accepted != nil {
			fmt.Fprintf(a.Out, "%s not done: %s; %s\n", st.dim("·"), sanitize.Line(u.Summary),
				sanitize.Line(u.Accepted.String()))
			continue
		}
		fmt.Fprintf(a.Out, "%s not done: %s: %s\n", st.bad("✗"), sanitize.Line(u.Summary),
			sanitize.Line(unsettledText(u)))
		if u.Close != "" {
			fmt.Fprintf(a.Out, "    %s %s\n", st.dim("→"), sanitize.Line(u.Close))
		}
	}
}

// unsettledText says what became of the last attempt.
func unsettledText(u engine.Unsettled) string {
	word := string(u.Outcome)
	if u.Outcome == timeline.OutcomeUnknown {
		word = "not known"
	}
	if u.Reason == "" || strings.HasPrefix(u.Reason, word) {
		return cmp.Or(u.Reason, word)
	}
	return word + ": " + u.Reason
}

func notes(f contain.Finding) int {
	n := 0
	for _, e := range f.Exposures {
		if e.Severity == contain.Note {
			n++
		}
	}
	return n
}
