package evidence

import (
	"encoding/binary"
	"strings"
)

// needles are what the rules need: none can match, and no name be that of a
// secret, with none of these nearby, in whatever case.
var needles = func() (all []string) {
	for _, words := range secretWords {
		all = append(all, words...)
	}
	for _, token := range gitTokens {
		all = append(all, token+"_")
	}
	for _, token := range slackTokens {
		all = append(all, "x"+token)
	}
	return append(all, "glpat-", "eyj", "akia", "asia", "bearer ", "basic ", "-begin ", "://")
}()

// needleAt is a needle of which two bytes are at an offset.
type needleAt struct {
	text   string
	offset int
}

// pairs tells, of two bytes, which needles they may be a part of: an index of
// pairNeedles, or 0. Of each needle two pairs are in it, one at an even offset
// and one at an odd one. So it is enough to look at every other byte.
var pairs, pairNeedles = func() (pairs [1 << 16]uint8, found [][]needleAt) {
	found = [][]needleAt{nil}
	for _, text := range needles {
		for parity := range 2 {
			at := rarest(text, parity)
			index := uint8(0)
			for _, a := range cases(text[at]) {
				for _, b := range cases(text[at+1]) {
					pair := &pairs[uint16(a)|uint16(b)<<8]
					if *pair == 0 && index == 0 {
						index = uint8(len(found))
						found = append(found, nil)
					}
					if *pair == 0 {
						*pair = index
					}
					index = *pair // that of all cases of the two letters
				}
			}
			found[index] = append(found[index], needleAt{text, at})
		}
	}
	return pairs, found
}()

func cases(c byte) []byte {
	if isLetter(c) {
		return []byte{c &^ 0x20, c | 0x20}
	}
	return []byte{c}
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// rarest is the offset, even or odd, of the two letters of a text that other
// texts have least.
func rarest(text string, parity int) int {
	const byFrequency = "etaoinshrdlcumwfgypbvkjxqz"
	rank := func(c byte) int {
		if at := strings.IndexByte(byFrequency, c); at >= 0 {
			return 1 + at
		}
		return len(byFrequency) / 2
	}
	best, most := parity, 0
	for at := parity; at+1 < len(text); at += 2 {
		if r := rank(text[at]) * rank(text[at+1]); r > most {
			best, most = at, r
		}
	}
	return best
}

// nearby is how far from a needle, before it and after it, a rule may match:
// longer than a key, what quotes it, and a needle together.
const nearby = 96

// passOver tells where next after i the rules must be applied, and up to where.
func passOver(b []byte, i int) (from, until int) {
	at := findNeedle(b, max(0, i-nearby+1))
	if at < 0 {
		return len(b), len(b)
	}
	from = at - nearby
	// The value of a "name" can be any number of blanks away.
	for from > i && (b[from] == ' ' || b[from] == '\t') {
		from--
	}
	return max(i, from), at + nearby
}

// findNeedle is where the next needle is, within its length, or -1.
func findNeedle(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		if pairs[uint16(x)]|pairs[uint16(x>>16)]|pairs[uint16(x>>32)]|pairs[uint16(x>>48)] == 0 {
			continue
		}
		for j := i; j < i+8; j += 2 {
			if isNeedle(b, j) {
				return j
			}
		}
	}
	for ; i+2 <= len(b); i += 2 {
		if isNeedle(b, i) {
			return i
		}
	}
	return -1
}

// isNeedle reports whether b[i] and b[i+1] are two bytes of a needle.
func isNeedle(b []byte, i int) bool {
	for _, n := range pairNeedles[pairs[binary.LittleEndian.Uint16(b[i:])]] {
		from := i - n.offset
		if from < 0 || from+len(n.text) > len(b) || !equalFold(b[from:from+len(n.text)], n.text) {
			continue
		}
		if n.text != "://" || urlPassword(b, from).rule != "" {
			return true
		}
	}
	return false
}

// equalFold compares with lower case text of the same length.
func equalFold(b []byte, text string) bool {
	for i, c := range b {
		if c != text[i] && !(isLetter(c) && c|0x20 == text[i]) {
			return false
		}
	}
	return true
}
