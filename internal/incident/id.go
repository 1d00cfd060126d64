package incident

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// ID names an incident: inc-20260102-150405-abcd, the UTC time of its opening
// and at least four random characters. It is a valid Kubernetes label value
// and a valid end of an object's name, and no path: it holds neither a
// separator nor a dot. IDs of one clock sort by time.
type ID string

// ErrBadID says that a text is no incident ID.
var ErrBadID = errors.New("not an incident ID")

const idTime = "20060102-150405"

var idPattern = regexp.MustCompile(`^inc-([0-9]{8}-[0-9]{6})-[a-z2-7]{4,8}$`)

// ParseID accepts exactly the IDs that irctl makes. Everything that becomes
// part of a path comes through here.
func ParseID(s string) (ID, error) {
	if len(s) > 64 {
		s = s[:64] + "…" // for the message; no ID is that long
	}
	m := idPattern.FindStringSubmatch(s)
	if m == nil {
		return "", fmt.Errorf("%w: %q: it looks like inc-20260102-150405-abcd", ErrBadID, s)
	}
	if _, err := time.Parse(idTime, m[1]); err != nil {
		return "", fmt.Errorf("%w: %q: there is no such time", ErrBadID, s)
	}
	return ID(s), nil
}

// NewID takes four characters, 20 bits, from random (nil: crypto/rand): enough
// within one second of one state directory, and Create tries again where an ID
// of its own choice is taken.
func NewID(now time.Time, random io.Reader) (ID, error) {
	var b [5]byte
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("random part of an incident ID: %w", err)
	}
	suffix := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))[:4]
	return ParseID("inc-" + now.UTC().Format(idTime) + "-" + suffix)
}
