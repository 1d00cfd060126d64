// Package reflow takes back the line breaks of a text that was written for a
// page of another width, so that whoever shows it can break it anew.
package reflow

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lines are the lines of a text as they are meant: a paragraph is one line, and
// so is each line of a list. Commands, and what is indented as they are, stay as
// they are, and so do empty lines.
func Lines(text string) []string {
	var out []string
	open, wide := false, false // whether the last line may go on, and was as wide as a page
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		line = strings.TrimRight(line, " \r")
		if open && goesOn(out[len(out)-1], line, wide) {
			out[len(out)-1] += " " + line
		} else {
			out = append(out, line)
		}
		n := utf8.RuneCountInString(line)
		wide = n > full
		open = n > broken && !command.MatchString(line) && !strings.HasSuffix(line, ":")
	}
	return out
}

const (
	// broken is how long at least a line is that was broken for want of room.
	broken = 60
	// full is from when on that is so wherever it was broken.
	full = 80
)

// command begins a line that is to be copied.
var command = regexp.MustCompile(`^( |irctl |kubectl )`)

// label begins a line of a list of facts, such as "Alert: not given".
var label = regexp.MustCompile(`^\S+:(\s|$)`)

// goesOn tells whether a line goes on with the sentence of the one before, or
// with the next one of its paragraph.
func goesOn(before, line string, wide bool) bool {
	first, _ := utf8.DecodeRuneInString(line)
	switch {
	case line == "", command.MatchString(line), first == '-', unicode.IsDigit(first), label.MatchString(line):
		return false
	case unicode.IsUpper(first):
		return strings.ContainsRune(".!?,;)", rune(before[len(before)-1])) || wide
	}
	return true
}
