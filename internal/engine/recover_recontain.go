package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// What the watch may contain by itself is bounded, since a sign can be wrong:
// pods that came up since the watch began, in the incident's namespaces, and so
// many an hour.
const (
	maxRecontained  = 5
	recontainWindow = time.Hour
)

// NotTouched is what a sign is about and the watch does not contain by itself.
type NotTouched struct {
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	UID       string `json:"uid,omitempty"`
	Object    string `json:"object"`
	Reason    string `json:"reason"`
	// Command would do it.
	Command string `json:"command,omitempty"`
}

// bounds are within which the watch contains by itself.
type bounds struct {
	namespaces []string // the incident's, but for those that only the watch brought in
	named      []string // by --recontain-namespace
	own        []string // where irctl runs
}

// forbids says why nothing in a namespace is touched; "" if it may be.
func (b bounds) forbids(namespace string) string {
	switch {
	case slices.Contains(b.named, namespace):
		return ""
	case strings.HasPrefix(namespace, "kube-"), strings.HasPrefix(namespace, "openshift-"):
		return fmt.Sprintf("%s is a namespace of the cluster itself", namespace)
	case slices.Contains(b.own, namespace):
		return fmt.Sprintf("irctl itself runs in namespace %s", namespace)
	case !slices.Contains(b.namespaces, namespace):
		return fmt.Sprintf("namespace %s is not the incident's", namespace)
	}
	return ""
}

// hitPod is a pod that a sign is about.
type hitPod struct {
	*cluster.Target
	// suspect: it is one already; intact: and still carries the quarantine's labels.
	suspect, intact bool
	// foreign: it is neither a suspect nor a pod of the incident's workloads.
	foreign bool
	// isolated: it has a controller that is not the incident's.
	isolated bool
}

// The actions of these entries.
const (
	actionRecontain = "recontain"
	actionDeclined  = "recontain-declined"
	actionLimit     = "recontain-limit"
)

func recontainsOf(entries []timeline.Entry) map[int64]record.Recontained {
	list := map[int64]record.Recontained{}
	for _, e := range entries {
		r, ok := timeline.Payload[record.Recontained](&e)
		if !ok {
			continue
		}
		switch e.Action {
		case actionRecontain:
			list[e.Seq] = *r
		case actionDeclined:
			delete(list, r.Declined)
		}
	}
	return list
}

// recontainedSince counts the containments of the watches since a moment.
func recontainedSince(entries []timeline.Entry, since time.Time) int {
	n, records := 0, recontainsOf(entries)
	for _, e := range entries {
		if r, ok := records[e.Seq]; ok && e.Time.After(since) {
			n += max(1, r.Count)
		}
	}
	return n
}

// foreignPods are those that a watch contained although they are not of the
// incident's workloads: what they are tells nothing of the incident.
func foreignPods(entries []timeline.Entry) map[string]bool {
	pods := map[string]bool{}
	for _, r := range recontainsOf(entries) {
		for _, p := range r.Pods {
			if p.Foreign {
				pods[p.UID] = true
			}
		}
	}
	return pods
}

// isolatedPods are those that are only isolated, so that their labels and their
// workloads are as they are meant to be. One that a person contained since is not.
func isolatedPods(entries []timeline.Entry) map[types.UID]bool {
	pods := map[types.UID]bool{}
	for _, r := range recontainsOf(entries) {
		for _, p := range r.Pods {
			if p.Isolated {
				pods[types.UID(p.UID)] = true
			}
		}
	}
	for _, a := range timeline.Standing(entries) {
		if c, ok := change.In(&a.Intent); ok && a.Intent.Step == contain.StepDetach && contain.Detaches(c) {
			delete(pods, c.Object.UID)
		}
	}
	return pods
}

// recontain contains the pods that were hit, and the suspects again, as far as
// the bounds go.
func (m *monitoring) recontain(ctx context.Context) {
	list, failures := m.hitPods(ctx)
	if list = m.allowed(list); len(list) > 0 {
		m.containHit(ctx, list, failures)
	} else if len(failures) > 0 {
		m.result.Failure = "not contained: " + strings.Join(failures, "; ")
	} else if len(m.result.NotTouched) == 0 {
		m.nothingToContain()
	}
	for _, n := range m.result.NotTouched {
		m.Front.Observe(Event{Kind: Refused, Step: recovery.StepMonitor, Text: n.Object + " is not touched",
			Err: errors.New(n.Reason)})
	}
}

