package evidence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// Request says what Snapshot is to collect and where to put it.
type Request struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	// Mapper finds the resources of owners that are custom resources; without
	// it those cost themselves.
	Mapper meta.RESTMapper
	// Pods to collect about, 1 to MaxPods.
	Pods []PodRef
	// Path of the bundle; see Create. FileName makes names.
	Path       string
	Recipients []Recipient
	Meta       Meta
	Limits     Limits
	// Timeline of the incident so far; nil if there is none.
	Timeline io.Reader
	// Progress is called in turn, from several goroutines; it must not block.
	// Nil: nobody listens.
	Progress func(Progress)
	// Now is the clock; nil is that of this machine.
	Now func() time.Time
}

// Limits of a collection. Zero values stand for the defaults.
type Limits struct {
	// Time for collecting; sealing what was collected comes on top, and takes
	// well below a second for the usual few MiB. Default 10 s.
	Time time.Duration
	// Stall is how long a request may bring nothing before it is given up.
	// Default 3 s.
	Stall time.Duration
	// LogBytes is kept of each log, from its beginning. Default 10 MiB, which is
	// where the kubelet rotates logs by default, so that it cuts few.
	LogBytes int64
	// Concurrency is how many requests are under way at once, 1 to 12. Default
	// 8. It also bounds memory: see the package's comment.
	Concurrency int
}

const (
	// MaxPods is how many pods one snapshot takes.
	MaxPods        = 500
	maxConcurrency = 12
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
// With any other error there is no bundle.
func Snapshot(ctx context.Context, req Request) (Receipt, error) {
	if len(req.Pods) == 0 || len(req.Pods) > MaxPods {
		return Receipt{}, fmt.Errorf("a snapshot takes 1 to %d pods, not %d; take several", MaxPods, len(req.Pods))
	}
	if req.Now == nil {
		req.Now = time.Now
	}
	req.Meta.Purpose = cmp.Or(req.Meta.Purpose, "snapshot")
	bundle, err := Create(req.Path, req.Recipients, req.Meta, req.Now)
	if err != nil {
		return Receipt{}, err
	}
	incomplete := collect(ctx, req, bundle.Bag())
	receipt, err := bundle.Finish(incomplete)
	if err != nil {
		return receipt, err
	}
	if ctx.Err() != nil {
		return receipt, fmt.Errorf("collecting evidence was interrupted; what there was is in %s: %w", receipt.Path, context.Cause(ctx))
	}
	return receipt, nil
}

// collect fills the bag and says why it stopped early, if it did. It returns
// in time whatever the collectors do.
func collect(parent context.Context, req Request, bag *Bag) (incomplete string) {
	limits := req.Limits.orDefault()
	ctx, cancel := context.WithTimeoutCause(parent, limits.Time, fmt.Errorf("%w: %s", ErrTimeLimit, limits.Time))
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	s := &session{bag: bag, requests: newRequests(limits), progress: &progress{tell: req.Progress}, abort: abort}
	defer s.progress.close()

	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx, req, limits)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(grace):
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx).Error()
	}
	return ""
}

// session is one collection under way.
type session struct {
	bag      *Bag
	requests *requests
	progress *progress
	abort    context.CancelCauseFunc
}

func (s *session) output(collector string, folder ...string) *Output {
	return &Output{bag: s.bag, collector: collector, folder: folder, requests: s.requests, progress: s.progress, abort: s.abort}
}

// run goes through the collectors in the order of volatility and through all
// pods for each. Those it does not come to are recorded too.
func (s *session) run(ctx context.Context, req Request, limits Limits) {
	if req.Timeline != nil {
		s.output("timeline").Stream(ctx, "the incident's timeline", maxTimeline, func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(req.Timeline), nil
		}, "timeline.jsonl")
	}
	api := newAPI(req.Client, req.Dynamic, s.requests)
	memos := &memos{api: api, mapper: req.Mapper}
	var perPod [][]Collector
	for _, ref := range req.Pods {
		perPod = append(perPod, podCollectors(&pod{PodRef: ref, api: api, memo: memos}, limits))
	}
	var running errgroup.Group
	running.SetLimit(limits.Concurrency)
	for kind := range perPod[0] {
		for i, ref := range req.Pods {
			running.Go(func() error {
				s.collect(ctx, perPod[i][kind], ref)
				return nil
			})
		}
	}
	_ = running.Wait() // the functions return no errors
}

func (s *session) collect(ctx context.Context, c Collector, about PodRef) {
	out := s.output(c.Name(), "pods", about.Namespace, about.Name)
	err := context.Cause(ctx)
	if err == nil {
		err = c.Collect(ctx, out)
	}
	if err != nil {
		out.Fail("pod "+about.String(), err, c.Name()+".incomplete")
	}
}
