package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"irctl/internal/casefile"
	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	recovery "irctl/internal/steps/recover"
	"irctl/internal/timeline"
)

// CloseRequest says how to close an incident.
type CloseRequest struct {
	Note string
	// LeaveStanding is why containment may be left in the cluster; "": closing is
	// refused while something of it stands, or while nobody can tell.
	LeaveStanding string
}

// Closing is what has become of an incident's changes when it is closed. A
// containment that nobody looks after any more is a trap: the suspect keeps
// running, its workload stays down, and no list of open incidents says so. Its
// JSON form is documented and stable.
type Closing struct {
	// Containment stands, or may stand: the last change first, which is the order
	// in which it can be undone.
	Containment []StandingChange `json:"containment"`
	// OnPurpose is what eradication changed, and what recovery decided to leave.
	OnPurpose []StandingChange `json:"onPurpose"`
	// Gone is what somebody else has put back, and what was done to objects that
	// do not exist any more.
	Gone []StandingChange `json:"gone"`
	// Made is what irctl put there besides and does not take away, with who agreed to it.
	Made []Made `json:"made"`
	// Unseen is why the cluster could not be looked at; "": it was.
	Unseen        string `json:"unseen,omitempty"`
	LeaveStanding string `json:"leaveStanding,omitempty"`
	// Doubts are why more may stand than the journal says.
	doubtful

	elsewhere error // it is not of the cluster that was looked at
}

// CloseIncident looks what of the containment stands, and closes the incident
// if nothing does, or if there is a reason to leave it. What stands is in the
// result also where that is refused.
func (e *Engine) CloseIncident(ctx context.Context, h *incident.Handle, req CloseRequest) (*Closing, error) {
	c := e.lookToClose(ctx, h)
	if err := c.refusal(h.Incident().ID, req); err != nil {
		return c, err
	}
	return c, c.record(h, req)
}

// CloseUnseen is CloseIncident where the cluster cannot be reached: then what
// the journal says was changed may all stand.
func CloseUnseen(h *incident.Handle, req CloseRequest, cause error) (*Closing, error) {
	c := unseen(h.Log.Entries(), cause)
	if err := c.refusal(h.Incident().ID, req); err != nil {
		return c, err
	}
	return c, c.record(h, req)
}

// MayStand tells whether the journal knows of containment that may stand in the
// cluster, so that closing has to look.
func MayStand(entries []timeline.Entry) bool { return len(unseen(entries, nil).Containment) > 0 }

func (e *Engine) lookToClose(ctx context.Context, h *incident.Handle) *Closing {
	i, entries := h.Incident(), h.Log.Entries()
	if err := e.notHere(i); err != nil {
		c := unseen(entries, err)
		c.elsewhere = err
		return c
	}
	looking, cancel := e.within(ctx)
	defer cancel()
	told := casefile.Of(entries)
	list := standing(told)
	cluster.Parallel(len(list), func(n int) { list[n].observe(looking, e.Client) })
	c := sortForClosing(list, told)
	c.Made = e.lookAt(looking, c.Made)
	c.doubtful = e.doubtsOf(looking, i, told, ofAll)
	return c
}

func unseen(entries []timeline.Entry, cause error) *Closing {
	told := casefile.Of(entries)
	list := standing(told)
	for n := range list {
		list[n].State = stateUnknown
	}
	c := sortForClosing(list, told)
	if cause != nil {
		c.Unseen = cause.Error()
	}
	return c
}

// sortForClosing tells what hinders the closing from what does not.
func sortForClosing(list []StandingChange, told *casefile.Case) *Closing {
	c := &Closing{Containment: []StandingChange{}, OnPurpose: []StandingChange{}, Gone: []StandingChange{},
		Made: madeBy(told)}
	kept := told.Kept
	for _, s := range slices.Backward(list) {
		switch {
		case s.State == change.Before || s.State == change.Missing:
			c.Gone = append(c.Gone, s)
		case kept != nil && slices.Contains(kept.Intents, s.Seq):
			s.Accepted = &record.Accepted{By: kept.Who.Name(), At: kept.Time, Reason: kept.Summary}
			c.OnPurpose = append(c.OnPurpose, s)
		case s.phase != contain.Phase:
			s.Accepted = &record.Accepted{By: s.who.Name(), At: s.at, Reason: s.Summary}
			c.OnPurpose = append(c.OnPurpose, s)
		default:
			c.Containment = append(c.Containment, s)
		}
	}
	return c
}

// maxNamed is how many changes a refusal names.
const maxNamed = 5

// refusal says why the incident is not closed, and what would end each thing
// that is in the way.
func (c *Closing) refusal(id incident.ID, req CloseRequest) error {
	strays := c.open()
	if len(c.Containment)+len(strays) == 0 && c.elsewhere == nil || strings.TrimSpace(req.LeaveStanding) != "" {
		return nil
	}
	anyway := fmt.Sprintf("irctl incident close %s --leave-standing REASON closes it all the same", id)
	if c.elsewhere != nil {
		return fmt.Errorf("%w; or: %s", c.elsewhere, anyway)
	}
	n := plural.Count(len(c.Containment), "change")
	if c.Unseen != "" {
		return fmt.Errorf("%w: nobody can tell whether the containment by incident %s still stands (%s), since the "+
			"cluster cannot be looked at: %s; "+
			"name the cluster with --context, or: %s", ErrRefused, id, n, c.Unseen, anyway)
	}
	var named []string
	for _, s := range c.Containment[:min(len(c.Containment), maxNamed)] {
		named = append(named, s.Summary+" ("+s.Ending(id)+")")
	}
	if more := len(c.Containment) - maxNamed; more > 0 {
		named = append(named, fmt.Sprintf("%d more (irctl status %s lists them)", more, id))
	}
	for _, s := range strays[:min(len(strays), maxNamed)] {
		named = append(named, fmt.Sprintf(
			"%s carries the incident's label, and the journal does not know it (%s; or irctl accept %s --reason TEXT)",
			s.Object, s.Undo, change.ShellQuote(casefile.Stray+"="+s.Object)))
	}
	if more := len(strays) - maxNamed; more > 0 {
		named = append(named, fmt.Sprintf("%d more that the journal does not know (irctl status %s lists them)", more,
			id))
	}
	return &standingError{what: strings.Join(named, "; "), id: id,
		ends: fmt.Sprintf("irctl recover --incident %s brings the service back and decides on the suspects, "+
			"irctl undo --all --incident %s takes everything back; %s", id, id, anyway)}
}

