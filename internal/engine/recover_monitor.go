package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/record"
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
	// Recontain contains, on a hit, the pods that it is about, within bounds:
	// see NotTouched. RecontainNamespaces are further namespaces where it may.
	Recontain           bool
	RecontainNamespaces []string
	// NewBaseline leaves aside what was recorded when an earlier watch began: what
	// runs now is known.
	NewBaseline bool
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
	// Exposed are pods that look like the suspects and ran before the watch began,
	// or an earlier one that this one continues. They are no signs.
	Exposed []recovery.Hit `json:"exposed,omitempty"`
	// Gaps are what could not be looked at, each once.
	Gaps []string `json:"gaps,omitempty"`
	// Interrupted: it was ended before its time.
	Interrupted bool `json:"interrupted,omitempty"`
	// Contained is what came of containing what was hit; nil: it was not tried.
	Contained *ContainResult `json:"contained,omitempty"`
	// NotTouched is what Recontain left alone, and why.
	NotTouched []NotTouched `json:"notTouched,omitempty"`
	// Undetermined is why that nothing was seen means nothing.
	Undetermined string `json:"undetermined,omitempty"`
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
	bounds  bounds
	seen    int // in how many looks pods could be read
	// continues is the entry with the baseline of an earlier watch; 0: there is none.
	continues int64
	// foreign and isolated are pods that earlier watches contained.
	foreign  map[string]bool
	isolated map[types.UID]bool
	exposed  []recovery.Hit // that are journaled

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
	m := &monitoring{Engine: e, req: req, begun: time.Now(),
		result: &MonitorResult{Incident: string(req.Incident), From: e.Now(), Hits: []recovery.Hit{}}}
	if err := m.prepare(ctx); err != nil {
		return m.result, err
	}
	m.Engine.begin(Collecting, req.Incident)
	if err := m.begin(ctx); err != nil {
		return m.result, err
	}
	watching, stop := context.WithTimeout(ctx, e.Pace.Here(req.For))
	failure := m.watch(watching)
	stop()
	m.result.Until = m.Now()
	return m.result, errors.Join(failure, m.conclude(ctx))
}

// The actions of these entries.
const (
	actionBegun    = "begun"
	actionBaseline = "baseline"
	actionExposed  = "exposed"
)

// earlier takes from the journal what earlier watches of the incident recorded.
func (m *monitoring) earlier(entries []timeline.Entry) (baseline *recovery.Baseline) {
	for _, e := range entries {
		r, ok := timeline.Payload[record.Watch](&e)
		if !ok {
			continue
		}
		if r.Baseline != nil {
			baseline, m.continues = &recovery.Baseline{Baseline: *r.Baseline}, e.Seq
		}
		m.exposed = append(m.exposed, r.Exposed...)
	}
	if m.req.NewBaseline {
		baseline, m.continues = nil, 0
	}
	return baseline
}

