package evidence

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"irctl/internal/userfile"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Recipient is an OpenPGP key that can open what is sealed to it. It comes
// from LoadRecipients; the zero value is refused by Seal.
type Recipient struct {
	entity *openpgp.Entity
}

// Fingerprint of the primary key, in upper-case hexadecimal as gpg shows it.
func (r Recipient) Fingerprint() string { return fingerprint(r.entity.PrimaryKey) }

// UserID is the key's primary user ID, "Name <address>". Whoever made the key
// wrote it: sanitise before printing. Empty if the key has none that is valid.
func (r Recipient) UserID() string {
	if _, id := r.entity.PrimaryIdentity(time.Now(), sealConfig()); id != nil {
		return id.Name
	}
	return ""
}

// Why a key is refused.
var (
	ErrKeyNotFound       = errors.New("no such key")
	ErrKeyAmbiguous      = errors.New("several keys match")
	ErrKeyExpired        = errors.New("the key has expired")
	ErrKeyRevoked        = errors.New("the key was revoked")
	ErrKeyNotYetValid    = errors.New("the key was made in the future; check this machine's clock")
	ErrKeyCannotEncrypt  = errors.New("the key cannot encrypt")
	ErrKeyPrivate        = errors.New("this is a private key; give the public one (gpg --armor --export)")
	ErrKeyUnreadable     = errors.New("not a readable OpenPGP key")
	ErrTooManyRecipients = fmt.Errorf("more than %d recipients", MaxRecipients)
)

const (
	// MaxRecipients bounds the header of a bundle: each costs some hundred bytes and a public-key operation.
	MaxRecipients = 64
	// maxKeyFile bounds a key file in bytes. Keys with many certifications are some hundred KiB.
	maxKeyFile = 4 << 20
)

// LoadRecipients finds the keys that refs name, and refuses those that cannot
// be used now, with the reason. Each ref is one of
//
//   - an e-mail address or a full fingerprint, looked up in the user's
//     keyring by the gpg program,
//   - a file with one or more public keys, armored or binary. A file whose
//     name looks like an address or a fingerprint needs a "./".
//
// Any refused ref fails the whole, and the error names all of them. A key
// named twice counts once. An address says nothing about who made the key: a
// fingerprint does.
func LoadRecipients(ctx context.Context, refs []string) ([]Recipient, error) {
	var recipients []Recipient
	var failures []error
	for _, ref := range refs {
		entities, err := loadKeys(ctx, ref)
		if err != nil {
			failures = append(failures, fmt.Errorf("recipient %q: %w", ref, err))
			continue
		}
		for _, e := range entities {
			if err := usable(e, time.Now()); err != nil {
				failures = append(failures, fmt.Errorf("recipient %q: key %s: %w", ref, fingerprint(e.PrimaryKey), err))
				continue
			}
			r := Recipient{entity: e}
			if !slices.ContainsFunc(recipients, func(o Recipient) bool { return o.Fingerprint() == r.Fingerprint() }) {
				recipients = append(recipients, r)
			}
		}
	}
	if len(recipients) > MaxRecipients {
		failures = append(failures, fmt.Errorf("%w: %d", ErrTooManyRecipients, len(recipients)))
	}
	if len(failures) > 0 {
		return nil, errors.Join(failures...)
	}
	return recipients, nil
}

func fingerprint(key *packet.PublicKey) string {
	return strings.ToUpper(hex.EncodeToString(key.Fingerprint))
}

// fullFingerprint is that of a version 4 (SHA-1) or version 6 (SHA-256) key.
// Shorter key IDs are not accepted: others can make a key with the same.
var (
	fullFingerprint = regexp.MustCompile(`^(0x)?([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$`)
	keyID           = regexp.MustCompile(`^(0x)?([0-9A-Fa-f]{8}|[0-9A-Fa-f]{16})$`)
	emailAddress    = regexp.MustCompile(`^[^@\s<>/\\\x00-\x1f]+@[^@\s<>/\\\x00-\x1f]+$`)
)

// isKeyringRef tells references into the GnuPG keyring from files.
func isKeyringRef(ref string) bool {
	return fullFingerprint.MatchString(strings.Join(strings.Fields(ref), "")) ||
		emailAddress.MatchString(ref) && len(ref) <= 254
}

func loadKeys(ctx context.Context, ref string) ([]*openpgp.Entity, error) {
	compact := strings.Join(strings.Fields(ref), "") // gpg prints fingerprints in groups
	switch {
	case fullFingerprint.MatchString(compact):
		return keyringByFingerprint(ctx, strings.TrimPrefix(strings.ToUpper(compact), "0X"))
	case emailAddress.MatchString(ref) && len(ref) <= 254:
		return keyringByEmail(ctx, ref)
	}
	entities, err := readKeyFile(ctx, ref)
	if errors.Is(err, os.ErrNotExist) {
		if keyID.MatchString(ref) {
			return nil, fmt.Errorf("%w: short key IDs can be forged, give the whole fingerprint (gpg --fingerprint %s)",
				ErrKeyNotFound, ref)
		}
		return nil, fmt.Errorf("%w: no such file, and it is neither an e-mail address nor a fingerprint",
			ErrKeyNotFound)
	}
	return entities, err
}

