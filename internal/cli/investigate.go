package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"

	"irctl/internal/cluster"
	"irctl/internal/config"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/sanitize"
	"irctl/internal/timeline"
)

// investigateOptions are the flags of investigate.
type investigateOptions struct {
	target targetRequest
	all    bool

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
	f.StringSliceVar(&o.target.pods, "pod", nil, "the suspect pod; may be repeated")
	f.StringVarP(&o.target.selector, "selector", "l", "", "suspects by label selector")
	f.BoolVarP(&o.target.allNamespaces, "all-namespaces", "A", false, "with -l: in all namespaces")
	f.BoolVar(&o.all, "all-pods", false, "all pods of the namespace")
	f.StringVar(&o.incident, "incident", "", "the incident to join (default: the open one of the same target, or a new one)")
	f.StringVar(&o.title, "title", "", "title of a new incident")
}

func (o *investigateOptions) scopeFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.scope.Live, "live", false, "run commands in the containers: processes, sockets, mounts, environment, recent files")
	f.StringVar(&o.scope.DebugImage, "debug-image", "", "with --live: image of an ephemeral container, for containers without a shell; it cannot be removed again")
	f.BoolVar(&o.scope.Checkpoint, "checkpoint", false, "have the kubelet write a checkpoint of the containers' memory to the node's disk")
	f.StringArrayVar(&o.scope.Files, "file", nil, "file or directory in the containers; may be repeated")
	f.DurationVar(&o.since, "since", 0, "only logs and audit entries of so long ago until now")
	f.StringVar(&o.sinceTime, "since-time", "", "only logs and audit entries since then (2026-11-24T14:30:00Z)")
	f.StringVar(&o.scope.AuditLog, "audit-log", "", "file of the API server's audit log, of which the entries that concern the suspects are kept")
	f.BoolVar(&o.scope.SecretValues, "include-secret-values", false, "collect the Secrets that the suspects can read with their values")
	f.StringVar(&o.logBytes, "max-log-bytes", "", "how much is kept of each log and file, such as 256Mi (default 256Mi)")
	f.StringVar(&o.bundleBytes, "max-bundle-bytes", "", "how much is kept of everything together, before compression (default 64Gi)")
}

func (o *investigateOptions) sealFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVarP(&o.recipients, "recipient", "r", nil, "who can open the evidence: an OpenPGP key file, or an e-mail or fingerprint of the GnuPG keyring (default: the configured ones)")
	signerFlags(cmd, &o.signWith, &o.fd)
	f.StringVar(&o.bundle, "bundle", "", "the bundle's name, ending in "+evidence.Extension+", or a folder for it (default: the incident's)")
	f.BoolVar(&o.redact, "redact", false, "also write a bundle to be shared, without what looks like a secret")
	f.StringVar(&o.tsa, "tsa", "", "URL of a time-stamping authority (RFC 3161) to vouch for the receipt (default: the configured one)")
	f.BoolVar(&o.tsaQuery, "tsa-query", false, "write the question to a time-stamping authority, to be carried there by other means")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be fetched, and roughly how much; fetch nothing")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
}

// intrusive: it leaves traces, and is asked about first.
func (o *investigateOptions) intrusive() bool {
	return o.scope.Live || o.scope.Checkpoint || len(o.scope.Files) > 0
}

// complete checks the flags, and fills them up from the configuration.
func (o *investigateOptions) complete(c config.Config, now time.Time) (evidence.Limits, error) {
	if !o.all {
		if err := o.target.validate(); err != nil {
			return evidence.Limits{}, err
		}
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
		return evidence.Limits{}, usagef("who is to open the evidence? give -r KEY, or configure recipients; it is only ever kept encrypted")
	}
	if o.scope.DebugImage == "" && o.scope.Live {
		o.scope.DebugImage = c.Defaults.DebugImage
	}
	if o.tsa == "" && !o.tsaQuery {
		o.tsa = string(c.Timestamp)
	}
	return o.limits(c.Limits)
}

