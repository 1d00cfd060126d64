package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// BundleVerification is what was found out about a bundle, also by comparing
// it with the journal of its incident. Its JSON form is documented and stable.
type BundleVerification struct {
	evidence.Verification
	// Incident is the one whose journal it was compared with; "": no incident
	// here knows of the bundle.
	Incident incident.ID `json:"incident,omitempty"`

	disagrees bool
}

// AsJournaled: it was compared with a journal, which agrees.
func (v *BundleVerification) AsJournaled() bool { return v.Incident != "" && !v.disagrees }

// VerifyBundle checks a bundle as package evidence does and, where the store
// has its incident, compares it with what the journal says: a bundle, receipt
// and custody chain that agree among themselves may all have been put in the
// place of others. store nil: there are no incidents here. It needs no lock
// and no cluster.
func VerifyBundle(ctx context.Context, store *incident.Store, bundle string,
	opts evidence.VerifyOptions) (BundleVerification, error) {
	v := BundleVerification{}
	var err error
	if v.Verification, err = evidence.VerifyBundle(ctx, bundle, opts); err != nil || store == nil {
		return v, err
	}
	x := bundleJournal{v: &v, bundle: bundle}
	return v, x.compare(ctx, store)
}

// bundleJournal compares a bundle with a journal.
type bundleJournal struct {
	v       *BundleVerification
	bundle  string
	entries []timeline.Entry
}

func (x *bundleJournal) problem(format string, args ...any) {
	x.v.disagrees = true
	x.v.Problems = append(x.v.Problems, evidence.Problem{Path: "journal of " + string(x.v.Incident),
		What: fmt.Sprintf(format, args...)})
}

func (x *bundleJournal) note(format string, args ...any) {
	x.v.Notes = append(x.v.Notes, fmt.Sprintf(format, args...))
}

func (x *bundleJournal) compare(ctx context.Context, store *incident.Store) error {
	claimed := incident.ID("")
	if r := x.v.Receipt; r != nil && r.Incident != "" {
		id, err := incident.ParseID(r.Incident)
		if err != nil {
			x.note("not compared with a journal: the receipt names %q, which is no incident's ID", r.Incident)
			return nil
		}
		claimed = id
	}
	list, errs := store.List(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	known := slices.ContainsFunc(list, func(i incident.Incident) bool { return i.ID == claimed })
	switch {
	case claimed == "":
		// The receipt is missing, or was sealed without an incident; or it was taken from it.
		for _, i := range list {
			entries, _ := store.Entries(i.ID) // what is before a break is enough to find it
			if r, _ := receiptAmong(entries, func(r evidence.Receipt) bool {
				return r.SHA256 == x.v.SHA256
			}); r != nil {
				claimed = i.ID
			}
		}
		if claimed == "" {
			return nil
		}
	case !known:
		text := fmt.Sprintf("not compared with the journal: incident %s is not in the state directory %s", claimed,
			store.Dir())
		if i := slices.IndexFunc(errs, func(err error) bool {
			return strings.Contains(err.Error(), string(claimed))
		}); i >= 0 {
			text = "not compared with the journal: " + errs[i].Error()
		}
		x.note("%s", text)
		return nil
	}
	x.v.Incident = claimed
	entries, err := store.Entries(claimed)
	if err != nil {
		x.problem("it cannot be relied on: %v", err)
	}
	x.entries = entries
	x.receipt(ctx)
	return nil
}

// receiptAmong is the last receipt in a journal that fits, and its entry.
func receiptAmong(entries []timeline.Entry, fits func(evidence.Receipt) bool) (*evidence.Receipt, timeline.Entry) {
	for _, e := range slices.Backward(entries) {
		for _, r := range receiptsOf([]timeline.Entry{e}) {
			if fits(r) {
				return &r, e
			}
		}
	}
	return nil, timeline.Entry{}
}

// receipt compares the bundle and its receipt.
func (x *bundleJournal) receipt(ctx context.Context) {
	r, entry := receiptAmong(x.entries, func(r evidence.Receipt) bool { return r.SHA256 == x.v.SHA256 })
	if r == nil {
		// Perhaps it was altered: then it is known by its name, or by what the receipt says.
		r, entry = receiptAmong(x.entries, func(r evidence.Receipt) bool {
			name := filepath.Base(r.Path)
			return name == x.v.Bundle || x.v.Receipt != nil && (r.SHA256 == x.v.Receipt.SHA256 ||
				name == x.v.Receipt.Path)
		})
	}
	if r == nil {
		x.problem("it knows of no such bundle: this one was not sealed in the incident, or irctl was killed before " +
			"it was journaled")
		return
	}
	if r.SHA256 != x.v.SHA256 || r.Size != x.v.Size {
		x.problem("entry %d of %s says that it was sealed with %d bytes and the SHA-256 %s; it has %d and %s",
			entry.Seq, entry.Time.UTC().Format(time.RFC3339), r.Size, r.SHA256, x.v.Size, x.v.SHA256)
	}
	if x.v.Receipt != nil {
		if fields := differ(*r, *x.v.Receipt); len(fields) > 0 {
			x.problem("the receipt beside the bundle is not the one of entry %d: it differs in %s", entry.Seq,
				strings.Join(fields, ", "))
		}
	}
	x.head(*r)
	x.custody(ctx, r.SHA256)
}

// differ names the fields in which two receipts differ; a journal's has no
// segments, and the bundle's whole path.
func differ(a, b evidence.Receipt) []string {
	fields := func(r evidence.Receipt) map[string]json.RawMessage {
		r.Path, r.Segments = filepath.Base(r.Path), nil
		var m map[string]json.RawMessage
		if data, err := json.Marshal(r); err == nil {
			_ = json.Unmarshal(data, &m) // it was marshalled just now
		}
		return m
	}
	one, other := fields(a), fields(b)
	all := maps.Clone(one)
	maps.Copy(all, other)
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !bytes.Equal(one[name], other[name]) {
			names = append(names, name)
		}
	}
	return names
}

