package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"irctl/internal/userfile"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Signer vouches for receipts and custody entries with an OpenPGP key. The key
// is a file, or stays with GnuPG: in its agent, on a smart card.
type Signer struct {
	ref string

	mu     sync.Mutex
	public *openpgp.Entity
	sign   func(ctx context.Context, data []byte) ([]byte, error) // nil: it is locked
}

// Fingerprint of the primary key; "" of a signer that was never unlocked.
func (s *Signer) Fingerprint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.public == nil {
		return ""
	}
	return fingerprint(s.public.PrimaryKey)
}

// Ref is what names the key.
func (s *Signer) Ref() string { return s.ref }

// Passphrase asks for what unlocks a private key. See AskAgent and ReadPassphrase.
type Passphrase func(ctx context.Context, fingerprint string) ([]byte, error)

// Why nothing was signed.
var (
	ErrKeyCannotSign = errors.New("the key cannot sign")
	ErrKeyLocked     = errors.New("the private key could not be unlocked")
	ErrPassphrase    = errors.New("wrong passphrase")
	ErrNotSigned     = errors.New("not signed")
)

// LoadSigner finds the private key that ref names: a file with one private
// key, or an e-mail address or full fingerprint of the user's GnuPG keyring,
// where gpg itself signs and asks for the passphrase. The key is tried out, so
// that one that cannot sign is found out before anything depends on it.
func LoadSigner(ctx context.Context, ref string, ask Passphrase) (*Signer, error) {
	s, err := loadSigner(ctx, ref, ask)
	if err != nil {
		return nil, fmt.Errorf("signing key %q: %w", ref, err)
	}
	if _, ok := s.public.SigningKey(time.Now(), sealConfig()); !ok {
		return nil, fmt.Errorf("signing key %q: %w: %s", ref, cmpError(usableAtAll(s.public), ErrKeyCannotSign),
			s.Fingerprint())
	}
	return s, nil
}

// LockedSigner is the signer that ref names, as LoadSigner finds it, for a
// program that asks for passphrases itself, once it needs a signature. Nothing is
// read before Unlock. What is sealed while it is locked is not signed.
func LockedSigner(ref string) *Signer { return &Signer{ref: ref} }

// Locked tells that it cannot sign before it is unlocked.
func (s *Signer) Locked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sign == nil
}

