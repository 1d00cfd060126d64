package evidence

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

func TestGnupgOpensWhatIsSealed(t *testing.T) {
	g := newGnupg(t)
	g.key("Rsa <rsa@example.org>", "rsa2048", "rsa2048")
	g.key("Curve <curve@example.org>", "ed25519", "cv25519")
	g.key("Nist <nist@example.org>", "nistp256", "nistp256")

	content := make([]byte, 3<<20+17)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	for name, refs := range map[string][]string{
		"RSA":        {"rsa@example.org"},
		"Curve25519": {"curve@example.org"},
		"NIST P-256": {"nist@example.org"},
		"several":    {"rsa@example.org", "curve@example.org", "nist@example.org"},
	} {
		for size, plain := range map[string][]byte{"empty": nil, "a byte": content[:1], "megabytes": content} {
			t.Run(name+", "+size, func(t *testing.T) {
				recipients, err := LoadRecipients(t.Context(), refs)
				if err != nil {
					t.Fatal(err)
				}
				file := writeFile(t, seal(t, plain, recipients...))
				if got := g.run("--decrypt", file); !bytes.Equal(got, plain) {
					t.Errorf("decrypted %d bytes that are not the %d that were sealed", len(got), len(plain))
				}
				packets := string(g.run("--list-packets", "--verbose", file))
				for _, want := range []string{"encrypted data packet", "mdc_method: 2"} {
					if !strings.Contains(packets, want) {
						t.Errorf("no %q in what gpg lists:\n%.2000s", want, packets)
					}
				}
				if n := strings.Count(packets, ":pubkey enc packet:"); n != len(refs) {
					t.Errorf("encrypted to %d keys, want %d", n, len(refs))
				}
				if strings.Contains(packets, "compressed packet") {
					t.Error("compressed twice")
				}
			})
		}
	}
	t.Run("each recipient alone", func(t *testing.T) {
		recipients, err := LoadRecipients(t.Context(), []string{"rsa@example.org", "curve@example.org"})
		if err != nil {
			t.Fatal(err)
		}
		file := writeFile(t, seal(t, []byte("both"), recipients...))
		for _, email := range []string{"rsa@example.org", "curve@example.org"} {
			secret := writeFile(t, g.run("--export-secret-keys", email))
			alone := newGnupg(t)
			alone.run("--import", secret)
			if got := alone.run("--decrypt", file); string(got) != "both" {
				t.Errorf("%s decrypted %q", email, got)
			}
		}
	})
}

func TestAMessageWithoutCloseCannotBeDecrypted(t *testing.T) {
	g := newGnupg(t)
	g.key("Curve <curve@example.org>", "ed25519", "cv25519")
	recipients, err := LoadRecipients(t.Context(), []string{"curve@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := Seal(&sealed, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if sealed.Len() < 1<<19 {
		t.Fatalf("only %d bytes came out so far: it does not stream", sealed.Len())
	}
	if _, err := g.try("--decrypt", writeFile(t, sealed.Bytes())); err == nil {
		t.Error("gpg took a message that was never finished")
	}
}

func TestSealNeedsRecipients(t *testing.T) {
	for _, recipients := range [][]Recipient{nil, {{}}} {
		if _, err := Seal(io.Discard, recipients...); !errors.Is(err, ErrNoRecipients) {
			t.Errorf("recipients %v: %v", recipients, err)
		}
	}
}

func TestAFailedWriteIsNotGivenAValidEnd(t *testing.T) {
	r, _ := testKey(t)
	out := &failingWriter{after: 200 << 10}
	w, err := Seal(out, r)
	if err != nil {
		t.Fatal(err)
	}
	_, writeErr := w.Write(make([]byte, 1<<20))
	if err := errors.Join(writeErr, w.Close()); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
	if out.calledAfter {
		t.Error("something was written after the failure")
	}
}

func TestSealingToTheSameKeyAtTheSameTime(t *testing.T) {
	r, _ := testKey(t)
	if err := usable(r.entity, r.entity.PrimaryKey.CreationTime); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			w, err := Seal(io.Discard, r)
			if err != nil {
				t.Error(err)
				return
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

var errDisk = errors.New("disk on fire")

type failingWriter struct {
	after       int
	failed      bool
	calledAfter bool
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.failed {
		w.calledAfter = true
	}
	if w.after -= len(p); w.after < 0 {
		w.failed = true
		return 0, errDisk
	}
	return len(p), nil
}

func seal(t *testing.T, plain []byte, recipients ...Recipient) []byte {
	t.Helper()
	var sealed bytes.Buffer
	w, err := Seal(&sealed, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return sealed.Bytes()
}
