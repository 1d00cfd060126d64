package userfile

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kinds makes one of each kind of file.
func kinds(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"file": "text", "empty": "", "most": strings.Repeat("x", 64),
		"large": strings.Repeat("x", 65)} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(syscall.Mkfifo(at("pipe"), 0o600), os.Mkdir(at("folder"), 0o700),
		os.Symlink("pipe", at("link")),
		os.WriteFile(at("sparse"), nil, 0o600), os.Truncate(at("sparse"), 2<<30)); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"file": at("file"), "empty": at("empty"), "most": at("most"), "large": at("large"),
		"pipe": at("pipe"), "folder": at("folder"),
		"link to a pipe": at("link"), "2 GiB of nothing": at("sparse"), "none": at("none"), "zeros": "/dev/zero",
		"nothing": "/dev/null"}
}

// TestReadIsBounded: whatever was named, it is read or refused at once.
func TestReadIsBounded(t *testing.T) {
	t.Parallel()
	paths := kinds(t)
	for name, want := range map[string]error{"file": nil, "empty": nil, "most": nil, "large": ErrTooLarge,
		"2 GiB of nothing": ErrTooLarge,
		"none":             fs.ErrNotExist, "pipe": ErrNotAFile, "link to a pipe": ErrNotAFile, "folder": ErrNotAFile,
		"zeros": ErrNotAFile, "nothing": ErrNotAFile} {
		began := time.Now()
		data, err := Read(t.Context(), paths[name], 64)
		if !errors.Is(err, want) || (err == nil) != (want == nil) || time.Since(began) > time.Second {
			t.Errorf("%s: %d bytes, %v after %s", name, len(data), err, time.Since(began))
		}
		if err != nil && !strings.Contains(err.Error(), paths[name]) {
			t.Errorf("%s: it is not named: %v", name, err)
		}
	}
	for name, want := range map[string]error{"file": nil, "nothing": nil, "zeros": ErrTooLarge, "folder": ErrNotAFile,
		"2 GiB of nothing": ErrTooLarge, "none": fs.ErrNotExist} {
		if data, err := ReadPiped(t.Context(), paths[name], 64); !errors.Is(err, want) ||
			(err == nil) != (want == nil) {
			t.Errorf("piped: %s: %d bytes, %v", name, len(data), err)
		}
	}
}

// TestWhoeverGivesUpEndsIt: a pipe that nobody writes to, or that somebody holds
// open, is waited for until the context ends, or for so long.
func TestWhoeverGivesUpEndsIt(t *testing.T) {
	pipe := kinds(t)["pipe"]
	why := errors.New("a signal")
	soon := func() context.Context {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		return ctx
	}
	waits := func(what string, want error, f func() error) {
		t.Helper()
		began := time.Now()
		if err := f(); want != nil && !errors.Is(err, want) || err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %s", what, err, time.Since(began))
		}
	}
	waits("opening", why, func() error { _, err := ReadPiped(soon(), pipe, 64); return err })
	waits("a stream", why, func() error { _, err := Stream(soon(), pipe); return err })
	pipePatience = 50 * time.Millisecond
	waits("for so long", errGaveUp, func() error { _, err := ReadPiped(t.Context(), pipe, 64); return err })
	pipePatience = 2 * time.Minute

	w, err := os.OpenFile(pipe, os.O_RDWR, 0) // a writer that says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	waits("reading", why, func() error { _, err := ReadPiped(soon(), pipe, 64); return err })
	waits("reading a stream", why, func() error {
		f, err := Stream(soon(), pipe)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		return errors.Join(err, f.Close())
	})
	// a mount that is dead
	if _, err := within(soon(), time.Minute, func() (int, error) { select {} }); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestAPipeIsRead(t *testing.T) {
	t.Parallel()
	pipe := kinds(t)["pipe"]
	text := bytes.Repeat([]byte("0123456789"), 100_000)
	go func() {
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err == nil {
			_, _ = w.Write(text)
			_ = w.Close()
		}
	}()
	if data, err := ReadPiped(t.Context(), pipe, 1<<20); err != nil || !bytes.Equal(data, text) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestAFileGrowsAndBeginsAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(want string) {
		t.Helper()
		if data, err := io.ReadAll(f); err != nil || string(data) != want {
			t.Errorf("%q, %v; not %q", data, err, want)
		}
	}
	read("one")
	w, _ := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	_, _ = w.WriteString("two")
	_ = w.Close()
	read("two")
	if err := f.Rewind(); err != nil {
		t.Fatal(err)
	}
	read("onetwo")
}

// openers are who opens files otherwise, and why that cannot hang: they are irctl's own.
var openers = map[string]string{
	"userfile/userfile.go":      "this is it",
	"incident/files.go":         "of the incident's folder, not blocking",
	"timeline/log.go":           "of the incident's folder",
	"timeline/head.go":          "of the incident's folder, not blocking",
	"engine/evidence.go":        "the incident's journal",
	"cli/timeline.go":           "the incident's journal; and a new file",
	"cli/runbook.go":            "a new file",
	"cli/tui.go":                "the terminal",
	"report/file.go":            "a regular file that irctl wrote, and a new one",
	"drill/session.go":          "of the drill's folder",
	"cluster/own.go":            "what the kubelet put there",
	"evidence/tool.go":          "irctl itself",
	"evidence/partial.go":       "a new file",
	"evidence/partial_flock.go": "not blocking",
	"evidence/rename_linux.go":  "a folder",
	"evidence/rename_other.go":  "a folder",
}

// TestFilesThatSomebodyNamedAreOpenedHere: no other code opens a file by a path.
func TestFilesThatSomebodyNamedAreOpenedHere(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			strings.Contains(path, "testdata") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "os" &&
				(s.Sel.Name == "Open" || s.Sel.Name == "OpenFile" || s.Sel.Name == "ReadFile") {
				name := strings.TrimPrefix(filepath.ToSlash(path), "../")
				if seen[name] = true; openers[name] == "" {
					t.Errorf("%s: os.%s: a file that somebody named is opened by package userfile", name, s.Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range openers {
		if !seen[name] {
			t.Errorf("%s opens nothing any more", name)
		}
	}
}