// Unlock has the signer ready, with a passphrase or, if that is nil, without.
// The error is ErrKeyLocked if it needs one, and ErrPassphrase if it needs
// another one. A key file is then unlocked for good; with GnuPG its agent
// decides for how long, so it is to be called again before it signs. GnuPG's own
// window, which could be in the middle of the program's, does not appear.
func (s *Signer) Unlock(ctx context.Context, passphrase []byte) error {
	if !s.Locked() && !isKeyringRef(s.ref) {
		return nil
	}
	found, err := LoadSigner(ctx, s.ref, func(context.Context, string) ([]byte, error) {
		if passphrase == nil {
			return nil, errors.New("it needs its passphrase")
		}
		return bytes.Clone(passphrase), nil // unlock wipes it
	})
	if err == nil && isKeyringRef(s.ref) {
		found.sign = func(ctx context.Context, data []byte) ([]byte, error) {
			return gpgSignWith(ctx, found.Fingerprint(), data, nil)
		}
		if _, err = gpgSignWith(ctx, found.Fingerprint(), []byte("irctl tries the key\n"), passphrase); err != nil {
			err, found.sign = fmt.Errorf("signing key %q: %w", s.ref, err), nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sign = nil; found != nil {
		s.public, s.sign = found.public, found.sign
	}
	return err
}

// usableAtAll tells what is wrong with a key beyond its lack of an ability.
func usableAtAll(e *openpgp.Entity) error {
	if err := usable(e, time.Now()); errors.Is(err, ErrKeyExpired) || errors.Is(err, ErrKeyRevoked) ||
		errors.Is(err, ErrKeyNotYetValid) {
		return err
	}
	return nil
}

func cmpError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func loadSigner(ctx context.Context, ref string, ask Passphrase) (*Signer, error) {
	if isKeyringRef(ref) {
		entities, err := loadKeys(ctx, ref)
		if err != nil {
			return nil, err
		}
		s := &Signer{ref: ref, public: entities[0]}
		s.sign = func(ctx context.Context, data []byte) ([]byte, error) { return gpgSign(ctx, s.Fingerprint(), data) }
		return s, nil
	}
	e, err := readPrivateKey(ctx, ref, ask)
	if err != nil {
		return nil, err
	}
	sign := func(_ context.Context, data []byte) ([]byte, error) {
		var signature bytes.Buffer
		err := openpgp.ArmoredDetachSign(&signature, []*openpgp.Entity{e}, bytes.NewReader(data),
			&openpgp.SignParams{Config: sealConfig()})
		return append(signature.Bytes(), '\n'), err
	}
	return &Signer{ref: ref, public: e, sign: sign}, nil
}

// Sign returns an armored detached signature. It is checked before it is
// returned: a signature that nobody can verify is worse than none.
func (s *Signer) Sign(ctx context.Context, data []byte) ([]byte, error) {
	s.mu.Lock()
	public, sign := s.public, s.sign
	s.mu.Unlock()
	if sign == nil {
		return nil, fmt.Errorf("%w: signing key %q: %w", ErrNotSigned, s.ref, ErrKeyLocked)
	}
	signature, err := sign(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("%w with key %s: %w", ErrNotSigned, fingerprint(public.PrimaryKey), err)
	}
	if _, err := checkSignature(data, signature, openpgp.EntityList{public}); err != nil {
		return nil, fmt.Errorf("%w with key %s: the signature does not verify: %w", ErrNotSigned,
			fingerprint(public.PrimaryKey), err)
	}
	return signature, nil
}

// readPrivateKey reads a file with one private key, and unlocks it.
func readPrivateKey(ctx context.Context, path string, ask Passphrase) (*openpgp.Entity, error) {
	e, err := privateKeyIn(ctx, path)
	if err != nil {
		return nil, err
	}
	return e, unlock(ctx, e, ask)
}

// privateKeyIn is the one private key of a file, as locked as it is there.
func privateKeyIn(ctx context.Context, path string) (*openpgp.Entity, error) {
	data, err := userfile.ReadPiped(ctx, path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	var body io.Reader = bytes.NewReader(data)
	if start := bytes.Index(data, armorBegin); start >= 0 && data[0]&0x80 == 0 {
		block, err := armor.Decode(bytes.NewReader(data[start:]))
		if err != nil {
			return nil, fmt.Errorf("%w: damaged armor: %w", ErrKeyUnreadable, err)
		}
		body = block.Body
	}
	e, _, err := readEntity(packet.NewReader(body))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrKeyUnreadable, err)
	case e.PrivateKey == nil:
		return nil, fmt.Errorf("%w: it is a public key; the private one is needed (gpg --armor "+
			"--export-secret-keys), or its fingerprint, for GnuPG to sign", ErrKeyUnreadable)
	}
	return e, nil
}

func unlock(ctx context.Context, e *openpgp.Entity, ask Passphrase) error {
	locked := e.PrivateKey.Encrypted
	for _, sub := range e.Subkeys {
		locked = locked || sub.PrivateKey != nil && sub.PrivateKey.Encrypted
	}
	if !locked {
		return nil
	}
	if ask == nil {
		return fmt.Errorf("%w: it has a passphrase, and there is nobody to ask for it", ErrKeyLocked)
	}
	passphrase, err := ask(ctx, fingerprint(e.PrimaryKey))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyLocked, err)
	}
	defer clear(passphrase)
	if err := e.DecryptPrivateKeys(passphrase); err != nil {
		return fmt.Errorf("%w: %w? %w", ErrKeyLocked, ErrPassphrase, err)
	}
	return nil
}

// maxPassphrase in bytes.
const maxPassphrase = 4 << 10

