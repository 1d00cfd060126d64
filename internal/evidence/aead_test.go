package evidence

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// keyPair writes a key's public and private halves to files.
func keyPair(t *testing.T, config *packet.Config) (public, private string) {
	t.Helper()
	e, err := openpgp.NewEntity("Responder", "", "responder@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	public, private = filepath.Join(dir, "public.asc"), filepath.Join(dir, "private.asc")
	write := func(path, kind string, serialize func(io.Writer) error) {
		var out bytes.Buffer
		w, err := armor.Encode(&out, kind, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(serialize(w), w.Close(), os.WriteFile(path, out.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(public, openpgp.PublicKeyType, e.Serialize)
	write(private, openpgp.PrivateKeyType, func(w io.Writer) error { return e.SerializePrivate(w, nil) })
	return public, private
}

// format is the version of a message's encrypted packet.
func format(t *testing.T, message []byte) int {
	t.Helper()
	for r := packet.NewReader(bytes.NewReader(message)); ; {
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := p.(*packet.SymmetricallyEncrypted); ok {
			return e.Version
		}
	}
}

// Only what every recipient's key announces is used: the AEAD format of RFC 9580
// (version 2 of the packet), else what GnuPG 2.2 reads (version 1).
func TestTheModernFormatIsForThoseWhoseKeysAnnounceIt(t *testing.T) {
	gcm, ocb := &packet.AEADConfig{DefaultMode: packet.AEADModeGCM}, &packet.AEADConfig{DefaultMode: packet.AEADModeOCB}
	old, oldPrivate := keyPair(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519})
	v4, v4Private := keyPair(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519,
		AEADConfig: ocb})
	v6, v6Private := keyPair(t, &packet.Config{V6Keys: true, Algorithm: packet.PubKeyAlgoEd25519, AEADConfig: gcm})
	for name, tc := range map[string]struct {
		recipients, private []string
		version             int
	}{
		"no key announces it":   {[]string{old}, []string{oldPrivate}, 1},
		"the key announces it":  {[]string{v4}, []string{v4Private}, 2},
		"a version 6 key":       {[]string{v6}, []string{v6Private}, 2},
		"both, of two versions": {[]string{v4, v6}, []string{v4Private, v6Private}, 2},
		"one of two does not":   {[]string{v4, old}, []string{v4Private, oldPrivate}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			recipients, err := LoadRecipients(t.Context(), tc.recipients)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "bundle"+Extension)
			receipt := writeBundle(t, path, recipients, nil)
			if len(receipt.Recipients) != len(tc.recipients) {
				t.Errorf("recipients %v", receipt.Recipients)
			}
			message, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := format(t, message); got != tc.version {
				t.Errorf("version %d of the encrypted packet, want %d", got, tc.version)
			}
			for _, private := range tc.private {
				key, err := LoadKey(t.Context(), private, nil)
				if err != nil {
					t.Fatal(err)
				}
				checkBundle(t, path, key)
			}
			if tc.version == 2 {
				damagedAEAD(t, message, tc.private[0])
			}
		})
	}
	t.Run("GnuPG opens what it has to", func(t *testing.T) {
		g := newGnupg(t)
		g.run("--import", oldPrivate)
		recipients, err := LoadRecipients(t.Context(), []string{v4, old, v6})
		if err != nil {
			t.Fatal(err)
		}
		file := writeFile(t, seal(t, []byte("for all"), recipients...))
		if got := g.run("--decrypt", file); string(got) != "for all" {
			t.Errorf("%q", got)
		}
	})
}

// damagedAEAD: no byte can be changed, and nothing cut off, unnoticed by the
// encryption itself.
func damagedAEAD(t *testing.T, message []byte, private string) {
	t.Helper()
	key, err := LoadKey(t.Context(), private, nil)
	if err != nil {
		t.Fatal(err)
	}
	readAll := func(message []byte) error {
		r, err := Open(bytes.NewReader(message), key.keyring)
		if err != nil {
			return err
		}
		for {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				return r.Close()
			} else if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
		}
	}
	if err := readAll(message); err != nil {
		t.Fatal(err)
	}
	n := len(message)
	for _, at := range []int{n / 3, n / 2, n - 40, n - 1} {
		changed := bytes.Clone(message)
		changed[at] ^= 1
		if readAll(changed) == nil {
			t.Errorf("byte %d of %d can be changed", at, n)
		}
		if readAll(message[:at]) == nil {
			t.Errorf("what follows byte %d of %d can be cut off", at, n)
		}
	}
}
