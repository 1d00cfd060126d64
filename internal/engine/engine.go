// Package engine runs steps on an incident: plan → approve → journal → do →
// journal → verify → journal. It is the one place where that happens; the
// commands and the terminal UI are front ends of it, and differ only in how
// they ask and show.
package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"irctl/internal/cluster"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/steps"
	"irctl/internal/timeline"
)

// Engine works on one cluster, with the incidents of one state directory.
type Engine struct {
	Client *cluster.Client
	Store  *incident.Store
	Front  FrontEnd
	// Timeout bounds the planning and the doing of a run, each; the time that a
	// person takes to answer in between does not count. 0: no bound.
	Timeout time.Duration
	// Context is the name of the kubeconfig context, for the record.
	Context string
	// Now and Random are the clock and the source of incident IDs.
	Now    func() time.Time
	Random io.Reader
	// Pace is how fast the cluster's time goes, of a drill.
	Pace Pace
	// Asked is how this run was asked for.
	Asked Asked
	// Begun, if set, is called when a run begins with what must not be left half
	// done, in which incident: whoever owns the process decides by it what a
	// signal, a closed pipe or a lost terminal may still end.
	Begun func(Work, incident.ID)

	identity cluster.Identity
}

// StepAnswer is the Step of the events that say that an answer of the API server
// is waited for.
const StepAnswer = "answer"

// New makes an engine and asks the cluster who we are. The error is that of
// reaching the cluster.
func New(ctx context.Context, client *cluster.Client, store *incident.Store, front FrontEnd,
	kubeContext string) (*Engine, error) {
	tellWaits(client, front)
	id, err := client.Identify(ctx)
	if err != nil {
		return nil, err
	}
	return &Engine{Client: client, Store: store, Front: front, Context: kubeContext, Now: time.Now, Random: rand.Reader,
		identity: id}, nil
}

// tellWaits tells a front end what answer is waited for, while one is.
func tellWaits(client *cluster.Client, front FrontEnd) {
	client.OnWait(func(what string) { front.Observe(Event{Kind: Waiting, Step: StepAnswer, Text: what}) })
}

// Identity is who the API server says we are, and which cluster it is.
func (e *Engine) Identity() cluster.Identity { return e.identity }

// Actor is who the journal's entries are by.
func (e *Engine) Actor() timeline.Actor {
	a := timeline.LocalActor()
	a.Identity = e.identity.User
	return a
}

// Work is what must not be left half done.
type Work string

// The kinds of work.
const (
	// Collecting: evidence is read. If it is ended early, what there is by then is sealed.
	Collecting Work = "collecting"
	// Changing: approved changes are made.
	Changing Work = "changing"
)

func (e *Engine) begin(w Work, id incident.ID) {
	if e.Begun != nil {
		e.Begun(w, id)
	}
}

// within is ctx bounded by the engine's timeout.
func (e *Engine) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if e.Timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, e.Timeout,
		fmt.Errorf("--timeout of %s is over: %w", e.Timeout, context.DeadlineExceeded))
}

// FrontEnd is asked and told. Observe may be called concurrently and must not block.
type FrontEnd interface {
	// Approve shows what would be done and asks whether to do it.
	Approve(ctx context.Context, p Proposal) (Decision, error)
	Observe(Event)
}

// Proposal is everything that a run would do.
type Proposal struct {
	Incident string
	// Opens: the incident does not exist yet.
	Opens bool
	// Server and Context say which cluster it is.
	Server, Context string
	Targets         []*cluster.Target
	Steps           []StepPlan
	Warnings        []steps.Warning
	// Evidence says whether a snapshot will be taken before the first write;
	// Sealed: one will be.
	Evidence string
	Sealed   bool
	// Collection is what would be read and sealed; nil: nothing is. That needs no
	// question unless it leaves Traces in the suspects.
	Collection *evidence.Plan
	Traces     bool
}

// Actions counts the changes that the proposal would make.
func (p Proposal) Actions() int {
	n := 0
	for _, s := range p.Steps {
		n += len(s.Plan.Actions)
	}
	return n
}

// StepPlan is a step with its plan.
type StepPlan struct {
	Step steps.Info
	Plan steps.Plan
}

// Decision is the answer to a proposal.
type Decision string

// The decisions.
const (
	Yes Decision = "yes"
	No  Decision = "no"
)

// Event is something that happens during a run, for showing progress.
type Event struct {
	Kind EventKind
	// Step and Action name what is worked on.
	Step, Action string
	// Text is one line for people.
	Text string
	// Err is set for what failed.
	Err error
	// Left is how long, at most, will be waited from here on, of Waiting; 0: nobody knows.
	Left time.Duration
	// Done and Total count, where something is counted.
	Done, Total int
	// Bytes were read so far, of Progressed.
	Bytes int64
	// Inputs are what the step is about to be done with, of Ready.
	Inputs runbook.Inputs
	// Result is what came of the step, of Left.
	Result *StepResult
}

// EventKind tells events apart.
type EventKind string

// The kinds of events.
const (
	Started  EventKind = "started"
	Finished EventKind = "finished"
	Failed   EventKind = "failed"
	Refused  EventKind = "refused"
	Waiting  EventKind = "waiting"
	Noticed  EventKind = "noticed"
	// Progressed: of a long read, Done artefacts and Bytes so far; Text is the
	// artefact that was begun last.
	Progressed EventKind = "progressed"
)