func (o *investigateOptions) limits(c config.Limits) (evidence.Limits, error) {
	l := evidence.Limits{Time: 10 * time.Minute, Stall: 30 * time.Second, LogBytes: 256 << 20, Concurrency: int(c.Concurrency)}
	if c.Time > 0 {
		l.Time = time.Duration(c.Time)
	}
	if o.timeout > 0 {
		l.Time = o.timeout
	}
	if c.Stall > 0 {
		l.Stall = time.Duration(c.Stall)
	}
	for _, size := range []struct {
		flag, text string
		configured config.Size
		to         *int64
	}{{"max-log-bytes", o.logBytes, c.LogBytes, &l.LogBytes}, {"max-bundle-bytes", o.bundleBytes, c.BundleBytes, &l.BundleBytes}} {
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
	limits, err := o.complete(conf, time.Now())
	if err != nil {
		return err
	}
	// Before anything else: a key that cannot be used must not be found out afterwards.
	recipients, err := evidence.LoadRecipients(c.Context(), o.recipients)
	if err != nil {
		return fmt.Errorf("the evidence could not be sealed: %w", err)
	}
	signer, err := a.signer(c.Context(), o.signWith, o.fd)
	if err != nil {
		return err
	}
	ctx, cancel := a.context(c)
	defer cancel()
	e, err := a.engine(ctx, a.frontEnd(o.yes))
	if err != nil {
		return err
	}
	set, err := a.suspects(ctx, e.Client, o)
	if err != nil {
		return err
	}
	// Not the client's: its transport tries again what an upgrade to a stream
	// must do once.
	plain, err := a.kube.ToRESTConfig()
	if err != nil {
		return err
	}
	inv := &investigation{App: a, engine: e, options: o, folder: string(conf.Defaults.Bundle), targets: set,
		request: evidence.Request{Client: e.Client.Kube, Dynamic: e.Client.Dynamic, Config: plain, Recipients: recipients, Signer: signer,
			Limits: limits, Scope: o.scope, Now: e.Now,
			Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(e.Client.Discovery))}}
	for _, t := range set.pods {
		inv.request.Pods = append(inv.request.Pods, evidence.PodRef{Namespace: t.Pod.Namespace, Name: t.Pod.Name, UID: t.Pod.UID})
	}
	if proceed, err := inv.propose(ctx, c.Context()); !proceed || err != nil {
		return err
	}
	return inv.run(c.Context())
}

func (a *App) suspects(ctx context.Context, client *cluster.Client, o *investigateOptions) (*targetSet, error) {
	if !o.all {
		return a.targets(ctx, client, o.target)
	}
	namespace, err := a.namespace()
	if err != nil {
		return nil, err
	}
	pods, err := client.SelectTargets(ctx, namespace, "")
	if err == nil && len(pods) == 0 {
		err = fmt.Errorf("there are no pods in namespace %s", namespace)
	}
	return &targetSet{pods: pods}, err
}

// investigation is one run of investigate.
type investigation struct {
	*App
	engine  *engine.Engine
	options *investigateOptions
	folder  string // configured; "" is the incident's
	targets *targetSet
	request evidence.Request
	handle  *incident.Handle
}

// propose shows what will be fetched, and asks if it leaves traces.
func (v *investigation) propose(ctx, asking context.Context) (proceed bool, err error) {
	if len(v.request.Pods) == 0 {
		return false, fmt.Errorf("the workload has no pods to collect evidence of")
	}
	plan := evidence.PlanInvestigation(ctx, v.request)
	if v.options.dryRun {
		return false, v.printPlan(v.Out, plan, true)
	}
	if v.output == "table" {
		if err := v.printPlan(v.Err, plan, v.verbose); err != nil {
			return false, err
		}
	}
	if !v.options.intrusive() || v.options.yes {
		return true, nil
	}
	if !v.InTerminal {
		return false, fmt.Errorf("%w: nothing was collected, since this leaves traces in the suspects and there is no terminal to ask on; give --yes to go ahead without", engine.ErrRefused)
	}
	fmt.Fprintf(v.Err, "%s [y/N] ", v.style(v.ErrTerminal).bold("This leaves traces in the suspects. Go ahead?"))
	answer, err := readAnswer(asking, v.In)
	if err != nil {
		return false, err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return false, exitError{code: ExitRefused, err: errors.New("nothing was collected: the answer was no")}
	}
	return true, nil
}

