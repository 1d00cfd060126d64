package evidence

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Bundle is a sealed bag being written to a file. Its name appears when it is
// complete, in one step: until Finish it is a hidden file in the same folder,
// ".NAME.RANDOM.partial", encrypted like the rest. A process that is killed
// leaves that file, and never one under the bundle's name.
type Bundle struct {
	bag        *Bag
	path       string
	partial    partialFile
	sum        *fileDigest
	signer     *Signer
	seal       io.WriteCloser
	compressor io.WriteCloser
	receipt    Receipt
	now        func() time.Time
	done       bool // finished or aborted
	named      bool // the bundle is in its place
}

// ErrBundleExists: a bundle is never overwritten.
var ErrBundleExists = errors.New("a file of that name exists")

// Create begins a bundle at path, which ends in Extension and must not exist;
// neither may the files that belong to it, such as path.json, its receipt. The folder must exist. The clock gives
// the times in the bag. Without a signer the receipt is not signed. The bundle
// must be finished or aborted.
func Create(path string, recipients []Recipient, signer *Signer, meta Meta, clock func() time.Time) (*Bundle, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("creating the bundle: %w", err)
	}
	if !strings.HasSuffix(path, Extension) || filepath.Base(path) == Extension {
		return nil, fmt.Errorf("creating the bundle %s: its name must end in %s", path, Extension)
	}
	if len(recipients) == 0 {
		return nil, fmt.Errorf("creating the bundle %s: %w", path, ErrNoRecipients)
	}
	for _, p := range []string{path, receiptPath(path), path + SignatureSuffix, path + CustodySuffix} {
		if _, err := os.Lstat(p); err == nil {
			return nil, fmt.Errorf("creating the bundle: %w: %s; choose another name", ErrBundleExists, p)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("creating the bundle: %w", err)
		}
	}
	b := &Bundle{path: path, sum: newFileDigest(), signer: signer, now: clock}
	if b.partial, err = createPartial(path); err != nil {
		return nil, b.explain("creating", err)
	}
	if err := b.begin(recipients, meta); err != nil {
		return nil, errors.Join(b.explain("creating", err), b.Abort())
	}
	return b, nil
}

// begin connects bag → compression → encryption → digest and file.
func (b *Bundle) begin(recipients []Recipient, meta Meta) (err error) {
	if b.seal, err = Seal(io.MultiWriter(b.partial, b.sum), recipients...); err != nil {
		return err
	}
	if b.compressor, err = newCompressor(b.seal); err != nil {
		return err
	}
	b.receipt = Receipt{Format: ReceiptFormat, Path: b.path, Incident: meta.Incident, Drill: meta.Drill,
		Purpose: meta.Purpose, Tool: meta.Tool, Timeline: meta.Timeline, Redacted: meta.RedactedFrom}
	for _, r := range recipients {
		b.receipt.Recipients = append(b.receipt.Recipients, r.Fingerprint())
	}
	b.bag, err = NewBag(b.compressor, strings.TrimSuffix(filepath.Base(b.path), Extension), meta, b.now)
	return err
}

// Bag is what the bundle is filled through. Finish closes it.
func (b *Bundle) Bag() *Bag { return b.bag }

// Finish closes the bag, with a reason if it is incomplete, completes the
// encryption, and gives the file its name once it is safely on disk. The
// receipt is written beside it, to path.json, and signed if there is a signer.
//
// On an error there is nothing under the bundle's name, but for two: if the
// receipt could not be put in place, or was not signed (ErrNotSigned), the
// bundle is there, and Receipt.Path is set.
func (b *Bundle) Finish(ctx context.Context, incomplete string) (Receipt, error) {
	if b.done {
		return Receipt{}, ErrBagClosed
	}
	if err := b.complete(incomplete); err != nil {
		return Receipt{}, errors.Join(b.explain("writing", err), b.Abort())
	}
	signature, unsigned := b.signReceipt(ctx)
	if err := b.place(); err != nil {
		return b.placed(), err
	}
	if signature != nil {
		if err := writeNew(b.path+SignatureSuffix, signature); err != nil {
			return b.receipt, b.explain("writing the signature of", err)
		}
	}
	return b.receipt, unsigned
}

// signTimeout is how long a person has to enter the passphrase.
const signTimeout = 2 * time.Minute

// signReceipt signs what the receipt will be. Evidence is not lost because a
// passphrase was not given: then the receipt names no signer.
func (b *Bundle) signReceipt(ctx context.Context) ([]byte, error) {
	if b.signer == nil || b.signer.Locked() {
		return nil, nil
	}
	b.receipt.Signer = b.signer.Fingerprint()
	data, err := encodeReceipt(b.receipt)
	if err == nil {
		// Ctrl-C ends the collection; what there is, is still signed.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signTimeout)
		defer cancel()
		var signature []byte
		if signature, err = b.signer.Sign(ctx, data); err == nil {
			return signature, nil
		}
	}
	b.receipt.Signer = ""
	return nil, fmt.Errorf("the bundle %s is complete, and its receipt: %w", b.path, err)
}

