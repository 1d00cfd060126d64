// Package userfile opens the files that somebody named, or that lie beside one that
// somebody named. Such a file may be a pipe that nobody writes to, a device without
// an end, or on a mount that does not answer: nothing of that holds anybody up for
// longer than he is told, and whoever gives up waiting ends it at once.
package userfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// ErrNotAFile: what was named is a pipe, a device or a folder.
var ErrNotAFile = errors.New("it is not a regular file")

// ErrTooLarge: there is more in it than is read.
var ErrTooLarge = errors.New("it is too large")

// patience is how long a file system may take for an answer, and pipePatience whoever
// writes to a pipe: it may have to ask for a passphrase first.
var (
	patience     = 10 * time.Second
	pipePatience = 2 * time.Minute
)

// File is a file that is read from its beginning. Its methods are not for concurrent use.
type File struct {
	ctx      context.Context
	file     *os.File
	patience time.Duration
	buf      []byte // that of the call that is under way
	rest     []byte // of buf, what was not handed on yet
	gaveUp   error
}

// Open opens a regular file.
func Open(ctx context.Context, path string) (*File, error) {
	f, err := within(ctx, patience, func() (*os.File, error) {
		if info, err := os.Stat(path); err != nil {
			return nil, err
		} else if !info.Mode().IsRegular() {
			return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotAFile}
		}
		// Not blocking: it may be another one by now.
		return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	})
	if err != nil {
		return nil, named(path, err)
	}
	return &File{ctx: ctx, file: f, patience: patience}, nil
}

// Stream opens a file, or a pipe that is meant as one, such as /dev/stdin. It waits for
// as long as the context lasts, and so do its reads.
func Stream(ctx context.Context, path string) (*File, error) {
	f, err := within(ctx, 0, func() (*os.File, error) { return os.Open(path) })
	if err != nil {
		return nil, named(path, err)
	}
	return &File{ctx: ctx, file: f}, nil
}

// Read reads a regular file of at most limit bytes.
func Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	f, err := Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return f.all(path, limit)
}

// ReadPiped reads a file of at most limit bytes, which may be a pipe: a secret is given
// by <(command) so that it is on no disk.
func ReadPiped(ctx context.Context, path string, limit int64) ([]byte, error) {
	info, err := within(ctx, patience, func() (fs.FileInfo, error) { return os.Stat(path) })
	switch {
	case err != nil:
		return nil, named(path, err)
	case info.Mode()&fs.ModeNamedPipe == 0 && info.Mode()&fs.ModeCharDevice == 0:
		return Read(ctx, path, limit)
	}
	file, err := within(ctx, pipePatience, func() (*os.File, error) { return os.Open(path) })
	if err != nil {
		return nil, named(path, err)
	}
	f := &File{ctx: ctx, file: file, patience: pipePatience}
	defer func() { _ = f.Close() }() // it was only read
	return f.all(path, limit)
}

func (f *File) all(path string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, path, limit)
	}
	if err != nil {
		return nil, named(path, err)
	}
	return data, nil
}

// size is how much is read at once.
const size = 256 << 10

// Read reads what comes next.
func (f *File) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		if f.gaveUp != nil {
			return 0, f.gaveUp
		}
		if f.buf == nil {
			f.buf = make([]byte, size)
		}
		n, err := within(f.ctx, f.patience, func() (int, error) { return f.file.Read(f.buf) })
		if errors.Is(err, errGaveUp) {
			f.gaveUp = err // the call may still read into the buffer
		}
		if err != nil {
			return 0, err
		}
		f.rest = f.buf[:n]
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Close closes the file.
func (f *File) Close() error {
	if f.gaveUp != nil {
		go func() { _ = f.file.Close() }() // it may not return
		return nil
	}
	return f.file.Close()
}

// Rewind begins anew.
func (f *File) Rewind() error {
	f.rest = nil
	_, err := f.file.Seek(0, io.SeekStart)
	return err
}

// Stat says what file it is.
func (f *File) Stat() (fs.FileInfo, error) {
	return within(f.ctx, f.patience, f.file.Stat)
}

// errGaveUp: a call has not returned, and nobody waits for it any more.
var errGaveUp = errors.New("gave up")

type gaveUpError struct{ error }

func (e gaveUpError) Unwrap() []error { return []error{errGaveUp, e.error} }

// within calls f, and waits for it for at most so long; 0: for as long as ctx lasts.
func within[T any](ctx context.Context, most time.Duration, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	if ctx.Err() != nil {
		return none, gaveUpError{context.Cause(ctx)}
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := f()
		answers <- answer{value, err}
	}()
	var over <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, gaveUpError{context.Cause(ctx)}
	case <-over:
		return none, gaveUpError{fmt.Errorf(
			"nothing came in %s: is it a pipe that nobody writes to, or a mount that does not answer?", most)}
	}
}

// named names the file in an error that does not.
func named(path string, err error) error {
	var p *fs.PathError
	if err == nil || errors.As(err, &p) || errors.Is(err, io.EOF) {
		return err
	}
	return &fs.PathError{Op: "reading", Path: path, Err: err}
}