func (v *investigation) printPlan(w io.Writer, plan evidence.Plan, full bool) error {
	if v.options.dryRun {
		if done, err := v.printObject(plan); done || err != nil {
			return err
		}
	}
	atMost := "about"
	if plan.AtMost {
		atMost = "at most" // the logs' sizes are not known
	}
	fmt.Fprintf(w, "evidence of %s with %s, %s %s before compression\n", count(plan.Pods, "pod"), count(plan.Containers, "container"), atMost, bytesText(plan.Bytes))
	for _, item := range plan.Items {
		if full {
			fmt.Fprintf(w, "  %4d requests  %9s  %s\n", item.Requests, bytesText(item.Bytes), item.What)
		}
	}
	return nil
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

// run collects, seals and records.
func (v *investigation) run(ctx context.Context) error {
	if err := v.join(ctx); err != nil {
		return err
	}
	defer func() { _ = v.handle.Close() }() // every entry is on disk already
	if err := v.choosePath(); err != nil {
		return err
	}
	journal, err := os.Open(v.handle.Log.Path())
	if err != nil {
		return fmt.Errorf("reading the timeline: %w", err)
	}
	defer func() { _ = journal.Close() }() // only read
	v.request.Meta = evidenceMeta(v.engine, v.handle)
	v.request.Timeline = journal
	v.request.Announce = v.announce
	progress := v.progressLine()
	v.request.Progress = progress.show
	result, err := evidence.Investigate(ctx, v.request)
	progress.end()
	return v.finish(ctx, result, err)
}

// join opens the incident of the suspects, or a new one.
func (v *investigation) join(ctx context.Context) (err error) {
	id := v.engine.Identity()
	here := incident.Cluster{Server: id.Server, UID: id.ClusterUID, Context: v.kubeContext()}
	if v.options.incident != "" {
		found, err := v.engine.Store.Find(v.options.incident)
		if err != nil {
			return err
		}
		if v.handle, err = v.engine.Store.Open(ctx, found, v.engine.Actor()); err != nil {
			return err
		}
		if i := v.handle.Incident(); i.Cluster.UID != "" && here.UID != "" && i.Cluster.UID != here.UID {
			return errors.Join(fmt.Errorf("%w: incident %s is of another cluster (%s); this one is %s", engine.ErrRefused, i.ID, i.Cluster.Server, here.Server), v.handle.Close())
		}
		return nil
	}
	records := v.records()
	known := map[string]bool{}
	for _, r := range records {
		known[r.UID] = true
	}
	v.handle, _, err = v.engine.Store.Join(ctx, func(i incident.Incident) bool {
		if i.Cluster.UID != here.UID {
			return false
		}
		for _, t := range i.Targets {
			if known[t.UID] {
				return true
			}
		}
		return false
	}, incident.New{Title: v.options.title, Actor: v.engine.Actor(), Cluster: here, Targets: records})
	return err
}

func (v *investigation) records() []incident.Target {
	var records []incident.Target
	for _, t := range v.targets.pods {
		r := incident.Target{Namespace: t.Pod.Namespace, Kind: cluster.Pod.Kind, Name: t.Pod.Name, UID: string(t.Pod.UID)}
		for _, o := range t.Owners {
			r.Owners = append(r.Owners, incident.Owner{APIVersion: o.APIVersion(), Kind: o.Kind, Name: o.Name, UID: string(o.UID)})
		}
		records = append(records, r)
	}
	return records
}

// choosePath takes --bundle for a file or a folder.
func (v *investigation) choosePath() error {
	folder := v.folder
	if folder == "" {
		folder = v.handle.Dir()
	}
	path := v.options.bundle
	switch {
	case path == "":
		path = filepath.Join(folder, evidence.FileName("investigation", v.engine.Now()))
	case !strings.HasSuffix(path, evidence.Extension):
		path = filepath.Join(path, evidence.FileName("investigation", v.engine.Now()))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("the bundle's folder: %w", err)
	}
	v.request.Path = path
	if v.options.redact {
		v.request.Scope.Shared = strings.TrimSuffix(path, evidence.Extension) + "-redacted" + evidence.Extension
	}
	return nil
}

// announce journals a change before it is made, and what came of it.
func (v *investigation) announce(_ context.Context, change string) (func(error), error) {
	entry := timeline.Entry{Kind: timeline.KindObservation, Phase: "investigate", Step: "collect", Summary: "about to make: " + change}
	if _, err := v.handle.Log.Append(entry); err != nil {
		return nil, fmt.Errorf("it is not done, since it could not be journaled: %w", err)
	}
	return func(err error) {
		entry.Summary, entry.Outcome = change, timeline.OutcomeDone
		if err != nil {
			entry.Outcome, entry.Error = timeline.OutcomeFailed, err.Error()
		}
		if _, err := v.handle.Log.Append(entry); err != nil {
			fmt.Fprintln(v.Err, "!", sanitize.Line("what came of it could not be journaled: "+err.Error()))
		}
	}, nil
}

// investigateResult is what is printed.
type investigateResult struct {
	Incident string `json:"incident"`
	evidence.Result
	Timestamp string   `json:"timestamp,omitempty"`
	Failures  []string `json:"failures,omitempty"`
}

// finish journals the receipt, has it time-stamped, and prints the result.
func (v *investigation) finish(ctx context.Context, result evidence.Result, err error) error {
	r := &investigateResult{Incident: string(v.handle.Incident().ID), Result: result, Failures: v.targets.failures}
	if result.Receipt.Path == "" {
		return errors.Join(err, v.journal(r, err))
	}
	if v.options.tsa != "" || v.options.tsaQuery {
		text, stampErr := stamp(context.WithoutCancel(ctx), result.Receipt.Path, v.options.tsa)
		if r.Timestamp = text; stampErr != nil {
			r.Failures = append(r.Failures, stampErr.Error())
		}
	}
	err = errors.Join(err, v.journal(r, err), v.printResult(r))
	switch {
	case err != nil:
		return err
	case result.Receipt.Incomplete != "" || len(r.Failures) > 0:
		return exitError{code: ExitError}
	}
	return nil
}

func (v *investigation) journal(r *investigateResult, failure error) error {
	entry := timeline.Entry{Kind: timeline.KindObservation, Phase: "investigate", Step: "collect", Outcome: timeline.OutcomeDone}
	for _, t := range v.targets.pods {
		entry.Targets = append(entry.Targets, t.Key())
	}
	entry.Summary = "evidence of " + count(len(entry.Targets), "pod") + " could not be sealed"
	if r.Receipt.Path != "" {
		receipt := r.Receipt
		receipt.Segments = nil // they are in the file beside the bundle
		data, err := json.Marshal(receipt)
		if err != nil {
			return fmt.Errorf("encoding the receipt: %w", err)
		}
		entry.Data = data
		entry.Summary = fmt.Sprintf("evidence of %s sealed in %s, sha256 %s", count(len(entry.Targets), "pod"), filepath.Base(r.Receipt.Path), r.Receipt.SHA256)
	}
	if failure != nil {
		entry.Outcome, entry.Error = timeline.OutcomeFailed, failure.Error()
	}
	if _, err := v.handle.Log.Append(entry); err != nil {
		return fmt.Errorf("the evidence could not be journaled: %w", err)
	}
	return nil
}

func (v *investigation) printResult(r *investigateResult) error {
	if done, err := v.printObject(r); done || err != nil {
		return err
	}
	if v.output == "name" {
		_, err := fmt.Fprintln(v.Out, sanitize.Line(r.Receipt.Path))
		return err
	}
	st := v.style(v.OutTerminal)
	line := func(mark, format string, args ...any) {
		fmt.Fprintf(v.Out, "%s %s\n", mark, sanitize.Line(fmt.Sprintf(format, args...)))
	}
	v.printReceipt(line, st, &r.Receipt)
	if r.Shared != nil {
		line(st.good("✓"), "to be shared: %s, sha256 %s", r.Shared.Path, r.Shared.SHA256)
	}
	if r.Timestamp != "" {
		line(st.good("✓"), "%s", r.Timestamp)
	}
	for _, f := range r.Failures {
		line(st.bad("✗"), "%s", f)
	}
	line(" ", "check it with: irctl evidence verify %s", r.Receipt.Path)
	return nil
}

func (v *investigation) printReceipt(line func(mark, format string, args ...any), st style, r *evidence.Receipt) {
	line(st.good("✓"), "sealed: %s, %s of %s, sha256 %s", r.Path, bytesText(r.Size), bytesText(r.PayloadBytes), r.SHA256)
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
		line(st.warn("!"), "of %d artefacts: %s; INDEX.md in the bundle says which, and why", total, strings.Join(missing, ", "))
	}
	if r.Incomplete != "" {
		line(st.bad("✗"), "the collection ended early: %s", r.Incomplete)
	}
}

// progressLine shows what is being read: in place on a terminal, now and then
// in a pipe.
type progressLine struct {
	out      io.Writer
	terminal bool
	quiet    bool
	width    int

	mu    sync.Mutex
	began time.Time
	shown time.Time
}

func (a *App) progressLine() *progressLine {
	width := a.Width
	if width == 0 {
		width = 80
	}
	return &progressLine{out: a.Err, terminal: a.ErrTerminal, quiet: a.output != "table" && !a.ErrTerminal, width: width, began: time.Now(), shown: time.Now()}
}

func (p *progressLine) show(now evidence.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	every := 5 * time.Second
	if p.terminal {
		every = 100 * time.Millisecond
	}
	if p.quiet || time.Since(p.shown) < every {
		return
	}
	p.shown = time.Now()
	rate := int64(float64(now.Bytes) / max(time.Since(p.began).Seconds(), 0.001))
	text := sanitize.Short(fmt.Sprintf("%d artefacts  %s  %s/s  %s", now.Artefacts, bytesText(now.Bytes), bytesText(rate), now.Current), p.width-1)
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(p.out, text)
}

func (p *progressLine) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	p.quiet = true
}
