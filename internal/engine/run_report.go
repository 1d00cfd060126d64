package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"irctl/internal/incident"
	"irctl/internal/report"
	"irctl/internal/runbook"
	"irctl/internal/timeline"
)

// reportFiles are the formats of a report, and the files that they become in
// the incident's directory.
var reportFiles = map[string]string{"markdown": "report.md", "html": "report.html", "json": "report.json"}

func reportOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "report", Doc: "Write the post-mortem as it stands into the incident's " +
			"directory: report.md, report.html, report.json. As irctl report. One of an earlier run is replaced; one " +
			"that was edited since is kept, and the new one is written beside it, as report-2.md.",
			Inputs: []runbook.Field{
				{Name: "formats", Domain: runbook.Domain{Type: runbook.String, List: true,
					Choices: []string{"markdown", "html", "json"}}, Doc: "Which formats; else markdown and html."},
			},
			Results: []runbook.Result{
				{Name: "file", Domain: runbook.Of(runbook.String), Doc: "The path of the first one."},
				{Name: "sha256", Domain: runbook.Of(runbook.String), Doc: "Its digest."},
			}},
		describe: constantly("write the report"),
		do:       doReport,
	}
}

// doReport needs no lock: the report is made of what is recorded until now.
func doReport(ctx context.Context, w *work) (outcome, error) {
	in, err := report.Read(w.Store, w.id)
	if err != nil {
		return outcome{}, err
	}
	in.Now, in.Tool, in.Contacts = w.Now(), w.req.Tool, w.req.Contacts
	w.engine.LookFor(ctx, &in)
	r := report.New(in)
	formats := w.in.Texts("formats")
	if len(formats) == 0 {
		formats = []string{"markdown", "html"}
	}
	entries, err := w.Store.Entries(w.id)
	if err != nil {
		return outcome{}, err
	}
	known := reportsWritten(entries)
	write := map[string]func(io.Writer) error{"markdown": r.Markdown, "html": r.HTML, "json": r.JSON}
	var o outcome
	var files writtenReports
	for i, format := range formats {
		var text bytes.Buffer
		if err := write[format](&text); err != nil {
			return o, err
		}
		path := filepath.Join(w.result.Directory, reportFiles[format])
		file, kept, err := report.Update(path, text.Bytes(), func(digest string) bool { return known[digest] })
		if err != nil {
			return o, fmt.Errorf("writing the report: %w", err)
		}
		digest := report.Digest(text.Bytes())
		files = append(files, writtenReport{filepath.Base(file), digest})
		o.detail = files
		if i == 0 {
			o.summary = fmt.Sprintf("written to %s, sha256 %s", filepath.Base(file), digest)
			o.results = map[string]any{"file": file, "sha256": digest}
		}
		for _, k := range kept {
			o.summary += fmt.Sprintf("; %s was edited and stays, the new one is %s",
				filepath.Base(k), filepath.Base(file))
		}
	}
	if r.Chain.State == report.Broken {
		return o, errors.New("the timeline is not as it was written; the report says so at its top")
	}
	return o, nil
}

// reportTime bounds the look at the cluster for a report: without it the report is
// made all the same.
const reportTime = 10 * time.Second

// LookFor puts into a report of an open incident how its containment stands in the
// cluster now: the verdict is that of irctl status.
func (e *Engine) LookFor(ctx context.Context, in *report.Input) {
	if in.Incident.State != incident.StateOpen {
		return
	}
	looking, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	res := e.Status(looking, in.Incident, in.Entries)
	if looking.Err() != nil {
		in.NotLooked = fmt.Sprintf("it did not answer within %s", reportTime)
		return
	}
	res.Tell(in, e.Now())
	if res.OtherCluster {
		in.NotLooked = strings.TrimPrefix(e.notHere(in.Incident).Error(), ErrUndetermined.Error()+": ")
	}
}

// Tell puts into a report of an open incident what a look at the cluster found.
func (r *StatusResult) Tell(in *report.Input, at time.Time) {
	switch {
	case in.Incident.ID != r.Incident.ID || in.Incident.State != incident.StateOpen:
	case r.OtherCluster:
		in.NotLooked = "the one that was reached is another cluster than the incident's"
	case r.Verdict != "":
		in.Look = &report.Look{At: at, Accepted: Accepted(r.Targets, r.Unsettled),
			Assessment: r.assessment()}
		for _, u := range r.Unsettled {
			if u.Accepted == nil {
				in.Look.Unsettled = append(in.Look.Unsettled, u.Summary+": "+u.Reason)
			}
		}
	}
}

// writtenReport is a file as the step wrote it. The journal keeps it, so that
// also a later run, on another machine, knows what was edited since.
type writtenReport struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

type writtenReports []writtenReport

func (w writtenReports) inJournal() any { return w }

// reportsWritten are the digests of the reports that runs have written.
func reportsWritten(entries []timeline.Entry) map[string]bool {
	digests := map[string]bool{}
	for i := range entries {
		rec, ok := runRecordOf(&entries[i])
		if !ok || rec.Event != stepEnded || rec.Uses != "report" {
			continue
		}
		// Earlier versions kept that of the first file alone.
		if digest, ok := rec.Results["sha256"].(string); ok {
			digests[digest] = true
		}
		files, _ := rec.Detail.([]any)
		for _, f := range files {
			file, _ := f.(map[string]any)
			if digest, ok := file["sha256"].(string); ok {
				digests[digest] = true
			}
		}
	}
	return digests
}
