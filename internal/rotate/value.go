package rotate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Value is a secret in memory. Whatever prints or encodes it gets a
// placeholder; Reveal alone gives it out.
type Value struct{ bytes []byte }

const placeholder = "(secret)"

// NewValue takes a value over.
func NewValue(b []byte) Value { return Value{b} }

// Reveal is the value itself.
func (v Value) Reveal() []byte { return v.bytes }

// Format makes every verb of fmt print the placeholder.
func (v Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(placeholder)) } // as fmt itself

// String is the placeholder.
func (v Value) String() string { return placeholder }

// MarshalJSON writes the placeholder.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(`"` + placeholder + `"`), nil }

// Digests are keyed: without the key, which stays with the incident, nobody
// who has a journal can try out values.
type Digests struct{ key []byte }

// NewDigests makes digests with a key of the incident's.
func NewDigests(key []byte) Digests { return Digests{key} }

// Of is the digest of a value.
func (d Digests) Of(value []byte) string {
	m := hmac.New(sha256.New, d.key)
	_, _ = m.Write(value) // never fails
	return hex.EncodeToString(m.Sum(nil))
}

// shortest is from which length on a value is looked for in texts: shorter
// ones are in every text.
const shortest = 4

// scrub takes every trace of the values out of an error: as they are, in
// base64, escaped for a URL or quoted. What holds none is returned as it is.
func scrub(err error, values ...Value) error {
	if err == nil {
		return nil
	}
	clean := scrubText(err.Error(), values...)
	if clean == err.Error() {
		return err
	}
	return errors.New(clean) // what it wraps would still tell
}

func scrubText(text string, values ...Value) string {
	for _, v := range values {
		if len(v.bytes) < shortest {
			continue
		}
		s := string(v.bytes)
		quoted := strconv.Quote(s)
		for _, form := range []string{s, strings.TrimSpace(s), base64.StdEncoding.EncodeToString(v.bytes),
			base64.URLEncoding.EncodeToString(v.bytes),
			url.QueryEscape(s), url.PathEscape(s), quoted[1 : len(quoted)-1]} {
			if len(form) >= shortest {
				text = strings.ReplaceAll(text, form, placeholder)
			}
		}
	}
	return text
}
