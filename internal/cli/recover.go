package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"irctl/internal/engine"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/steps/detect"
	recovery "irctl/internal/steps/recover"
)

// recoverOptions are the flags of recover.
type recoverOptions struct {
	despite []string
	request engine.RecoverRequest
	monitor engine.MonitorRequest

	incident, suspect string
	falco, auditLogs  []string
	listen, tokenFile string
	recipients        []string
	yes               bool
}

func (a *App) recover() *cobra.Command {
	o := &recoverOptions{}
	cmd := &cobra.Command{
		Use:   "recover [INCIDENT]",
		Short: "Put the workload back on a clean image, check it, deal with the suspect, watch",
		Long: `Put back what containment took down, once the image is another one than the
suspect's. In this order, each step checked:

  restore      the replicas that the journal recorded
  rollout      wait until every pod is ready, or say why it is not
  checks       non-root, capabilities, policies, digests, endpoints, logs
  suspect      keep it cut off, or delete it once its evidence is sealed
  lift         the quarantine, where no suspect is left that needs it
  resume       the autoscalers and GitOps controllers that were suspended

With --monitor it then watches for the attacker's return, and ends at the first
sign. What ran before the watch began is no sign of a return; a watch that is
started again continues the first one. --recontain contains, in the incident's
namespaces, pods that came up since, five an hour at most, and never scales a
workload that is not the incident's; what it does not touch is named.

Run again, it goes on where it stopped, and checks anew. What fails a check
stays up: irctl contain takes it down again.

Exit codes: 0 recovered; 1 error; 2 usage; 3 a check failed, the way in is open, or
the watch saw a sign; 4 refused; 5 there was no workload to judge, or the watch could
not look.`,
		Example: `  irctl eradicate --image backend=registry.example.com/backend@sha256:… && irctl recover
  irctl recover --suspect delete --monitor 30m --yes
  irctl recover --same-image --dry-run
  irctl recover --monitor 1h --falco /var/log/falco.jsonl --recontain -r responders.asc --yes -o json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runRecover(c, o) },
	}
	f := cmd.Flags()
	takesIncident(cmd, &o.incident, onlyOpen)
	f.BoolVar(&o.request.SameImage, "same-image", false,
		"restore also onto the suspect's image; the report then says that the way in is still open")
	f.StringVar(&o.suspect, "suspect", "", "what becomes of the suspects: keep or delete (default: ask, or keep)")
	f.BoolVar(&o.request.AllowEvidenceLoss, "allow-evidence-loss", false,
		"with --suspect delete: also where no evidence of it is sealed")
	f.BoolVar(&o.request.Uncordon, "uncordon", false, "take the suspects' nodes back into use")
	f.StringSliceVar(&o.despite, "despite", nil,
		"another incident, from which what it holds as well is taken all the same")
	f.DurationVar(&o.request.Wait, "wait", engine.DefaultRollout, "how long the rollouts may take")
	f.DurationVar(&o.monitor.For, "monitor", 0, "then watch so long for the attacker's return")
	f.DurationVar(&o.monitor.Every, "every", engine.DefaultLook, "with --monitor: how long to wait between two looks")
	f.StringSliceVar(&o.falco, "falco", nil,
		"with --monitor: a file of Falco's alerts, as JSON lines, that is followed; - is standard input")
	f.StringSliceVar(&o.auditLogs, "audit-log", nil,
		"with --monitor: a file of the API server's audit log that is followed")
	f.StringVar(&o.listen, "listen", "",
		"with --monitor: take alerts over HTTP at this address, from falcosidekick's webhook or Falco itself")
	f.StringVar(&o.tokenFile, "listen-token-file", "",
		"the bearer token that --listen asks for; needed where others can reach the address")
	f.BoolVar(&o.monitor.Recontain, "recontain", false,
		"with --monitor: on a sign, contain the pods that it is about, within bounds")
	f.StringSliceVar(&o.monitor.RecontainNamespaces, "recontain-namespace", nil,
		"with --recontain: also in this namespace, though it is not the incident's, or is the cluster's or irctl's own")
	f.BoolVar(&o.monitor.NewBaseline, "new-baseline", false,
		"with --monitor: what runs now is known; do not continue the incident's earlier watch")
	f.StringSliceVarP(&o.recipients, "recipient", "r", nil,
		"with --recontain: who can open the evidence that is sealed first")
	f.BoolVar(&o.request.DryRun, "dry-run", false,
		"show what would be done, and ask the server whether it would; change nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	a.mustComplete(cmd, "incident", a.completeOpenIncidents)
	a.mustComplete(cmd, "despite", a.completeOpenIncidents)
	a.mustComplete(cmd, "recontain-namespace", a.completeNamespaces)
	a.mustComplete(cmd, "suspect", cobra.FixedCompletions([]string{string(recovery.Keep), string(recovery.Deleted)},
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *recoverOptions) validate() error {
	monitors := o.monitor.For > 0
	var err error
	if o.request.Despite, err = incidentIDs(o.despite); err != nil {
		return err
	}
	switch {
	case o.suspect != "" && o.suspect != string(recovery.Keep) && o.suspect != string(recovery.Deleted):
		return usagef("--suspect %s: use keep or delete", o.suspect)
	case o.request.AllowEvidenceLoss && o.suspect != string(recovery.Deleted):
		return usagef("--allow-evidence-loss goes with --suspect delete")
	case o.request.Wait <= 0, o.monitor.Every <= 0, o.monitor.For < 0:
		return usagef("--wait, --every and --monitor must be positive")
	case !monitors && (len(o.falco)+len(o.auditLogs)+len(o.recipients) > 0 || o.listen != "" || o.monitor.Recontain):
		return usagef("--falco, --audit-log, --listen, --recontain and -r go with --monitor")
	case !monitors && o.monitor.NewBaseline:
		return usagef("--new-baseline goes with --monitor")
	case len(o.monitor.RecontainNamespaces) > 0 && !o.monitor.Recontain:
		return usagef("--recontain-namespace goes with --recontain")
	case o.tokenFile != "" && o.listen == "":
		return usagef("--listen-token-file goes with --listen")
	case monitors && o.request.DryRun:
		return usagef("--monitor does not go with --dry-run")
	}
	for _, ns := range o.monitor.RecontainNamespaces {
		if msgs := validation.IsDNS1123Label(ns); len(msgs) > 0 {
			return usagef("--recontain-namespace %s: %s", ns, strings.Join(msgs, "; "))
		}
	}
	return nil
}

// inputs are the files of alerts.
func (o *recoverOptions) inputs(ctx context.Context, a *App) error {
	o.monitor.Inputs = append(a.inputs(detect.SourceFalco, o.falco), a.inputs(detect.SourceAudit, o.auditLogs)...)
	if o.listen == "" {
		return nil
	}
	token, err := readToken(ctx, o.tokenFile)
	o.monitor.Listener, o.monitor.Address = &detect.Listener{Token: token, Now: time.Now}, o.listen
	return err
}

// recovered is what recover prints: the recovery, and the watch after it.
type recovered struct {
	*engine.RecoverResult
	Monitor *engine.MonitorResult `json:"monitor,omitempty"`
}

func (a *App) runRecover(c *cobra.Command, o *recoverOptions) error {
	if err := o.validate(); err != nil {
		return err
	}
	if err := o.inputs(c.Context(), a); err != nil {
		return err
	}
	ctx, cancel := a.context(c)
	defer cancel()
	var err error
	if o.monitor.Recontain {
		if o.monitor.Snapshot, o.monitor.EvidenceNote, err = a.snapshot(ctx, o.recipients); err != nil {
			return err
		}
	}
	if err := a.knowIncident(o.incident); err != nil {
		return err
	}
	e, err := a.engineFor(ctx, a.frontEnd(o.yes), o.request.DryRun)
	if err != nil {
		return err
	}
	if o.request.Incident, err = findIncident(ctx, e.Store, o.incident); err != nil {
		return err
	}
	for _, ns := range o.monitor.RecontainNamespaces {
		if err := e.Client.CheckNamespace(ctx, ns); err != nil {
			return fmt.Errorf("--recontain-namespace: %w", err)
		}
	}
	o.monitor.Incident = o.request.Incident
	if o.request.Suspect, err = a.suspectFate(c.Context(), o); err != nil {
		return err
	}
	res, err := e.Recover(c.Context(), o.request) // it bounds itself, without the time for the answer
	if err != nil {
		return err
	}
	out := recovered{RecoverResult: res}
	text := a.output == asTable
	if text {
		a.printRecovered(res)
	}
	var failure error
	if o.monitor.For > 0 && !res.Cancelled && res.Runs() {
		out.Monitor, failure = e.Monitor(c.Context(), o.monitor)
		if text {
			a.printMonitored(out.Monitor)
		}
	}
	if _, err := a.printNamed(out, "incident/"+res.Incident); err != nil {
		return err
	}
	if failure != nil {
		return failure
	}
	return a.explained(recoverExit(out), func(people *App) error {
		people.printRecovered(res)
		if out.Monitor != nil {
			people.printMonitored(out.Monitor)
		}
		return nil
	})
}

// suspectFate asks what becomes of the suspects, where there is somebody to ask.
func (a *App) suspectFate(ctx context.Context, o *recoverOptions) (recovery.Fate, error) {
	if o.suspect != "" || o.yes || o.request.DryRun || !a.InTerminal {
		return recovery.Fate(o.suspect), nil
	}
	st := a.style(a.ErrTerminal)
	for {
		const what = "What becomes of the suspects? Deleting is for good, and needs sealed evidence."
		answer, err := a.question(ctx, st.bold(what)+" [keep/delete, default keep] ")
		if err != nil {
			fmt.Fprintln(a.Err) // the question's line has no end yet
			return "", err
		}
		switch fate := recovery.Fate(strings.ToLower(strings.TrimSpace(answer))); fate {
		case "", recovery.Keep:
			return recovery.Keep, nil
		case recovery.Deleted:
			return fate, nil
		}
	}
}

// recoverExit turns a result into the exit code. In the watch a sign of the
// attacker's return stays above a refusal.
func recoverExit(res recovered) error {
	o := outcome{cancelled: res.Cancelled, actions: res.Actions, told: toldByVerdict, refusals: res.Refusals,
		failures: res.Failures}
	if !res.DryRun {
		o.also = []exitError{{code: recoveryCode(res.Verdict)}}
	}
	if m := res.Monitor; m != nil {
		if m.Failure != "" {
			o.also = append(o.also, exitError{ExitError,
				fmt.Errorf("watching for the attacker's return: %s", m.Failure)})
		}
		// what was to be watched was not; a signal has a code of its own
		if m.Interrupted && m.Undetermined == "" && len(m.Hits) == 0 {
			o.also = append(o.also, exitError{ExitError,
				errors.New("the watch was ended before its time was over; nothing was seen until then")})
		}
		if m.Undetermined != "" {
			err := fmt.Errorf("%w whether the attacker returned: %s", engine.ErrUndetermined, m.Undetermined)
			o.also = append(o.also, exitError{ExitUndetermined, err})
		}
		if len(m.Hits) > 0 {
			refused := func(r engine.ActionResult) bool { return actionCode(r) == ExitRefused }
			o.refusals, o.actions = nil, slices.DeleteFunc(slices.Clone(o.actions), refused)
			o.also = append(o.also, exitError{code: ExitNotContained})
		}
	}
	return o.exit()
}

// toldByVerdict: that a rollout did not succeed is what the verdict says, unless it
// was interrupted.
func toldByVerdict(r engine.ActionResult) bool {
	return r.Step == recovery.StepRollout && !errors.Is(r.Err(), context.Canceled)
}

// recoveryCode is the exit code of a verdict on a recovery.
func recoveryCode(v engine.RecoverVerdict) int {
	switch v {
	case engine.Recovered:
		return ExitDone
	case engine.NothingRecovered:
		return ExitUndetermined
	}
	return ExitNotContained
}

func (a *App) printRecovered(res *engine.RecoverResult) {
	st := a.style(a.OutTerminal)
	p := func(format string, args ...any) { fmt.Fprintf(a.Out, format+"\n", args...) }
	if res.DryRun {
		p("dry run: nothing was changed; %s would be made", plural.Count(len(res.Actions), "change"))
		for _, w := range res.Warnings {
			p("%s %s", st.warn("!"), sanitize.Line(w.Text))
			if w.Fix != "" {
				p("    %s %s", st.dim("→"), sanitize.Line(w.Fix))
			}
		}
		a.printPlanned(res.Actions, st)
	}
	a.printNotDone(res.Refusals, res.Failures, st)
	if res.DryRun || res.Cancelled {
		return
	}
	for _, r := range res.Actions {
		if r.Err() != nil && r.Step != recovery.StepRollout && !(a.OutTerminal && a.ErrTerminal) {
			p("%s %s: %s", st.bad("✗"), sanitize.Line(r.Summary), sanitize.Line(r.Error))
		}
	}
	for _, w := range res.Workloads {
		a.printWorkload(w, st)
	}
	for _, s := range res.Suspects {
		p("%s suspect %s/%s: %s%s", st.dim("·"), sanitize.Line(s.Namespace), sanitize.Line(s.Pod), s.Fate,
			sanitize.Line(after(": ", s.Text)))
	}
	for _, s := range res.Stays {
		p("%s %s", st.warn("!"), sanitize.Line(s))
	}
	if len(res.Left) > 0 {
		p("%s only you can tell whether: %s", st.dim("·"), strings.Join(res.Left, "; "))
	}
	if res.Verdict == "" {
		return
	}
	text := strings.ToUpper(string(res.Verdict))
	switch res.Verdict {
	case engine.Recovered:
		text = st.good(text)
	case engine.RecoveredOpen, engine.NothingRecovered:
		text = st.warn(text)
	default:
		text = st.bad(text)
	}
	unknown := ""
	if n := len(res.Codes(recovery.NotKnown)); n > 0 {
		unknown = fmt.Sprintf("; %s not known", plural.Count(n, "check"))
	}
	p("%s  %s%s", text, plural.Count(len(res.Workloads), "workload"), unknown)
}

func after(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

func (a *App) printWorkload(w engine.RecoveredWorkload, st style) {
	fmt.Fprintf(a.Out, "%s\n  %s %s\n", sanitize.Line(w.Object), mark(st, w.OK), sanitize.Line(w.Rollout))
	if w.WayIn.Text != "" {
		sign := st.good("✓")
		if w.WayIn.State != recovery.Closed {
			sign = st.warn("!")
		}
		fmt.Fprintf(a.Out, "  %s %s\n", sign, sanitize.Line(w.WayIn.Text))
	}
	for _, c := range w.Checks {
		sign := st.good("✓")
		switch {
		case c.Result == recovery.NotKnown, c.Accepted:
			sign = st.warn("?")
		case c.Result == recovery.Failed:
			sign = st.bad("✗")
		}
		fmt.Fprintf(a.Out, "  %s %s: %s\n", sign, c.Code, sanitize.Line(c.Text))
	}
}

// mostExposed is how many pods that are also exposed are printed.
const mostExposed = 10

func (a *App) printMonitored(m *engine.MonitorResult) {
	st := a.style(a.OutTerminal)
	for _, g := range m.Gaps {
		fmt.Fprintf(a.Out, "%s not seen: %s\n", st.warn("!"), sanitize.Line(g))
	}
	for n, x := range m.Exposed {
		if n == mostExposed {
			fmt.Fprintf(a.Out, "%s also exposed: %s; -o json names them all\n", st.warn("!"),
				plural.Count(len(m.Exposed)-n, "more pod"))
			break
		}
		fmt.Fprintf(a.Out, "%s also exposed: %s\n", st.warn("!"), sanitize.Line(x.Text))
	}
	for _, h := range m.Hits {
		fmt.Fprintf(a.Out, "%s %s: %s\n", st.bad("✗"), h.Code, sanitize.Line(h.Text))
	}
	took := m.Until.Sub(m.From).Round(time.Second)
	switch {
	case m.Failure != "":
		fmt.Fprintf(a.Out, "%s %s\n", st.bad("✗"), sanitize.Line(m.Failure))
	case m.Contained != nil:
		fmt.Fprintf(a.Out, "%s contained again: %s\n", st.warn("!"),
			verdictText(st, m.Contained.Verdict, engine.Accepted(m.Contained.Targets, m.Contained.Unsettled)))
	}
	for _, n := range m.NotTouched {
		fmt.Fprintf(a.Out, "%s not touched: %s: %s\n", st.warn("!"), sanitize.Line(n.Object), sanitize.Line(n.Reason))
		if n.Command != "" {
			fmt.Fprintf(a.Out, "    %s %s\n", st.dim("→"), sanitize.Line(n.Command))
		}
	}
	switch {
	case len(m.Hits) > 0:
		fmt.Fprintf(a.Out, "%s  after %s\n", st.bad("SIGNS OF THE ATTACKER'S RETURN"), took)
	case m.Undetermined != "":
		fmt.Fprintf(a.Out, "%s  %s\n", st.bad("COULD NOT TELL"), sanitize.Line(m.Undetermined))
	case m.Interrupted:
		fmt.Fprintf(a.Out, "%s  nothing was seen until then: %s in %s\n", st.warn("WATCH ENDED EARLY"),
			plural.Count(m.Looks, "look"), took)
	case m.Failure == "":
		fmt.Fprintf(a.Out, "%s  %s in %s\n", st.good("NOTHING SEEN"), plural.Count(m.Looks, "look"), took)
	}
}
