package evidence

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"irctl/internal/record"
	"irctl/internal/userfile"
)

// Receipt says which file a bundle is and what is in it, without opening it. It
// is written beside the bundle and belongs into the incident's timeline, which
// proves that neither was changed since. What vouches for the receipt (the
// responder's signature, a time stamp, the custody chain) vouches for the
// bundle by its digest.
type Receipt = record.Receipt

// SealedPod is a pod of which there is evidence in a bundle.
type SealedPod = record.SealedPod

// ChainHead names an entry of a journal by its number and the hash of its
// line, and with it the whole journal up to it.
type ChainHead = record.ChainHead

// ReceiptFormat is the value of Receipt.Format.
const ReceiptFormat = "irctl-receipt/1"

// What the files beside a bundle are called, after its name.
const (
	receiptSuffix = ".json"
	// SignatureSuffix: the detached signature of the receipt.
	SignatureSuffix = receiptSuffix + ".asc"
	// QuerySuffix and TimestampSuffix: what is asked of a time-stamping
	// authority about the receipt, and what it answers.
	QuerySuffix     = receiptSuffix + ".tsq"
	TimestampSuffix = receiptSuffix + ".tsr"
	// CustodySuffix: the directory of the custody entries.
	CustodySuffix = ".custody"
)

func receiptPath(bundle string) string { return bundle + receiptSuffix }

const (
	// maxReceipt bounds a receipt that is read, in bytes.
	maxReceipt = 16 << 20
	// maxSegments that a receipt can list: terabytes.
	maxSegments = 200_000
	// segmentSize is what a difference is narrowed down to.
	segmentSize = 8 << 20
)

// ErrReceipt: a receipt is not one that irctl wrote.
var ErrReceipt = errors.New("malformed receipt")

// ReadReceipt reads the receipt of a bundle.
func ReadReceipt(ctx context.Context, bundle string) (Receipt, error) {
	data, err := userfile.Read(ctx, receiptPath(bundle), maxReceipt)
	if err != nil {
		return Receipt{}, fmt.Errorf("reading the receipt: %w", err)
	}
	return parseReceipt(data)
}

// parseReceipt is strict: a receipt that says more than it can is as wrong as
// one that says less.
func parseReceipt(data []byte) (Receipt, error) {
	var r Receipt
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if d.More() || len(bytes.TrimSpace(data[d.InputOffset():])) > 0 {
		return Receipt{}, fmt.Errorf("%w: something follows it", ErrReceipt)
	}
	return r, validate(&r)
}

func validate(r *Receipt) error {
	isDigest := func(s string) bool { b, err := hex.DecodeString(s); return err == nil && len(b) == 32 }
	segments := int64(-1)
	if r.SegmentSize > 0 && r.Size >= 0 {
		segments = (r.Size-1)/r.SegmentSize + 1
	}
	switch {
	case r.Format != ReceiptFormat:
		return fmt.Errorf("%w: its format is %q, not %q", ErrReceipt, r.Format, ReceiptFormat)
	case r.Path != filepath.Base(r.Path) || r.Path == "." || r.Path == "/":
		return fmt.Errorf("%w: the bundle's name %q is no file name", ErrReceipt, r.Path)
	case !isDigest(r.SHA256) || !isDigest(r.ManifestSHA256) || !isDigest(r.TagManifestSHA256):
		return fmt.Errorf("%w: a digest is missing or no SHA-256", ErrReceipt)
	case r.Size <= 0 || int64(len(r.Segments)) != segments || len(r.Segments) > maxSegments:
		return fmt.Errorf("%w: %d segments of %d bytes do not make %d bytes", ErrReceipt, len(r.Segments),
			r.SegmentSize, r.Size)
	case len(r.Recipients) == 0 || len(r.Recipients) > MaxRecipients:
		return fmt.Errorf("%w: %d recipients", ErrReceipt, len(r.Recipients))
	case slices.ContainsFunc(r.Segments, func(s string) bool { return !isDigest(s) }):
		return fmt.Errorf("%w: a segment's digest is no SHA-256", ErrReceipt)
	}
	return nil
}

// encode gives the bytes of the file beside the bundle.
func encodeReceipt(r Receipt) ([]byte, error) {
	r.Path = filepath.Base(r.Path)
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the receipt: %w", err)
	}
	return append(data, '\n'), nil
}

// writePartial writes a file durably under a temporary name.
func writePartial(path string, data []byte) (partialFile, error) {
	f, err := createPartial(path)
	if err != nil {
		return partialFile{}, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = fsync(f.File)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return partialFile{}, errors.Join(err, f.remove())
	}
	return f, nil
}

// writeNew writes a file durably; it fails if the name is taken.
func writeNew(path string, data []byte) error {
	partial, err := writePartial(path, data)
	if err != nil {
		return err
	}
	if err := partial.nameAs(path); err != nil {
		return errors.Join(err, partial.remove())
	}
	return syncFolder(filepath.Dir(path))
}