// nothingToContain: the signs are about objects, and no pod of a suspect is left
// for whose sake they were changed.
func (m *monitoring) nothingToContain() {
	for _, h := range m.result.Hits {
		n := NotTouched{Namespace: h.Namespace, Object: h.Object, Reason: "there is no pod of a suspect to contain"}
		for _, w := range m.watched.Workloads {
			if w.Ref.String() == h.Object {
				n.Command = fmt.Sprintf("irctl contain %s -n %s --incident %s", change.ShellQuote(w.KubectlName()),
					change.ShellQuote(w.Namespace), m.req.Incident)
			}
		}
		m.result.NotTouched = append(m.result.NotTouched, n)
	}
}

func (m *monitoring) containHit(ctx context.Context, list []hitPod, failures []string) {
	list, seq, err := m.reserve(list)
	if err != nil {
		m.result.Failure = "not contained: " + err.Error()
		return
	}
	if len(list) == 0 {
		return
	}
	req := ContainRequest{Failures: failures, Incident: m.req.Incident, SecondLook: time.Second,
		Snapshot: m.req.Snapshot, EvidenceNote: m.req.EvidenceNote,
		Options: contain.Options{Steps: contain.DefaultSteps, Isolated: map[types.UID]bool{}}}
	for _, c := range list {
		req.Targets = append(req.Targets, c.Target)
		req.Options.Isolated[c.Pod.UID] = c.isolated
	}
	res, err := m.Contain(ctx, req)
	m.result.Contained = res
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, incident.ErrLocked):
		for _, c := range list { // a sign weighs more
			m.leave(c, err.Error())
		}
	case err != nil:
		m.result.Failure = "not contained: " + err.Error()
	case res.Cancelled:
		e := timeline.Entry{Summary: "not contained: the answer was no", Outcome: timeline.OutcomeSkipped}
		err = m.note(actionDeclined, e, record.Recontained{Declined: seq})
		for _, c := range list {
			m.leave(c, "the answer was no")
		}
		if err != nil {
			m.result.Failure = err.Error()
		}
		return
	}
	for _, c := range list {
		if w := c.Workload(); c.isolated && w != nil {
			m.result.NotTouched = append(m.result.NotTouched, NotTouched{Namespace: w.Namespace, Object: w.Ref.String(),
				Command: m.containCommand(c, false),
				Reason: fmt.Sprintf("it is not the incident's workload: its pod %s is isolated, and it is not scaled",
					c.Pod.Name)})
		}
	}
}

// leave names a pod that is not touched.
func (m *monitoring) leave(c hitPod, reason string) {
	p := c.Pod
	m.result.NotTouched = append(m.result.NotTouched,
		NotTouched{Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID),
			Object: cluster.Pod.Named(p.Namespace, p.Name, "").String(), Reason: reason,
			Command: m.containCommand(c, c.isolated)})
}

// containCommand is what a person types to contain the pod; isolating: without
// its workload.
func (m *monitoring) containCommand(c hitPod, isolating bool) string {
	words := []string{"irctl contain --pod", change.ShellQuote(c.Pod.Name), "-n", change.ShellQuote(c.Pod.Namespace),
		"--incident", string(m.req.Incident)}
	if isolating {
		words = append(words, "--keep-labels --keep-replicas")
	}
	return strings.Join(words, " ")
}