// standingError refuses to close an incident, and names what stands.
type standingError struct {
	id         incident.ID
	what, ends string
}

func (e *standingError) Error() string {
	return fmt.Sprintf("%v: containment by incident %s still stands: %s; %s", ErrRefused, e.id, e.what, e.ends)
}

func (e *standingError) Unwrap() error { return ErrRefused }

// WithoutStanding is an error of CloseIncident for who has shown what stands.
func WithoutStanding(err error) error {
	var s *standingError
	if errors.As(err, &s) {
		return fmt.Errorf("%w: containment by incident %s still stands, see above; %s", ErrRefused, s.id, s.ends)
	}
	return err
}

// Ending is what ends a change of containment that stands.
func (s StandingChange) Ending(id incident.ID) string {
	undo := fmt.Sprintf("irctl undo --step %s --incident %s", s.Step, id)
	switch {
	case s.State == change.Drifted:
		return "somebody changed it since, so irctl undo leaves it: put it back by hand; " + undo +
			" --dry-run shows the difference"
	case s.Error != "":
		return "it could not be read: " + s.Error + "; " + undo + " takes it back"
	}
	return undo
}

// record closes the incident, and puts down what is left and why.
func (c *Closing) record(h *incident.Handle, req CloseRequest) error {
	rec := record.Closing{Containment: seqsOf(c.Containment), OnPurpose: seqsOf(c.OnPurpose), Gone: seqsOf(c.Gone)}
	note := req.Note
	for _, m := range c.Made {
		rec.Made = append(rec.Made, m.Object)
	}
	rec.Unlooked = c.Doubts
	for _, s := range c.Strays {
		rec.Strays = append(rec.Strays, s.Object)
	}
	if len(c.open()) > 0 {
		c.LeaveStanding = strings.TrimSpace(req.LeaveStanding)
		rec.LeaveStanding = c.LeaveStanding
		note = strings.TrimPrefix(fmt.Sprintf(
			"%s; left with the incident's label, and not known to the journal: %s: %s", note,
			summarize(rec.Strays), c.LeaveStanding), "; ")
	}
	if n := len(c.Containment); n > 0 {
		c.LeaveStanding = strings.TrimSpace(req.LeaveStanding)
		rec.LeaveStanding, rec.Unseen = c.LeaveStanding, c.Unseen
		left := plural.Count(n, "change") + " of containment left standing: " + c.LeaveStanding
		if c.Unseen != "" {
			left = plural.Count(n, "change") + " of containment may stand, which nobody could look at: " +
				c.LeaveStanding
		}
		note = strings.TrimPrefix(note+"; "+left, "; ")
	}
	return h.CloseWith(note, rec)
}

func seqsOf(list []StandingChange) []int64 {
	var seqs []int64
	for _, s := range list {
		seqs = append(seqs, s.Seq)
	}
	return seqs
}

// actionKept is of the observation by which recovery puts down what of the
// containment it leaves, since that was decided.
const actionKept = "kept"

// recordKept puts down what of the containment stays by decision: suspects that
// are kept, with the quarantine that they need, and nodes that are not to be used
// yet. What could not be released is not among it.
func (x *recovering) recordKept() error {
	kept, quarantined := map[string]bool{}, map[string]bool{}
	var texts []string
	for _, t := range x.scene.Targets {
		if x.req.Suspect == recovery.Keep && recovery.Alive(t) && marked(t, x.incident.ID) {
			kept[string(t.Pod.UID)], quarantined[t.Pod.Namespace] = true, true
			texts = append(texts, "the suspect "+t.Key()+" stays cut off")
		}
	}
	rec := record.Kept{Kept: []int64{}}
	for _, r := range x.recorded {
		switch r.Step {
		case contain.StepDetach:
			if !kept[string(r.Change.Object.UID)] {
				continue
			}
		case contain.StepQuarantine:
			if !quarantined[r.Change.Object.Namespace] {
				continue
			}
		case contain.StepCordon:
			if x.req.Uncordon {
				continue
			}
			texts = append(texts, r.Change.Object.String()+" stays cordoned")
		default:
			continue
		}
		rec.Kept = append(rec.Kept, r.Seq)
	}
	known := casefile.Of(x.handle.Log.Entries()).Kept
	if len(rec.Kept) == 0 || known != nil && slices.Equal(known.Intents, rec.Kept) {
		return nil
	}
	e := timeline.Entry{Kind: timeline.KindObservation, Phase: recovery.Phase, Step: recovery.StepSuspect,
		Action:  actionKept,
		Summary: "left on purpose: " + strings.Join(texts, "; ")}
	if _, err := x.handle.Log.AppendWith(e, rec); err != nil {
		return errors.Join(errors.New("what was left on purpose could not be journaled"), err)
	}
	return nil
}
