package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"irctl/internal/config"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
)

// investigateOptions are the flags of investigate.
type investigateOptions struct {
	target targetRequest

	scope       evidence.Scope
	since       time.Duration
	sinceTime   string
	redact      bool
	logBytes    string
	bundleBytes string
	bundle      string
	recipients  []string
	signWith    string
	fd          int
	tsa         string
	tsaQuery    bool
	timeout     time.Duration // zero: not given
	incident    string
	title       string
	dryRun, yes bool
}

func (a *App) investigate() *cobra.Command {
	o := &investigateOptions{}
	cmd := &cobra.Command{
		Use:   "investigate (--pod NAME | -l SELECTOR | TYPE/NAME … | --all-pods)",
		Short: "Collect all evidence about suspect pods and seal it into one encrypted file",
		Long: `Collect everything the cluster can tell of the suspects, what is lost first first,
and seal it into one file that stock gpg, tar and sha256sum open and check.

It reads only, unless --live (commands in the containers), --debug-image (an ephemeral
container) or --checkpoint (on the node's disk) allow more; then it asks first.
What cannot be had costs itself; Ctrl-C seals what there is, and so does the end of
--timeout, which is 10m here.

Exit codes: 0 sealed; 1 error, or the collection ended early; 2 usage; 4 refused.`,
		Example: `  irctl investigate --pod backend-688d67cddc-dxv5m -n todo-app -r responder@example.org
  irctl investigate deployment/backend -n todo-app --live --since 2h
  irctl investigate -l app=backend --file /etc/passwd --file /tmp --redact`,
		ValidArgsFunction: a.completeWorkloads,
		RunE: func(c *cobra.Command, args []string) error {
			o.target.args = args
			return a.runInvestigate(c, o)
		},
	}
	o.targetFlags(cmd)
	o.scopeFlags(cmd)
	o.sealFlags(cmd)
	a.mustComplete(cmd, "pod", a.completePods)
	a.mustComplete(cmd, "incident", a.completeOpenIncidents)
	return cmd
}

func (o *investigateOptions) targetFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.target.pods, "pod", nil, podHelp)
	f.StringVarP(&o.target.selector, "selector", "l", "", "suspects by label selector")
	f.BoolVarP(&o.target.allNamespaces, "all-namespaces", "A", false, "with -l: in all namespaces")
	f.BoolVar(&o.target.all, "all-pods", false, "all pods of the namespace")
	takesIncident(cmd, &o.incident, "the incident to join (default: the open one of the same target, or a new one)")
	f.StringVar(&o.title, "title", "", "title of a new incident")
}

func (o *investigateOptions) scopeFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.scope.Live, "live", false,
		"run commands in the containers: processes, sockets, mounts, environment, recent files")
	f.StringVar(&o.scope.DebugImage, "debug-image", "", "with --live or --file: image of an ephemeral container, for "+
		"containers without a shell; it cannot be removed again")
	f.BoolVar(&o.scope.Checkpoint, "checkpoint", false,
		"have the kubelet write a checkpoint of the containers' memory to the node's disk")
	f.StringArrayVar(&o.scope.Files, "file", nil, "file or directory in the containers; may be repeated")
	f.DurationVar(&o.since, "since", 0, "only logs and audit entries of so long ago until now")
	f.StringVar(&o.sinceTime, "since-time", "", "only logs and audit entries since then (2026-11-24T14:30:00Z)")
	f.StringVar(&o.scope.AuditLog, "audit-log", "",
		"file of the API server's audit log, of which the entries that concern the suspects are kept")
	f.BoolVar(&o.scope.SecretValues, "include-secret-values", false,
		"collect the Secrets that the suspects can read with their values")
	f.StringVar(&o.logBytes, "max-log-bytes", "",
		"how much is kept of each log and file, such as 256Mi (default 256Mi)")
	f.StringVar(&o.bundleBytes, "max-bundle-bytes", "",
		"how much is kept of everything together, before compression (default 64Gi)")
}

func (o *investigateOptions) sealFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVarP(&o.recipients, "recipient", "r", nil, "who can open the evidence: an OpenPGP key file, or an "+
		"e-mail or fingerprint of the GnuPG keyring (default: the configured ones)")
	signerFlags(cmd, &o.signWith, &o.fd)
	f.StringVar(&o.bundle, "bundle", "", "the bundle's name, ending in "+evidence.Extension+
		", or a folder for it (default: the incident's)")
	f.BoolVar(&o.redact, "redact", false, "also write a bundle to be shared, without what looks like a secret")
	f.StringVar(&o.tsa, "tsa", "",
		"URL of a time-stamping authority (RFC 3161) to vouch for the receipt (default: the configured one)")
	f.BoolVar(&o.tsaQuery, "tsa-query", false,
		"write the question to a time-stamping authority, to be carried there by other means")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be fetched, and roughly how much; fetch nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
}

