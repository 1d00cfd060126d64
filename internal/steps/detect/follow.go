package detect

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"irctl/internal/userfile"
)

// followEvery is how often a file is looked at for more.
const followEvery = 500 * time.Millisecond

// followed is a file that is read as tail -F does: at its end it waits for
// more, and when it was rotated away, or emptied, it goes on with the new one.
type followed struct {
	ctx  context.Context
	path string
	file *userfile.File
	at   int64
}

func openFollowed(ctx context.Context, path string) (*followed, error) {
	f, err := userfile.Stream(ctx, path)
	if err != nil {
		return nil, err
	}
	return &followed{ctx: ctx, path: path, file: f}, nil
}

// Read returns what there is; it waits while that is nothing.
func (f *followed) Read(p []byte) (int, error) {
	for {
		n, err := f.file.Read(p)
		f.at += int64(n)
		switch {
		case f.ctx.Err() != nil && n == 0:
			return 0, io.EOF // which is how following ends
		case n > 0 || err != nil && !errors.Is(err, io.EOF):
			return n, err
		}
		if again, err := f.renew(); err != nil {
			return 0, err
		} else if again {
			continue
		}
		select {
		case <-f.ctx.Done():
			return 0, io.EOF
		case <-time.After(followEvery):
		}
	}
}

// renew opens the file that has taken the place of the one that was read. A
// last line without its end is then joined with the first of the new one, and
// counted as malformed: writers rotate between lines.
func (f *followed) renew() (bool, error) {
	there, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // between two names
	}
	if err != nil {
		return false, err
	}
	here, err := f.file.Stat()
	if err != nil {
		return false, err
	}
	if os.SameFile(here, there) {
		if !there.Mode().IsRegular() || there.Size() >= f.at {
			return false, nil
		}
		f.at = 0
		err = f.file.Rewind()
		return err == nil, err
	}
	next, err := userfile.Stream(f.ctx, f.path)
	if err != nil {
		return false, err
	}
	_ = f.file.Close() // it was only read
	f.file, f.at = next, 0
	return true, nil
}

// Close closes the file.
func (f *followed) Close() error { return f.file.Close() }
