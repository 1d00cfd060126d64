package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/incident"
	"irctl/internal/steps/detect"
	"irctl/internal/timeline"
)

// exitSuspects: detect found a suspect of high severity, or worse.
const exitSuspects = 3

// detectOptions are the flags of detect.
type detectOptions struct {
	falco, auditLogs  []string
	listen, tokenFile string
	noCluster         bool
	allNamespaces     bool
	since             time.Duration
	inside            []string
	top               int
	watch             bool
	interval          time.Duration
	open              bool
	title, severity   string
}

func (a *App) detect() *cobra.Command {
	o := &detectOptions{}
	cmd := &cobra.Command{
		Use:   "detect",
		Short: "Find suspects: in the cluster, in Falco's alerts, in the API server's audit log",
		Long: `Look for signs of an attack and rank the suspects, each with what speaks against it
and the technique of MITRE ATT&CK for Containers. It changes nothing in the cluster.

It looks at the cluster (images that differ from their siblings', containers added to
running pods, new ClusterRoleBindings, pods that nobody's controller made, the baseline
of security contexts, …) and reads what it is given: alerts of Falco, as JSON lines or
over HTTP, and the API server's audit log. Without -n it looks at all namespaces.

--open opens an incident of the worst suspect; the alerts keep their own times there, so
that the time to detect is honest. --watch goes on until Ctrl-C.

Exit codes: 0 no suspect of high severity; 1 error; 2 usage; 3 there are some; 5 there
is none in what could be looked at, and not everything could be.`,
		Example: `  irctl detect
  irctl detect --falco alerts.jsonl --audit-log audit.log --open
  kubectl logs -n falco ds/falco --since 1h | irctl detect --falco - --no-cluster -o json
  irctl detect --watch --listen 127.0.0.1:2801 --audit-log /var/log/kubernetes/audit.log`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runDetect(c, o) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.falco, "falco", nil,
		"alerts of Falco, as JSON lines: a file, or - for standard input; may be repeated")
	f.StringSliceVar(&o.auditLogs, "audit-log", nil,
		"the API server's audit log: a file, or - for standard input; may be repeated")
	f.StringVar(&o.listen, "listen", "",
		"take alerts over HTTP at this address, from falcosidekick's webhook or Falco itself; implies --watch")
	f.StringVar(&o.tokenFile, "listen-token-file", "",
		"the bearer token that --listen asks for; needed where others can reach the address")
	f.BoolVar(&o.noCluster, "no-cluster", false, "read the alerts only; needs no cluster")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "all namespaces; so it is without -n too")
	f.DurationVar(&o.since, "since", 0,
		"leave out what is older, such as 1h (default: all alerts; of the cluster, what is new since 24h)")
	f.StringSliceVar(&o.inside, "inside", nil,
		"an address range from which requests to the API server are expected, besides the private ones; may be "+
			"repeated")
	f.IntVar(&o.top, "top", 10, "how many suspects to show; 0: all")
	f.BoolVar(&o.watch, "watch", false, "go on until Ctrl-C, and print new findings as they come")
	f.DurationVar(&o.interval, "interval", 30*time.Second,
		"with --watch: how long to wait between two looks at the cluster")
	f.BoolVar(&o.open, "open", false, "open an incident of the worst suspect that has a sign of an attack; with "+
		"--watch, of every one of high severity")
	f.StringVar(&o.title, "title", "", "title of a new incident")
	f.StringVar(&o.severity, "severity", "",
		"severity of a new incident: sev1 to sev4 (default: as the findings suggest)")
	return cmd
}

// newSince is from when on what is found in a cluster is new, unless --since says.
const newSince = 24 * time.Hour

// request checks the flags and says where to look.
func (a *App) request(o *detectOptions) (detect.Request, error) {
	namespace := *a.kube.Namespace
	stdin := 0
	for _, path := range append(append([]string{}, o.falco...), o.auditLogs...) {
		if path == "-" {
			stdin++
		}
	}
	o.watch = o.watch || o.listen != ""
	switch {
	case o.allNamespaces && namespace != "":
		return detect.Request{}, usagef("give either -A or -n")
	case stdin > 1:
		return detect.Request{}, usagef("only one source can be standard input")
	case o.noCluster && len(o.falco)+len(o.auditLogs) == 0 && o.listen == "":
		return detect.Request{}, usagef("--no-cluster leaves nothing to look at: give --falco, --audit-log or --listen")
	case o.since < 0 || o.interval <= 0 || o.top < 0:
		return detect.Request{}, usagef("--since and --top must not be negative, --interval must be positive")
	case o.tokenFile != "" && o.listen == "":
		return detect.Request{}, usagef("--listen-token-file goes with --listen")
	}
	if _, err := incident.ParseSeverity(o.severity); err != nil {
		return detect.Request{}, usageError{err}
	}
	req := detect.Request{Namespace: namespace, Timeout: a.timeout, NewSince: a.clock.Now().Add(-newSince)}
	if o.since > 0 {
		req.NewSince = a.clock.Now().Add(-o.since)
		req.AlertsSince = req.NewSince
	}
	for _, text := range o.inside {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return detect.Request{}, usagef("--inside %s: use an address range such as 203.0.113.0/24", text)
		}
		req.Inside = append(req.Inside, p)
	}
	req.Inputs = append(a.inputs(detect.SourceFalco, o.falco), a.inputs(detect.SourceAudit, o.auditLogs)...)
	return req, nil
}

