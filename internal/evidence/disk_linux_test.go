package evidence

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A file system is filled in the middle of a collection: that is an error with
// advice, and nothing has the bundle's name.
func TestAFullDiskLeavesNoBundle(t *testing.T) {
	s, ref := suspect(t)
	noise := make([]byte, 8<<20) // does not compress
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	s.logs["backend-2-abcde/api"] = text(string(noise))
	recipient, _ := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs the right to mount: %v; TestAFailedWriteLeavesNoBundle needs none", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	req.Path = filepath.Join(dir, "bundle"+Extension)
	started := time.Now()
	_, err := Snapshot(t.Context(), req)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free space on the file system of "+dir) {
		t.Errorf("got %v", err)
	}
	if time.Since(started) > 5*time.Second {
		t.Error("it went on collecting for nothing")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestAFailedWriteLeavesNoBundle(t *testing.T) {
	recipient, _ := testKey(t)
	path := t.TempDir() + "/bundle" + Extension
	b, err := Create(path, []Recipient{recipient}, nil, Meta{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	// What is written from now on fails, as on a full disk.
	if err := b.partial.Close(); err != nil {
		t.Fatal(err)
	}
	_ = b.Bag().AddBytes("test", "test", bytes.Repeat([]byte{1}, 1<<20), "x") // its error is the archive's
	if _, err := b.Finish(t.Context(), ""); err == nil {
		t.Error("finished")
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A process that is killed at any moment leaves a whole bundle or none, and
// nothing in plain text.
func TestKillWhileSealing(t *testing.T) {
	g := newGnupg(t)
	g.key("Curve <curve@example.org>", "ed25519", "cv25519")
	key := writeFile(t, g.run("--export", "curve@example.org"))
	opens, err := LoadKey(t.Context(), writeFile(t, g.run("--armor", "--export-secret-keys", "curve@example.org")), nil)
	if err != nil {
		t.Fatal(err)
	}
	secret := "a word that is in every line of this log"
	noise := make([]byte, 4<<20) // does not compress, so that the file grows with what is sealed
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	log := writeFile(t, slices.Concat(bytes.Repeat([]byte(secret+"\n"), 1<<12), noise))
	killed := 0
	for attempt := range 8 {
		dir := t.TempDir()
		path := filepath.Join(dir, "bundle"+Extension)
		cmd := child(t, "seal", key, log, path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		grown(dir, int64(attempt)<<19, ended)
		_ = cmd.Process.Kill() // it may have ended
		if <-ended != nil {
			killed++
		}
		checkWholeOrAbsent(t, dir, path, secret, opens)
	}
	if killed == 0 {
		t.Error("every process was faster than the kill: nothing was tested")
	}
}

// grown waits until a folder holds so many bytes, or what writes them has ended.
func grown(dir string, size int64, ended chan error) {
	for {
		select {
		case err := <-ended:
			ended <- err
			return
		default:
		}
		files, _ := os.ReadDir(dir) // it is looked at again
		for _, f := range files {
			if info, err := f.Info(); err == nil && info.Size() >= size {
				return
			}
		}
		runtime.Gosched()
	}
}

func checkWholeOrAbsent(t *testing.T, dir, path, secret string, key Key) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		if v, err := VerifyBundle(t.Context(), path, VerifyOptions{Key: &key}); err != nil ||
			len(v.broken()) > 0 && v.Receipt != nil || v.Receipt != nil && !v.Opened {
			t.Errorf("a bundle that is not whole: %v %v", err, v.Problems)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s holds plain text", f.Name())
		}
		info, err := f.Info()
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v %v", f.Name(), info.Mode(), err)
		}
		if f.Name() != filepath.Base(path) && f.Name() != filepath.Base(path)+receiptSuffix &&
			!strings.HasSuffix(f.Name(), ".partial") {
			t.Errorf("an unexpected file: %s", f.Name())
		}
	}
}

// Two hundred pods whose logs do not end, in parallel: what grows is bounded.
func TestMemoryStaysBounded(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector multiplies memory; make test-full runs this without it")
	}
	s := newAPIServer(t, "testdata/todo-app.yaml")
	pod := s.objects["/api/v1/namespaces/todo-app/pods/backend-2-abcde"]
	line := bytes.Repeat([]byte("2026-01-02T00:00:00Z a line of a log that goes on and on, and never ends\n"), 1000)
	s.logs["*"] = endless(line)
	for i := range 200 {
		s.add(bytes.ReplaceAll(pod, []byte("backend-2-abcde"), []byte(podName(i))))
	}
	g := newGnupg(t)
	g.key("Curve <curve@example.org>", "ed25519", "cv25519")
	key := writeFile(t, g.run("--export", "curve@example.org"))
	peak := func(pods, limit string) int {
		cmd := child(t, "snapshot", key, s.http.URL, pods, limit, filepath.Join(t.TempDir(), "bundle"+Extension))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		kib, err := strconv.Atoi(string(out))
		if err != nil {
			t.Fatal(err)
		}
		return kib >> 10
	}
	small := peak("1", "1000")
	large := peak("200", "6000000") // 3.6 GB, with the three containers of each
	if grown := large - small; grown > 100 {
		t.Errorf("memory grew by %d MiB, from %d", grown, small)
	} else {
		t.Logf("memory grew by %d MiB, from %d", grown, small)
	}
}
