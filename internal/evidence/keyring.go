package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// keyringTimeout bounds one look-up: gpg waits for the lock of its keyring.
const keyringTimeout = 20 * time.Second

// keyringByFingerprint finds a key in the user's GnuPG keyring by the
// fingerprint of its primary key or of a subkey.
func keyringByFingerprint(ctx context.Context, fpr string) ([]*openpgp.Entity, error) {
	entities, err := exportFromKeyring(ctx, fpr)
	if err != nil {
		return nil, err
	}
	// What gpg was asked for is not taken on trust.
	entities = slices.DeleteFunc(entities, func(e *openpgp.Entity) bool {
		return fingerprint(e.PrimaryKey) != fpr && !slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool {
			return fingerprint(s.PublicKey) == fpr
		})
	})
	return single(entities)
}

// keyringByEmail finds the key with a valid user ID of exactly that address.
func keyringByEmail(ctx context.Context, email string) ([]*openpgp.Entity, error) {
	entities, err := exportFromKeyring(ctx, "<"+email+">") // gpg's notation of an exact match
	if err != nil {
		return nil, err
	}
	entities = slices.DeleteFunc(entities, func(e *openpgp.Entity) bool { return !hasEmail(e, email) })
	return single(entities)
}

func hasEmail(e *openpgp.Entity, email string) bool {
	for _, id := range e.Identities {
		// Whenever: an expired key is to be reported as such, not as missing.
		if _, err := id.Verify(time.Time{}, sealConfig()); err != nil {
			continue
		}
		if strings.EqualFold(id.UserId.Email, email) || strings.EqualFold(id.UserId.Id, email) {
			return true
		}
	}
	return false
}

func single(entities []*openpgp.Entity) ([]*openpgp.Entity, error) {
	switch len(entities) {
	case 0:
		return nil, fmt.Errorf("%w in the GnuPG keyring", ErrKeyNotFound)
	case 1:
		return entities, nil
	}
	var list []string
	for _, e := range entities {
		state := "usable"
		if err := usable(e, time.Now()); err != nil {
			state = err.Error()
		}
		list = append(list, fmt.Sprintf("%s (%s)", fingerprint(e.PrimaryKey), state))
	}
	slices.Sort(list)
	return nil, fmt.Errorf("%w; give the fingerprint of one: %s", ErrKeyAmbiguous, strings.Join(list, ", "))
}

// exportFromKeyring asks gpg for keys. The query is one argument, never a
// shell's text. GNUPGHOME and the user's gpg.conf are honoured.
func exportFromKeyring(ctx context.Context, query string) ([]*openpgp.Entity, error) {
	ctx, cancel := context.WithTimeout(ctx, keyringTimeout)
	defer cancel()
	// Minimal: without others' certifications, of which anyone can have added
	// any number.
	cmd := exec.CommandContext(ctx, "gpg", "--batch", "--no-tty", "--no-auto-check-trustdb",
		"--export-options", "export-minimal,no-export-attributes", "--export", "--", query)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	stdout, stderr := &boundedBuffer{limit: maxKeyFile, full: cancel}, &boundedBuffer{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	switch {
	case stdout.cut:
		return nil, fmt.Errorf("%w: gpg exported more than %d bytes", ErrKeyUnreadable, maxKeyFile)
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf(
			"the gpg program is needed to look a key up in the keyring; install it or give a key file: %w", err)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("looking the key up with gpg: %w", context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("gpg --export: %w: %s", err, strings.TrimSpace(stderr.buf.String()))
	case stdout.buf.Len() == 0: // gpg says "nothing exported" and succeeds
		return nil, fmt.Errorf("%w in the GnuPG keyring", ErrKeyNotFound)
	}
	return parseKeys(stdout.buf.Bytes())
}

// boundedBuffer keeps the first bytes of a program's output and drops the
// rest; full, if given, is called once when there is a rest.
type boundedBuffer struct {
	buf   bytes.Buffer // not embedded: its ReadFrom would know no limit
	limit int
	full  func()
	cut   bool
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if room := b.limit - b.buf.Len(); len(p) > room {
		b.buf.Write(p[:room])
		if !b.cut && b.full != nil {
			b.full()
		}
		b.cut = true
		return len(p), nil
	}
	return b.buf.Write(p)
}