// complete checks the flags, and fills them up from the configuration. given is
// the namespace of -n.
func (o *investigateOptions) complete(c config.Config, now time.Time, given string) (evidence.Limits, error) {
	if _, err := o.target.query(given); err != nil {
		return evidence.Limits{}, err
	}
	if o.since < 0 || o.since > 0 && o.sinceTime != "" {
		return evidence.Limits{}, usagef("give either --since or --since-time, in the past")
	}
	if o.since > 0 {
		o.scope.Since = now.Add(-o.since)
	}
	if o.sinceTime != "" {
		at, err := time.Parse(time.RFC3339, o.sinceTime)
		if err != nil {
			return evidence.Limits{}, usagef("--since-time %s: give it as 2026-11-24T14:30:00Z", o.sinceTime)
		}
		o.scope.Since = at
	}
	if err := o.scope.CheckFiles(); err != nil {
		return evidence.Limits{}, usageError{err}
	}
	if len(o.recipients) == 0 {
		o.recipients = c.Refs()
	}
	if len(o.recipients) == 0 {
		return evidence.Limits{},
			usagef("who is to open the evidence? give -r KEY, or configure recipients; it is only ever kept encrypted")
	}
	if o.scope.DebugImage == "" && (o.scope.Live || len(o.scope.Files) > 0) {
		o.scope.DebugImage = c.Defaults.DebugImage
	}
	if o.tsa == "" && !o.tsaQuery {
		o.tsa = string(c.Timestamp)
	}
	return o.limits(c.Limits)
}

func (o *investigateOptions) limits(c config.Limits) (evidence.Limits, error) {
	l := evidence.Limits{Time: time.Duration(c.Time), Stall: time.Duration(c.Stall), Concurrency: int(c.Concurrency)}
	if o.timeout > 0 {
		l.Time = o.timeout
	}
	for _, size := range []struct {
		flag, text string
		configured config.Size
		to         *int64
	}{{"max-log-bytes", o.logBytes, c.LogBytes, &l.LogBytes},
		{"max-bundle-bytes", o.bundleBytes, c.BundleBytes, &l.BundleBytes}} {
		if size.configured > 0 {
			*size.to = int64(size.configured)
		}
		if size.text == "" {
			continue
		}
		q, err := resource.ParseQuantity(size.text)
		if err != nil || q.Value() <= 0 {
			return l, usagef("--%s %s: give a size, such as 256Mi", size.flag, size.text)
		}
		*size.to = q.Value()
	}
	return l, nil
}

func (a *App) runInvestigate(c *cobra.Command, o *investigateOptions) error {
	conf, err := a.configuration()
	if err != nil {
		return err
	}
	if c.Flags().Changed("timeout") {
		o.timeout = a.timeout
	}
	limits, err := o.complete(conf, time.Now(), a.givenNamespace())
	if err != nil {
		return err
	}
	sealing, err := a.sealing(c.Context(), o.recipients, conf)
	if err != nil {
		return err
	}
	sealing.Limits = limits
	if sealing.Signer, err = a.signer(c.Context(), o.signWith, o.fd); err != nil {
		return err
	}
	front := a.frontEnd(o.yes)
	ctx, cancel := a.context(c)
	defer cancel()
	if err := a.knowIncident(o.incident); err != nil {
		return err
	}
	e, err := a.engineFor(ctx, front, o.dryRun)
	if err != nil {
		return err
	}
	req := engine.InvestigateRequest{Scope: o.scope, Redact: o.redact, Sealing: *sealing, Bundle: o.bundle,
		Title: o.title, DryRun: o.dryRun,
		Stamp: o.tsa != "" || o.tsaQuery, StampURL: o.tsa}
	if req.Bundle == "" {
		req.Bundle = string(conf.Defaults.Bundle)
	}
	if req.Incident, err = toJoin(e.Store, o.incident); err != nil {
		return err
	}
	found, err := a.suspects(ctx, e, o.target)
	if err != nil {
		return err
	}
	req.Targets, req.Failures = found.Pods, found.Failures
	res, err := e.Investigate(c.Context(), req) // it bounds itself, without the time for the answer
	front.clear()
	return a.printInvestigation(res, err, o.dryRun)
}

// printInvestigation prints what came of it, also if it ended early.
func (a *App) printInvestigation(res *engine.InvestigateResult, err error, dryRun bool) error {
	switch {
	case res == nil:
		return err
	case dryRun:
		a.kind = kindCollectionPlan
		if done, err := a.printObject(res.Plan); done || err != nil {
			return err
		}
		printCollection(a.Out, res.Plan, true)
		return nil
	case res.Cancelled:
		return exitError{code: ExitRefused, err: errors.New("nothing was collected: the answer was no")}
	case res.Receipt.Path == "":
		return err
	}
	if err = errors.Join(err, a.printResult(res)); err != nil {
		return err
	}
	codes := []int{ExitDone}
	if res.Receipt.Incomplete != "" || len(res.Failures)+len(res.Missing) > 0 {
		codes = append(codes, ExitError)
	}
	if res.Nothing() || len(res.NotUnderstood) > 0 {
		codes = append(codes, ExitUndetermined)
	}
	return ended(coded(codes...)...)
}

