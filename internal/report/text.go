package report

import (
	"fmt"
	"strings"
	"time"

	"irctl/internal/sanitize"
)

// Text was written by somebody else, perhaps by the attacker. Printed, by fmt
// or by a template, it is one line of bounded length in which nothing takes
// effect on a terminal; in JSON it is what it was.
type Text string

// maxText bounds a printed Text, in runes: enough for any command, and a
// table with such cells can still be read.
const maxText = 2000

func (t Text) String() string { return sanitize.Short(string(t), maxText) }

// Short is the text cut to at most n runes.
func (t Text) Short(n int) string { return sanitize.Short(string(t), n) }

// markup is what would be markup to a code host, a wiki, or the site generator
// behind one: CommonMark and its tables, HTML, entities, mentions, links made
// of bare addresses, formulas, and template braces. Where a backslash is not
// understood by all of them it is an entity.
var markup = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "~", `\~`, "#", `\#`, "[", `\[`, "]", `\]`, "!", `\!`, "|", `\|`,
	"<", "&lt;", ">", "&gt;", "&", "&amp;", "{", "&#123;", "}", "&#125;", "$", "&#36;", "@", "&#64;",
	"://", "&#58;//", "www.", "www&#46;")

// EscapeMarkdown makes s text of one line within Markdown, also within the
// cell of a table. It does not begin a line with it: that is the caller's part.
func EscapeMarkdown(s string) string { return markup.Replace(sanitize.Line(s)) }

// when is a moment as people read it, in the zone in which it was recorded.
func when(t time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	if _, offset := t.Zone(); offset == 0 {
		return t.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return t.Format("2006-01-02 15:04:05 -07:00")
}

// took is a duration in its two largest units.
func took(d time.Duration) string {
	switch {
	case d < 0:
		return "an unknown time (the clock went back)"
	case d < time.Second:
		return "less than 1 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return two(d/time.Minute, "min", d%time.Minute/time.Second, "s")
	case d < 24*time.Hour:
		return two(d/time.Hour, "h", d%time.Hour/time.Minute, "min")
	}
	return two(d/(24*time.Hour), "d", d%(24*time.Hour)/time.Hour, "h")
}

func two(large time.Duration, unit string, small time.Duration, smaller string) string {
	if small == 0 {
		return fmt.Sprintf("%d %s", large, unit)
	}
	return fmt.Sprintf("%d %s %d %s", large, unit, small, smaller)
}

// size is a number of bytes as people read it.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 5 {
		value, prefix = value/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[prefix])
}
