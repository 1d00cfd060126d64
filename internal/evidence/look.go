package evidence

import (
	"errors"
	"io"
)

// ErrBinary: the rules are for text.
var ErrBinary = errors.New("it is not text")

// FindSecrets reads to the end and counts, by rule, what looks like a secret by
// the rules of a redacted bundle. Nothing of what it found is kept.
func FindSecrets(in io.Reader) (map[string]int, error) {
	r := newRedactor().begin("", nil)
	if _, err := io.Copy(r, in); err != nil {
		return r.counts, err
	}
	if r.binary {
		return r.counts, ErrBinary
	}
	return r.counts, r.flush()
}
