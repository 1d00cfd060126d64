package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"

	"irctl/internal/sanitize"
)

// style colours words, or not. Meaning is never by colour alone.
type style struct{ on bool }

// style for a stream: colours on a terminal, unless NO_COLOR is set or the
// terminal is dumb. https://no-color.org
func (a *App) style(terminal bool) style {
	return style{terminal && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"}
}

func (s style) paint(code, text string) string {
	if !s.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(t string) string { return s.paint("1", t) }
func (s style) dim(t string) string  { return s.paint("2", t) }
func (s style) good(t string) string { return s.paint("32", t) }
func (s style) warn(t string) string { return s.paint("33", t) }
func (s style) bad(t string) string  { return s.paint("31;1", t) }

// diff colours a line that begins with + or -.
func (s style) diff(line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return s.good(line)
	case strings.HasPrefix(line, "-"):
		return s.bad(line)
	}
	return line
}

// printObject prints v as JSON or YAML; false: the format is another.
func (a *App) printObject(v any) (bool, error) {
	if a.output != asJSON && a.output != asYAML {
		return false, nil
	}
	object, err := objectText(a.kind, v)
	if err != nil {
		return true, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, object, "", "  "); err != nil {
		return true, err
	}
	text := sanitize.JSON(b.Bytes())
	// JSON is YAML too: so it stays where YAML would show what was escaped.
	if a.output == asYAML && len(text) == b.Len() {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return true, err
		}
	}
	_, err = a.Out.Write(text)
	return true, err
}

// printNamed is printObject for what has names, which -o name prints.
func (a *App) printNamed(v any, names ...string) (done bool, err error) {
	if a.output != asName {
		return a.printObject(v)
	}
	for _, n := range names {
		if _, err := fmt.Fprintln(a.Out, sanitize.Line(n)); err != nil {
			return true, err
		}
	}
	return true, nil
}

// named are the names of a list's elements.
func named[T any](list []T, name func(T) string) []string {
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = name(e)
	}
	return names
}

// table prints rows in columns, each cell made safe for a terminal.
func table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, r := range rows {
		for i, c := range r {
			r[i] = sanitize.Line(c)
		}
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(r, "\t"), "\t"))
	}
	return tw.Flush()
}