// ReadPassphrase reads it from a file descriptor, up to the end of the first line.
func ReadPassphrase(f io.Reader) Passphrase {
	return func(context.Context, string) ([]byte, error) {
		data, err := io.ReadAll(io.LimitReader(f, maxPassphrase))
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
}

// AskAgent has the GnuPG agent ask for a passphrase, which it does with the
// pinentry program that the user is used to.
func AskAgent(ctx context.Context, fingerprint string) ([]byte, error) {
	description := "irctl+needs+the+signing+key+" + fingerprint
	cmd := exec.CommandContext(ctx, "gpg-connect-agent")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader("GET_PASSPHRASE --data irctl:" + fingerprint + " X Passphrase: " + description +
		"\n/bye\n")
	stdout := &boundedBuffer{limit: 3 * maxPassphrase}
	cmd.Stdout = stdout
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("asking the GnuPG agent: %w; give the passphrase by a file descriptor instead", err)
	}
	for line := range strings.Lines(stdout.buf.String()) {
		line = strings.TrimRight(line, "\r\n")
		if data, ok := strings.CutPrefix(line, "D "); ok {
			return unescapeAssuan(data), nil
		}
		if strings.HasPrefix(line, "ERR ") {
			return nil, fmt.Errorf("the GnuPG agent answers: %s", line)
		}
	}
	return nil, errors.New("the GnuPG agent gave no passphrase")
}

// unescapeAssuan undoes the percent-encoding of the agent's protocol.
func unescapeAssuan(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		var b byte
		if s[i] == '%' && i+2 < len(s) {
			if _, err := fmt.Sscanf(s[i+1:i+3], "%02X", &b); err == nil {
				out = append(out, b)
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}

// gpgSign has gpg sign, whose agent asks for the passphrase if it needs one.
func gpgSign(ctx context.Context, fpr string, data []byte) ([]byte, error) {
	return runGpgSign(ctx, gpgSigning(ctx, fpr, data))
}

// gpgSignWith has gpg sign with a passphrase or, if that is nil, with what its
// agent has. Nobody is asked.
func gpgSignWith(ctx context.Context, fpr string, data, passphrase []byte) ([]byte, error) {
	if passphrase == nil {
		return runGpgSign(ctx, gpgSigning(ctx, fpr, data, "--pinentry-mode", "error"))
	}
	// A pipe, so that the passphrase is in no list of arguments and in no file.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("handing the passphrase to gpg: %w", err)
	}
	line := append(bytes.Clone(passphrase), '\n')
	_, err = w.Write(line) // fewer bytes than a pipe takes at once
	clear(line)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("handing the passphrase to gpg: %w", errors.Join(err, r.Close()))
	}
	defer func() { _ = r.Close() }() // only read
	cmd := gpgSigning(ctx, fpr, data, "--pinentry-mode", "loopback", "--passphrase-fd", "3")
	cmd.ExtraFiles = []*os.File{r}
	return runGpgSign(ctx, cmd)
}

