package evidence

import (
	"bytes"
)

// match is a secret that was found, buf[from:to].
type match struct {
	rule     string
	from, to int
	// open: it goes on beyond the window; end is what will end it.
	open bool
	end  []byte
}

// interesting are the bytes at which a rule can match; all others are passed
// over at the speed of a table look-up.
var interesting = func() (table [256]bool) {
	for _, c := range []byte("=:-JKSx_Bb") {
		table[c] = true
	}
	return table
}()

// match applies the rules for the byte at i. A match begins where nothing was
// written yet. Most bytes that are looked at are decided by their neighbours.
func (r *redaction) match(i int) (m match) {
	b := r.buf
	before, after := byte(0), byte(0)
	if i > 0 {
		before = b[i-1]
	}
	if i+1 < len(b) {
		after = b[i+1]
	}
	switch c := b[i]; {
	case c == ':' && isDigit(before) && isDigit(after): // a time, a port
	case c == ':' && after == '/':
		if m = urlPassword(b, i); m.rule == "" {
			m = r.keyed(i)
		}
	case c == '=' || c == ':':
		m = r.keyed(i)
	case c == '-' && before == 't':
		m = token(b, i, "glpat", "", 20, "git-token")
	case c == '-' && after == '-':
		if m = privateKey(b, i); m.rule == "" {
			m = commandFlag(b, i)
		}
	case c == 'J' && before == 'y':
		m = token(b, i, "ey", "", 16, "jwt")
	case (c == 'K' || c == 'S') && before == 'A' && after == 'I':
		m = token(b, i, "A", "IA", 16, "aws-access-key-id")
	case c == '_' && bytes.IndexByte([]byte("pousrt"), before) >= 0:
		m = firstToken(b, i, gitTokens, nil, 20, "git-token")
	case c == 'x' && after == 'o':
		m = firstToken(b, i, nil, slackTokens, 10, "slack-token")
	case c == 'B' || c == 'b':
		m = authorization(b, i)
	}
	if m.from < r.emitted {
		return match{}
	}
	return m
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

var (
	gitTokens   = []string{"ghp", "gho", "ghu", "ghs", "ghr", "github_pat"}
	slackTokens = []string{"oxb-", "oxp-", "oxa-", "oxr-", "oxs-"}
)

// firstToken tries what a token can have before or after b[i].
func firstToken(b []byte, i int, befores, afters []string, length int, rule string) match {
	for _, before := range befores {
		if m := token(b, i, before, "", length, rule); m.rule != "" {
			return m
		}
	}
	for _, after := range afters {
		if m := token(b, i, "", after, length, rule); m.rule != "" {
			return m
		}
	}
	return match{}
}

// token is a word of at least so many characters around b[i], with what it
// begins with before and after that byte.
func token(b []byte, i int, before, after string, length int, rule string) match {
	from := i - len(before)
	if from < 0 || string(b[from:i]) != before || !bytes.HasPrefix(b[i+1:], []byte(after)) ||
		from > 0 && isWordByte(b[from-1]) {
		return match{}
	}
	to := i + 1 + len(after)
	for to < len(b) && isTokenByte(b[to]) {
		to++
	}
	if to-i-1-len(after) < length {
		return match{}
	}
	return match{rule: rule, from: from, to: to, open: to == len(b), end: []byte("\n")}
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isTokenByte(c byte) bool { return isWordByte(c) || c == '-' || c == '_' || c == '.' }

// authorization is what follows "Bearer " and "Basic ".
func authorization(b []byte, i int) match {
	for _, rest := range []string{"earer ", "asic "} {
		if !bytes.HasPrefix(b[i+1:], []byte(rest)) {
			continue
		}
		from := i + 1 + len(rest)
		to := from
		for to < len(b) && (isTokenByte(b[to]) || bytes.IndexByte([]byte("+/=~"), b[to]) >= 0) {
			to++
		}
		if to-from >= 8 {
			return match{rule: "authorization", from: from, to: to, open: to == len(b), end: []byte("\n")}
		}
	}
	return match{}
}

// privateKey is a PEM block of a private key, in lines or in a JSON string.
func privateKey(b []byte, i int) match {
	const begin, end = "-----BEGIN ", "-----END "
	if !bytes.HasPrefix(b[i:], []byte(begin)) {
		return match{}
	}
	title := b[i+len(begin) : min(len(b), i+len(begin)+64)]
	if at := bytes.Index(title, []byte("-----")); at < 0 || !bytes.Contains(title[:at], []byte("PRIVATE KEY")) {
		return match{}
	}
	if at := bytes.Index(b[i:], []byte(end)); at >= 0 {
		return match{rule: "private-key", from: i, to: i + at}
	}
	return match{rule: "private-key", from: i, to: len(b), open: true, end: []byte(end)}
}

// urlPassword is the password in "scheme://user:password@host".
func urlPassword(b []byte, i int) match {
	if !bytes.HasPrefix(b[i:], []byte("://")) {
		return match{}
	}
	const longest = 512
	colon := -1
	for j := i + 3; j < min(len(b), i+longest); j++ {
		switch b[j] {
		case ':':
			if colon < 0 {
				colon = j
			}
		case '@':
			if colon < 0 || j == colon+1 {
				return match{}
			}
			return match{rule: "url-password", from: colon + 1, to: j}
		case '/', ' ', '\n', '"', '\'', '?', '#':
			return match{}
		}
	}
	return match{}
}

// commandFlag is a command's "--password VALUE"; with a "=" it is keyed.
func commandFlag(b []byte, i int) match {
	if !bytes.HasPrefix(b[i:], []byte("--")) || i > 0 && b[i-1] == '-' {
		return match{}
	}
	end := i + 2
	for end < min(len(b), i+66) && isTokenByte(b[end]) {
		end++
	}
	if end >= len(b)-1 || b[end] != ' ' || b[end+1] == '-' || !sensitive(b[i+2:end]) {
		return match{}
	}
	to := end + 1
	for to < len(b) && !isBlank(b[to]) {
		to++
	}
	if to == end+1 {
		return match{}
	}
	return match{rule: "sensitive-flag", from: end + 1, to: to, open: to == len(b), end: []byte("\n")}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == 0 }

// keyed is the value of a key that looks like that of a secret: key=value,
// key: value, "key":"value", and the same within a string of JSON. A "name"
// that looks so makes the next "value" one.
func (r *redaction) keyed(i int) match {
	b := r.buf
	key, letters := keyBefore(b, i)
	switch {
	case len(key) == 0:
		return match{}
	case string(key) == "name":
		if from, to, _, _ := valueAfter(b, i+1, nil); to > from {
			r.namedSecret = sensitive(b[from:to])
		}
		return match{}
	case string(key) == "value" && r.namedSecret:
	case !maySpellSecret(letters) || !sensitive(key):
		return match{}
	}
	from, to, open, end := valueAfter(b, i+1, key)
	if !open { // else it is looked at again
		r.namedSecret = false
	}
	if to == from || isHarmless(b[from:to]) {
		return match{}
	}
	return match{rule: "sensitive-key", from: from, to: to, open: open, end: end}
}

// tokenBits has a bit for each letter, whatever its case, and one for all else
// that a token is made of.
var tokenBits = func() (bits [256]uint32) {
	for c := range 256 {
		switch c := byte(c); {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			bits[c] = 1 << (c | 0x20 - 'a')
		case isTokenByte(c):
			bits[c] = 1 << 31
		}
	}
	return bits
}()

// secretLetters are those of each secret word.
var secretLetters = func() (sets []uint32) {
	for _, words := range secretWords {
		for _, word := range words {
			set := uint32(0)
			for i := range len(word) {
				set |= tokenBits[word[i]] &^ (1 << 31)
			}
			sets = append(sets, set)
		}
	}
	return sets
}()

// maySpellSecret: the letters of some secret word are all there. Of most keys
// in a log that is not so, and nothing else need be looked at.
func maySpellSecret(letters uint32) bool {
	for _, set := range secretLetters {
		if letters&set == set {
			return true
		}
	}
	return false
}

// keyBefore is the word that ends before b[i], within quotes or not, and which
// letters it is made of.
func keyBefore(b []byte, i int) (key []byte, letters uint32) {
	end := i
	for end > 0 && (b[end-1] == '"' || b[end-1] == '\'' || b[end-1] == '\\' || b[end-1] == ' ') && i-end < 3 {
		end--
	}
	if end == 0 || !isWordByte(b[end-1]) {
		return nil, 0
	}
	start := end
	for start > 0 && end-start < 64 {
		bit := tokenBits[b[start-1]]
		if bit == 0 {
			break
		}
		letters |= bit
		start--
	}
	return b[start:end], letters
}

// valueAfter finds a value that begins at b[i], and what will end it if the
// window does not hold its end.
func valueAfter(b []byte, i int, key []byte) (from, to int, open bool, end []byte) {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	if i >= len(b) {
		return i, i, false, nil
	}
	for _, quote := range []string{`\"`, `"`, `'`} {
		if bytes.HasPrefix(b[i:], []byte(quote)) {
			from = i + len(quote)
			to, open = closing(b, from, quote)
			return from, to, open, []byte(quote)
		}
	}
	stops := []byte(" \t\n\r,;&\"')}]<\x00")
	if wholeLine(key) {
		stops = []byte("\n\r\"")
	}
	to = i
	for to < len(b) && bytes.IndexByte(stops, b[to]) < 0 {
		to++
	}
	return i, to, to == len(b), []byte("\n")
}

// closing finds the quote that ends a string.
func closing(b []byte, from int, quote string) (to int, open bool) {
	for to = from; to < len(b); to++ {
		if quote == `"` && b[to] == '\\' {
			to++
			continue
		}
		if bytes.HasPrefix(b[to:], []byte(quote)) {
			return to, false
		}
	}
	return len(b), true
}

// wholeLine: the values of these headers have blanks in them.
func wholeLine(key []byte) bool {
	return bytes.EqualFold(key, []byte("authorization")) || bytes.EqualFold(key, []byte("cookie")) ||
		bytes.EqualFold(key, []byte("set-cookie")) ||
		bytes.EqualFold(key, []byte("proxy-authorization"))
}

// isHarmless: what is no secret whatever its key: the beginning of a nested
// value, nothing, or what was replaced already.
func isHarmless(value []byte) bool {
	switch string(value) {
	case "null", "true", "false", "{", "[", "|", ">", "|-", ">-", "{}", "[]", "<nil>", mark:
		return true
	}
	return value[0] == '{' || value[0] == '['
}

// secretWords make a key sensitive wherever they are in it, by their first
// letter; notSecret at its end make it the name of something about a secret.
var (
	secretWords = func() (words [256][]string) {
		for _, w := range []string{"password", "passwd", "passphrase", "pwd", "privatekey", "private_key",
			"private-key", "secret", "signing_key", "signingkey", "token",
			"credential", "cookie", "authorization", "apikey", "api_key", "api-key", "accesskey", "access_key",
			"access-key", "encryption_key", "encryptionkey"} {
			words[w[0]] = append(words[w[0]], w)
		}
		return words
	}()
	notSecret = []string{"name", "names", "ref", "path", "file", "type", "version", "count", "seconds",
		"serviceaccounttoken", "expires", "expiry", "ttl", "secrets"}
)

// sensitive reports whether a key looks like that of a secret.
func sensitive(key []byte) bool {
	var small [64]byte
	if len(key) < 3 || len(key) > len(small) {
		return false
	}
	lower := small[:len(key)]
	for i, c := range key {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	for i, c := range lower {
		for _, word := range secretWords[c] {
			if len(lower)-i >= len(word) && string(lower[i:i+len(word)]) == word {
				return !namesSecret(lower)
			}
		}
	}
	return false
}

func namesSecret(lower []byte) bool {
	for _, suffix := range notSecret {
		if len(lower) >= len(suffix) && string(lower[len(lower)-len(suffix):]) == suffix {
			return true
		}
	}
	return false
}