// printCollection says what would be fetched, and roughly how much.
func printCollection(w io.Writer, plan evidence.Plan, full bool) {
	atMost := "about"
	if plan.AtMost {
		atMost = "at most" // the logs' sizes are not known
	}
	fmt.Fprintf(w, "evidence of %s with %s, %s %s before compression\n", plural.Count(plan.Pods, "pod"),
		plural.Count(plan.Containers, "container"), atMost, bytesText(plan.Bytes))
	for _, item := range plan.Items {
		if full {
			fmt.Fprintf(w, "  %4d requests  %9s  %s\n", item.Requests, bytesText(item.Bytes), item.What)
		}
	}
}

func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n), "KMGTP"
	i := -1
	for f >= unit && i < len(units)-1 {
		f /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

func (a *App) printResult(r *engine.InvestigateResult) error {
	if done, err := a.printNamed(r, r.Receipt.Path); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	line := func(mark, format string, args ...any) {
		fmt.Fprintf(a.Out, "%s %s\n", mark, sanitize.Line(fmt.Sprintf(format, args...)))
	}
	a.printReceipt(line, st, &r.Receipt)
	if r.Shared != nil {
		line(st.good("✓"), "to be shared: %s, sha256 %s", r.Shared.Path, r.Shared.SHA256)
	}
	if r.Timestamp != "" {
		line(st.good("✓"), "%s", r.Timestamp)
	}
	for _, f := range r.Failures {
		line(st.bad("✗"), "%s", f)
	}
	for _, f := range r.Missing {
		line(st.bad("✗"), "--file %s: no container gave it, or not the whole of it; INDEX.md in the bundle says why", f)
	}
	for _, why := range r.NotUnderstood {
		line(st.warn("!"), "%s", why)
	}
	if r.Nothing() {
		line(st.bad("✗"), "nothing was collected: the bundle says only what could not be read")
	}
	line(" ", "check it with: irctl evidence verify %s", r.Receipt.Path)
	return nil
}

func (a *App) printReceipt(line func(mark, format string, args ...any), st style, r *evidence.Receipt) {
	line(st.good("✓"), "sealed: %s, %s of %s, sha256 %s", r.Path, bytesText(r.Size), bytesText(r.PayloadBytes),
		r.SHA256)
	for _, fpr := range r.Recipients {
		line(" ", "can be opened by %s", fpr)
	}
	if r.Signer != "" {
		line(" ", "the receipt is signed by %s", r.Signer)
	}
	total, missing := 0, []string{}
	for _, s := range []evidence.Status{evidence.Truncated, evidence.Forbidden, evidence.Failed} {
		if n := r.Artefacts[s]; n > 0 {
			missing = append(missing, fmt.Sprintf("%d %s", n, s))
		}
	}
	for _, n := range r.Artefacts {
		total += n
	}
	if len(missing) == 0 {
		line(st.good("✓"), "all %d artefacts are complete", total)
	} else {
		line(st.warn("!"), "of %d artefacts: %s; INDEX.md in the bundle says which, and why", total,
			strings.Join(missing, ", "))
	}
	if r.Incomplete != "" {
		line(st.bad("✗"), "the collection ended early: %s", r.Incomplete)
	}
}

// progressLine shows what is being read: in place on a terminal, now and then
// in a pipe. Of one at a time it is told.
type progressLine struct {
	out      io.Writer
	terminal bool
	quiet    bool
	width    int
	began    time.Time
	shown    time.Time
}

func (a *App) progressLine() *progressLine {
	width := a.Width
	if width == 0 {
		width = 80
	}
	return &progressLine{out: a.Err, terminal: a.ErrTerminal, quiet: a.output != asTable && !a.ErrTerminal,
		width: width, began: time.Now(), shown: time.Now()}
}

func (p *progressLine) show(e engine.Event) {
	every := 5 * time.Second
	if p.terminal {
		every = 100 * time.Millisecond
	}
	if p.quiet || time.Since(p.shown) < every {
		return
	}
	p.shown = time.Now()
	rate := int64(float64(e.Bytes) / max(time.Since(p.began).Seconds(), 0.001))
	text := sanitize.Short(fmt.Sprintf("%d artefacts  %s  %s/s  %s", e.Done, bytesText(e.Bytes), bytesText(rate),
		e.Text), p.width-1)
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(p.out, text)
}

func (p *progressLine) end() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
