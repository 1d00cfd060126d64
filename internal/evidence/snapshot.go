package evidence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Request says what to collect and where to put it.
type Request struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	// Config is the connection for commands in containers; without it there
	// are none.
	Config *rest.Config
	// Mapper finds the resources of owners that are custom resources; without
	// it those cost themselves.
	Mapper meta.RESTMapper
	// Pods to collect about, 1 to MaxPods.
	Pods []PodRef
	// Path of the bundle; see Create. FileName makes names.
	Path       string
	Recipients []Recipient
	// Signer of the receipt; nil: it is not signed.
	Signer *Signer
	Meta   Meta
	Limits Limits
	// Scope is what Investigate collects beyond what it always does.
	Scope Scope
	// Timeline of the incident so far; nil if there is none.
	Timeline io.Reader
	// Progress is called in turn, from several goroutines; it must not block.
	// Nil: nobody listens.
	Progress func(Progress)
	// Announce is called before anything is changed in the cluster (a debug
	// container, a checkpoint); what it returns is called with what came of it.
	// An error keeps it from being done. Nil: nothing is changed.
	Announce Announce
	// Now is the clock; nil is that of this machine.
	Now func() time.Time

	asked *asked
}

// Scope says how far an investigation goes.
type Scope struct {
	// Since is the beginning of the window of logs and audit entries; zero: all.
	Since time.Time
	// Live runs commands in the containers: processes, sockets, mounts,
	// environment, files changed lately.
	Live bool
	// DebugImage is run as an ephemeral container, which cannot be removed
	// again, where a container has no shell. Empty: that is not done.
	DebugImage string
	// Checkpoint has the kubelet write each container's memory to the node's disk.
	Checkpoint bool
	// Files are absolute paths in the containers.
	Files []string
	// AuditLog is a file of the API server's audit log.
	AuditLog string
	// SecretValues collects Secrets with their values.
	SecretValues bool
	// Shared is the path of a second bundle, in which what looks like a secret is
	// replaced. Empty: there is none.
	Shared string
}

// Limits of a collection. Zero values stand for the defaults.
type Limits struct {
	// Time for collecting; sealing what was collected comes on top, and takes
	// well below a second for the usual few MiB. Default 10 s.
	Time time.Duration
	// Stall is how long a request may bring nothing before it is given up.
	// Default 3 s.
	Stall time.Duration
	// LogBytes is kept of each log, or file, from its beginning, and tailBytes from
	// its end. Default 10 MiB, which is where the kubelet rotates logs by default,
	// so that it cuts few.
	LogBytes int64
	// BundleBytes is kept of everything together, before compression. Default 64 GiB.
	BundleBytes int64
	// Concurrency is how many requests are under way at once, 1 to 8, which is
	// the default. It also bounds memory: see the package's comment.
	Concurrency int
}

const (
	// MaxPods is how many pods one collection takes.
	MaxPods        = 2000
	maxConcurrency = 8
	// maxTimeline bounds the timeline in the bag, in bytes.
	maxTimeline = 256 << 20
	// grace is how long collectors have to return when time is up.
	grace = time.Second
)

// ErrTimeLimit is the reason of what was not collected in Limits.Time.
var ErrTimeLimit = errors.New("the time limit was reached")

func (l Limits) orDefault() Limits {
	return Limits{
		Time:        cmp.Or(max(l.Time, 0), 10*time.Second),
		Stall:       cmp.Or(max(l.Stall, 0), 3*time.Second),
		LogBytes:    cmp.Or(max(l.LogBytes, 0), 10<<20),
		BundleBytes: cmp.Or(max(l.BundleBytes, 0), 64<<30),
		Concurrency: min(cmp.Or(max(l.Concurrency, 0), 8), maxConcurrency),
	}
}

// Snapshot seals what the cluster knows of the pods into one bundle: the pods,
// the logs of all their containers, the events and the chain of owners. It
// changes nothing in the cluster.
//
// What cannot be had costs itself only: the bundle says what is missing and
// why, and Receipt.Complete is false. When the time limit is reached, what
// there is until then is sealed. So it is when ctx is cancelled; then the
// receipt comes with the context's error, so that no caller goes on by mistake.
// With any other error there is no bundle, except where Bundle.Finish says so.
func Snapshot(ctx context.Context, req Request) (Receipt, error) {
	req.Meta.Purpose = cmp.Or(req.Meta.Purpose, "snapshot")
	req.Scope = Scope{}
	result, err := gather(ctx, req, snapshotStages())
	return result.Receipt, err
}

// Result of an investigation.
type Result struct {
	Receipt Receipt `json:"receipt"`
	// Shared is the receipt of the redacted bundle, if one was asked for.
	Shared *Receipt `json:"shared,omitempty"`
	// Missing are the files of Scope that no container gave.
	Missing []string `json:"missing,omitempty"`
	// NotUnderstood says of which source nothing was.
	NotUnderstood []string `json:"notUnderstood,omitempty"`
}

// Nothing: not one thing was collected, but for what says so.
func (r Result) Nothing() bool {
	return r.Receipt.Artefacts[Complete]+r.Receipt.Artefacts[Truncated] == 0
}

// Investigate seals everything that the cluster can tell of the pods, as far as
// Scope goes, most volatile first. It changes something in the cluster only as
// Request.Announce lets it. Else it is like Snapshot.
func Investigate(ctx context.Context, req Request) (Result, error) {
	req.Meta.Purpose = cmp.Or(req.Meta.Purpose, "investigation")
	return gather(ctx, req, wantedStages(req.Scope))
}

func wantedStages(scope Scope) []stage {
	var wanted []stage
	for _, s := range allStages() {
		if s.wanted == nil || s.wanted(scope) {
			wanted = append(wanted, s)
		}
	}
	return wanted
}

