package detect

import (
	"bytes"
	"errors"
)

// errNoObject: a line is no JSON object.
var errNoObject = errors.New("it is no JSON object")

// members calls visit with the name and the raw value of every member of a
// JSON object. What it passes over it does not check beyond finding its end,
// which is what makes it many times faster than to decode: of an audit log
// hardly any line is worth that. An error may come after some visits.
func members(b []byte, visit func(name, value []byte)) error {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return errNoObject
	}
	if i = space(b, i+1); i < len(b) && b[i] == '}' {
		return atEnd(b, i+1)
	}
	for {
		nameEnd, ok := text(b, i)
		if !ok {
			return errNoObject
		}
		name := b[i+1 : nameEnd-1]
		if i = space(b, nameEnd); i >= len(b) || b[i] != ':' {
			return errNoObject
		}
		i = space(b, i+1)
		end, ok := value(b, i)
		if !ok {
			return errNoObject
		}
		visit(name, b[i:end])
		if i = space(b, end); i >= len(b) {
			return errNoObject
		}
		switch b[i] {
		case ',':
			i = space(b, i+1)
		case '}':
			return atEnd(b, i+1)
		default:
			return errNoObject
		}
	}
}

func atEnd(b []byte, i int) error {
	if space(b, i) != len(b) {
		return errNoObject
	}
	return nil
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// text returns where the string that begins at i ends.
func text(b []byte, i int) (end int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return 0, false
	}
	for i++; ; i++ {
		next := bytes.IndexByte(b[i:], '"')
		if next < 0 {
			return 0, false
		}
		first := i
		i += next
		escapes := 0
		for i-1-escapes >= first && b[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1, true
		}
	}
}

// value returns where the value that begins at i ends.
func value(b []byte, i int) (end int, ok bool) {
	if i >= len(b) {
		return 0, false
	}
	switch b[i] {
	case '"':
		return text(b, i)
	case '{', '[':
		return nested(b, i)
	}
	start := i
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	return i, i > start
}

func nested(b []byte, i int) (end int, ok bool) {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i, ok = text(b, i); !ok {
				return 0, false
			}
			i--
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
	}
	return 0, false
}

// unquoted is the inside of a raw string; nil for anything else. Escapes stay.
func unquoted(raw []byte) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return nil
	}
	return raw[1 : len(raw)-1]
}

// lastText is the last string of a raw array of strings.
func lastText(raw []byte) []byte {
	var last []byte
	for i := 1; i < len(raw); i++ {
		if raw[i] != '"' {
			continue
		}
		end, ok := text(raw, i)
		if !ok {
			break
		}
		last, i = raw[i+1:end-1], end-1
	}
	return last
}