// head checks that the journal is the one that the bundle was sealed with.
func (x *bundleJournal) head(r evidence.Receipt) {
	if r.Timeline == nil {
		return
	}
	for _, e := range x.entries {
		if e.Seq == r.Timeline.Seq+1 && e.Prev != r.Timeline.SHA256 {
			x.problem("its entry %d is not the one with which the bundle was sealed: it was written anew since",
				r.Timeline.Seq)
		}
	}
}

// custody compares the hand-overs: an entry that was cut off the end of the
// chain only the journal knows.
func (x *bundleJournal) custody(ctx context.Context, sha string) {
	chain, err := evidence.Custody(ctx, x.bundle) // an entry that cannot be read is a problem already
	if err != nil {
		x.note("the hand-overs after the entry that cannot be read were not compared with the journal: %v", err)
	}
	there := map[string]bool{}
	for _, f := range chain {
		there[f.SHA256] = true
	}
	known := map[string]bool{}
	for _, e := range x.entries {
		f, ok := timeline.Payload[record.Custody](&e)
		if !ok || f.BundleSHA256 != sha {
			continue
		}
		known[f.SHA256] = true
		if there[f.SHA256] {
			continue
		}
		what := "is missing"
		if f.Seq <= len(x.v.Custody) {
			what = "is not the one that was signed then"
		}
		x.problem("custody entry %d, the hand-over from %s to %s at %s, which entry %d knows, %s", f.Seq, f.From, f.To,
			f.Time.UTC().Format(time.RFC3339), e.Seq, what)
	}
	for _, f := range chain {
		if !known[f.SHA256] {
			x.note("the journal of %s does not have custody entry %d, from %s to %s: it was signed elsewhere, or "+
				"irctl was killed then", x.v.Incident, f.Seq, f.From, f.To)
		}
	}
}