func (a *App) inputs(source detect.Source, paths []string) []detect.Input {
	var list []detect.Input
	for _, path := range paths {
		in := detect.Input{Source: source, Path: path}
		if path == "-" {
			in.Path, in.Reader = "standard input", a.In
		}
		list = append(list, in)
	}
	return list
}

func (a *App) runDetect(c *cobra.Command, o *detectOptions) error {
	req, err := a.request(o)
	if err != nil {
		return err
	}
	if c.Flags().Changed("interval") && !o.watch {
		return usagef("--interval goes with --watch or --listen")
	}
	if o.open {
		if _, err := a.storeToWrite(); err != nil {
			return err
		}
	}
	if !o.noCluster {
		if req.Client, err = a.client(); err != nil {
			return fmt.Errorf("%w; --no-cluster reads alerts alone", err)
		}
	}
	if o.watch {
		return a.watchSuspects(c.Context(), o, req)
	}
	res, err := detect.Find(c.Context(), req)
	if err != nil {
		return err
	}
	high := detect.AtLeastHigh(res.Suspects)
	found := detectResult{Result: res}
	if o.open {
		if err := a.openWorst(c.Context(), o, req, &found); err != nil {
			return errors.Join(err, a.printSuspects(found, o.top))
		}
	}
	if err := a.printSuspects(found, o.top); err != nil {
		return err
	}
	return suspectsExit(res, high)
}

// suspectsExit turns a result into the exit code: only where everything was
// looked at is it known that there is no suspect.
func suspectsExit(res *detect.Result, high bool) error {
	if err := res.Err(); err != nil {
		return err
	}
	codes := []int{ExitDone}
	if high {
		codes = append(codes, exitSuspects)
	}
	if len(res.Gaps) > 0 {
		codes = append(codes, ExitUndetermined)
	}
	return ended(coded(codes...)...)
}

// detectResult is what -o json prints.
type detectResult struct {
	*detect.Result
	// Incident is the one that --open opened, or joined.
	Incident string `json:"incident,omitempty"`
	Opened   bool   `json:"opened,omitempty"`
}

// openWorst opens an incident of the worst suspect. One that merely has bad
// habits is none.
func (a *App) openWorst(ctx context.Context, o *detectOptions, req detect.Request, found *detectResult) error {
	if len(found.Suspects) == 0 || !found.Suspects[0].Score.Sign() {
		fmt.Fprintf(a.Err, "no incident was opened: there is %s\n", noSign(found.Result))
		return nil
	}
	opener, err := a.opener(ctx, o, req)
	if err != nil {
		return err
	}
	opened, err := opener(found.Suspects[0])
	if err != nil {
		return err
	}
	found.Incident, found.Opened = string(opened.Incident.ID), opened.Created
	return nil
}

// opener asks once which cluster it is, and opens incidents.
func (a *App) opener(ctx context.Context, o *detectOptions,
	req detect.Request) (func(detect.Suspect) (detect.Opened, error), error) {
	store, err := a.storeToWrite()
	if err != nil {
		return nil, err
	}
	opening := detect.Opening{Client: req.Client, Actor: timeline.LocalActor(), Now: a.clock.Now, Title: o.title,
		Severity: incident.Severity(o.severity)}
	if req.Client != nil {
		asking, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		id, err := req.Client.Identify(asking)
		if err != nil {
			return nil, err
		}
		opening.Actor.Identity = id.User
		opening.Cluster = incident.Cluster{Server: id.Server, UID: id.ClusterUID, Context: a.kubeContext()}
	}
	return func(s detect.Suspect) (detect.Opened, error) {
		within, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		opening.Suspect = s
		return detect.Open(within, store, opening)
	}, nil
}
