// Package rotate knows where secrets really live, and how each is replaced: a
// file per place, behind one small interface.
//
// Values are held in memory only, as a [Value], which nothing prints. What the
// journal gets of them are keyed digests in a [Record], by which a later
// process finds out how far an interrupted rotation came.
package rotate

import (
	"context"
	"encoding/json"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

// Rotator replaces one secret, or several that must change together. Its
// methods are called in this order; what failed can be called again, and what
// was done already is not done twice.
type Rotator interface {
	// New makes the new values, in memory. Nothing is written.
	New(ctx context.Context) (Outcome, error)
	// Store puts them where they really live, if that is not the cluster.
	Store(ctx context.Context) (Outcome, error)
	// Record is what the journal keeps with the intent to Update.
	Record() Record
	// Update sees to it that the Kubernetes Secret holds the new values. It
	// does all of it or, as far as it can be told, nothing.
	Update(ctx context.Context) (Outcome, error)
	// DryRun asks the servers what Update would meet, and writes nothing.
	DryRun(ctx context.Context) error
	// Deactivate makes the old values worthless, once nobody uses them.
	Deactivate(ctx context.Context) (Outcome, error)
}

// Outcome is what came of a call.
type Outcome struct {
	Result change.Result
	// Note says more in one line.
	Note string
	// Data is what the journal keeps; nil: nothing.
	Data any
	// Left is what only a person can do.
	Left []string
}

func already(note string) (Outcome, error) { return Outcome{Result: change.Already, Note: note}, nil }
func done(note string) (Outcome, error)    { return Outcome{Result: change.Done, Note: note}, nil }

// Record is what a journal keeps of a rotation: enough to find out how far it
// came, and to go on, and no value.
type Record struct {
	Rotator string         `json:"rotator"`
	Secrets []SecretRecord `json:"secrets,omitempty"`
	// AccountUID is that of the ServiceAccount before.
	AccountUID types.UID `json:"accountUID,omitempty"`
	// Account is the ServiceAccount that is made anew, as it will be: it holds
	// no secret, and whoever finds it deleted can create it again.
	Account json.RawMessage `json:"account,omitempty"`
	// Tokens are the legacy token Secrets that are made anew with it.
	Tokens []json.RawMessage `json:"tokens,omitempty"`
}

// SecretRecord is one Secret of a rotation.
type SecretRecord struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid,omitempty"`
	// Successor is the Secret that takes the place of one that is immutable.
	Successor string                `json:"successor,omitempty"`
	Keys      map[string]KeyDigests `json:"keys,omitempty"`
	// Kept are keys that were left as they are, since the responder said that
	// they are no secret.
	Kept []string `json:"kept,omitempty"`
}

// KeyDigests are the keyed digests of one key's value.
type KeyDigests struct {
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"` // empty: not known beforehand, since somebody else makes it
	// Source and Role are what the responder said of the key.
	Source Kind   `json:"source,omitempty"`
	Role   string `json:"role,omitempty"`
}

// Holder is the name of the Secret that holds the new values.
func (r SecretRecord) Holder() string {
	if r.Successor != "" {
		return r.Successor
	}
	return r.Name
}

// Holds reports whether a Secret has the new values that the record tells of.
func (r SecretRecord) Holds(live *corev1.Secret, d Digests) bool {
	if live == nil || len(r.Keys) == 0 {
		return false
	}
	changed := false
	for key, k := range r.Keys {
		now := d.Of(live.Data[key])
		if k.After != "" && now != k.After {
			return false
		}
		changed = changed || now != k.Before
	}
	return changed
}

// ErrChanged: somebody else changed the object between the plan and the call.
var ErrChanged = errors.New("somebody else changed it since it was planned; nothing was changed by irctl: run the same command again")

// write does a change whose values must not be told. The change itself is
// never journaled.
func write(ctx context.Context, client *cluster.Client, c change.Change, secrets ...Value) (change.Result, error) {
	result, err := c.Do(ctx, client.Dynamic)
	return result, untold(err, secrets)
}

// untold is an error of a change that holds secrets, without them.
func untold(err error, secrets []Value) error {
	var drift *change.DriftError
	if errors.As(err, &drift) {
		return errors.Join(errors.New(drift.Object.String()), ErrChanged) // the differences are the values
	}
	return scrub(err, secrets...)
}
