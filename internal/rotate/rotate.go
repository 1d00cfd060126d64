// Package rotate knows where secrets really live, and how each is replaced: a
// file per place, behind one small interface.
//
// Values are held in memory only, as a [Value], which nothing prints. What the
// journal gets of them are keyed digests in a [Record], by which a later
// process finds out how far an interrupted rotation came.
package rotate

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/record"
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

// Record is what a journal keeps of a rotation.
type Record = record.Rotation

// SecretRecord is one Secret of a rotation.
type SecretRecord = record.RotatedSecret

// KeyDigests are the keyed digests of one key's value.
type KeyDigests = record.KeyDigests

func keeper(r cluster.Ref) *record.Ref {
	return &record.Ref{Group: r.Group, Version: r.Version, Resource: r.Resource, Kind: r.Kind, Namespace: r.Namespace,
		Name: r.Name}
}

// Creates are the objects that a rotation makes, by what the journal keeps of it.
func Creates(r Record) []cluster.Ref {
	var list []cluster.Ref
	for _, s := range r.Secrets {
		if s.Successor != "" {
			list = append(list, SecretRef.Named(s.Namespace, s.Successor, ""))
		}
	}
	if r.Account == nil {
		return list
	}
	a, err := ResumeAccount(nil, r)
	if err != nil {
		return list // who goes on with the rotation says so
	}
	list = append(list, AccountRef.Named(a.next.Namespace, a.next.Name, ""))
	for _, t := range a.tokens {
		list = append(list, SecretRef.Named(t.Namespace, t.Name, ""))
	}
	return list
}

// Holder is the name of the Secret that holds the new values.
func Holder(r SecretRecord) string {
	if r.Successor != "" {
		return r.Successor
	}
	return r.Name
}

// Holds reports whether a Secret has the new values that the record tells of.
func Holds(r SecretRecord, live *corev1.Secret, d Digests) bool {
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
var ErrChanged = errors.New(
	"somebody else changed it since it was planned; nothing was changed by irctl: run the same command again")

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
