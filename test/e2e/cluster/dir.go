package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// stateFile marks a folder as a cluster's, and tells Attach what runs there.
	stateFile = "cluster.json"
	// lockFile is locked for as long as the cluster's owner lives.
	lockFile = "lock"

	temporaryPrefix = "irctl-e2e-"
)

// kept survives Stop in a folder that the caller named.
var kept = []string{stateFile, lockFile, "log", "audit.log"}

type state struct {
	Slot    int    `json:"slot"`
	NodePID int    `json:"nodePID"`
	Bin     string `json:"bin"`
}

// prepareDir makes the folder, or empties it of an earlier run's files. Until it
// has made sure that the folder is ours, c.dir is empty, and Stop removes nothing.
func (c *Cluster) prepareDir() error {
	named := c.dir
	c.dir = ""
	if named == "" {
		removeAbandoned()
		dir, err := os.MkdirTemp("", temporaryPrefix)
		if err != nil {
			return err
		}
		named, c.temporary = dir, true
	}
	dir, err := filepath.Abs(named)
	if err != nil {
		return err
	}
	for _, hidden := range []string{"/run/", "/var/log/", "/proc/"} {
		if strings.HasPrefix(dir+"/", hidden) {
			return fmt.Errorf("%s: the node has its own %s: choose another folder", dir, hidden)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ours := func(entry os.DirEntry) bool { return entry.Name() == stateFile }
	if len(entries) > 0 && !slices.ContainsFunc(entries, ours) {
		// Start and Stop empty this folder. Not somebody's home, please.
		return fmt.Errorf("%s is not empty and not a cluster's: choose another folder", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if c.lock, err = lockDir(dir); err != nil {
		return err
	}
	c.dir = dir
	// From here on the folder is known as ours, also if this process is killed.
	if err := c.writeState(state{}); err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == lockFile || entry.Name() == stateFile {
			continue
		}
		if err := os.RemoveAll(c.path(entry.Name())); err != nil {
			return err
		}
	}
	for _, name := range []string{"log", "kubeconfig", "static-pods", "config/cni"} {
		if err := os.MkdirAll(c.path(name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// lockDir takes a folder for this process, until it unlocks it or dies.
func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		return nil, fmt.Errorf("%s: another process runs a cluster there: stop it first, or choose another folder", dir)
	}
	return lock, nil
}

// removeAbandoned removes the temporary folders of clusters whose owner was
// killed. Of those nothing else is left: see node.
func removeAbandoned() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), temporaryPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
			continue // not a cluster's, or one that is just being made
		}
		if lock, err := lockDir(dir); err == nil {
			_ = os.RemoveAll(dir) // it only takes room: the next start tries again
			_ = lock.Close()      // it is gone with its folder
		}
	}
}

// cleanDir removes the cluster's files: all of them, or all but the logs.
func (c *Cluster) cleanDir() error {
	if c.temporary {
		return os.RemoveAll(c.dir)
	}
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if slices.Contains(kept, entry.Name()) {
			continue
		}
		if err := os.RemoveAll(c.path(entry.Name())); err != nil {
			return err
		}
	}
	return c.writeState(state{})
}

func (c *Cluster) writeState(s state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(c.path(stateFile), append(data, '\n'), 0o600)
}

// Attach finds the cluster that another process runs in dir. It can be used,
// but not stopped: Stop on it does nothing to the cluster.
func Attach(dir string) (*Cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("attach to cluster: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("attach to cluster: %w", err)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("attach to cluster: %s: %w", stateFile, err)
	}
	if s.NodePID == 0 {
		return nil, fmt.Errorf("attach to cluster: the one in %s never came up", dir)
	}
	c := &Cluster{dir: dir, attached: true, log: io.Discard, bin: s.Bin, node: newNode(s.Slot, s.NodePID)}
	client := &http.Client{Timeout: 2 * time.Second, Transport: c.anonymousTransport()}
	if err := get(context.Background(), client, c.node.server()+"/readyz"); err != nil { // the client has a time limit
		return nil, fmt.Errorf("attach to cluster: %w", err)
	}
	return c, nil
}