func gather(ctx context.Context, req Request, stages []stage) (Result, error) {
	if len(req.Pods) == 0 || len(req.Pods) > MaxPods {
		return Result{}, fmt.Errorf("evidence is collected of 1 to %d pods at a time, not of %d", MaxPods,
			len(req.Pods))
	}
	if req.Now == nil {
		req.Now = time.Now
	}
	original, err := Create(req.Path, req.Recipients, req.Signer, req.Meta, req.Now)
	if err != nil {
		return Result{}, err
	}
	bundles := []*Bundle{original}
	if req.Scope.Shared != "" {
		meta := req.Meta
		meta.RedactedFrom = bundleName(original.path)
		shared, err := Create(req.Scope.Shared, req.Recipients, req.Signer, meta, req.Now)
		if err != nil {
			return Result{}, errors.Join(err, original.Abort())
		}
		bundles = append(bundles, shared)
	}
	bags := newBags(bundles)
	req.asked = &asked{files: map[string]bool{}}
	incomplete, sealed := collect(ctx, req, stages, bags)
	for _, b := range bundles {
		b.receipt.Pods = sealed
	}
	if err := bags.finish(); err != nil {
		bags.lose(err)
	}
	result, err := finish(ctx, bundles, incomplete)
	result.Missing, result.NotUnderstood = req.asked.missing(req.Scope), req.asked.notUnderstood(req.Scope)
	return result, err
}

// finish seals the bundles; that one of them fails does not cost the other.
func finish(ctx context.Context, bundles []*Bundle, incomplete string) (result Result, err error) {
	result.Receipt, err = bundles[0].Finish(ctx, incomplete)
	if len(bundles) > 1 {
		shared, sharedErr := bundles[1].Finish(ctx, incomplete)
		if shared.Path != "" {
			result.Shared = &shared
		}
		err = errors.Join(err, sharedErr)
	}
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("collecting evidence was interrupted; what there was is in %s: %w", result.Receipt.Path,
			context.Cause(ctx))
	}
	return result, err
}

// collect fills the bags and says why it stopped early, if it did, and of which
// pods they hold evidence. It returns in time whatever the collectors do.
func collect(parent context.Context, req Request, stages []stage, bags bags) (incomplete string, sealed []SealedPod) {
	limits := req.Limits.orDefault()
	ctx, cancel := context.WithTimeoutCause(parent, limits.Time, fmt.Errorf("%w: %s", ErrTimeLimit, limits.Time))
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	s := &session{bags: bags, progress: &progress{tell: req.Progress, limit: limits.BundleBytes}, abort: abort}
	s.api = newAPI(req.Client, req.Dynamic, req.Config, newRequests(limits))
	defer s.progress.close()

	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx, req, stages, limits)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(grace):
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx).Error(), s.sealed
	}
	return "", s.sealed
}

// session is one collection under way.
type session struct {
	bags     bags
	api      *api
	progress *progress
	abort    context.CancelCauseFunc

	mu     sync.Mutex
	sealed []SealedPod
}

func (s *session) output(collector string, folder ...string) *Output {
	return &Output{bags: s.bags, collector: collector, folder: folder, api: s.api, progress: s.progress, abort: s.abort}
}

// run goes through the collectors in the order of volatility and through all
// pods for each. Those it does not come to are recorded too.
func (s *session) run(ctx context.Context, req Request, stages []stage, limits Limits) {
	if req.Timeline != nil {
		_ = s.output("timeline").Stream(ctx, "the incident's timeline", maxTimeline,
			func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(req.Timeline), nil
			}, "timeline.jsonl") // recorded
	}
	q := newInquiry(req, s.api, limits)
	var running errgroup.Group
	running.SetLimit(limits.Concurrency)
	start := func(c Collector, about string, folder ...string) {
		running.Go(func() error {
			s.collect(ctx, c, about, folder...)
			return nil
		})
	}
	for _, stage := range stages {
		if stage.overall != nil {
			start(stage.overall(q), "all pods")
			continue
		}
		for _, pod := range q.pods {
			start(stage.perPod(q, pod), "pod "+pod.String(), "pods", pod.Namespace, pod.Name)
		}
	}
	_ = running.Wait() // the functions return no errors
	for _, pod := range q.pods {
		running.Go(func() error {
			s.checkReplaced(ctx, pod)
			return nil
		})
	}
	_ = running.Wait() // the functions return no errors
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range q.pods {
		if p.err == nil && p.facts.uid != "" {
			s.sealed = append(s.sealed, SealedPod{Namespace: p.Namespace, Name: p.Name, UID: string(p.facts.uid)})
		}
	}
}

// checkReplaced records that another pod has the name now: logs and commands are
// asked for by name, so that some of what was collected may be that one's. That a
// pod is gone is no such trouble, nor that it cannot be read any more.
func (s *session) checkReplaced(ctx context.Context, p *pod) {
	facts, err := p.read(ctx)
	if err != nil || ctx.Err() != nil {
		return
	}
	body, err := s.api.get(ctx, podsResource, p.Namespace, p.Name)
	if err != nil {
		return
	}
	if now, err := parsePod(body); err == nil && now.uid != facts.uid {
		s.output("pod", "pods", p.Namespace, p.Name).Fail(p.source(),
			fmt.Errorf(
				"another pod (UID %s, not %s) has taken the name since: what was collected may in part be that one's",
				now.uid, facts.uid), "replaced")
	}
}

func (s *session) collect(ctx context.Context, c Collector, about string, folder ...string) {
	out := s.output(c.Name(), folder...)
	err := context.Cause(ctx)
	if err == nil {
		err = c.Collect(ctx, out)
	}
	if err != nil {
		out.Fail(about, err, c.Name()+".incomplete")
	}
}
