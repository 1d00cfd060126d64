package evidence

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
)

// MaxName is the length in bytes that no result of SafeName exceeds. With the
// suffix of a part it stays below the 255 bytes that file systems allow.
const MaxName = 128

// nameHash is how many bytes of the SHA-256 tell replaced names apart.
const nameHash = 16

// SafeName turns any name into one that is a single, harmless path element on
// every file system: lower-case letters, digits, dot, underscore and hyphen,
// beginning with a letter or digit, at most MaxName bytes. A name that is so
// already stays as it is. Any other becomes what can be kept of it, "~", and
// 128 bits of its SHA-256. Since "~" occurs in no name that stays, different
// names never give the same path, not even where case is ignored.
func SafeName(name string) string {
	if isSafeName(name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	suffix := "~" + hex.EncodeToString(sum[:nameHash])
	kept := []byte(cmp.Or(name, "x")[:min(max(len(name), 1), MaxName-len(suffix))])
	for i, c := range kept {
		switch {
		case c >= 'A' && c <= 'Z':
			kept[i] = c - 'A' + 'a'
		case !isNameByte(c), i == 0 && !isAlphanumeric(c):
			kept[i] = 'x'
		}
	}
	// A reserved device name stays reserved whatever follows its first dot.
	if stem, _, _ := strings.Cut(string(kept), "."); slices.Contains(reservedNames, stem) {
		return "x-" + string(kept) + suffix
	}
	return string(kept) + suffix
}

func isSafeName(name string) bool {
	if name == "" || partSuffix.MatchString(name) || len(name) > MaxName || !isAlphanumeric(name[0]) ||
		name[len(name)-1] == '.' {
		return false
	}
	for i := range len(name) {
		if !isNameByte(name[i]) {
			return false
		}
	}
	stem, _, _ := strings.Cut(name, ".")
	return !slices.Contains(reservedNames, stem)
}

func isAlphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isNameByte(c byte) bool { return isAlphanumeric(c) || c == '.' || c == '_' || c == '-' }

// partSuffix ends the names of parts, which a bag gives; nothing else may.
var partSuffix = regexp.MustCompile(`\.part[0-9]+$`)

// reservedNames are devices on Windows, under any extension.
var reservedNames = []string{
	"con", "prn", "aux", "nul", "com0", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9",
	"lpt0", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
}

// isSafePath reports whether a path read from a bag is relative, clean and
// made of elements that SafeName could have written, so that extracting it
// cannot leave the directory it is extracted to.
func isSafePath(path string) bool {
	if len(path) > 1024 {
		return false
	}
	for element := range strings.SplitSeq(path, "/") {
		if element == "" || len(element) > 255 || !isAlphanumeric(element[0]|0x20) { // 0x20: upper case too
			return false
		}
		for i := range len(element) {
			c := element[i]
			if !isNameByte(c) && c != '~' && !(c >= 'A' && c <= 'Z') {
				return false
			}
		}
	}
	return true
}
