package incident

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"irctl/internal/timeline"
)

// Store is the state directory: it finds, creates and opens incidents.
type Store struct {
	dir  string
	opts Options
}

// Options of a Store. The zero value is ready for use.
type Options struct {
	Now      func() time.Time // nil: time.Now
	Random   io.Reader        // of IDs; nil: crypto/rand
	LockWait time.Duration    // how long to wait for another process; 0: 10 seconds
	Drill    bool             // incidents that are created are those of a drill
}

// Errors of a Store, besides those of package timeline.
var (
	ErrStateDir  = errors.New("the state directory cannot be used")
	ErrNotFound  = errors.New("no such incident")
	ErrAmbiguous = errors.New("more than one incident matches")
	ErrDamaged   = errors.New("the incident is damaged")
)

// StateDir returns where incidents are kept: $IRCTL_STATE_DIR, else
// $XDG_STATE_HOME/irctl, else ~/.local/state/irctl. As the XDG base directory
// specification demands, a relative $XDG_STATE_HOME is ignored.
func StateDir(getenv func(string) string) (string, error) {
	if dir := getenv("IRCTL_STATE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if base := getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "irctl"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "irctl"), nil
	}
	return "", fmt.Errorf("%w: neither HOME nor XDG_STATE_HOME says where it is; set IRCTL_STATE_DIR", ErrStateDir)
}

// NewStore uses dir. It changes nothing on the disk, and neither does anything
// else that only reads: the first write creates dir with its parents where it is
// missing. What is there already keeps its mode; where it is not this user's
// alone, it can be read, and writing is refused with ErrStateDir and ErrNotPrivate.
func NewStore(dir string, opts Options) (*Store, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.LockWait == 0 {
		opts.LockWait = 10 * time.Second
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &Store{dir: abs, opts: opts}, nil
}

// prepare comes before every write: the directories are there, and private.
func (s *Store) prepare() error {
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o700); err != nil {
		return s.unusable(err)
	}
	for _, d := range []string{s.dir, s.incidents()} {
		if err := privateDir(d); err != nil {
			return s.unusable(err)
		}
	}
	return nil
}

// CheckWritable tells what a write would be refused for, as far as that can be
// known without one. It is for who is about to change a cluster: the refusal
// then comes before the plan and the question.
func (s *Store) CheckWritable() error {
	dirs := []string{s.dir}
	if _, err := os.Lstat(s.incidents()); err == nil {
		dirs = append(dirs, s.incidents())
	}
	for _, d := range dirs {
		if err := checkWritable(d); err != nil {
			return s.unusable(err)
		}
	}
	return nil
}

// CheckPrivate tells why what is read here may not be this user's own words:
// somebody else can enter the directory. Where there is none, all is well.
func (s *Store) CheckPrivate() error {
	for _, d := range []string{s.dir, s.incidents()} {
		if err := checkPrivate(d); errors.Is(err, ErrNotPrivate) {
			return err
		}
	}
	return nil
}

// Dir returns the state directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) incidents() string { return filepath.Join(s.dir, incidentsDir) }

// path is where an incident is. An ID may come from anywhere, by conversion
// from a string, so it is parsed again.
func (s *Store) path(id ID) (string, error) {
	id, err := ParseID(string(id))
	if err != nil {
		return "", err
	}
	return filepath.Join(s.incidents(), string(id)), nil
}

func (s *Store) unusable(err error) error {
	if errors.Is(err, ErrNotPrivate) { // it says what to do
		return fmt.Errorf("%w: %w (--state-dir or IRCTL_STATE_DIR names another one)", ErrStateDir, err)
	}
	return fmt.Errorf("%w: %s: %w; set IRCTL_STATE_DIR to a directory of yours that can be written", ErrStateDir, s.dir,
		err)
}

// cannotUse is unusable for an incident's directory, which OpenDir may have
// been given from elsewhere.
func (s *Store) cannotUse(dir string, err error) error {
	if filepath.Dir(dir) == s.incidents() {
		return s.unusable(err)
	}
	return fmt.Errorf("incident directory %s cannot be used: %w", dir, err)
}

