package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"irctl/internal/report"
	"irctl/internal/runbook"
)

// reportFiles are the formats of a report, and the files that they become in
// the incident's directory.
var reportFiles = map[string]string{"markdown": "report.md", "html": "report.html", "json": "report.json"}

func reportOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "report", Doc: "Write the post-mortem as it stands into the incident's directory: report.md, report.html, report.json. As irctl report; an older one is replaced.",
			Inputs: []runbook.Field{
				{Name: "formats", Domain: runbook.Domain{Type: runbook.String, List: true, Choices: []string{"markdown", "html", "json"}}, Doc: "Which formats; else markdown and html."},
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
func doReport(_ context.Context, w *work) (outcome, error) {
	in, err := report.Read(w.Store, w.id)
	if err != nil {
		return outcome{}, err
	}
	in.Now, in.Tool, in.Contacts = w.Now(), w.req.Tool, w.req.Contacts
	r := report.New(in)
	formats := w.in.Texts("formats")
	if len(formats) == 0 {
		formats = []string{"markdown", "html"}
	}
	write := map[string]func(io.Writer) error{"markdown": r.Markdown, "html": r.HTML, "json": r.JSON}
	var o outcome
	for i, format := range formats {
		var text bytes.Buffer
		if err := write[format](&text); err != nil {
			return o, err
		}
		path := filepath.Join(w.result.Directory, reportFiles[format])
		if err := replaceFile(path, text.Bytes()); err != nil {
			return o, fmt.Errorf("writing the report: %w", err)
		}
		if i == 0 {
			sum := sha256.Sum256(text.Bytes())
			digest := hex.EncodeToString(sum[:])
			o.summary = fmt.Sprintf("written to %s, sha256 %s", filepath.Base(path), digest)
			o.results = map[string]any{"file": path, "sha256": digest}
		}
	}
	if r.Chain.State == report.Broken {
		return o, errors.New("the timeline is not as it was written; the report says so at its top")
	}
	return o, nil
}

// replaceFile writes a file that only its owner can read: it says what is weak.
func replaceFile(path string, text []byte) error {
	next := path + ".tmp"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		os.Remove(next)
	}
	return err
}
