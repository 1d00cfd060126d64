package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Handle is an incident open for writing: this process holds its lock until
// Close. Its methods may be called concurrently.
type Handle struct {
	Log *timeline.Log // the journal

	store *Store
	dir   string
	lock  *lock

	// reading: it was opened by Look.
	reading bool

	mu       sync.Mutex
	incident Incident
}

// ErrReading says that a handle is for reading only.
var ErrReading = errors.New("the incident is open for reading only")

// New is what is known of an incident when it is opened.
type New struct {
	// ID from NewID, for a caller who has to name the incident before it is
	// there; empty: Create chooses.
	ID        ID
	Title     string
	Severity  Severity
	Commander string
	Cluster   Cluster
	Targets   []Target
	Actor     timeline.Actor
}

// Errors that mean "it is so already".
var (
	ErrAlreadyClosed = errors.New("the incident is closed already")
	ErrAlreadyOpen   = errors.New("the incident is open already")
)

const (
	yamlFile        = "incident.yaml"
	timelineFile    = "timeline.jsonl"
	lockFile        = "lock"          // held by who acts on the incident
	journalLockFile = "timeline.lock" // held by who writes the journal, for that moment

	incidentsDir = "incidents"

	newPrefix   = ".new-"   // of a directory that is not yet an incident
	newLeftover = time.Hour // after which it never will be: its maker was killed
)

// ownNames are the names of what a Store keeps, besides IDs; "drill" is where
// drills are.
var ownNames = []string{incidentsDir, "drill", yamlFile, timelineFile, lockFile, journalLockFile, "timeline.head"}

// Create opens a new incident. It is on disk as a whole, its journal begun
// with an opened entry, or not at all. To join an incident that may be there
// already use Join.
func (s *Store) Create(ctx context.Context, n New) (*Handle, error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	s.sweep()
	for range 16 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		now := s.opts.Now().UTC().Truncate(time.Second)
		id := n.ID
		if id == "" {
			var err error
			if id, err = NewID(now, s.opts.Random); err != nil {
				return nil, err
			}
		}
		i := Incident{APIVersion: apiVersion, Kind: kind, ID: id, Title: n.Title, Severity: n.Severity,
			Commander: n.Commander, State: StateOpen, OpenedAt: now, Cluster: n.Cluster, Drill: s.opts.Drill,
			Targets: n.Targets}
		err := s.build(i.printable(), n.Actor)
		if errors.Is(err, fs.ErrExist) && n.ID == "" {
			continue // the ID is taken
		}
		if err != nil {
			return nil, err
		}
		return s.Open(ctx, id, n.Actor)
	}
	return nil, s.unusable(errors.New("every ID tried is taken"))
}

// build prepares an incident's directory under another name and moves it to
// its place when it is complete, so that a kill never leaves half of one.
func (s *Store) build(i Incident, actor timeline.Actor) error {
	text, err := i.encode()
	if err != nil {
		return err
	}
	final, err := s.path(i.ID)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(final); err == nil {
		return fmt.Errorf("%s: %w", final, fs.ErrExist)
	}
	// what a kill left of the same ID is in nobody's way
	dir, err := os.MkdirTemp(s.incidents(), newPrefix+string(i.ID)+"-*")
	if err != nil {
		return s.unusable(err)
	}
	err = os.Chmod(dir, 0o700) // whatever the umask
	if err == nil {
		err = writeFile(filepath.Join(dir, yamlFile), text)
	}
	if err == nil {
		err = s.begin(dir, i, actor)
	}
	if err == nil {
		err = os.Rename(dir, final)
	}
	if err != nil {
		os.RemoveAll(dir)
		return s.unusable(err)
	}
	return syncDir(s.incidents())
}

// begin writes the first entry of a journal.
func (s *Store) begin(dir string, i Incident, actor timeline.Actor) error {
	log, err := timeline.Open(filepath.Join(dir, timelineFile),
		timeline.Options{Incident: string(i.ID), Actor: actor, Now: s.opts.Now})
	if err != nil {
		return err
	}
	first := i
	first.Targets = i.Targets[:min(len(i.Targets), maxTargets)]
	text, err := json.Marshal(first)
	if err == nil {
		_, err = log.AppendWith(timeline.Entry{Kind: timeline.KindOpened, Targets: targetNames(i.Targets),
			Summary: summary(openedSummary, i.Title)}, record.Opened{Incident: text})
	}
	if err == nil {
		err = tellTargets(log, i.Targets[len(first.Targets):])
	}
	if lost := timeline.HeadLost(filepath.Join(dir, timelineFile)); err == nil && lost != "" {
		err = fmt.Errorf("the head of the journal could not be written: %s", lost)
	}
	return errors.Join(err, log.Close())
}

