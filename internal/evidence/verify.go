package evidence

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"irctl/internal/userfile"
)

// Verification is what was found out about a bundle.
type Verification struct {
	Bundle string `json:"bundle"`
	// SHA256 and Size of the bundle as it is now.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Receipt as it is beside the bundle; nil if there is none that can be read.
	Receipt *Receipt `json:"receipt,omitempty"`
	// Signer is the key whose signature of the receipt is valid.
	Signer string `json:"signer,omitempty"`
	// Timestamped is when an authority saw the receipt.
	Timestamped *time.Time     `json:"timestamped,omitempty"`
	Custody     []CustodyEntry `json:"custody,omitempty"`
	// Opened: the content was checked too. Files and Bytes of the payload.
	Opened bool  `json:"opened"`
	Files  int   `json:"files,omitempty"`
	Bytes  int64 `json:"bytes,omitempty"`
	// Problems; none: all that could be checked is as it was sealed.
	Problems []Problem `json:"problems"`
	// Notes are what could not be checked, since it is not there.
	Notes []string `json:"notes,omitempty"`

	custodyHead string // digest of the last entry, or of the receipt
}

// Problem is one thing that is wrong.
type Problem struct {
	// Path of a file in the bag, or beside the bundle.
	Path string `json:"path"`
	What string `json:"what"`
	// unknown: nothing is wrong but that a key is missing to tell.
	unknown bool
}

func (p Problem) String() string { return p.Path + ": " + p.What }

// OK reports that nothing is wrong.
func (v *Verification) OK() bool { return len(v.Problems) == 0 }

// broken are the problems other than signatures that could not be checked.
func (v *Verification) broken() []Problem {
	return slices.DeleteFunc(slices.Clone(v.Problems), func(p Problem) bool { return p.unknown })
}

func (v *Verification) problem(path, format string, args ...any) {
	v.Problems = append(v.Problems, Problem{Path: path, What: fmt.Sprintf(format, args...)})
}

// VerifyOptions say what to check with.
type VerifyOptions struct {
	// Key to open the bundle with; nil: what is in it is not checked.
	Key *Key
	// Signers are who may have signed. None: the GnuPG keyring is asked for
	// whoever claims to have.
	Signers PublicKeys
	// Authorities are the time-stamping authorities that are trusted; nil: only
	// that the time stamp is for this receipt.
	Authorities *x509.CertPool
}

// VerifyBundle checks a bundle and all that lies beside it: its digest against
// the receipt, the receipt's signature and time stamp, and the custody chain.
// With a key, it reads the whole content and compares it with its manifests.
// An error means that it could not be checked; what is wrong is in Problems.
func VerifyBundle(ctx context.Context, path string, opts VerifyOptions) (Verification, error) {
	v := Verification{Bundle: filepath.Base(path), Problems: []Problem{}}
	sum, err := digestFile(ctx, path)
	if err != nil {
		return v, fmt.Errorf("reading the bundle: %w", err)
	}
	v.SHA256, v.Size = sum.hex(), sum.size
	receipt, err := userfile.Read(ctx, receiptPath(path), maxReceipt)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.problem(v.Bundle+receiptSuffix, "the receipt is missing")
	case err != nil:
		return v, fmt.Errorf("reading the receipt: %w", err)
	default:
		v.custodyHead = hexDigest(receipt)
		v.compareReceipt(receipt, sum)
		if err := v.checkReceiptSignature(ctx, path, receipt, opts.Signers); err != nil {
			return v, err
		}
		if err := v.checkReceiptTime(ctx, path, opts.Authorities); err != nil {
			return v, err
		}
	}
	if err := v.checkCustody(ctx, path, opts.Signers); err != nil {
		return v, err
	}
	if opts.Key == nil {
		v.Notes = append(v.Notes, "the content was not checked: that takes a key that opens the bundle")
		return v, nil
	}
	return v, v.checkContent(ctx, path, *opts.Key)
}

