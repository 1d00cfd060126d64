package evidence

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// copyBundle copies a bundle with all that lies beside it.
func copyBundle(t testing.TB, path string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, filepath.Base(path))
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func flipByte(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	b[0] ^= 0x40
	_, writeErr := f.WriteAt(b, at)
	if err := errors.Join(err, writeErr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// replaceIn changes the first place.
func replaceIn(t testing.TB, path, from, to string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), from) {
		t.Fatalf("%s has no %q", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func truncate(t testing.TB, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func removeFile(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func remove(suffix string) func(*testing.T, string) {
	return func(t *testing.T, bundle string) { removeFile(t, bundle+suffix) }
}

// resign replaces the signature by a valid one of somebody else.
func resign(t *testing.T, g *gnupg, bundle string) {
	t.Helper()
	t.Setenv("GNUPGHOME", g.home)
	if len(g.run("--list-keys", "--with-colons")) == 0 ||
		!strings.Contains(string(g.run("--list-keys", "--with-colons")), "mallory@example.net") {
		g.key("Mallory <mallory@example.net>", "ed25519", "")
	}
	removeFile(t, bundle+SignatureSuffix)
	g.run("--local-user", "mallory@example.net", "--armor", "--output", bundle+SignatureSuffix, "--detach-sign",
		bundle+receiptSuffix)
}

// reseal replaces the bundle and its receipt by others that agree.
func reseal(t *testing.T, bundle string) {
	t.Helper()
	recipient, _ := testKey(t)
	other := filepath.Join(t.TempDir(), filepath.Base(bundle))
	writeBundle(t, other, []Recipient{recipient}, nil)
	for _, suffix := range []string{"", receiptSuffix} {
		if err := os.Rename(other+suffix, bundle+suffix); err != nil {
			t.Fatal(err)
		}
	}
}

// tarEntry of a bag, below its root; "@link" is a symbolic link.
type tarEntry struct{ name, content string }

func replaceEntry(name, content string) func([]tarEntry) []tarEntry {
	return func(entries []tarEntry) []tarEntry {
		i := slices.IndexFunc(entries, func(e tarEntry) bool { return e.name == name })
		entries[i].content = content
		return entries
	}
}

func removeEntry(name string) func([]tarEntry) []tarEntry {
	return func(entries []tarEntry) []tarEntry {
		return slices.DeleteFunc(entries, func(e tarEntry) bool { return e.name == name })
	}
}

// unpack reads what is in a bundle, so that a test can seal it again changed,
// as somebody who has a key could.
func unpack(t *testing.T, path string, key Key) []tarEntry {
	t.Helper()
	r, err := OpenFile(t.Context(), path, key)
	if err != nil {
		t.Fatal(err)
	}
	var entries []tarEntry
	for {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, tarEntry{entry.Path, string(content)})
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return entries
}

func archive(t testing.TB, entries []tarEntry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: "case/" + e.name, Size: int64(len(e.content)), Mode: 0o600,
			ModTime: time.Unix(0, 0)}
		if e.name == "@link" {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: "case/data", Linkname: e.content}
			e.content = ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// shell runs a script with one argument and returns its output.
func shell(t testing.TB, dir, script, arg string) string {
	t.Helper()
	cmd := exec.Command("bash", "-o", "pipefail", "-ec", script, "bash", arg)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%s\n%v", script, out, err)
	}
	return string(out)
}

// FuzzReader feeds archives that agree with nothing to the reader of bags.
func FuzzReader(f *testing.F) {
	f.Add(archive(f, []tarEntry{{"bagit.txt", "x"}, {"data/a", "y"}}))
	f.Add(archive(f, []tarEntry{{"@link", "/etc"}, {"data/a", "y"}}))
	f.Add(archive(f, []tarEntry{{"../../x", "y"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := newReader(bytes.NewReader(data), func() error { return nil })
		if err != nil {
			return
		}
		dir := t.TempDir()
		_, _ = Extract(r, filepath.Join(dir, "out"))
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 1 {
			t.Errorf("something was written outside: %v %v", left, err)
		}
	})
}
