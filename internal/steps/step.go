// Package steps holds what a runbook can do, one package below it per phase,
// and the words they share: a [Step] reads the cluster and makes a [Plan] of
// [Action]s; package engine approves, journals and runs them.
package steps

import (
	"context"
	"time"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

// A Step is one thing that a responder does, such as "quarantine the pod".
type Step interface {
	Info() Info
	// Plan says what the step would do. It changes nothing.
	Plan(ctx context.Context, scene *Scene) (Plan, error)
}

// Info names a step and says why it is done.
type Info struct {
	Name  string `json:"name"`
	Phase string `json:"phase"`
	Why   string `json:"why"`
}

// Scene is what a step works on. Time comes from it, so that tests have their own.
type Scene struct {
	Client   *cluster.Client
	Incident string
	Targets  []*cluster.Target
	// Workloads are those named by the responder that have no pods now; they
	// are kept from starting any.
	Workloads [][]*cluster.Owner
	// Around is what surrounds the targets, by namespace.
	Around map[string]*cluster.Namespace
	Now    func() time.Time
	// Failed are the IDs of actions that failed or were refused: nobody waits
	// for what they were to achieve.
	Failed map[string]bool
}

// Plan is what a step would do, in order. No actions, no refusals: it is
// done already.
type Plan struct {
	Actions  []Action
	Refusals []Refusal
	Warnings []Warning
}

// Action is one change.
type Action struct {
	// ID is unique within a run; others name it in Needs.
	ID string
	// Name is the kind of action in the vocabulary of the journal: "quarantine", "detach", "scale".
	Name string
	// Targets are the keys of the suspects for whose sake it is done.
	Targets []string
	// Summary is one line: "detach from ReplicaSet …".
	Summary string
	// Command is the kubectl command that would do the same.
	Command string
	Change  change.Change
	// Do, if not nil, is done instead of the Change, which then only names the
	// object: a rotation, which is more than one write.
	Do func(ctx context.Context) (Result, error)
	// Undoes is the Seq of the intent in the journal that it reverses: the Change,
	// which is that intent's, is then undone rather than done.
	Undoes int64
	// Record is what the journal keeps of such an action with its intent; it
	// is asked right before.
	Record func() any
	// Final: it is not to be undone, since that would do harm.
	Final bool
	// Diff is what the change does, or undoes, line by line; filled by the engine.
	Diff []string
	// Reveal shows the Diff also where others are left out for brevity.
	Reveal bool
	// Needs are actions without which this one would do harm; it is refused if one of them fails.
	Needs []string
	// Guard waits, right before the change, until it can do no harm; the
	// action is refused if it fails: "not done, …". nil: there is nothing to wait for.
	Guard func(ctx context.Context) error
	// Awaits says what Guard waits for.
	Awaits string
}

// Result is what came of an action's Do.
type Result struct {
	Result change.Result
	// Note says more about it in one line.
	Note string
	// Data is what the journal keeps with the outcome; nil: nothing.
	Data any
}

// Refusal is an action that the step will not do, and what would allow it.
type Refusal struct {
	// ID is that of the action that is not done.
	ID       string   `json:"-"`
	Targets  []string `json:"targets,omitempty"`
	Action   string   `json:"action"`
	Object   string   `json:"object,omitempty"`
	Reason   string   `json:"reason"`
	Override string   `json:"override,omitempty"`
}

// Warning is what a plan will not achieve, or what may undo it.
type Warning struct {
	Targets []string `json:"targets,omitempty"`
	// Code is stable, for scripts: "autoscaler", "gitops", "unreadable"…
	Code string `json:"code"`
	Text string `json:"text"`
	// Fix is what would help.
	Fix string `json:"fix,omitempty"`
}