func digestFile(ctx context.Context, path string) (*fileDigest, error) {
	f, err := userfile.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	sum := newFileDigest()
	buf := make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, err := f.Read(buf)
		_, _ = sum.Write(buf[:n]) // never fails
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// compareReceipt tells where the bundle differs from its receipt.
func (v *Verification) compareReceipt(data []byte, sum *fileDigest) {
	name := v.Bundle + receiptSuffix
	r, err := parseReceipt(data)
	if err != nil {
		v.problem(name, "%v", err)
		return
	}
	v.Receipt = &r
	if r.Path != v.Bundle {
		v.Notes = append(v.Notes, fmt.Sprintf("the bundle was renamed: it was sealed as %q", r.Path))
	}
	if r.SHA256 == v.SHA256 && r.Size == v.Size {
		if !slices.Equal(r.Segments, sum.segments()) {
			v.problem(name, "the receipt was altered: its segments do not make its digest")
		}
		return
	}
	switch {
	case v.Size < r.Size:
		v.problem(v.Bundle, "%d of %d bytes are missing at its end", r.Size-v.Size, r.Size)
	case v.Size > r.Size:
		v.problem(v.Bundle, "%d bytes follow the %d that were sealed", v.Size-r.Size, r.Size)
	}
	if where := differences(r, sum); where != "" {
		v.problem(v.Bundle, "altered: its SHA-256 is %s, the receipt says %s; it differs in bytes %s", v.SHA256,
			r.SHA256, where)
	} else if v.Size == r.Size {
		v.problem(name,
			"the receipt was altered: its digest %s is not that of its own segments, which the bundle matches",
			r.SHA256)
	}
}

// differences lists the ranges of bytes that are not as the receipt says.
func differences(r Receipt, sum *fileDigest) string {
	if r.SegmentSize != segmentSize {
		return fmt.Sprintf("0-%d", r.Size-1)
	}
	const most = 8
	var ranges []string
	actual := sum.segments()
	for i := range min(len(actual), len(r.Segments)) {
		from := int64(i) * segmentSize
		to := min(from+segmentSize, sum.size, r.Size)
		if whole := min(from+segmentSize, r.Size) == min(from+segmentSize, sum.size); whole &&
			actual[i] != r.Segments[i] {
			ranges = append(ranges, fmt.Sprintf("%d-%d", from, to-1))
		}
	}
	if len(ranges) > most {
		ranges = append(ranges[:most], fmt.Sprintf("and %d more ranges", len(ranges)-most))
	}
	return strings.Join(ranges, ", ")
}

func (v *Verification) checkReceiptSignature(ctx context.Context, path string, receipt []byte, keys PublicKeys) error {
	name := v.Bundle + SignatureSuffix
	signature, err := userfile.Read(ctx, path+SignatureSuffix, maxSignature)
	signed := v.Receipt != nil && v.Receipt.Signer != ""
	switch {
	case errors.Is(err, fs.ErrNotExist) && signed:
		v.problem(name, "the signature is missing: the receipt says that %s signed it", v.Receipt.Signer)
		return nil
	case errors.Is(err, fs.ErrNotExist):
		v.Notes = append(v.Notes, "the receipt is not signed")
		return nil
	case err != nil:
		return fmt.Errorf("reading the signature: %w", err)
	}
	signer, err := keys.check(ctx, receipt, signature)
	switch {
	case err != nil:
		v.signatureProblem(name, err)
	case signed && signer != v.Receipt.Signer:
		v.problem(name, "signed by %s, whereas the receipt names %s", signer, v.Receipt.Signer)
	default:
		v.Signer = signer
	}
	return nil
}

func (v *Verification) signatureProblem(name string, err error) {
	v.Problems = append(v.Problems, Problem{Path: name, What: err.Error(), unknown: errors.Is(err, ErrUnknownSigner)})
}

func (v *Verification) checkReceiptTime(ctx context.Context, path string, authorities *x509.CertPool) error {
	answer, err := userfile.Read(ctx, path+TimestampSuffix, maxTimestamp)
	if errors.Is(err, fs.ErrNotExist) {
		v.Notes = append(v.Notes, "the receipt has no time stamp")
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the time stamp: %w", err)
	}
	ts, err := checkTimestamp(ctx, path, answer, authorities)
	if err != nil {
		v.problem(v.Bundle+TimestampSuffix, "%v", err)
		return nil
	}
	if authorities == nil {
		v.Notes = append(v.Notes, "who made the time stamp was not checked: no trusted authority was given")
	}
	v.Timestamped = &ts.Time
	return nil
}

// checkCustody checks each entry, its link and its signature.
func (v *Verification) checkCustody(ctx context.Context, path string, keys PublicKeys) error {
	files, stray, err := readCustody(ctx, path)
	if err != nil {
		return err
	}
	for _, name := range stray {
		v.problem(v.Bundle+CustodySuffix+"/"+name, "does not follow on the entries before")
	}
	for i, f := range files {
		name := v.Bundle + CustodySuffix + "/" + f.name
		entry, err := parseCustodyEntry(f.data)
		switch {
		case err != nil:
			v.problem(name, "%v", err)
		case entry.Seq != i+1:
			v.problem(name, "%v: it is number %d", ErrCustody, entry.Seq)
		case entry.Prev != v.custodyHead:
			v.problem(name, "%v: what it follows on is not what is there before it", ErrCustody)
		case entry.BundleSHA256 != v.SHA256:
			v.problem(name, "%v: it is about a bundle with the SHA-256 %s", ErrCustody, entry.BundleSHA256)
		default:
			if signer, err := keys.check(ctx, f.data, f.signature); err != nil {
				v.signatureProblem(name, err)
			} else if signer != entry.Signer {
				v.problem(name, "signed by %s, whereas it names %s", signer, entry.Signer)
			}
		}
		v.custodyHead = hexDigest(f.data)
		v.Custody = append(v.Custody, entry)
	}
	return nil
}

// checkContent opens the bundle and compares what is in it with its manifests,
// and those with the receipt. That it is damaged is a problem, named by the
// file that was being read; so is that no key opens it.
func (v *Verification) checkContent(ctx context.Context, path string, key Key) error {
	r, err := OpenFile(ctx, path, key)
	if errors.Is(err, ErrAltered) || errors.Is(err, ErrNoKey) {
		v.Problems = append(v.Problems, Problem{Path: v.Bundle, What: err.Error(), unknown: errors.Is(err, ErrNoKey)})
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	bag, err := checkBag(r, discard)
	v.Opened, v.Files, v.Bytes = true, bag.files, bag.bytes
	v.Problems = append(v.Problems, bag.problems...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		v.problem(cmp.Or(bag.reading, v.Bundle), "the content cannot be read from here on: %v", err)
		return nil
	}
	if v.Receipt == nil {
		return nil
	}
	for _, m := range []struct{ path, want string }{{manifestFile, v.Receipt.ManifestSHA256},
		{tagManifestFile, v.Receipt.TagManifestSHA256}} {
		if sum := bag.found[m.path]; hex.EncodeToString(sum[:]) != m.want {
			v.problem(m.path, "its SHA-256 is %x, the receipt says %s", sum, m.want)
		}
	}
	if head := v.Receipt.Timeline; head != nil && bag.timeline.seq > 0 &&
		(head.Seq != bag.timeline.seq || head.SHA256 != bag.timeline.head) {
		v.problem(timelinePath, "its last entry is number %d with the hash %s, the receipt says %d and %s",
			bag.timeline.seq, bag.timeline.head, head.Seq, head.SHA256)
	}
	return nil
}

// bagCheck is what was found in a bag.
type bagCheck struct {
	files    int
	bytes    int64
	problems []Problem
	found    map[string]digest
	reading  string // the file that is being read
	timeline chainCheck
}

// maxManifestBytes bounds a manifest that is read.
const maxManifestBytes = 256 << 20

// checkBag reads a bag to its end. It returns an error if that is not its
// authentic end, and what was found until then with it. The sink gets each
// file's content on the way.
func checkBag(r *Reader, sink func(Entry, io.Reader) error) (bagCheck, error) {
	c := bagCheck{found: map[string]digest{}}
	manifests := map[string]map[string]digest{}
	for {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c, err
		}
		c.reading = entry.Path
		listed, err := c.entry(entry, r, sink)
		if err != nil {
			return c, err
		}
		if listed != nil {
			manifests[entry.Path] = listed
		}
	}
	c.problems = append(c.problems, compare(c.found, manifests)...)
	if err := c.timeline.finish(); err != nil {
		c.problems = append(c.problems, Problem{Path: timelinePath, What: err.Error()})
	}
	slices.SortFunc(c.problems, func(x, y Problem) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.What, y.What))
	})
	return c, nil
}

