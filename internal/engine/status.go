package engine

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// StatusResult is how an incident stands now: what its journal says was
// changed, and what the cluster says has become of it. Its JSON form is
// documented and stable.
type StatusResult struct {
	Incident incident.Incident `json:"incident"`
	Metrics  timeline.Metrics  `json:"metrics"`
	// Verdict is empty where nothing was to be contained yet, or all was undone. Where
	// the incident is of another cluster than ours, or its files or the cluster show that
	// its journal is not all there is, it is "could not tell" at best.
	Verdict   contain.Verdict   `json:"verdict,omitempty"`
	Targets   []contain.Finding `json:"targets"`
	Workloads []contain.Check   `json:"workloads,omitempty"`
	// Unsettled are the changes that were meant and did not happen.
	Unsettled []Unsettled `json:"unsettled,omitempty"`
	// Standing are the changes that were made and not undone.
	Standing []StandingChange `json:"standing"`
	// LeftStanding is who closed the incident although containment stands, and why.
	LeftStanding *record.Accepted `json:"leftStanding,omitempty"`
	// OtherCluster: the one we talk to is not the incident's, so only its journal speaks.
	OtherCluster bool `json:"otherCluster,omitempty"`
	// Leftovers are what killed processes left of evidence that they were writing.
	Leftovers []evidence.Leftover `json:"leftovers,omitempty"`
	// Doubts are why more may stand than is said here.
	doubtful
}

// StandingChange is a change that was made and not undone, and where its
// object stands with regard to it.
type StandingChange struct {
	Seq     int64  `json:"seq"` // of the intent in the timeline
	Step    string `json:"step"`
	Action  string `json:"action"`
	Object  string `json:"object"`
	Summary string `json:"summary"`
	// State: "after" as irctl left it; "before" somebody put it back; "drifted"
	// somebody changed it otherwise; "missing" the object is gone; "unknown".
	State change.State `json:"state"`
	// Uncertain: irctl was ended, or got no answer, before it knew whether it was made;
	// where the state is "before", it was not.
	Uncertain bool   `json:"uncertain,omitempty"`
	Error     string `json:"error,omitempty"`
	// Accepted is who agreed that it stays, where it is told how an incident is closed.
	Accepted *record.Accepted `json:"accepted,omitempty"`

	phase  string
	change change.Change
	who    timeline.Actor // who made it
	at     time.Time
}

// stateUnknown: the object could not be read.
const stateUnknown change.State = "unknown"

// Status looks at an incident without changing anything: it takes no lock, and
// writes neither to the cluster nor to the journal.
func (e *Engine) Status(ctx context.Context, i incident.Incident, entries []timeline.Entry) *StatusResult {
	told := casefile.Of(entries)
	res := &StatusResult{Incident: i, Metrics: timeline.MetricsOf(entries), Targets: []contain.Finding{},
		Standing: standing(told), LeftStanding: leftStanding(told)}
	var err error
	if res.Leftovers, err = Leftovers(e.Store, i.ID, entries); err != nil {
		e.Front.Observe(Event{Kind: Noticed, Text: err.Error(), Err: err})
	}
	res.doubtful = e.doubtsOf(ctx, i, told, ofContainment)
	if e.placeOf(i) != here {
		res.OtherCluster, res.Verdict = true, contain.Undetermined
		for n := range res.Standing {
			res.Standing[n].State = stateUnknown
		}
		return res
	}
	defer func() {
		if res.Weighs() && res.Verdict != contain.NotContained {
			res.Verdict = contain.Undetermined
		}
	}()
	cluster.Parallel(len(res.Standing), func(n int) { res.Standing[n].observe(ctx, e.Client) })
	options := contain.OptionsOf(recordedBy(res.Standing))
	if options.Steps = told.Meant(); len(options.Steps) == 0 {
		return res
	}
	options.Isolated = isolatedPods(entries)
	scene := e.sceneOf(ctx, i)
	facts := contain.Gather(ctx, scene, e.identity.Version)
	a := contain.Look(ctx, scene, options, facts)
	res.Unsettled = e.grade(ctx, told, i, &a)
	res.Verdict, res.Workloads = a.Verdict, a.Workloads
	res.Targets = append(res.Targets, a.Findings...)
	for _, c := range res.Standing {
		if c.State == stateUnknown && slices.Contains(contain.AllSteps, c.Step) {
			res.Verdict = contain.Worse(res.Verdict, contain.Exposed) // a change that may not hold is a risk
		}
	}
	for _, f := range res.Targets {
		for n := range f.Exposures {
			f.Exposures[n].Close = reopenedFirst(i, f.Exposures[n].Close)
		}
	}
	return res
}

