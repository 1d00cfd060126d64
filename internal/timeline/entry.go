package timeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"irctl/internal/record"
	"irctl/internal/sanitize"
)

// Entry is one line of the journal.
type Entry struct {
	Seq      int64     `json:"seq"`  // 1, 2, 3, …; filled by Append
	Time     time.Time `json:"time"` // UTC; filled by Append
	Incident string    `json:"incident"`
	Kind     Kind      `json:"kind"`
	Phase    string    `json:"phase,omitempty"`  // detect, contain, investigate, eradicate, recover, post-mortem
	Step     string    `json:"step,omitempty"`   // the step of the runbook
	Action   string    `json:"action,omitempty"` // what is done, in the caller's vocabulary

	Intent int64 `json:"intent,omitempty"` // of an outcome: the Seq of the intent it answers
	Undoes int64 `json:"undoes,omitempty"` // of an intent to undo: the Seq of the intent it reverses
	// of an intent: it is not to be undone, since that would do harm (put a leaked secret back, say)
	Final bool `json:"final,omitempty"`

	Actor   Actor    `json:"actor"`
	Object  *Object  `json:"object,omitempty"`
	Targets []string `json:"targets,omitempty"` // the suspects, "namespace/pod", for whose sake it is done

	Summary    string  `json:"summary"`
	Command    string  `json:"command,omitempty"` // the kubectl command that would do the same
	Outcome    Outcome `json:"outcome,omitempty"`
	Error      string  `json:"error,omitempty"`
	DurationMS int64   `json:"durationMS,omitempty"` // milliseconds

	// Payload names the form of Data, one of package record's: what a later process
	// acts on. [Payload] reads it, [Entry.With] writes it.
	Payload string      `json:"payload,omitempty"`
	Data    record.Data `json:"data,omitzero"`

	// Prev chains the entry to the line before; the last field, so that a
	// shell can find it at the end of the line. Filled by Append.
	Prev string `json:"prev"`
}

// Kind says what an entry is about.
type Kind string

// The kinds of entries. A reader meets others in a journal written by a
// newer irctl and must let them pass.
const (
	KindOpened      Kind = "opened"      // the incident was opened
	KindIntent      Kind = "intent"      // an action is about to be done
	KindOutcome     Kind = "outcome"     // what came of an intent
	KindObservation Kind = "observation" // something irctl saw
	KindNote        Kind = "note"        // something a person wrote
	KindVerdict     Kind = "verdict"     // whether a phase reached its aim
	KindClosed      Kind = "closed"      // the incident was closed
	KindReopened    Kind = "reopened"    // the incident was opened again
	KindRecovered   Kind = "recovered"   // a torn last line was cut off and is kept here
	// what is recorded of the incident was changed; the payload is a record.Changed
	KindChanged Kind = "changed"
)

// Payload is what an entry carries, if it is a T of package record; false: it
// carries none, or another, or what cannot be read.
func Payload[T any](e *Entry) (*T, bool) {
	payload, _, err := e.Decode()
	t, ok := payload.(*T)
	return t, ok && err == nil
}

// Decode is what an entry carries: see record.Decode.
func (e *Entry) Decode() (payload any, known bool, err error) {
	return record.Decode(e.Payload, record.Place{Kind: string(e.Kind), Phase: e.Phase, Step: e.Step, Action: e.Action},
		e.Data)
}

// With is the entry with a struct of package record as its payload.
func (e Entry) With(payload any) (Entry, error) {
	var err error
	e.Payload, e.Data, err = record.Encode(payload)
	return e, err
}

// Carrying is the entry with the payload of another.
func (e Entry) Carrying(of Entry) Entry {
	e.Payload, e.Data = of.Payload, of.Data
	return e
}

// Outcome is how an action ended. Of a verdict it says whether the phase
// reached its aim: done or failed.
type Outcome string

// The outcomes.
const (
	OutcomeDone    Outcome = "done"
	OutcomeAlready Outcome = "already" // it was so before; nothing was changed
	OutcomeFailed  Outcome = "failed"
	OutcomeRefused Outcome = "refused" // irctl would not, by a rule of its own; it was not tried
	OutcomeDenied  Outcome = "denied"  // the API server would not do it: a right is missing, or admission says no
	OutcomeSkipped Outcome = "skipped" // the responder left it out
	OutcomeUnknown Outcome = "unknown" // the answer never came; it may have happened
)

// Actor is who made an entry.
type Actor struct {
	OSUser   string `json:"osUser,omitempty"`
	Host     string `json:"host,omitempty"`
	Identity string `json:"identity,omitempty"` // who the apiserver says the caller is
	PID      int    `json:"pid,omitempty"`
}

