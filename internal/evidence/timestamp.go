package evidence

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"irctl/internal/userfile"

	"github.com/digitorus/timestamp"
)

// A time-stamping authority (RFC 3161) vouches that a receipt, and by its
// digest the bundle, existed at a time. It learns that digest and nothing else.

// ErrTimestamp: there is no valid time stamp.
var ErrTimestamp = errors.New("no valid time stamp")

const (
	maxTimestamp     = 1 << 20
	timestampTimeout = 30 * time.Second
)

// WriteTimestampQuery writes the question about a bundle's receipt beside it,
// to be carried to an authority by other means; its answer belongs into
// BUNDLE.json.tsr. It returns the file's path.
func WriteTimestampQuery(ctx context.Context, bundle string) (string, error) {
	query, _, err := timestampQuery(ctx, bundle)
	if err != nil {
		return "", err
	}
	path := bundle + QuerySuffix
	if err := writeNew(path, query); err != nil {
		return "", fmt.Errorf("writing the time-stamp query: %w", err)
	}
	return path, nil
}

// Timestamp asks the authority at url and keeps its answer beside the bundle.
func Timestamp(ctx context.Context, bundle, url string) (time.Time, error) {
	query, nonce, err := timestampQuery(ctx, bundle)
	if err != nil {
		return time.Time{}, err
	}
	answer, err := askAuthority(ctx, url, query)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: asking %s: %w", ErrTimestamp, url, err)
	}
	ts, err := checkTimestamp(ctx, bundle, answer, nil)
	if err != nil {
		return time.Time{}, err
	}
	if ts.Nonce == nil || ts.Nonce.Cmp(nonce) != 0 {
		return time.Time{}, fmt.Errorf("%w: the answer of %s is to another question", ErrTimestamp, url)
	}
	if err := writeNew(bundle+TimestampSuffix, answer); err != nil {
		return time.Time{}, fmt.Errorf("writing the time stamp: %w", err)
	}
	return ts.Time, nil
}

func timestampQuery(ctx context.Context, bundle string) ([]byte, *big.Int, error) {
	receipt, err := userfile.Read(ctx, receiptPath(bundle), maxReceipt)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the receipt: %w", err)
	}
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, nil, err
	}
	query, err := timestamp.CreateRequest(bytes.NewReader(receipt),
		&timestamp.RequestOptions{Hash: crypto.SHA256, Certificates: true, Nonce: nonce})
	if err != nil {
		return nil, nil, fmt.Errorf("making the time-stamp query: %w", err)
	}
	return query, nonce, nil
}

func askAuthority(ctx context.Context, url string, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timestampTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %q", resp.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxTimestamp+1))
	if err == nil && len(answer) > maxTimestamp {
		err = fmt.Errorf("its answer is larger than %d bytes", maxTimestamp)
	}
	return answer, err
}

// checkTimestamp checks an answer against the receipt as it is now. Roots are
// whom to trust; nil says whether the answer is consistent, not who made it.
func checkTimestamp(ctx context.Context, bundle string, answer []byte, roots *x509.CertPool) (*timestamp.Timestamp,
	error) {
	ts, err := parseTimestamp(answer)
	if err != nil {
		return nil, err
	}
	receipt, err := userfile.Read(ctx, receiptPath(bundle), maxReceipt)
	if err != nil {
		return nil, fmt.Errorf("reading the receipt: %w", err)
	}
	sum := sha256.Sum256(receipt)
	switch {
	case ts.HashAlgorithm != crypto.SHA256 || !bytes.Equal(ts.HashedMessage, sum[:]):
		return nil, fmt.Errorf("%w: it is for another receipt than this one", ErrTimestamp)
	case len(ts.Certificates) == 0:
		return nil, fmt.Errorf("%w: it does not say who made it", ErrTimestamp)
	case roots == nil:
		return ts, nil
	}
	return ts, verifyAuthority(ts, roots)
}

// verifyAuthority checks that one of the certificates may make time stamps,
// by those it trusts, at the time it made this one.
func verifyAuthority(ts *timestamp.Timestamp, roots *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, c := range ts.Certificates {
		intermediates.AddCert(c)
	}
	var failures []error
	for _, c := range ts.Certificates {
		if c.IsCA {
			continue
		}
		_, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: ts.Time,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}})
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	return fmt.Errorf("%w: its authority is not one of those that were given: %w", ErrTimestamp,
		errors.Join(failures...))
}

// parseTimestamp checks the signature of an answer with the certificates in it.
func parseTimestamp(answer []byte) (ts *timestamp.Timestamp, err error) {
	// The parser of the CMS format beneath was not written for hostile input.
	defer func() {
		if p := recover(); p != nil {
			ts, err = nil, fmt.Errorf("%w: malformed: %v", ErrTimestamp, p)
		}
	}()
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(answer, &outer); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: it is not one DER value", ErrTimestamp)
	}
	if ts, err = timestamp.ParseResponse(answer); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTimestamp, err)
	}
	return ts, nil
}

// Stamp asks the authority at a URL, or writes the question to one if there is
// none, and says in a line what came of it.
func Stamp(ctx context.Context, bundle, url string) (string, error) {
	if url == "" {
		path, err := WriteTimestampQuery(ctx, bundle)
		if err != nil {
			return "", err
		}
		return "time-stamp query in " + path + "; its answer belongs into " + bundle + TimestampSuffix, nil
	}
	at, err := Timestamp(ctx, bundle, url)
	if err != nil {
		return "", err
	}
	return "time-stamped at " + at.UTC().Format(time.RFC3339), nil
}