// placed is the receipt of a bundle that got its name, else none.
func (b *Bundle) placed() Receipt {
	if b.named {
		return b.receipt
	}
	return Receipt{}
}

// place gives the bundle and its receipt their names.
func (b *Bundle) place() error {
	data, err := encodeReceipt(b.receipt)
	if err != nil {
		return errors.Join(b.explain("writing the receipt of", err), b.Abort())
	}
	sidecar, err := writePartial(receiptPath(b.path), data)
	if err != nil {
		return errors.Join(b.explain("writing the receipt of", err), b.Abort())
	}
	if err := b.partial.nameAs(b.path); err != nil {
		return errors.Join(b.explain("naming", err), sidecar.remove(), b.Abort())
	}
	b.done, b.named = true, true
	if err := sidecar.nameAs(receiptPath(b.path)); err != nil {
		return errors.Join(b.explain("naming the receipt of", err), sidecar.remove())
	}
	if err := syncFolder(filepath.Dir(b.path)); err != nil {
		return b.explain("making durable", err)
	}
	return nil
}

func (b *Bundle) complete(incomplete string) error {
	summary, err := b.bag.Close(incomplete)
	if err != nil {
		return err
	}
	if err := b.compressor.Close(); err != nil {
		return err
	}
	if err := b.seal.Close(); err != nil {
		return err
	}
	if err := fsync(b.partial.File); err != nil {
		return err
	}
	if err := b.partial.Close(); err != nil {
		return err
	}
	b.receipt.Created = b.now().UTC()
	b.receipt.SHA256 = b.sum.hex()
	b.receipt.Size = b.sum.size
	b.receipt.SegmentSize, b.receipt.Segments = segmentSize, b.sum.segments()
	b.receipt.Summary = summary
	return nil
}

// Abort removes what was written. After Finish it does nothing.
func (b *Bundle) Abort() error {
	if b.done {
		return nil
	}
	b.done = true
	return b.partial.remove()
}

// explain says what to do about the errors that a person can do something about.
func (b *Bundle) explain(doing string, err error) error {
	advice := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = fmt.Sprintf("; free space on the file system of %s or put the bundle elsewhere", filepath.Dir(b.path))
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		advice = "; put the bundle where this user may write"
	case errors.Is(err, fs.ErrExist):
		err = fmt.Errorf("%w: %w", ErrBundleExists, err)
	}
	return fmt.Errorf("%s the bundle %s: %w%s", doing, b.path, err, advice)
}

// fileDigest is the digest of a file as it is written, and of its segments.
type fileDigest struct {
	whole   hash.Hash
	segment hash.Hash
	size    int64
	ended   []string
}

func newFileDigest() *fileDigest {
	return &fileDigest{whole: sha256.New(), segment: sha256.New()}
}

func (d *fileDigest) Write(p []byte) (int, error) {
	written := len(p)
	d.whole.Write(p)
	for len(p) > 0 {
		n := min(int64(len(p)), segmentSize-d.size%segmentSize)
		d.segment.Write(p[:n])
		p = p[n:]
		if d.size += n; d.size%segmentSize == 0 {
			d.ended = append(d.ended, hex.EncodeToString(d.segment.Sum(nil)))
			d.segment.Reset()
		}
	}
	return written, nil
}

func (d *fileDigest) hex() string { return hex.EncodeToString(d.whole.Sum(nil)) }

func (d *fileDigest) segments() []string {
	if d.size%segmentSize == 0 {
		return d.ended
	}
	return append(d.ended[:len(d.ended):len(d.ended)], hex.EncodeToString(d.segment.Sum(nil)))
}

// linkNew gives a file a second name and removes the first: unlike rename it
// fails if the new name is taken.
func linkNew(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// hasNoLinks reports whether a file system cannot make hard links.
func hasNoLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM)
}

// renameWhereFree is for file systems that have neither hard links nor an
// exclusive rename. Between its look and its rename another process could
// take the name; nothing better can be had there.
func renameWhereFree(from, to string) error {
	_, err := os.Lstat(to)
	if err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}

// FileName is a name for a new bundle: what it is, when, Extension.
func FileName(purpose string, at time.Time) string {
	return SafeName(cmp.Or(purpose, "evidence")) + "-" + at.UTC().Format("20060102t150405.000z") + Extension
}
