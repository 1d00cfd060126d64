package timeline_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"irctl/internal/timeline"
)

// TestFullFileSystem fills a real file system. TestFailedWriteLeavesTheJournalAsItWas
// tests the same without privileges.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	path := filepath.Join(dir, "timeline.jsonl")
	l := open(t, path)
	appendTo(t, l, timeline.Entry{Kind: timeline.KindOpened})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the file system: %v", err)
	}
	big := timeline.Entry{Kind: timeline.KindNote, Summary: strings.Repeat("x", 9000)}
	for range 2 {
		if _, err := l.Append(big); !errors.Is(err, syscall.ENOSPC) ||
			!strings.Contains(err.Error(), "nothing was recorded") {
			t.Errorf("Append on a full disk: %v", err)
		}
	}
	// What fits in the last block is recorded though the head file cannot be.
	appendTo(t, l, timeline.Entry{Kind: timeline.KindNote})
	if r := verify(t, path); !r.OK() || r.Entries != 2 {
		t.Errorf("report %+v", r)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	appendTo(t, l, big)
	if r := verify(t, path); !r.OK() || r.Entries != 3 || r.HeadFile.Seq != 3 {
		t.Errorf("report %+v", r)
	}

	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err == nil {
		t.Error("remounted read-only with a file open for writing")
	}
	l.Close()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := timeline.Open(path, options()); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open on a read-only file system: %v", err)
	}
	if entries, err := timeline.Read(path); err != nil || len(entries) != 3 {
		t.Errorf("Read on a read-only file system: %d entries, %v", len(entries), err)
	}
}
