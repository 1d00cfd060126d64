package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"irctl/internal/record"
	"irctl/internal/userfile"
)

// CustodyEntry records that a bundle changed hands. Entries are files of their
// own, BUNDLE.custody/0001.json and so on, each with a detached signature
// beside it, so that gpg and sha256sum are enough to check them. Each names the
// digest of the one before; the first names that of the receipt.
//
// The chain shows any change, deletion or insertion before its last entry.
// That entries were cut off its end can only be told by whoever knows of them:
// the incident's timeline, or the receiver, who keeps a copy.
type CustodyEntry = record.CustodyEntry

// HandOver says who gave a bundle to whom. What was handed over where and why
// is the note's.
type HandOver = record.HandOver

// CustodyFormat is that of entries.
const CustodyFormat = "irctl-custody/1"

const (
	// maxCustody bounds how often a bundle changes hands, and maxCustodyEntry
	// an entry, in bytes.
	maxCustody      = 9999
	maxCustodyEntry = 64 << 10
	maxCustodyText  = 4 << 10
)

// Custody errors.
var (
	ErrCustody = errors.New("the custody chain is broken")
	// ErrCustodyTaken: somebody else added an entry at the same time.
	ErrCustodyTaken = errors.New("another entry was added meanwhile; look at it, then add yours again")
)

// AddCustody signs an entry and adds it to the bundle's chain. The bundle, its
// receipt and the chain must be intact: nobody should sign for what is not.
func AddCustody(ctx context.Context, bundle string, h HandOver, by Actor, signer *Signer, now time.Time) (CustodyEntry,
	error) {
	for _, text := range []string{h.From, h.To, h.Note} {
		if len(text) > maxCustodyText {
			return CustodyEntry{}, fmt.Errorf("a custody entry of more than %d bytes a field", maxCustodyText)
		}
	}
	if h.From == "" || h.To == "" {
		return CustodyEntry{}, errors.New("a hand-over needs who gave it and who got it")
	}
	v, err := VerifyBundle(ctx, bundle, VerifyOptions{})
	if err != nil {
		return CustodyEntry{}, err
	}
	if problems := v.broken(); len(problems) > 0 {
		return CustodyEntry{}, fmt.Errorf("%w: %s", ErrAltered, problems[0])
	}
	entry := CustodyEntry{
		Format: CustodyFormat, Seq: len(v.Custody) + 1, Time: now.UTC().Truncate(time.Second),
		Bundle: filepath.Base(bundle), BundleSHA256: v.SHA256, HandOver: h, Actor: by, Signer: signer.Fingerprint(),
		Prev: v.custodyHead,
	}
	return entry, writeCustody(ctx, &entry, bundle, signer)
}

func writeCustody(ctx context.Context, e *CustodyEntry, bundle string, signer *Signer) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the custody entry: %w", err)
	}
	data = append(data, '\n')
	signature, err := signer.Sign(ctx, data)
	if err != nil {
		return err
	}
	if err := os.Mkdir(bundle+CustodySuffix, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("adding to the custody chain: %w", err)
	}
	path := filepath.Join(bundle+CustodySuffix, custodyName(e.Seq))
	// The signature first: an entry must never be seen without it.
	err = writeNew(path+".asc", signature)
	if errors.Is(err, fs.ErrExist) {
		return ErrCustodyTaken
	}
	if err == nil {
		err = writeNew(path, data)
	}
	if err != nil {
		return fmt.Errorf("adding to the custody chain: %w", err)
	}
	return nil
}

func custodyName(seq int) string { return fmt.Sprintf("%04d.json", seq) }

// custodyFile is an entry as it lies on disk.
type custodyFile struct {
	CustodyEntry
	name            string
	data, signature []byte
}

// readCustody reads the entries in order, up to the first number that is not
// there. Files that do not belong to them are named in stray.
func readCustody(ctx context.Context, bundle string) (files []custodyFile, stray []string, err error) {
	dir := bundle + CustodySuffix
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the custody chain: %w", err)
	}
	expected := map[string]bool{}
	for seq := 1; seq <= maxCustody; seq++ {
		f := custodyFile{name: custodyName(seq)}
		f.data, err = userfile.Read(ctx, filepath.Join(dir, f.name), maxCustodyEntry)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return files, nil, fmt.Errorf("reading the custody chain: %w", err)
		}
		expected[f.name], expected[f.name+".asc"] = true, true
		// Without it, it is reported as not signed.
		f.signature, _ = userfile.Read(ctx, filepath.Join(dir, f.name+".asc"), maxSignature)
		files = append(files, f)
	}
	for _, name := range names {
		if !expected[name.Name()] && !strings.HasSuffix(name.Name(), ".partial") {
			stray = append(stray, name.Name())
		}
	}
	return files, stray, nil
}

// CustodyFile is an entry, and the digest of its file.
type CustodyFile = record.Custody

// Custody reads the entries of a bundle's chain, up to the first that cannot
// be read. VerifyBundle checks them.
func Custody(ctx context.Context, bundle string) ([]CustodyFile, error) {
	files, _, err := readCustody(ctx, bundle)
	if err != nil {
		return nil, err
	}
	var chain []CustodyFile
	for _, f := range files {
		entry, err := parseCustodyEntry(f.data)
		if err != nil {
			return chain, fmt.Errorf("%s: %w", f.name, err)
		}
		chain = append(chain, CustodyFile{CustodyEntry: entry, SHA256: hexDigest(f.data)})
	}
	return chain, nil
}

// parseCustodyEntry is as strict as parseReceipt.
func parseCustodyEntry(data []byte) (CustodyEntry, error) {
	var e CustodyEntry
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, fmt.Errorf("%w: %w", ErrCustody, err)
	}
	if len(bytes.TrimSpace(data[d.InputOffset():])) > 0 {
		return e, fmt.Errorf("%w: something follows the entry", ErrCustody)
	}
	if e.Format != CustodyFormat {
		return e, fmt.Errorf("%w: its format is %q, not %q", ErrCustody, e.Format, CustodyFormat)
	}
	return e, nil
}
