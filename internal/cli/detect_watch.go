package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"irctl/internal/sanitize"
	"irctl/internal/steps/detect"
	"irctl/internal/userfile"
)

// The most that a watch that opens incidents opens, and records in each: who
// can raise alerts must not fill the disk.
const (
	maxOpened   = 20
	maxRecorded = 50
)

// watchSuspects prints findings as they come, as JSON lines with -o json, and
// the ranking at the end.
func (a *App) watchSuspects(ctx context.Context, o *detectOptions, req detect.Request) error {
	w := detect.Watching{Every: o.interval, Noticed: func(text string) {
		fmt.Fprintf(a.Err, "%s\n", sanitize.Line(text))
	}}
	if o.listen != "" {
		token, err := readToken(ctx, o.tokenFile)
		if err != nil {
			return err
		}
		w.Listener, w.Address = &detect.Listener{Token: token, Now: time.Now}, o.listen
	}
	var open func(detect.Suspect) (detect.Opened, error)
	if o.open {
		var err error
		if open, err = a.opener(ctx, o, req); err != nil {
			return err
		}
	}
	recorded := map[string]int{}
	var failed error
	w.Found = func(f detect.Finding) {
		a.printAsItComes(f)
		kind, name := f.Subject.Suspect()
		if key := kind + " " + name; open != nil && f.Score.AtLeastHigh() && recorded[key] < maxRecorded &&
			(recorded[key] > 0 || len(recorded) < maxOpened) {
			recorded[key]++
			suspect := detect.Rank([]detect.Finding{f})[0]
			opened, err := open(suspect)
			switch {
			case err != nil:
				failed = err
				fmt.Fprintf(a.Err, "error: %s\n", sanitize.Line(err.Error()))
			case recorded[key] > 1:
			case a.output == asTable:
				a.printOpened(suspect, string(opened.Incident.ID), opened.Created)
			default:
				fmt.Fprintf(a.Err, "incident %s is open for %s\n", opened.Incident.ID, sanitize.Line(key))
			}
		}
	}
	signalsOf(ctx).expected()
	res, err := detect.Watch(ctx, req, w)
	if err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	high := detect.AtLeastHigh(res.Suspects)
	if a.output == asTable {
		fmt.Fprintln(a.Out)
		if err := a.printSuspects(detectResult{Result: res}, o.top); err != nil {
			return err
		}
	} else {
		a.printReading(res)
	}
	return suspectsExit(res, high)
}

// maxToken bounds the file of a token.
const maxToken = 4096

func readToken(ctx context.Context, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := userfile.ReadPiped(ctx, path, maxToken)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	switch {
	case token == "":
		return "", fmt.Errorf("the token in %s is empty", path)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		// RFC 6750 has no such characters in a bearer token, and no sender could send them.
		return "", fmt.Errorf(
			"the token in %s is no bearer token: it has characters other than letters, digits and marks", path)
	}
	return token, nil
}