// entry reads one file; a manifest is returned too.
func (c *bagCheck) entry(entry Entry, r io.Reader, sink func(Entry, io.Reader) error) (listed map[string]digest,
	err error) {
	sum := sha256.New()
	content := io.TeeReader(r, sum)
	if entry.Path == timelinePath || strings.HasPrefix(entry.Path, timelinePath+".part") {
		content = io.TeeReader(content, &c.timeline)
	}
	if entry.Path == manifestFile || entry.Path == tagManifestFile {
		if entry.Size > maxManifestBytes {
			return nil, fmt.Errorf("%w: of %d bytes", ErrManifest, entry.Size)
		}
		// Small beside what its entries take in memory.
		text, err := io.ReadAll(content)
		if err != nil {
			return nil, err
		}
		if listed, err = parseManifest(bytes.NewReader(text)); err != nil {
			c.problems = append(c.problems, Problem{Path: entry.Path, What: err.Error()})
			listed = map[string]digest{}
		}
		content = bytes.NewReader(text)
	}
	if err := sink(entry, content); err != nil {
		return nil, err
	}
	c.found[entry.Path] = digest(sum.Sum(nil))
	if strings.HasPrefix(entry.Path, payloadPrefix) {
		c.files++
		c.bytes += entry.Size
	}
	return listed, nil
}