// assessment is what it says of the suspects.
func (r *StatusResult) assessment() contain.Assessment {
	return contain.Assessment{Verdict: r.Verdict, Findings: r.Targets, Workloads: r.Workloads}
}

// LeftStanding is who closed an incident although containment stands, and why; nil:
// nobody did, or it was opened again.
func LeftStanding(entries []timeline.Entry) *record.Accepted {
	return leftStanding(casefile.Of(entries))
}

func leftStanding(told *casefile.Case) *record.Accepted {
	return acceptedIn(told)(casefile.Standing, "")
}

func standing(told *casefile.Case) []StandingChange {
	list := []StandingChange{}
	for _, a := range told.Standing() {
		c, ok := change.In(&a.Intent)
		if !ok {
			continue // not a change to the cluster
		}
		list = append(list, StandingChange{Seq: a.Intent.Seq, Step: a.Intent.Step, Action: a.Intent.Action,
			Uncertain: a.Outcome == nil || a.Outcome.Outcome == timeline.OutcomeUnknown,
			Object:    c.Object.String(), Summary: a.Intent.Summary, phase: a.Intent.Phase, change: c,
			who: a.Intent.Actor, at: a.Intent.Time})
	}
	return list
}

func (s *StandingChange) observe(ctx context.Context, client *cluster.Client) {
	state, err := s.change.Observe(ctx, client.Dynamic)
	s.State = state
	if err != nil {
		s.State, s.Error = stateUnknown, err.Error()
	}
}

// sceneOf is the scene of an incident from its record, with what surrounds it.
func (e *Engine) sceneOf(ctx context.Context, i incident.Incident) *steps.Scene {
	scene := &steps.Scene{Client: e.Client, Incident: string(i.ID), Now: e.Now}
	scene.Targets, scene.Workloads = e.targetsOf(ctx, i.Targets)
	namespaces := map[string]bool{}
	for _, t := range i.Targets {
		namespaces[t.Namespace] = true
	}
	scene.Around = e.Client.Survey(ctx, sorted(namespaces))
	return scene
}

// targetsOf are the suspects of an incident, and the workloads that are targets by
// themselves. A suspect that is gone, or that cannot be read, stays among them, and
// the verdict says so.
func (e *Engine) targetsOf(ctx context.Context, list []incident.Target) (pods []*cluster.Target,
	bare [][]*cluster.Owner) {
	targets, workloads := make([]*cluster.Target, len(list)), make([][]*cluster.Owner, len(list))
	cluster.Parallel(len(list), func(n int) {
		t := list[n]
		if t.Kind != cluster.Pod.Kind {
			workloads[n] = e.Client.WithOwners(ctx, &corev1.Pod{}, refsOf(t)).Owners
			return
		}
		pod, err := e.Client.Kube.CoreV1().Pods(t.Namespace).Get(ctx, t.Name, metav1.GetOptions{})
		unread := err != nil && !apierrors.IsNotFound(err)
		if err != nil || t.UID != "" && string(pod.UID) != t.UID {
			pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: t.Namespace, Name: t.Name,
				UID: types.UID(t.UID)}}
		}
		targets[n] = e.Client.WithOwners(ctx, pod, refsOf(t))
		if unread {
			targets[n].Err = err
		}
	})
	for n, target := range targets {
		if target != nil {
			pods = append(pods, target)
		} else {
			bare = append(bare, workloads[n])
		}
	}
	return pods, bare
}

// Verdicts draws the worst verdict of several incidents; "" where none has one.
func Verdicts(list []*StatusResult) contain.Verdict {
	worst := contain.Verdict("")
	for _, s := range list {
		worst = contain.Worse(worst, s.Verdict)
	}
	return worst
}