// ids returns the incidents there are, by name alone, the newest first.
// Anything else in the directory, such as what a killed Create left, is not
// an incident.
func (s *Store) ids() ([]ID, error) {
	dirs, err := os.ReadDir(s.incidents())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil // nothing was written yet
	case err != nil:
		return nil, fmt.Errorf("%w: %w; --state-dir or IRCTL_STATE_DIR names another one", ErrStateDir, err)
	}
	var ids []ID
	for _, d := range dirs {
		if id, err := ParseID(d.Name()); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	return ids, nil
}

// List returns the incidents, the newest first, and what was wrong with those
// that could not be read: one damaged incident does not hide the others.
func (s *Store) List(ctx context.Context) ([]Incident, []error) {
	ids, err := s.ids()
	if err != nil {
		return nil, []error{err}
	}
	var list []Incident
	var errs []error
	for _, id := range ids {
		if ctx.Err() != nil {
			return list, append(errs, ctx.Err())
		}
		if i, err := s.Load(id); err != nil {
			errs = append(errs, err)
		} else {
			list = append(list, i)
		}
	}
	return list, errs
}

// FindOpen returns the open incidents that match, the newest first, and what
// List could not read.
func (s *Store) FindOpen(ctx context.Context, match func(Incident) bool) ([]Incident, []error) {
	list, errs := s.List(ctx)
	return slices.DeleteFunc(list, func(i Incident) bool { return i.State != StateOpen || !match(i) }), errs
}

// Find returns the one incident whose ID is, or begins with, prefix. It does
// not look inside, so it finds damaged ones too. Errors are ErrNotFound and
// ErrAmbiguous, which lists what matches.
func (s *Store) Find(prefix string) (ID, error) {
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	var matches []string
	for _, id := range ids {
		if string(id) == prefix {
			return id, nil
		}
		if prefix != "" && strings.HasPrefix(string(id), prefix) {
			matches = append(matches, string(id))
		}
	}
	const most = 10
	switch n := len(matches); {
	case n == 0:
		return "", fmt.Errorf("%w: %.64q", ErrNotFound, prefix)
	case n == 1:
		return ID(matches[0]), nil
	case n > most:
		return "", fmt.Errorf("%w %q: %s and %d more", ErrAmbiguous, prefix, strings.Join(matches[:most], ", "), n-most)
	default:
		return "", fmt.Errorf("%w %q: %s", ErrAmbiguous, prefix, strings.Join(matches, ", "))
	}
}

// Load reads an incident without its lock. What is wrong with its files is among
// its Doubts, if one of them tells what it is; else it is ErrDamaged.
func (s *Store) Load(id ID) (Incident, error) {
	dir, err := s.path(id)
	if err != nil {
		return Incident{}, err
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return Incident{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return read(dir, id)
}

// TimelinePath returns where an incident's journal is, for timeline.Read.
func (s *Store) TimelinePath(id ID) (string, error) {
	dir, err := s.path(id)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return filepath.Join(dir, timelineFile), nil
}

// Entries reads an incident's journal, without its lock, as timeline.Read does.
func (s *Store) Entries(id ID) ([]timeline.Entry, error) {
	path, err := s.TimelinePath(id)
	if err != nil {
		return nil, err
	}
	return timeline.Read(path)
}

// Verify checks an incident's journal, also for being that incident's and not
// a sound journal of another one put in its place.
func (s *Store) Verify(id ID) (timeline.Report, error) {
	path, err := s.TimelinePath(id)
	if err != nil {
		return timeline.Report{}, err
	}
	report, err := timeline.Verify(path)
	if err == nil && report.Incident != string(id) {
		report.Problems = slices.Insert(report.Problems, 0, timeline.Problem{Line: 1, Damage: timeline.Edited,
			Detail: fmt.Sprintf("this is the journal of incident %q, not of %s", report.Incident, id)})
	}
	return report, err
}

// WithLock runs fn while no other process runs one on this store. It is for
// finding or creating; fn must not wait for an incident that is in use.
func (s *Store) WithLock(ctx context.Context, fn func() error) error {
	if err := s.prepare(); err != nil {
		return err
	}
	l, err := acquire(ctx, filepath.Join(s.dir, lockFile), "state directory "+s.dir, s.opts.LockWait,
		holderOf(timeline.LocalActor(), s.opts.Now()))
	if errors.Is(err, ErrLocked) {
		return err
	}
	if err != nil {
		return s.unusable(err)
	}
	return errors.Join(fn(), l.release())
}
