package cli

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// output is standard output. It remembers the first error of a write, and writes
// nothing after it: what is cut off has its beginning, and no holes. So no
// printer has to look for errors, and [App.main] does, once.
type output struct {
	to  io.Writer
	mu  sync.Mutex
	err error
}

// An outputError is why standard output could not be written.
type outputError struct{ error }

func (e *outputError) Error() string {
	cause := e.error
	var call syscall.Errno
	if errors.As(cause, &call) {
		cause = call // the rest is a name that nobody has given
	}
	return fmt.Sprintf("writing to standard output: %v", cause)
}

func (e *outputError) Unwrap() error { return e.error }

func (w *output) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.to.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = &outputError{err}
	}
	return n, w.err
}

// whole is how a command ends that ended with err, once its output is looked
// at: what could not be written weighs more than anything that was found.
func (w *output) whole(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var told *outputError
	if w.err == nil || errors.As(err, &told) && exitCode(err) == ExitError {
		return err
	}
	if err == nil || err.Error() == "" {
		return w.err
	}
	return errors.Join(err, w.err)
}