func readKeyFile(ctx context.Context, path string) ([]*openpgp.Entity, error) {
	data, err := userfile.ReadPiped(ctx, path, maxKeyFile)
	if errors.Is(err, userfile.ErrNotAFile) || errors.Is(err, userfile.ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", ErrKeyUnreadable, err)
	}
	if err != nil {
		return nil, err
	}
	return parseKeys(data)
}

var armorBegin = []byte("-----BEGIN PGP ")

// parseKeys reads all keys of a file, binary or in any number of armored
// blocks. Unlike openpgp.ReadKeyRing it skips none: a recipient who was
// silently left out could not open the evidence.
func parseKeys(data []byte) ([]*openpgp.Entity, error) {
	start := bytes.Index(data, armorBegin)
	if start < 0 || len(data) > 0 && data[0]&0x80 != 0 { // every binary packet begins with that bit
		return parseBinaryKeys(bytes.NewReader(data))
	}
	var entities []*openpgp.Entity
	for block := data[start:]; len(block) > 0; {
		end := len(block)
		if next := bytes.Index(block[1:], armorBegin); next >= 0 {
			end = next + 1
		}
		keys, err := parseArmoredKeys(block[:end])
		if err != nil {
			return nil, err
		}
		entities = append(entities, keys...)
		block = block[end:]
	}
	return entities, nil
}

func parseArmoredKeys(block []byte) ([]*openpgp.Entity, error) {
	decoded, err := armor.Decode(bytes.NewReader(block))
	if err != nil {
		return nil, fmt.Errorf("%w: damaged armor: %w", ErrKeyUnreadable, err)
	}
	switch decoded.Type {
	case openpgp.PublicKeyType:
		return parseBinaryKeys(decoded.Body)
	case openpgp.PrivateKeyType:
		return nil, ErrKeyPrivate
	}
	return nil, fmt.Errorf("%w: it holds a %q", ErrKeyUnreadable, decoded.Type)
}

func parseBinaryKeys(r io.Reader) ([]*openpgp.Entity, error) {
	var entities []*openpgp.Entity
	for packets := packet.NewReader(r); ; {
		e, primary, err := readEntity(packets)
		if errors.Is(err, io.EOF) && len(entities) > 0 {
			return entities, nil
		}
		if err != nil && primary != nil {
			// gpg exports such a key without the signatures that it cannot
			// check yet, so that it is no whole key.
			if early := notYetValid(primary, time.Now()); early != nil {
				err = early
			}
		}
		if errors.Is(err, ErrKeyNotYetValid) {
			return nil, fmt.Errorf("key %s: %w", fingerprint(primary), err)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: key %d: %w", ErrKeyUnreadable, len(entities)+1, err)
		}
		if e.PrivateKey != nil {
			return nil, ErrKeyPrivate
		}
		if entities = append(entities, e); len(entities) > MaxRecipients {
			return nil, ErrTooManyRecipients
		}
	}
}

// readEntity also returns the primary key alone, if there is at least that.
func readEntity(packets *packet.Reader) (*openpgp.Entity, *packet.PublicKey, error) {
	first, err := packets.Next()
	if err != nil {
		return nil, nil, err
	}
	packets.Unread(first)
	e, err := openpgp.ReadEntity(packets)
	switch key := first.(type) {
	case *packet.PublicKey:
		return e, key, err
	case *packet.PrivateKey:
		return e, &key.PublicKey, err
	}
	return e, nil, err
}

func notYetValid(key *packet.PublicKey, now time.Time) error {
	if key.CreationTime.After(now) {
		return fmt.Errorf("%w (%s)", ErrKeyNotYetValid, key.CreationTime.UTC().Format(time.DateOnly))
	}
	return nil
}

// usable tells why a key cannot be encrypted to at the given time.
func usable(e *openpgp.Entity, now time.Time) error {
	if err := notYetValid(e.PrimaryKey, now); err != nil {
		return err
	}
	// A certification-only or unknown-flags failure is the last resort: what
	// makes the whole key unusable explains more.
	_, err := e.EncryptionKeyWithError(now, sealConfig())
	if err == nil {
		return nil
	}
	var cause error
	if selection, ok := errors.AsType[pgperrors.ErrEncryptionKeySelection](err); ok {
		cause = errors.Join(selection.PrimaryKeyErr, selection.EncSelectionErr)
	} else if selection, ok := errors.AsType[*pgperrors.ErrEncryptionKeySelection](err); ok {
		cause = errors.Join(selection.PrimaryKeyErr, selection.EncSelectionErr)
	}
	switch {
	case errors.Is(cause, pgperrors.ErrKeyRevoked):
		return ErrKeyRevoked
	case errors.Is(cause, pgperrors.ErrKeyExpired):
		return expired(e)
	}
	return fmt.Errorf("%w: %w", ErrKeyCannotEncrypt, err)
}

// expired adds the day, if the primary key is what expired.
func expired(e *openpgp.Entity) error {
	sig, err := e.PrimarySelfSignature(time.Time{}, sealConfig())
	if err != nil || sig.KeyLifetimeSecs == nil || *sig.KeyLifetimeSecs == 0 {
		return ErrKeyExpired
	}
	day := e.PrimaryKey.CreationTime.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
	return fmt.Errorf("%w on %s", ErrKeyExpired, day.UTC().Format(time.DateOnly))
}