// Object is what an action is done to.
type Object struct {
	Cluster    string `json:"cluster,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// LocalActor describes the running process. What the system will not tell
// stays empty; the caller adds the Identity once a cluster has told it.
func LocalActor() Actor {
	a := Actor{PID: os.Getpid()}
	if u, err := user.Current(); err == nil {
		a.OSUser = u.Username
	} else {
		a.OSUser = "uid " + strconv.Itoa(os.Getuid())
	}
	if host, err := os.Hostname(); err == nil {
		a.Host = host
	}
	return a
}

// Name is who it is, as far as anybody knows: the cluster's name for it, or else
// the account on the machine.
func (a Actor) Name() string {
	switch {
	case a.Identity != "":
		return a.Identity
	case a.OSUser != "" && a.Host != "":
		return a.OSUser + "@" + a.Host
	}
	return a.OSUser
}

// orElse fills what a leaves open from b.
func (a Actor) orElse(b Actor) Actor {
	if a.OSUser == "" {
		a.OSUser = b.OSUser
	}
	if a.Host == "" {
		a.Host = b.Host
	}
	if a.Identity == "" {
		a.Identity = b.Identity
	}
	if a.PID == 0 {
		a.PID = b.PID
	}
	return a
}

var (
	kinds = []Kind{KindOpened, KindIntent, KindOutcome, KindObservation, KindNote,
		KindVerdict, KindClosed, KindReopened, KindRecovered, KindChanged}
	outcomes = []Outcome{OutcomeDone, OutcomeAlready, OutcomeFailed, OutcomeRefused, OutcomeDenied,
		OutcomeSkipped, OutcomeUnknown}
)

// validate refuses what a later reader could not make sense of. The earlier
// entries of the journal are those with Seq 1 to len(earlier).
func (e Entry) validate(earlier []Entry) error {
	if !slices.Contains(kinds, e.Kind) {
		return fmt.Errorf("unknown kind %q", e.Kind)
	}
	needsOutcome := e.Kind == KindOutcome || e.Kind == KindVerdict
	if (needsOutcome || e.Outcome != "") && !slices.Contains(outcomes, e.Outcome) {
		return fmt.Errorf("%s entry with outcome %q", e.Kind, e.Outcome)
	}
	if e.Undoes != 0 {
		if e.Kind != KindIntent {
			return fmt.Errorf("%s entry undoes %d: only an intent can", e.Kind, e.Undoes)
		}
		if i := intentAt(earlier, e.Undoes); i == nil || i.Undoes != 0 {
			return fmt.Errorf("undoes %d, which is no forward intent of this journal", e.Undoes)
		} else if i.Final {
			return fmt.Errorf("undoes %d, which is final", e.Undoes)
		}
	}
	if e.Final && (e.Kind != KindIntent || e.Undoes != 0) {
		return fmt.Errorf("%s entry is final: only a forward intent can be", e.Kind)
	}
	switch {
	case e.Kind != KindOutcome && e.Intent != 0:
		return fmt.Errorf("%s entry answers intent %d: only an outcome can", e.Kind, e.Intent)
	case e.Kind == KindOutcome && intentAt(earlier, e.Intent) == nil:
		return fmt.Errorf("outcome of %d, which is no intent of this journal", e.Intent)
	}
	return nil
}

func intentAt(entries []Entry, seq int64) *Entry {
	if seq < 1 || seq > int64(len(entries)) || entries[seq-1].Kind != KindIntent {
		return nil
	}
	return &entries[seq-1]
}

// sanitized returns a copy that shares nothing with e, reads back from JSON
// as it is, and holds valid UTF-8 only: names and errors come from a cluster
// and may hold anything.
func (e Entry) sanitized() (Entry, error) {
	e.Time = e.Time.UTC().Round(0)
	e.Kind, e.Outcome = Kind(utf(string(e.Kind))), Outcome(utf(string(e.Outcome)))
	for _, s := range []*string{&e.Incident, &e.Payload, &e.Phase, &e.Step, &e.Action, &e.Summary, &e.Command,
		&e.Error, &e.Actor.OSUser, &e.Actor.Host, &e.Actor.Identity} {
		*s = utf(*s)
	}
	if e.Object != nil {
		o := *e.Object
		for _, s := range []*string{&o.Cluster, &o.APIVersion, &o.Kind, &o.Namespace, &o.Name, &o.UID} {
			*s = utf(*s)
		}
		e.Object = &o
	}
	e.Targets = slices.Clone(e.Targets)
	for i, t := range e.Targets {
		e.Targets[i] = utf(t)
	}
	data, err := e.Data.Clean()
	if err != nil {
		return e, err
	}
	e.Data = data
	return e, nil
}

func utf(s string) string { return strings.ToValidUTF8(s, string(utf8.RuneError)) }

// encode returns the line for e with its newline.
func encode(e Entry) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // commands hold < > & and are read by people
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	line := sanitize.JSON(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	if len(line) > MaxLine {
		return nil, fmt.Errorf("%w: a line of %d bytes, at most %d", ErrTooLarge, len(line), MaxLine)
	}
	return append(line, '\n'), nil
}

func decode(line []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, err
	}
	if e.Kind == "" {
		return Entry{}, errors.New(`it has no "kind"`)
	}
	return e, nil
}