// tellTargets journals targets, or what became known of them.
func tellTargets(log *timeline.Log, targets []Target) error {
	for some := range slices.Chunk(targets, maxTargets) {
		names := targetNames(some)
		text, err := json.Marshal(some)
		if err == nil {
			_, err = log.AppendWith(timeline.Entry{Kind: timeline.KindChanged, Targets: names,
				Summary: "suspects of the incident: " + shortList(names)},
				record.Changed{Key: keyTargets, After: shortList(names), Targets: text})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AddTargets records suspects, and what was not known yet of those that there are.
func (h *Handle) AddTargets(more []Target) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reading {
		return fmt.Errorf("%s: %w", h.incident.ID, ErrReading)
	}
	before := h.incident.clone()
	next := Incident{Targets: merged(before.clone().Targets, more)}.printable().Targets
	var news []Target
	for _, t := range next {
		if !slices.ContainsFunc(before.Targets, func(k Target) bool { return reflect.DeepEqual(k, t) }) {
			news = append(news, t)
		}
	}
	valid := before
	if valid.Targets = next; len(news) == 0 {
		return nil
	}
	if _, err := valid.encode(); err != nil { // before it is journaled
		return fmt.Errorf("incident %s: %w", before.ID, err)
	}
	if err := tellTargets(h.Log, news); err != nil {
		return err
	}
	return h.update(func(i *Incident) { i.Targets = next })
}

func targetNames(targets []Target) []string {
	names := make([]string, 0, len(targets))
	for _, t := range targets {
		if t.Namespace == "" {
			names = append(names, t.Name)
		} else {
			names = append(names, t.Namespace+"/"+t.Name)
		}
	}
	return names
}

// sweep removes what a killed Create left. Best effort: it is in nobody's way.
func (s *Store) sweep() {
	dirs, err := os.ReadDir(s.incidents())
	if err != nil {
		return
	}
	for _, d := range dirs {
		if !strings.HasPrefix(d.Name(), newPrefix) {
			continue
		}
		if info, err := d.Info(); err == nil && time.Since(info.ModTime()) > newLeftover {
			os.RemoveAll(filepath.Join(s.incidents(), d.Name()))
		}
	}
}

// Open opens an incident for writing. It waits a while for a process that has
// it open; then the error is ErrLocked and names that process.
func (s *Store) Open(ctx context.Context, id ID, actor timeline.Actor) (*Handle, error) {
	dir, err := s.path(id)
	if err != nil {
		return nil, err
	}
	if err := there(dir, string(id)); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	return s.open(ctx, dir, id, actor)
}

// OpenDir opens a copy of an incident's directory, say from the machine of
// another responder, where it is: what is undone is recorded in the copy.
func (s *Store) OpenDir(ctx context.Context, dir string, actor timeline.Actor) (*Handle, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := there(abs, abs); err != nil {
		return nil, err
	}
	return s.open(ctx, abs, "", actor)
}

// open opens the incident in dir, which must be that with the given ID if
// there is one given.
func (s *Store) open(ctx context.Context, dir string, id ID, actor timeline.Actor) (*Handle, error) {
	return s.openAt(ctx, dir, id, actor, false)
}

// openAt is open, or with repairing also of one that is to be repaired first.
func (s *Store) openAt(ctx context.Context, dir string, id ID, actor timeline.Actor, repairing bool) (_ *Handle,
	err error) {
	if err := s.private(dir); err != nil {
		return nil, err
	}
	h := &Handle{store: s, dir: dir}
	h.lock, err = acquire(ctx, filepath.Join(dir, lockFile), "incident "+filepath.Base(dir), s.opts.LockWait,
		holderOf(actor, s.opts.Now()))
	if errors.Is(err, ErrLocked) {
		return nil, err
	}
	if err != nil {
		return nil, s.cannotUse(dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.incident, err = read(dir, id); err != nil {
		return nil, err
	}
	if !repairing {
		for _, d := range h.incident.Doubts {
			if d.Repair {
				return nil, repairFirst(h.incident.ID, d.Text)
			}
		}
	}
	if h.Log, err = s.openLog(dir, h.incident.ID, actor); err != nil {
		return nil, err
	}
	return h, h.settle()
}

// settle writes incident.yaml anew where it is not what the journal says. One that
// was damaged is put aside first: perhaps somebody can read more of it.
func (h *Handle) settle() error {
	file, fileErr := loadFile(h.dir, h.incident.ID)
	if errors.Is(fileErr, errNewer) {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, h.incident.ID, fileErr) // it might forbid what is about to be done
	}
	h.incident = reconciled(h.incident.ID, file, fileErr, h.Log.Entries())
	if fileErr == nil && reflect.DeepEqual(file, sound(h.incident)) {
		return nil
	}
	path := filepath.Join(h.dir, yamlFile)
	if fileErr != nil && !errors.Is(fileErr, fs.ErrNotExist) {
		if err := os.Rename(path, path+damagedSuffix); err != nil {
			return h.store.cannotUse(h.dir, err)
		}
	}
	if len(h.incident.Doubts) > 0 { // else a crash came between journal and file
		d := h.incident.Doubts[0]
		e := timeline.Entry{Kind: timeline.KindObservation, Action: actionRebuilt, Summary: d.Text}
		if _, err := h.Log.AppendWith(e, record.Rebuilt{Unknown: d.matters}); err != nil {
			return err
		}
	}
	return h.update(func(*Incident) {})
}

// sound is a record without what was wrong with its files.
func sound(i Incident) Incident {
	i.Doubts = nil
	return i
}

const (
	// damagedSuffix is of an incident.yaml that was put aside.
	damagedSuffix = ".damaged"
	// actionRebuilt is of the entry that says that incident.yaml was made anew.
	actionRebuilt = "rebuilt"
	// actionRepaired is of the entry that says what a person was shown before the
	// incident was used again.
	actionRepaired = "repaired"
)

// Repair opens an incident of which the journal's head is lost, or of which its files
// do not tell enough, and records that: the head is written anew, and it can be used
// again. what says what was seen of it, and why it is gone on with. A journal without
// its beginning is not repaired.
func (s *Store) Repair(ctx context.Context, id ID, actor timeline.Actor, what string) (Incident, error) {
	dir, err := s.path(id)
	if err == nil {
		err = there(dir, string(id))
	}
	if err == nil {
		err = s.prepare()
	}
	if err != nil {
		return Incident{}, err
	}
	entries, err := timeline.Read(filepath.Join(dir, timelineFile))
	if err != nil {
		return Incident{}, fmt.Errorf("incident %s cannot be repaired: %w", id, err)
	}
	if len(entries) == 0 || entries[0].Kind != timeline.KindOpened {
		return Incident{}, fmt.Errorf(
			"%w: incident %s cannot be repaired, since the beginning of its journal is lost: "+
				"put a copy of %s in its place, or open another incident", ErrRepair, id, timelineFile)
	}
	h, err := s.openAt(ctx, dir, id, actor, true)
	if err != nil {
		return Incident{}, err
	}
	_, err = h.Log.Append(timeline.Entry{Kind: timeline.KindObservation, Action: actionRepaired, Summary: what})
	if err == nil {
		err = h.update(func(*Incident) {})
	}
	return h.Incident(), errors.Join(err, h.Close())
}

// Look reads an incident into a handle that cannot be written to: for a dry run
// of what works on a handle. It takes no lock and changes nothing.
func (s *Store) Look(id ID) (*Handle, error) {
	i, err := s.Load(id)
	if err != nil {
		return nil, err
	}
	dir, err := s.path(id)
	if err != nil {
		return nil, err
	}
	return s.look(dir, i)
}

// LookDir is Look for a copy of an incident's directory.
func (s *Store) LookDir(dir string) (*Handle, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := there(abs, abs); err != nil {
		return nil, err
	}
	i, err := read(abs, "")
	if err != nil {
		return nil, err
	}
	return s.look(abs, i)
}

func (s *Store) look(dir string, i Incident) (*Handle, error) {
	log, err := timeline.Look(filepath.Join(dir, timelineFile), string(i.ID))
	if err != nil {
		return nil, fmt.Errorf("incident %s: %w", i.ID, err)
	}
	return &Handle{Log: log, store: s, dir: dir, incident: i, reading: true}, nil
}

// openLog opens a journal that others may write to as well.
func (s *Store) openLog(dir string, id ID, actor timeline.Actor) (*timeline.Log, error) {
	log, err := timeline.Open(filepath.Join(dir, timelineFile),
		timeline.Options{Incident: string(id), Actor: actor, Now: s.opts.Now,
			Lock: func() (func(), error) {
				// Nobody holds it for longer than a write takes.
				l, err := hold(context.Background(), filepath.Join(dir, journalLockFile), "the journal of incident "+
					string(id), s.opts.LockWait)
				if err != nil {
					return nil, err
				}
				return func() { _ = l.flock.Unlock() }, nil // closing the file lets go of it in any case
			}})
	if err != nil {
		return nil, fmt.Errorf("incident %s: %w", id, err)
	}
	return log, nil
}

// Append adds an entry to an incident's journal, also while another process has
// the incident open and acts on it: a note need not wait for that, and neither may
// it get lost. It must be one that changes nothing of the incident.
func (s *Store) Append(id ID, actor timeline.Actor, e timeline.Entry) (timeline.Entry, error) {
	dir, err := s.path(id)
	if err != nil {
		return timeline.Entry{}, err
	}
	if err := there(dir, string(id)); err != nil {
		return timeline.Entry{}, err
	}
	if err := s.prepare(); err != nil {
		return timeline.Entry{}, err
	}
	if err := s.private(dir); err != nil {
		return timeline.Entry{}, err
	}
	if lost := timeline.HeadLost(filepath.Join(dir, timelineFile)); lost != "" {
		return timeline.Entry{}, repairFirst(id, headLost(lost).Text)
	}
	log, err := s.openLog(dir, id, actor)
	if err != nil {
		return timeline.Entry{}, err
	}
	e, err = log.Append(e)
	return e, errors.Join(err, log.Close())
}

// there makes certain that a directory is an incident's, before anything is
// created in it; name is what it was asked for by.
func there(dir, name string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if _, err := os.Lstat(filepath.Join(dir, timelineFile)); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// private refuses a directory that is open to others, and closes the files in
// it. After that only this user can still swap a file for a link.
func (s *Store) private(dir string) error {
	if err := checkPrivate(dir); err != nil {
		return s.cannotUse(dir, err)
	}
	for _, name := range []string{yamlFile, timelineFile, filepath.Base(timeline.HeadPath(timelineFile)), lockFile,
		journalLockFile} {
		path := filepath.Join(dir, name)
		if err := regularOrAbsent(path); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if info, err := os.Lstat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			if err := os.Chmod(path, info.Mode().Perm()&0o700); err != nil {
				return s.cannotUse(dir, err)
			}
		}
	}
	return nil
}

// Join opens the newest open incident that matches, or creates one from n
// where none does: of two processes that join at the same time one creates,
// the other joins. It tells whether it created. Incidents that cannot be read
// are passed over; List tells of them.
func (s *Store) Join(ctx context.Context, match func(Incident) bool, n New) (h *Handle, created bool, err error) {
	for {
		var found []Incident
		err := s.WithLock(ctx, func() (err error) {
			if found, _ = s.FindOpen(ctx, match); len(found) == 0 {
				h, err = s.Create(ctx, n)
			}
			return err
		})
		if err != nil || h != nil {
			return h, h != nil, err
		}
		// Without the store's lock: the incident may be in use for long.
		h, err = s.Open(ctx, found[0].ID, n.Actor)
		if err != nil || h.Incident().State == StateOpen {
			return h, false, err
		}
		// Somebody closed it meanwhile.
		if err := h.Close(); err != nil {
			return nil, false, err
		}
		h = nil
	}
}

// Incident returns a copy of the incident as it is now.
func (h *Handle) Incident() Incident {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.incident.clone()
}

// Dir returns the incident's directory.
func (h *Handle) Dir() string { return h.dir }

// update writes incident.yaml; the journal says already what is changed. On an error
// nothing changed.
func (h *Handle) update(change func(*Incident)) error {
	next := h.incident.clone()
	change(&next)
	next = next.printable()
	text, err := next.encode()
	if err != nil {
		return fmt.Errorf("incident %s: %w", h.incident.ID, err)
	}
	if err := writeFile(filepath.Join(h.dir, yamlFile), text); err != nil {
		return h.store.cannotUse(h.dir, err)
	}
	h.incident = next
	return nil
}

// CloseIncident records that the incident is over; ErrAlreadyClosed where it
// is. The handle stays open, to be closed with Close.
func (h *Handle) CloseIncident(note string) error { return h.CloseWith(note, record.Closing{}) }

// CloseWith is CloseIncident, with what had become of the incident's changes.
func (h *Handle) CloseWith(note string, c record.Closing) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.incident.State == StateClosed {
		return fmt.Errorf("%s: %w", h.incident.ID, ErrAlreadyClosed)
	}
	e, err := h.Log.AppendWith(timeline.Entry{Kind: timeline.KindClosed, Summary: summary("incident closed", note)}, c)
	if err != nil {
		return err
	}
	return h.update(func(i *Incident) { i.State, i.ClosedAt = StateClosed, &e.Time })
}

// Reopen records that the incident goes on; ErrAlreadyOpen where it does.
func (h *Handle) Reopen(note string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.incident.State == StateOpen {
		return fmt.Errorf("%s: %w", h.incident.ID, ErrAlreadyOpen)
	}
	if _, err := h.Log.Append(timeline.Entry{Kind: timeline.KindReopened,
		Summary: summary("incident reopened", note)}); err != nil {
		return err
	}
	return h.update(func(i *Incident) { i.State, i.ClosedAt = StateOpen, nil })
}

func summary(what, note string) string {
	if note == "" {
		return what
	}
	return what + ": " + note
}

// Close lets go of the incident. It may be called twice.
func (h *Handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	if h.Log != nil {
		errs = append(errs, h.Log.Close())
	}
	if h.lock != nil {
		errs = append(errs, h.lock.release())
		h.lock = nil
	}
	return errors.Join(errs...)
}
