package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"irctl/internal/rotate"
	"irctl/internal/userfile"
)

// keyFile holds the key of an incident's digests. It stays with the incident:
// without it the digests of its journal tell nothing.
const keyFile = "digests.key"

// digestKey reads the key, or makes one. Where nothing may be written, and
// none is there, no digest was written either: any key does.
func (x *eradication) digestKey(ctx context.Context) ([]byte, error) {
	if x.incident.ID == "" {
		return rotate.NewKey(), nil
	}
	timelinePath, err := x.Store.TimelinePath(x.incident.ID)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(filepath.Dir(timelinePath), keyFile)
	key, err := userfile.Read(ctx, path, 4<<10)
	switch {
	case err == nil && len(key) >= 32:
		return key, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reading the key of the digests: %w", err)
	}
	key = rotate.NewKey()
	if x.handle == nil {
		return key, nil
	}
	if err := writeDurably(path, key); err != nil {
		return nil, fmt.Errorf("writing the key of the digests: %w", err)
	}
	return key, nil
}

// writeDurably writes a file that is there as a whole after a crash, or not.
func writeDurably(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // readable by its owner only
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing, once it has its name
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
