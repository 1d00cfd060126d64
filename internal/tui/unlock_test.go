package tui

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/charmbracelet/x/ansi"

	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

const passphrase = "correct horse battery"

// sealing has evidence sealed to a key, which also signs and has a passphrase.
func (l *lab) sealing(t *testing.T) func(*Options) {
	t.Helper()
	e, err := openpgp.NewEntity("Responder", "", "responder@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	var public, private bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	if err := e.EncryptPrivateKeys([]byte(passphrase), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.SerializePrivateWithoutSigning(&private, nil); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"public.gpg": public.Bytes(), "secret.gpg": private.Bytes()} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	recipients, err := evidence.LoadRecipients(t.Context(), []string{"public.gpg"})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) {
		o.Signer = evidence.LockedSigner("./secret.gpg")
		o.Prepare = func(_ context.Context, req *engine.RunRequest) error {
			req.Evidence = &engine.Sealing{Recipients: recipients, Signer: o.Signer,
				Tool: evidence.Tool{Name: "irctl", Version: "test"}}
			req.Snapshot, req.EvidenceNote = req.Evidence.Snapshot(), "evidence will be sealed"
			return nil
		}
	}
}

// toTheYes goes to the moment after the containment was agreed to.
func (d *driver) toTheYes() {
	d.t.Helper()
	d.until("critical")
	d.press("enter", "s")
	d.until("1 real")
	d.press("1")
	d.until("It will make 3 changes")
	d.press("r", "Y")
}

// signedBy are who signed for the evidence of the only incident, a name each.
func (l *lab) signedBy(t *testing.T) (signers []string) {
	t.Helper()
	for _, e := range l.entries(t) {
		if r, ok := timeline.Payload[record.Receipt](&e); ok {
			signers = append(signers, r.Signer)
			if _, err := os.Stat(r.Path + evidence.SignatureSuffix); (err == nil) != (r.Signer != "") {
				t.Errorf("the receipt is signed by %q, and of its signature: %v", r.Signer, err)
			}
		}
	}
	return signers
}

// keptNowhere: no file of the responder's, and nothing on the screen, has the passphrase.
func (d *driver) keptNowhere(l *lab, id incident.ID) {
	d.t.Helper()
	path, err := l.store.TimelinePath(id)
	if err != nil {
		d.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Dir(path) + "/*")
	if err != nil || len(files) < 2 {
		d.t.Fatalf("%q, %v", files, err)
	}
	for _, f := range files {
		if content, err := os.ReadFile(f); err != nil || bytes.Contains(content, []byte(passphrase)) {
			d.t.Errorf("%s holds the passphrase, or: %v", f, err)
		}
	}
}

func TestThePassphraseIsAskedForWhenItIsNeeded(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l), l.sealing(t))
	d.toTheYes()
	d.until("THE KEY THAT SIGNS IS LOCKED", "./secret.gpg", "Esc goes on without a signature", "Passphrase:")
	if n := l.server.Written(); n != 0 {
		t.Errorf("%d writes before the answer", n)
	}
	d.press("enter") // of nothing: nothing happens
	d.write("wrong")
	d.until("Passphrase: •••••")
	d.press("enter")
	d.until("THAT IS NOT ITS PASSPHRASE")
	d.paste(passphrase[:7])
	d.write(passphrase[7:9])
	d.paste(passphrase[9:] + "\n")
	d.until("Passphrase: " + strings.Repeat("•", len(passphrase)))
	for _, size := range [][2]int{{80, 24}, {40, 12}, {200, 50}} {
		frame := d.at(size[0], size[1])
		checkFrame(t, "the passphrase", d.m.theme, frame, size[0], size[1])
		if strings.Contains(ansi.Strip(frame), "horse") {
			t.Errorf("the passphrase is shown:\n%s", frame)
		}
	}
	d.press("enter")
	d.until("CONTAINED WITH EXPOSURES", "Enter goes on")
	if s := l.signedBy(t); len(s) != 1 || len(s[0]) != 40 {
		t.Errorf("signed by %q", s)
	}
	d.keptNowhere(l, d.m.file.ID)

	// The key stays unlocked: the next evidence is not asked about.
	d.press("enter")
	d.until("1 done")
	d.press("1")
	d.until("Close what containment", "1 done")
	d.press("1")
	d.until("Collect and seal the evidence", "r: run this step")
	d.press("r")
	d.until("sealed in", "Enter goes on")
	if s := l.signedBy(t); len(s) != 2 || s[1] != s[0] {
		t.Errorf("signed by %q", s)
	}
}

func TestContainingGoesOnWithoutASignature(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l), l.sealing(t))
	d.toTheYes()
	d.until("THE KEY THAT SIGNS IS LOCKED")
	d.write("q?tv") // letters of a passphrase, and no keys
	d.until("Passphrase: ••••")
	d.press("esc")
	d.until("CONTAINED WITH EXPOSURES", "its receipt is not signed", "Enter goes on")
	if s := l.signedBy(t); len(s) != 1 || s[0] != "" {
		t.Errorf("signed by %q", s)
	}
	if !strings.Contains(l.journal(t), "its receipt is not signed") {
		t.Errorf("the journal does not tell:\n%s", l.journal(t))
	}
	// It is asked again before the next evidence.
	d.press("enter")
	d.until("1 done")
	d.press("1")
	d.until("Close what containment", "1 done")
	d.press("1")
	d.until("r: run this step")
	d.press("r")
	d.until("THE KEY THAT SIGNS IS LOCKED")
	d.write(passphrase)
	d.press("enter")
	d.until("signed by", "Enter goes on")
	if s := l.signedBy(t); len(s) != 2 || len(s[1]) != 40 {
		t.Errorf("signed by %q", s)
	}
}

func TestAKeyThatCannotBeUsedKeepsNobodyFromContaining(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l), l.sealing(t), func(o *Options) {
		if err := os.Rename("secret.gpg", "elsewhere.gpg"); err != nil {
			t.Fatal(err)
		}
	})
	d.toTheYes()
	d.until("THE KEY THAT SIGNS CANNOT BE USED", "no such file", "Enter tries the key again")
	if err := os.Rename("elsewhere.gpg", "secret.gpg"); err != nil {
		t.Fatal(err)
	}
	d.press("enter")
	d.until("THE KEY THAT SIGNS IS LOCKED")
	d.press("esc")
	d.until("CONTAINED WITH EXPOSURES", "Enter goes on")
}

// TestQuittingAtThePassphraseDoesNothing: what was agreed to had not begun.
func TestQuittingAtThePassphraseDoesNothing(t *testing.T) {
	l := newLab(t)
	d := l.open(t, withAlert(l), l.sealing(t))
	d.toTheYes()
	d.until("THE KEY THAT SIGNS IS LOCKED")
	d.press("ctrl+c")
	d.quitted()
	if n := l.server.Written(); n != 0 {
		t.Errorf("%d writes", n)
	}
	d = l.open(t, l.sealing(t))
	d.until("compromised-pod, at")
	d.press("enter")
	d.until("It will make 3 changes", "r: make 3 changes")
}
