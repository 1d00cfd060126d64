package report

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"io"
	"reflect"
	"sync"

	"irctl/internal/incident"
	"irctl/internal/timeline"
)

//go:embed page.html page.css
var files embed.FS

// style is the page's style sheet, and what the page's own policy lets in:
// this sheet, by its digest, and nothing else.
var style = func() (s struct{ Sheet, Policy string }) {
	css, err := files.ReadFile("page.css")
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(css)
	s.Sheet = string(css)
	s.Policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'"
	return s
}()

// page is the template. It prints values of the report by their String method,
// which makes a Text harmless to read, and escapes them, which makes it
// harmless to a browser. Only the style sheet is trusted. It is parsed once it
// is needed: most runs of irctl make no report.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page.html").Funcs(template.FuncMap{
		"style":    func() template.HTML { return template.HTML("<style>" + style.Sheet + "</style>") },
		"policy":   func() string { return style.Policy },
		"when":     when,
		"size":     size,
		"entries":  entries,
		"weigh":    doubtsWeigh,
		"lessons":  func() any { return lessons },
		"cluster":  clusterText,
		"head":     func(c Chain) Text { return Text(c.Head.SHA256) },
		"rows":     rows,
		"more":     func(list any) int { return max(reflect.ValueOf(list).Len()-maxRows, 0) },
		"severity": severityClass,
		"judged":   verdictClass,
		"weight":   weightClass,
		"strayed":  outcomeClass,
	}).ParseFS(files, "page.html"))
})

// rows are the elements of a list that a table shows.
func rows(list any) any {
	v := reflect.ValueOf(list)
	return v.Slice(0, min(v.Len(), maxRows)).Interface()
}

// The classes of the style sheet for what is good, worth a warning, or bad.

func severityClass(severity Text) string {
	switch incident.Severity(severity) {
	case incident.Sev1, incident.Sev2:
		return "bad"
	case incident.Sev3:
		return "warn"
	}
	return ""
}

func verdictClass(verdict Text) string {
	switch verdict {
	case "contained":
		return "good"
	case "contained with exposures", Text(undetermined):
		return "warn"
	case nothingContained:
		return ""
	}
	return "bad"
}

func weightClass(x Exposure) string {
	switch x.Severity {
	case note:
		return ""
	case risk:
		return "warn"
	}
	return "bad"
}

func outcomeClass(o timeline.Outcome) string {
	if o == timeline.OutcomeFailed || o == timeline.OutcomeDenied {
		return "bad"
	}
	return "warn"
}

// HTML writes the report as one page that needs nothing else: no script, no
// file, no network. A browser is told to allow none either.
func (r *Report) HTML(w io.Writer) error { return page().Execute(w, view{r}) }

// view is a report as the page asks for it.
type view struct{ *Report }

func (v view) Drawing() *drawing    { return v.draw() }
func (v view) Roles() []Role        { return v.roles() }
func (v view) ByWeight() []Exposure { return byWeight(v.Exposures) }