func discard(_ Entry, content io.Reader) error {
	_, err := io.Copy(io.Discard, content)
	return err
}

// compare checks that the manifest lists exactly the payload, and the tag
// manifest exactly the other files.
func compare(found map[string]digest, manifests map[string]map[string]digest) []Problem {
	var problems []Problem
	problem := func(path, what string) { problems = append(problems, Problem{Path: path, What: what}) }
	listed := map[string]digest{}
	for _, name := range []string{manifestFile, tagManifestFile} {
		if manifests[name] == nil {
			problem(name, "missing")
		}
		for path, sum := range manifests[name] {
			if strings.HasPrefix(path, payloadPrefix) != (name == manifestFile) {
				problem(path, "listed in the wrong manifest, "+name)
			}
			listed[path] = sum
		}
	}
	for path, sum := range listed {
		switch actual, ok := found[path]; {
		case !ok:
			problem(path, "missing")
		case actual != sum:
			problem(path, "altered: its SHA-256 is not that of the manifest")
		}
	}
	for path := range maps.Keys(found) {
		if _, ok := listed[path]; !ok && path != tagManifestFile {
			problem(path, "in no manifest")
		}
	}
	return problems
}

// timelinePath is where the incident's journal is in a bag.
const timelinePath = payloadPrefix + "timeline.jsonl"

// chainCheck follows the hash chain of a journal as its bytes come: each line
// ends with the hash of the one before.
type chainCheck struct {
	line []byte
	seq  int64
	head string // hash of the last line
	err  error
}

// maxChainLine is more than a line of a journal has.
const maxChainLine = 8 << 20

func (c *chainCheck) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 && c.err == nil {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		if c.line = append(c.line, line...); len(c.line) > maxChainLine {
			c.err = fmt.Errorf("line %d is longer than %d bytes", c.seq+1, maxChainLine)
		}
		p = rest
		if ended {
			c.endLine()
		}
	}
	return written, nil
}

func (c *chainCheck) endLine() {
	c.seq++
	if link := fmt.Sprintf(`"prev":"%s"}`, c.head); c.seq > 1 && !bytes.HasSuffix(c.line, []byte(link)) {
		c.err = fmt.Errorf("the chain is broken at line %d: it does not follow on the line before", c.seq)
	}
	c.head = hexDigest(c.line)
	c.line = c.line[:0]
}

func (c *chainCheck) finish() error {
	if c.err == nil && len(c.line) > 0 {
		return fmt.Errorf("line %d has no end", c.seq+1)
	}
	return c.err
}
