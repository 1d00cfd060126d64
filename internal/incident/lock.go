package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"irctl/internal/timeline"
)

// lock is a file lock of the kernel's, which lets go of it when the process
// ends in whatever way. The file's text says who holds it, for people; it
// proves nothing and may be left over.
type lock struct{ flock *flock.Flock }

// Holder is who holds a lock, as far as the lock file tells.
type Holder struct {
	PID    int       `json:"pid"`
	OSUser string    `json:"osUser,omitempty"`
	Host   string    `json:"host,omitempty"`
	Since  time.Time `json:"since"`
}

// ErrLocked says that another process is at work on the incident.
var ErrLocked = errors.New("in use by another process")

// LockedError is the ErrLocked that knows more.
type LockedError struct {
	What   string // what is locked
	Holder *Holder
	Waited time.Duration
}

func (e *LockedError) Error() string {
	who := ""
	if h := e.Holder; h != nil {
		who = fmt.Sprintf(" (irctl with pid %d of %q on %q, since %s)", h.PID, h.OSUser, h.Host,
			h.Since.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%s is %v%s, still after %s: wait for it or end it, then try again", e.What, ErrLocked, who,
		e.Waited.Round(time.Millisecond))
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

const lockPoll = 25 * time.Millisecond

// acquire waits for the lock file at path, at most for wait, and writes down who
// holds it now.
func acquire(ctx context.Context, path, what string, wait time.Duration, holder Holder) (*lock, error) {
	l, err := hold(ctx, path, what, wait)
	if err == nil {
		l.note(holder)
	}
	return l, err
}

func hold(ctx context.Context, path, what string, wait time.Duration) (*lock, error) {
	if err := regularOrAbsent(path); err != nil {
		return nil, err
	}
	l := &lock{flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|syscall.O_NONBLOCK))}
	start := time.Now()
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ok, err := l.flock.TryLock() // even when ctx leaves no time to wait
	if err == nil && !ok {
		_, err = l.flock.TryLockContext(waiting, lockPoll)
	}
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("%w: %w", &LockedError{what, readHolder(path), time.Since(start)}, ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &LockedError{what, readHolder(path), time.Since(start)}
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return l, nil
}

// note writes the holder into the file itself: a rename would put another
// file in the place of the locked one. That it fails (a full disk) costs
// somebody else a name in a message, no more.
func (l *lock) note(h Holder) {
	if text, err := json.Marshal(h); err == nil {
		_ = os.WriteFile(l.flock.Path(), append(text, '\n'), 0o600)
	}
}

func (l *lock) release() error {
	_ = os.Truncate(l.flock.Path(), 0)
	return l.flock.Unlock()
}

func readHolder(path string) *Holder {
	text, err := readFile(path, 4096)
	if err != nil {
		return nil
	}
	var h Holder
	if json.Unmarshal(text, &h) != nil || h.PID <= 0 {
		return nil
	}
	return &h
}

func holderOf(a timeline.Actor, since time.Time) Holder {
	return Holder{PID: os.Getpid(), OSUser: a.OSUser, Host: a.Host, Since: since.UTC()}
}