// allowed are the candidates within the bounds; the others are named. The
// incident's own come first.
func (m *monitoring) allowed(list []hitPod) []hitPod {
	var within []hitPod
	for _, c := range list {
		reason := m.bounds.forbids(c.Pod.Namespace)
		if tenure := m.watched.Baseline.TenureOf(c.Pod); reason == "" && !c.suspect && tenure != recovery.Came {
			if reason = "it ran before the watch began"; tenure == recovery.Untold {
				reason = "whether it came up since the watch began is not known"
			}
		}
		if reason == "" {
			within = append(within, c)
		} else {
			m.leave(c, reason)
		}
	}
	rank := func(c hitPod) int {
		switch {
		case c.suspect:
			return 0
		case c.foreign:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(within, func(a, b hitPod) int { return rank(a) - rank(b) })
	return within
}

// reserve journals what is about to be contained, and leaves out what is more
// than may be. The count and the entry are made under one lock, so that watches
// side by side, or one after the other, do not get the number twice.
func (m *monitoring) reserve(list []hitPod) (granted []hitPod, seq int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), journalTime)
	defer cancel()
	h, err := m.Store.Open(ctx, m.req.Incident, m.Actor())
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = h.Close() }() // every entry is on disk already
	used := recontainedSince(h.Log.Entries(), m.Now().Add(-m.Pace.Here(recontainWindow)))
	granted, count, over := grant(list, maxRecontained-used)
	if len(over) > 0 {
		reason := fmt.Sprintf("the watch has contained %s within the hour, and contains no more than %d by itself",
			plural.Count(used+count, "pod"), maxRecontained)
		for _, c := range over {
			m.leave(c, reason)
		}
		e := timeline.Entry{Summary: fmt.Sprintf("%s not contained: %s", plural.Count(len(over), "pod"), reason),
			Outcome: timeline.OutcomeRefused, Error: reason, Targets: keysOf(over)}
		m.Front.Observe(Event{Kind: Failed, Step: recovery.StepMonitor, Text: e.Summary,
			Err: errors.New("contain them yourself, or find out what starts them")})
		if _, err := appendNote(h, actionLimit, e, nil); err != nil {
			return nil, 0, err
		}
	}
	if len(granted) == 0 {
		return nil, 0, nil
	}
	rec := record.Recontained{Count: max(1, count)}
	for _, c := range granted {
		rec.Pods = append(rec.Pods, record.RecontainedPod{Namespace: c.Pod.Namespace, Pod: c.Pod.Name,
			UID:     string(c.Pod.UID),
			Foreign: c.foreign, Isolated: c.isolated})
	}
	e := timeline.Entry{Summary: "to be contained by the watch: " + summarize(keysOf(granted)),
		Targets: keysOf(granted)}
	written, err := appendNote(h, actionRecontain, e, rec)
	return granted, written.Seq, err
}

// grant takes as many as are left. A suspect whose labels are as they were is
// only looked at again beside the others, and counts for nothing.
func grant(list []hitPod, left int) (granted []hitPod, count int, over []hitPod) {
	for _, c := range list {
		switch {
		case left <= 0 || !c.intact && count == left:
			over = append(over, c)
			continue
		case !c.intact:
			count++
		}
		granted = append(granted, c)
	}
	return granted, count, over
}

func keysOf(list []hitPod) []string {
	var keys []string
	for _, c := range list {
		keys = append(keys, c.Key())
	}
	return keys
}

// hitPods are those that the hits are about; where a change was taken back, the
// suspects for whose sake it was made.
func (m *monitoring) hitPods(ctx context.Context) (list []hitPod, failures []string) {
	looking, cancel := m.within(ctx)
	defer cancel()
	seen := map[string]bool{}
	add := func(namespace, name string, uid string) {
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
		case uid == "" || string(t.Pod.UID) == uid:
			list = append(list, m.hitPod(t))
		}
	}
	for _, h := range m.result.Hits {
		if h.Pod != "" {
			add(h.Namespace, h.Pod, "")
			continue
		}
		for _, p := range m.watched.Indicators.Pods {
			if p.Namespace == h.Namespace && h.Code == recovery.HitReverted {
				add(p.Namespace, p.Name, p.UID)
			}
		}
	}
	return list, failures
}

// hitPod says what a pod is to the incident.
func (m *monitoring) hitPod(t *cluster.Target) hitPod {
	c := hitPod{Target: t}
	c.suspect = slices.ContainsFunc(m.watched.Indicators.Pods, func(p recovery.SuspectPod) bool {
		return p.UID == string(t.Pod.UID)
	})
	c.intact = c.suspect && m.watched.Marked(t.Pod)
	own := contain.Stoppable(t.Owners)
	mine := len(own) > 0 && !slices.ContainsFunc(own, func(o *cluster.Owner) bool {
		return !slices.ContainsFunc(m.watched.Workloads, func(w *recovery.Workload) bool { return w.UID == o.UID })
	})
	if m.foreign[string(t.Pod.UID)] {
		c.foreign, c.isolated = true, m.isolated[t.Pod.UID]
		return c
	}
	c.foreign = !c.suspect && !mine
	// A pod without a controller is contained in full: nothing replaces it.
	c.isolated = c.foreign && len(t.Owners) > 0
	return c
}
