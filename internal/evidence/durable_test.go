package evidence

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// syncs has fsync tell what is asked for, with what is in the folder at that
// time, and fail where the test says so. Tests that use it do not run beside others.
func syncs(t *testing.T, dir string, fail func(f *os.File) error) *[]string {
	t.Helper()
	was := fsync
	t.Cleanup(func() { fsync = was })
	var seen []string
	fsync = func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		what := "folder"
		if !info.IsDir() {
			what = "file"
			if info.Size() == 0 {
				t.Errorf("%s is made durable before it is written", f.Name())
			}
		}
		var there []string
		names, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			if !strings.HasPrefix(n.Name(), ".") {
				there = append(there, n.Name())
			}
		}
		seen = append(seen, what+" with "+strings.Join(there, " "))
		if fail != nil {
			if err := fail(f); err != nil {
				return err
			}
		}
		return was(f)
	}
	return &seen
}

func smallBundle(t *testing.T, path string) (*Bundle, error) {
	t.Helper()
	recipient, _ := testKey(t)
	b, err := Create(path, []Recipient{recipient}, nil,
		Meta{Purpose: "test", Tool: Tool{Name: "irctl", Version: "test"}}, time.Now)
	if err != nil {
		return nil, err
	}
	return b, b.Bag().AddBytes("test", "a test", []byte("x"), "a.txt")
}

// A bundle and its receipt are on stable storage before they get their names, and
// the names before the bundle is told as there.
func TestABundleIsDurableBeforeItIsNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "case"+Extension)
	seen := syncs(t, dir, nil)
	b, err := smallBundle(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(path)
	if want := []string{"file with ", "file with ", "folder with " + name + " " +
		filepath.Base(receiptPath(path))}; !slices.Equal(*seen, want) {
		t.Errorf("%q, expected %q", *seen, want)
	}
}

// What could not be made durable is no bundle.
func TestABundleThatIsNotDurableIsNone(t *testing.T) {
	broken := errors.New("input/output error")
	for n, folder := range []bool{false, false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "case"+Extension)
		calls := 0
		syncs(t, dir, func(*os.File) error {
			if calls++; calls == n+1 {
				return broken
			}
			return nil
		})
		b, err := smallBundle(t, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Finish(t.Context(), ""); !errors.Is(err, broken) {
			t.Errorf("call %d failed: %v", n+1, err)
		}
		if _, err := os.Stat(path); (err == nil) != folder {
			t.Errorf("call %d failed: the bundle is there: %v", n+1, err == nil)
		}
	}
}

// Nothing that has the name of a bundle is overwritten, also not by one that was
// begun before that came.
func TestABundleOverwritesNothing(t *testing.T) {
	for name, place := range map[string]func(from, to string) error{
		"rename": renameNew, "link": linkNew, "where free": renameWhereFree,
	} {
		dir := t.TempDir()
		from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
		for _, path := range []string{from, to} {
			if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := place(from, to); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
		for _, path := range []string{from, to} {
			if text, err := os.ReadFile(path); err != nil || string(text) != path {
				t.Errorf("%s: %q, %v", name, text, err)
			}
		}
		if err := errors.Join(os.Remove(to), place(from, to)); err != nil {
			t.Errorf("%s: the name is free: %v", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "case"+Extension)
	b, err := smallBundle(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(t.Context(), ""); !errors.Is(err, ErrBundleExists) {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "theirs" {
		t.Errorf("%q, %v", text, err)
	}
}

// An entry of the custody chain is never there without its signature.
func TestCustodyIsNeverSeenUnsigned(t *testing.T) {
	signer := fileSigner(t, newGnupg(t), "durable@example.com")
	bundle, _ := sealed(t, signer)
	dir := bundle + CustodySuffix
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	seen := syncs(t, dir, nil)
	if _, err := AddCustody(t.Context(), bundle, HandOver{From: "a", To: "b"}, Actor{}, signer,
		time.Now()); err != nil {
		t.Fatal(err)
	}
	signed := false
	for _, s := range *seen {
		_, names, _ := strings.Cut(s, " with ")
		there := strings.Fields(names)
		if slices.Contains(there, "0001.json") && !slices.Contains(there, "0001.json.asc") {
			t.Errorf("seen: %q", s)
		}
		signed = signed || slices.Equal(there, []string{"0001.json.asc"})
	}
	if !signed {
		t.Errorf("the signature was not there first: %q", *seen)
	}
}
