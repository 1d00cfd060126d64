package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
	"irctl/internal/steps/eradicate"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// MonitorRequest says how long to watch for the attacker's return, and for what.
type MonitorRequest struct {
	Incident incident.ID
	// For is how long.
	For time.Duration
	// Every is how long to wait between two looks; 0: DefaultLook.
	Every time.Duration
	// Inputs are files of alerts that are followed; Listener takes alerts of
	// Falco at Address, if it is set.
	Inputs   []detect.Input
	Listener *detect.Listener
	Address  string
	// Recontain contains, on a hit, the pods that it is about.
	Recontain bool
	// Snapshot and EvidenceNote are as of ContainRequest.
	Snapshot     Snapshot
	EvidenceNote string
}

// DefaultLook is the time between two looks.
const DefaultLook = 15 * time.Second

// MonitorResult is what was seen. Its JSON form is documented and stable.
type MonitorResult struct {
	Incident string    `json:"incident"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	// Looks is how often it was looked.
	Looks int            `json:"looks"`
	Hits  []recovery.Hit `json:"hits"`
	// Gaps are what could not be looked at, each once.
	Gaps []string `json:"gaps,omitempty"`
	// Interrupted: it was ended before its time.
	Interrupted bool `json:"interrupted,omitempty"`
	// Contained is what came of containing what was hit; nil: it was not tried.
	Contained *ContainResult `json:"contained,omitempty"`
	// Failure is why it could not look at all, or why what was hit could not be
	// contained.
	Failure string `json:"failure,omitempty"`
}

// monitoring is one run of Monitor.
type monitoring struct {
	*Engine
	req     MonitorRequest
	watched *recovery.Watched
	result  *MonitorResult
	begun   time.Time // on this machine's clock
	told    time.Time

	mu    sync.Mutex
	found []recovery.Hit // of the detectors, until the next look
}

// Monitor watches until its time is over, or something is hit: then that is
// journaled, contained if that was asked for, and the watch is over. The lock of
// the incident is held for an entry only. The error is what kept it from watching.
func (e *Engine) Monitor(ctx context.Context, req MonitorRequest) (*MonitorResult, error) {
	if req.Every <= 0 {
		req.Every = DefaultLook
	}
	m := &monitoring{Engine: e, req: req, begun: time.Now(), result: &MonitorResult{Incident: string(req.Incident), From: e.Now(), Hits: []recovery.Hit{}}}
	if err := m.prepare(ctx); err != nil {
		return m.result, err
	}
	if err := m.note("begun", timeline.Entry{Summary: fmt.Sprintf("watch for %s for the attacker's return", req.For)}); err != nil {
		return m.result, err
	}
	watching, stop := context.WithTimeout(ctx, e.Pace.Here(req.For))
	failure := m.watch(watching)
	stop()
	m.result.Until = m.Now()
	return m.result, errors.Join(failure, m.conclude(ctx))
}

func (m *monitoring) prepare(ctx context.Context) error {
	i, entries, err := m.read(m.req.Incident)
	if err != nil {
		return err
	}
	looking, cancel := m.within(ctx)
	defer cancel()
	scene := m.sceneOf(looking, i)
	if len(scene.Targets)+len(scene.Workloads) == 0 {
		return fmt.Errorf("%w: incident %s has no suspects: there is nothing to know their return by", ErrRefused, i.ID)
	}
	w := &recovery.Watched{Client: m.Client, Incident: string(i.ID), Indicators: recovery.IndicatorsOf(scene.Targets), Since: m.Now(), Workloads: recovery.Find(looking, scene, nil)}
	namespaces := map[string]bool{}
	for _, t := range i.Targets {
		namespaces[t.Namespace] = true
	}
	w.Namespaces = sorted(namespaces)
	for _, r := range wayInsOf(entries) {
		w.SameImage = r.SameImage
		if r.Indicators != nil {
			w.Indicators = w.Indicators.With(*r.Indicators)
		}
	}
	recovery.Judge(w.Workloads, nil)
	w.Indicators = w.Indicators.Without(w.Workloads)
	for _, a := range timeline.Standing(entries) {
		c, err := change.Parse(a.Intent.Data)
		if err != nil || a.Intent.Phase != contain.Phase && a.Intent.Step != eradicate.StepImage {
			continue
		}
		w.Standing = append(w.Standing, recovery.Recorded{Seq: a.Intent.Seq, Step: a.Intent.Step, Action: a.Intent.Action, Targets: a.Intent.Targets, Summary: a.Intent.Summary, Change: c})
	}
	m.watched = w
	if w.SameImage {
		m.Front.Observe(Event{Kind: Noticed, Step: recovery.StepMonitor, Text: "the suspects' image runs by decision: that it runs tells nothing, and the way in is still open"})
	} else if len(w.Indicators.Digests) == 0 {
		m.gap("the digest of the suspects' image is not known, so it cannot be recognised")
	}
	return ctx.Err()
}

// gap tells once of what cannot be seen.
func (m *monitoring) gap(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.result.Gaps, text) {
		return
	}
	m.result.Gaps = append(m.result.Gaps, text)
	m.Front.Observe(Event{Kind: Noticed, Step: recovery.StepMonitor, Text: text})
}

// watch looks again and again, while the detectors run beside it, until its
// time is over or something is hit.
func (m *monitoring) watch(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	detected := make(chan error, 1)
	hit := make(chan struct{}, 1)
	go func() { detected <- m.detect(ctx, hit) }()
	var failure error
	running := true
	for {
		m.look(ctx)
		if m.take() {
			m.look(ctx) // once more: what else there is to it may have come during the look
			break
		}
		m.progress()
		timer := time.NewTimer(m.every())
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-hit:
		case err := <-detected:
			if running = false; err != nil && ctx.Err() == nil {
				failure = err
				stop()
			}
			detected = nil
		}
		timer.Stop()
		if ctx.Err() != nil {
			m.take()
			break
		}
	}
	stop()
	if running && detected != nil {
		if err := <-detected; failure == nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			failure = err
		}
	}
	m.take()
	return failure
}

// every is how long to wait between two looks, on this machine. A look takes its
// time however fast the cluster's goes.
func (m *monitoring) every() time.Duration {
	return max(m.Pace.Here(m.req.Every), min(m.req.Every, shortestLook))
}

// shortestLook is the least time between two looks that is made of a longer one.
const shortestLook = 100 * time.Millisecond

// progress tells, at first and once a minute, that it goes on.
func (m *monitoring) progress() {
	step := recovery.StepMonitor
	if m.Pace.There(time.Since(m.told)) >= time.Minute {
		m.told, step = time.Now(), "verify"
	}
	left := max(time.Second, m.Pace.Here(m.req.For)-time.Since(m.begun)).Round(time.Second)
	m.Front.Observe(Event{Kind: Waiting, Step: step, Left: left, Text: "a sign of the attacker's return; none in " + plural.Count(m.result.Looks, "look")})
}

// take moves what the detectors found into the result, and reports whether
// there is anything.
func (m *monitoring) take() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.found {
		if !slices.Contains(m.result.Hits, h) {
			m.result.Hits = append(m.result.Hits, h)
		}
	}
	m.found = nil
	return len(m.result.Hits) > 0
}

func (m *monitoring) look(ctx context.Context) {
	looking, cancel := m.within(ctx)
	defer cancel()
	hits, gaps := m.watched.Look(looking)
	if ctx.Err() != nil && len(hits) == 0 {
		return // it was cut short, which tells nothing
	}
	m.result.Looks++
	for _, g := range gaps {
		m.gap(g.String())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.found = append(m.found, hits...)
}

// detect runs the detectors on the cluster and on alerts.
func (m *monitoring) detect(ctx context.Context, hit chan<- struct{}) error {
	req := detect.Request{Client: m.Client, Timeout: m.Timeout, NewSince: m.watched.Since, AlertsSince: m.watched.Since, Inputs: m.req.Inputs}
	if len(m.watched.Namespaces) == 1 {
		req.Namespace = m.watched.Namespaces[0]
	}
	_, err := detect.Watch(ctx, req, detect.Watching{Every: m.every(), Listener: m.req.Listener, Address: m.req.Address,
		Found: func(f detect.Finding) {
			h, ok := m.watched.Finding(f)
			if !ok {
				return
			}
			m.mu.Lock()
			m.found = append(m.found, h)
			m.mu.Unlock()
			select {
			case hit <- struct{}{}:
			default:
			}
		},
		Noticed: m.gap})
	return err
}

// note writes an entry. Another process may have the lock for a moment.
func (m *monitoring) note(action string, e timeline.Entry) error {
	ctx, cancel := context.WithTimeout(context.Background(), journalTime) // what was seen is put down also when the watch was cut short
	defer cancel()
	h, err := m.Store.Open(ctx, m.req.Incident, m.Actor())
	if err != nil {
		return err
	}
	e.Kind, e.Phase, e.Step, e.Action = timeline.KindObservation, recovery.Phase, recovery.StepMonitor, action
	_, err = h.Log.Append(e)
	return errors.Join(err, h.Close())
}

// journalTime bounds how long an entry waits for the incident's lock.
const journalTime = 30 * time.Second

// conclude puts down what was seen, and contains what was hit.
func (m *monitoring) conclude(ctx context.Context) error {
	data, err := json.Marshal(m.result)
	if err != nil || len(data) > maxRecord {
		data = nil
	}
	seen := m.Pace.There(m.result.Until.Sub(m.result.From)).Round(time.Second)
	switch {
	case len(m.result.Hits) > 0:
		var texts []string
		for _, h := range m.result.Hits {
			m.Front.Observe(Event{Kind: Failed, Step: recovery.StepMonitor, Text: h.Code, Err: errors.New(h.Text)})
			texts = append(texts, h.Text)
		}
		err = m.note("hit", timeline.Entry{Summary: "signs of the attacker's return: " + strings.Join(texts[:min(len(texts), 5)], "; "), Outcome: timeline.OutcomeFailed, Error: "seen while watching", Data: data})
	case ctx.Err() != nil:
		m.result.Interrupted = true
		err = m.note("ended", timeline.Entry{Summary: fmt.Sprintf("the watch was ended after %s of %s: until then nothing was seen", seen, m.req.For), Outcome: timeline.OutcomeSkipped, Data: data})
	case m.result.Looks == 0:
		m.result.Failure = "no look could be completed in that time"
		err = m.note("ended", timeline.Entry{Summary: fmt.Sprintf("the watch of %s saw nothing, since it never came to an end of looking", m.req.For), Outcome: timeline.OutcomeFailed, Error: m.result.Failure, Data: data})
	default:
		err = m.note("ended", timeline.Entry{Summary: fmt.Sprintf("watched for %s: nothing was seen", m.req.For), Outcome: timeline.OutcomeDone, Data: data})
	}
	if len(m.result.Hits) > 0 && m.req.Recontain && ctx.Err() == nil {
		m.recontain(ctx)
	}
	return err
}

// recontain contains the pods that were hit, and the suspects again.
func (m *monitoring) recontain(ctx context.Context) {
	targets, failures := m.hitPods(ctx)
	if len(targets) == 0 {
		m.result.Failure = "not contained: " + strings.Join(append(failures, "there is no pod to contain"), "; ")
		return
	}
	res, err := m.Contain(ctx, ContainRequest{Targets: targets, Failures: failures, Incident: m.req.Incident, Options: contain.Options{Steps: contain.DefaultSteps},
		Snapshot: m.req.Snapshot, EvidenceNote: m.req.EvidenceNote, SecondLook: time.Second})
	m.result.Contained = res
	if err != nil {
		m.result.Failure = "not contained: " + err.Error()
	}
}

// hitPods are those that the hits are about; where a change was taken back, the
// suspects for whose sake it was made.
func (m *monitoring) hitPods(ctx context.Context) (targets []*cluster.Target, failures []string) {
	looking, cancel := m.within(ctx)
	defer cancel()
	seen := map[string]bool{}
	add := func(namespace, name string) {
		if seen[namespace+"/"+name] {
			return
		}
		seen[namespace+"/"+name] = true
		t, err := m.Client.GetTarget(looking, namespace, name)
		var gone *cluster.NotFoundError
		switch {
		case errors.As(err, &gone):
		case err != nil:
			failures = append(failures, err.Error())
		default:
			targets = append(targets, t)
		}
	}
	for _, h := range m.result.Hits {
		if h.Pod != "" {
			add(h.Namespace, h.Pod)
			continue
		}
		for _, p := range m.watched.Indicators.Pods {
			if p.Namespace == h.Namespace && h.Code == recovery.HitReverted {
				t, err := m.Client.GetTarget(looking, p.Namespace, p.Name)
				if err == nil && string(t.Pod.UID) == p.UID {
					add(p.Namespace, p.Name)
				}
			}
		}
	}
	return targets, failures
}