func gpgSigning(ctx context.Context, fpr string, data []byte, how ...string) *exec.Cmd {
	args := append([]string{"--batch", "--no-auto-check-trustdb", "--status-fd", "2", "--armor", "--local-user", fpr},
		how...)
	cmd := exec.CommandContext(ctx, "gpg", append(args, "--detach-sign", "--output", "-", "-")...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(data)
	return cmd
}

// gpgFailure is the status line with the code of libgpg-error for which gpg
// failed, and with its source in the upper bits.
var gpgFailure = regexp.MustCompile(`(?m)^\[GNUPG:\] FAILURE sign (\d+)`)

// Codes of libgpg-error.
const (
	gpgBadPassphrase = 11
	gpgNoPinentry    = 85
)

func runGpgSign(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	stdout, stderr := &boundedBuffer{limit: maxSignature}, &boundedBuffer{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == nil:
		return stdout.buf.Bytes(), nil
	}
	said := stderr.buf.String()
	if m := gpgFailure.FindStringSubmatch(said); m != nil {
		switch code, _ := strconv.Atoi(m[1]); code & 0xffff {
		case gpgBadPassphrase:
			return nil, fmt.Errorf("%w: %w", ErrKeyLocked, ErrPassphrase)
		case gpgNoPinentry:
			return nil, fmt.Errorf("%w: it needs its passphrase", ErrKeyLocked)
		}
	}
	return nil, fmt.Errorf("gpg --detach-sign: %w: %s", err, strings.TrimSpace(gpgStatus.ReplaceAllString(said, "")))
}

// gpgStatus are the lines that gpg writes for programs.
var gpgStatus = regexp.MustCompile(`(?m)^\[GNUPG:\].*\n?`)

// PublicKeys are keys that signatures are checked with. Where there are none, it
// is whoever is in the user's GnuPG keyring.
type PublicKeys struct {
	entities openpgp.EntityList
	keyring  bool // is looked in besides
}

// KeyOfSigner is that of a signer as LoadSigner finds it, and besides whoever is
// in the user's GnuPG keyring. Nobody is asked for a passphrase.
func KeyOfSigner(ctx context.Context, ref string) (PublicKeys, error) {
	if isKeyringRef(ref) {
		return PublicKeys{}, nil
	}
	e, err := privateKeyIn(ctx, ref)
	if err != nil {
		return PublicKeys{}, fmt.Errorf("signing key %q: %w", ref, err)
	}
	return PublicKeys{openpgp.EntityList{e}, true}, nil
}

// LoadPublicKeys finds them as LoadRecipients does. What has expired since can
// still have signed.
func LoadPublicKeys(ctx context.Context, refs []string) (PublicKeys, error) {
	var keys PublicKeys
	var failures []error
	for _, ref := range refs {
		entities, err := loadKeys(ctx, ref)
		if err != nil {
			failures = append(failures, fmt.Errorf("signer %q: %w", ref, err))
		}
		keys.entities = append(keys.entities, entities...)
	}
	return keys, errors.Join(failures...)
}

// ErrSignature: a signature is not what it should be.
var ErrSignature = errors.New("bad signature")

// ErrUnknownSigner: a signature cannot be checked for want of its key.
var ErrUnknownSigner = errors.New("the signer's key is not known here")

// maxSignature of an armored detached signature, in bytes.
const maxSignature = 64 << 10

// checkSignature returns the fingerprint of the primary key that signed.
func checkSignature(data, signature []byte, keys openpgp.EntityList) (string, error) {
	_, signer, err := openpgp.VerifyArmoredDetachedSignature(keys, bytes.NewReader(data), bytes.NewReader(signature),
		sealConfig())
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return fingerprint(signer.PrimaryKey), nil
}

// check finds the key that made a signature.
func (k PublicKeys) check(ctx context.Context, data, signature []byte) (string, error) {
	issuer, err := issuerOf(signature)
	if err != nil {
		return "", err
	}
	signer := k.by(issuer)
	if signer == nil && (k.keyring || len(k.entities) == 0) {
		k.entities, err = keyringByFingerprint(ctx, issuer)
		if err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrUnknownSigner, issuer, err)
		}
		signer = k.by(issuer)
	}
	if signer == nil {
		return "", fmt.Errorf("%w: %s is none of the keys that were given", ErrUnknownSigner, issuer)
	}
	return checkSignature(data, signature, openpgp.EntityList{signer})
}

// by is the key with a fingerprint, of itself or of a subkey; nil: there is none.
func (k PublicKeys) by(issuer string) *openpgp.Entity {
	for _, e := range k.entities {
		if fingerprint(e.PrimaryKey) == issuer {
			return e
		}
		for _, sub := range e.Subkeys {
			if fingerprint(sub.PublicKey) == issuer {
				return e
			}
		}
	}
	return nil
}

// issuerOf reads from a signature which key claims to have made it.
func issuerOf(signature []byte) (string, error) {
	block, err := armor.Decode(bytes.NewReader(signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return "", fmt.Errorf("%w: it is not an armored OpenPGP signature", ErrSignature)
	}
	p, err := packet.Read(block.Body)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	sig, ok := p.(*packet.Signature)
	if !ok || len(sig.IssuerFingerprint) == 0 {
		return "", fmt.Errorf("%w: it does not name the fingerprint of its key", ErrSignature)
	}
	return strings.ToUpper(fmt.Sprintf("%x", sig.IssuerFingerprint)), nil
}
