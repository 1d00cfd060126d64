package evidence

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync"
)

// Redaction tells, in a redacted bundle, of the artefact as it is in the original.
type Redaction struct {
	OriginalSize   int64  `json:"originalSize"`
	OriginalSHA256 string `json:"originalSha256,omitempty"`
	// Replaced counts by rule; redactions.json says where.
	Replaced map[string]int `json:"replaced,omitempty"`
}

// redactor keeps the report of what was replaced in all artefacts. The key of
// the digests stays in the original: whoever has both bundles can tell what was
// where, whoever has the shared one alone cannot try out guesses.
type redactor struct {
	key [32]byte

	mu       sync.Mutex
	replaced []replacement
	more     int
}

// replacement is one entry of the report.
type replacement struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"` // in the original artefact
	Length int    `json:"length"`
	Rule   string `json:"rule"`
	HMAC   string `json:"hmacSha256"`
}

// maxReplacements bounds the report; beyond it there are only counts.
const maxReplacements = 20_000

func newRedactor() *redactor {
	r := &redactor{}
	_, _ = rand.Read(r.key[:]) // never fails, by its documentation
	return r
}

func (r *redactor) digest(value []byte) string {
	mac := hmac.New(sha256.New, r.key[:])
	mac.Write(value)
	return hex.EncodeToString(mac.Sum(nil))
}

func (r *redactor) report(path string, offset int64, value []byte, rule string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.replaced) == maxReplacements {
		r.more++
		return
	}
	r.replaced = append(r.replaced, replacement{Path: path, Offset: offset, Length: len(value), Rule: rule,
		HMAC: r.digest(value)})
}

// redaction writes one artefact into the shared bag, without what looks like a
// secret. It looks at a window of the content at a time, in bounded memory. It
// has to keep up with compression, so there are no regular expressions, and
// what is far from all that a rule needs is passed over.
type redaction struct {
	redactor *redactor
	path     string
	to       *ArtefactWriter
	counts   map[string]int

	buf     []byte // content from offset on
	offset  int64  // of buf[0] in the artefact
	emitted int    // so much of buf is written already; before it is context
	scanned int    // so much of buf was looked at
	begun   bool
	// binary content is left out.
	binary bool
	// swallow is what ends a secret that is longer than the window; nil: in none.
	swallow []byte
	// namedSecret: the last "name" was that of a secret, so "value" is one.
	namedSecret bool
	// exhaustive: nothing is passed over. It is slower and finds the same; the
	// tests compare.
	exhaustive bool
	err        error
}

const (
	// redactWindow is how much content is gathered before it is looked at, and
	// lookahead how much of its end is left for the next time, so that no secret
	// is missed for being cut in two. A value longer than the window is replaced
	// up to its end, as far away as that is.
	redactWindow = 64 << 10
	lookahead    = 1 << 10
	lookbehind   = 256
	longestValue = 256 << 10
	// mark stands in place of what was replaced.
	mark = "[redacted]"
)

func (r *redactor) begin(path string, to *ArtefactWriter) *redaction {
	return &redaction{redactor: r, path: path, to: to, counts: map[string]int{},
		buf: make([]byte, 0, redactWindow+lookahead+lookbehind)}
}

func (r *redaction) Write(p []byte) (int, error) {
	if !r.begun && len(p) > 0 {
		r.begun = true
		r.binary = bytes.IndexByte(p[:min(len(p), 8000)], 0) >= 0
	}
	written := len(p)
	for len(p) > 0 && !r.binary && r.err == nil {
		n := min(len(p), redactWindow)
		r.buf = append(r.buf, p[:n]...)
		p = p[n:]
		if len(r.buf)-r.scanned >= redactWindow {
			r.scan(len(r.buf) - lookahead)
		}
	}
	return written, r.err
}

// flush looks at the rest. Nothing of binary content was kept.
func (r *redaction) flush() error {
	r.scan(len(r.buf))
	return r.err
}

// scan looks at the content up to limit. At the end of the artefact that is all.
func (r *redaction) scan(limit int) {
	final := limit == len(r.buf)
	if r.swallow != nil && !r.endSwallow() {
		r.forget(len(r.buf))
		return
	}
	i := r.scanned
	until := 0 // so far there is something to be looked at
	for i < limit {
		if i >= until && !r.namedSecret && !r.exhaustive {
			if i, until = passOver(r.buf, i); i >= limit {
				i = limit
				break
			}
		}
		if !interesting[r.buf[i]] {
			i++
			continue
		}
		found := r.match(i)
		if found.rule == "" {
			i++
			continue
		}
		if found.open && !final {
			if len(r.buf)-found.from < longestValue {
				i = max(i, r.emitted) // more is needed to see its end
				r.scanned = i
				r.emit(min(found.from, i))
				r.forget(min(found.from, i))
				return
			}
			r.swallow = found.end
		}
		r.replace(found)
		i = max(found.to, i+1)
	}
	r.scanned = i
	keep := min(max(i-lookbehind/2, r.emitted), len(r.buf))
	if final {
		keep = len(r.buf)
	}
	r.emit(keep)
	r.forget(keep)
}

// endSwallow looks for the end of a secret that began in an earlier window.
func (r *redaction) endSwallow() bool {
	at := bytes.Index(r.buf[r.emitted:], r.swallow)
	if at < 0 {
		r.emitted = len(r.buf)
		r.scanned = r.emitted
		return false
	}
	r.emitted += at
	r.scanned = r.emitted
	r.swallow = nil
	return true
}

func (r *redaction) replace(m match) {
	r.emit(m.from)
	r.counts[m.rule]++
	r.redactor.report(r.path, r.offset+int64(m.from), r.buf[m.from:m.to], m.rule)
	if r.to != nil {
		r.to.diverge()
	}
	r.write([]byte(mark))
	r.emitted = m.to
}

// emit writes the content up to a place, as it is.
func (r *redaction) emit(to int) {
	if to > r.emitted {
		r.write(r.buf[r.emitted:to])
		r.emitted = to
	}
}

func (r *redaction) write(p []byte) {
	if r.err == nil && r.to != nil {
		_, r.err = r.to.Write(p)
	}
}

// forget lets go of the content before a place but for its last bytes, which
// the next match may look back at.
func (r *redaction) forget(before int) {
	drop := max(0, before-lookbehind)
	r.buf = append(r.buf[:0], r.buf[drop:]...)
	r.offset += int64(drop)
	r.emitted -= drop
	r.scanned -= drop
}

// report is redactions.json.
func (r *redactor) encode() ([]byte, error) {
	return marshal(struct {
		Note     string        `json:"note"`
		Replaced []replacement `json:"replaced"`
		More     int           `json:"more,omitempty"`
	}{"Offsets and lengths are of the original artefacts. The key of the HMACs is in the original bundle.", r.replaced,
		r.more})
}

// finish writes the report into the shared bag, and the key of its digests into
// the original.
func (b bags) finish() error {
	if b.shared == nil {
		return nil
	}
	b.redactor.mu.Lock()
	defer b.redactor.mu.Unlock()
	report, err := b.redactor.encode()
	if err != nil {
		return err
	}
	if err := b.shared.AddBytes("redaction", "what was replaced", report, "redactions.json"); err != nil {
		return err
	}
	key := hex.EncodeToString(b.redactor.key[:]) + "\n"
	return b.original.AddBytes("redaction", "key of the HMACs in the redacted bundle", []byte(key), "redaction.key")
}