// begin journals what runs already.
func (m *monitoring) begin(ctx context.Context) error {
	looking, cancel := m.within(ctx)
	defer cancel()
	for _, g := range m.watched.Begin(looking) {
		m.gap(g.String())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := timeline.Entry{Summary: fmt.Sprintf("watch for %s for the attacker's return", m.req.For)}
	data := record.Watch{Continues: m.continues}
	if m.continues == 0 {
		data.Baseline = m.watched.Baseline.Recorded()
	} else {
		e.Summary += fmt.Sprintf("; what came up since %s is new", m.watched.Baseline.At.Format(time.RFC3339))
	}
	return m.note(actionBegun, e, data)
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
	m.foreign, m.isolated = foreignPods(entries), isolatedPods(entries)
	// What a watch contained that is not of the incident's workloads is watched,
	// but what else it runs tells nothing of the attacker.
	all := recovery.IndicatorsOf(scene.Targets)
	scene.Targets = slices.DeleteFunc(scene.Targets, func(t *cluster.Target) bool {
		return m.foreign[string(t.Pod.UID)] && len(t.Owners) == 0
	})
	w := &recovery.Watched{Client: m.Client, Incident: string(i.ID), Since: m.Now(), Baseline: m.earlier(entries),
		Workloads: recovery.Find(looking, scene, nil)}
	w.Indicators = recovery.IndicatorsOf(scene.Targets).With(recovery.Indicators{Pods: all.Pods})
	m.bounds = bounds{named: m.req.RecontainNamespaces, own: cluster.OwnNamespaces()}
	namespaces := map[string]bool{}
	for _, t := range i.Targets {
		namespaces[t.Namespace] = true
		if !m.foreign[t.UID] || len(t.Owners) > 0 {
			m.bounds.namespaces = append(m.bounds.namespaces, t.Namespace)
		}
	}
	w.Namespaces = sorted(namespaces)
	for _, r := range wayInsOf(entries) {
		w.SameImage = r.SameImage
		if r.Indicators != nil {
			w.Indicators = w.Indicators.With(recovery.Indicators(*r.Indicators))
		}
	}
	recovery.Judge(w.Workloads, nil)
	w.Indicators = w.Indicators.Without(w.Workloads)
	for _, a := range timeline.Standing(entries) {
		c, ok := change.In(&a.Intent)
		if !ok || a.Intent.Phase != contain.Phase && a.Intent.Step != eradicate.StepImage {
			continue
		}
		w.Standing = append(w.Standing, recovery.Recorded{Seq: a.Intent.Seq, Step: a.Intent.Step,
			Action: a.Intent.Action, Targets: a.Intent.Targets, Summary: a.Intent.Summary, Change: c})
	}
	m.watched = w
	if w.SameImage {
		m.Front.Observe(Event{Kind: Noticed, Step: recovery.StepMonitor,
			Text: "the suspects' image runs by decision: that it runs tells nothing, and the way in is still open"})
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
		if err := <-detected; failure == nil && !errors.Is(err, context.Canceled) &&
			!errors.Is(err, context.DeadlineExceeded) {
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
	m.Front.Observe(Event{Kind: Waiting, Step: step, Left: left, Text: "a sign of the attacker's return; none in " +
		plural.Count(m.result.Looks, "look")})
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
	sight := m.watched.Look(looking)
	if ctx.Err() != nil && len(sight.Hits) == 0 {
		return // it was cut short, which tells nothing
	}
	m.result.Looks++
	if sight.Pods {
		m.seen++
	}
	for _, g := range sight.Gaps {
		m.gap(g.String())
	}
	if sight.Grown {
		text := "pods of more namespaces can be listed than when the watch began; which of them are new is not known"
		rec := record.Watch{Baseline: m.watched.Baseline.Recorded()}
		m.tell(text, m.note(actionBaseline, timeline.Entry{Summary: text}, rec))
	}
	m.alsoExposed(sight.Exposed)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.found = append(m.found, sight.Hits...)
}

// tell says something, or that it could not be journaled.
func (m *monitoring) tell(text string, err error) {
	if err != nil {
		m.gap("the journal could not be written: " + err.Error())
	}
	m.Front.Observe(Event{Kind: Noticed, Step: recovery.StepMonitor, Text: text})
}

// maxExposed is how many pods are journaled as exposed at one time.
const maxExposed = 1000

// alsoExposed tells once of the pods that look like the suspects and ran before.
func (m *monitoring) alsoExposed(list []recovery.Hit) {
	list = slices.DeleteFunc(list, func(h recovery.Hit) bool { return slices.Contains(m.result.Exposed, h) })
	if len(list) == 0 {
		return
	}
	m.result.Exposed = append(m.result.Exposed, list...)
	var keys []string
	namespaces := map[string]bool{}
	for _, h := range list {
		keys, namespaces[h.Namespace] = append(keys, h.Namespace+"/"+h.Pod), true
	}
	text := fmt.Sprintf(
		"also exposed: %s looked like the suspects before the watch began, in %s: %s; no sign of a return",
		plural.Count(len(list), "pod"), plural.Count(len(namespaces), "namespace"), summarize(keys))
	var err error
	fresh := slices.DeleteFunc(list, func(h recovery.Hit) bool { return slices.Contains(m.exposed, h) })
	if len(fresh) > 0 {
		rec := record.Watch{Exposed: fresh[:min(len(fresh), maxExposed)]}
		err = m.note(actionExposed, timeline.Entry{Summary: text}, rec)
	}
	m.tell(text, err)
}

// detect runs the detectors on the cluster and on alerts.
func (m *monitoring) detect(ctx context.Context, hit chan<- struct{}) error {
	req := detect.Request{Client: m.Client, Timeout: m.Timeout, NewSince: m.watched.Since, AlertsSince: m.watched.Since,
		Inputs: m.req.Inputs}
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
func (m *monitoring) note(action string, e timeline.Entry, data any) error {
	// what was seen is put down also when the watch was cut short
	ctx, cancel := context.WithTimeout(context.Background(), journalTime)
	defer cancel()
	h, err := m.Store.Open(ctx, m.req.Incident, m.Actor())
	if err != nil {
		return err
	}
	_, err = appendNote(h, action, e, data)
	return errors.Join(err, h.Close())
}

// appendNote writes an entry of the watch into a journal that is open.
func appendNote(h *incident.Handle, action string, e timeline.Entry, data any) (timeline.Entry, error) {
	e.Kind, e.Phase, e.Step, e.Action = timeline.KindObservation, recovery.Phase, recovery.StepMonitor, action
	return h.Log.AppendWith(e, data, nil)
}

// journalTime bounds how long an entry waits for the incident's lock.
const journalTime = 30 * time.Second

// conclude puts down what was seen, and contains what was hit.
func (m *monitoring) conclude(ctx context.Context) (err error) {
	data := record.Watched{Incident: m.result.Incident, From: m.result.From, Until: m.result.Until,
		Looks: m.result.Looks,
		Hits:  m.result.Hits, Gaps: m.result.Gaps} // what is exposed has an entry of its own
	seen := m.Pace.There(m.result.Until.Sub(m.result.From)).Round(time.Second)
	switch {
	case len(m.result.Hits) > 0:
		var texts []string
		for _, h := range m.result.Hits {
			m.Front.Observe(Event{Kind: Failed, Step: recovery.StepMonitor, Text: h.Code, Err: errors.New(h.Text)})
			texts = append(texts, h.Text)
		}
		summary := "signs of the attacker's return: " + strings.Join(texts[:min(len(texts), 5)], "; ")
		e := timeline.Entry{Summary: summary, Outcome: timeline.OutcomeFailed, Error: "seen while watching"}
		err = m.note("hit", e, data)
	case ctx.Err() != nil:
		m.result.Interrupted, data.Interrupted = true, true
		if m.result.Looks == 0 {
			m.result.Undetermined = noLook
		} else if m.seen == 0 {
			m.result.Undetermined = noPods
		}
		data.Undetermined = m.result.Undetermined
		summary := fmt.Sprintf("the watch was ended after %s of %s: until then nothing was seen", seen, m.req.For)
		err = m.note("ended", timeline.Entry{Summary: summary, Outcome: timeline.OutcomeSkipped}, data)
	case m.result.Looks == 0:
		m.result.Failure, data.Failure = noLook, noLook
		summary := fmt.Sprintf("the watch of %s saw nothing, since it never came to an end of looking", m.req.For)
		err = m.note("ended", timeline.Entry{Summary: summary, Outcome: timeline.OutcomeFailed, Error: noLook}, data)
	case m.seen == 0:
		m.result.Undetermined, data.Undetermined = noPods, noPods
		summary := fmt.Sprintf("the watch of %s saw nothing, since it could not look at the pods", m.req.For)
		err = m.note("ended", timeline.Entry{Summary: summary, Outcome: timeline.OutcomeFailed, Error: noPods}, data)
	default:
		summary := fmt.Sprintf("watched for %s: nothing was seen", m.req.For)
		err = m.note("ended", timeline.Entry{Summary: summary, Outcome: timeline.OutcomeDone}, data)
	}
	if len(m.result.Hits) > 0 && m.req.Recontain && ctx.Err() == nil {
		m.recontain(ctx)
	}
	return err
}

// Why a watch that saw nothing tells nothing.
const (
	noLook = "no look could be completed in that time"
	noPods = "in no look could the pods be listed"
)
