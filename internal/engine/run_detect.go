package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"irctl/internal/runbook"
	"irctl/internal/steps/detect"
)

const (
	// detectNew is since when what is found in a cluster is new, unless the step says.
	detectNew = 24 * time.Hour
	// topSuspects is how many are kept.
	topSuspects = 20
)

func detectOperation() *operation {
	return &operation{
		Signature: runbook.Signature{Name: "detect", Doc: "Look for suspects: in the cluster, in Falco's alerts, in " +
			"the API server's audit log. As irctl detect; it changes nothing.",
			Inputs: []runbook.Field{
				{Name: "namespace", Domain: runbook.Of(runbook.Name), Doc: "The only namespace of interest; else all."},
				{Name: "falco", Domain: runbook.ListOf(runbook.Path), Doc: "Files of Falco's alerts, as JSON lines."},
				{Name: "auditLog", Domain: runbook.ListOf(runbook.Path), Doc: "Files of the API server's audit log."},
				{Name: "since", Domain: runbook.Of(runbook.Duration),
					Doc: "Leave out what is older; else all alerts, and of the cluster what is new since 24h."},
			},
			Results: []runbook.Result{
				{Name: "suspects", Domain: runbook.Of(runbook.Integer), Doc: "How many there are."},
				{Name: "high", Domain: runbook.Of(runbook.Boolean), Doc: "One is of high severity, or worse."},
				{Name: "pods", Domain: runbook.ListOf(runbook.Pod),
					Doc: "The pods of high severity that are in no incident, the worst first, at most 20."},
				{Name: "complete", Domain: runbook.Of(runbook.Boolean), Doc: "Everything could be looked at."},
			}},
		describe: constantly("look for suspects"),
		do:       doDetect,
	}
}

// suspects are what is kept of a detection.
type suspects struct {
	Suspects []suspect `json:"suspects"`
	More     int       `json:"more,omitempty"`
	Gaps     []string  `json:"gaps,omitempty"`
}

// suspect is one of them, with its worst findings.
type suspect struct {
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Score   int      `json:"score"`
	Reasons []string `json:"reasons"`
}

func (s *suspects) inJournal() any { return s }

func doDetect(ctx context.Context, w *work) (outcome, error) {
	in := w.in
	req := detect.Request{Client: w.Client, Namespace: in.Text("namespace"), Timeout: w.engine.Timeout,
		NewSince: w.Now().Add(-detectNew)}
	if since := in.Duration("since"); since > 0 {
		req.NewSince = w.Now().Add(-since)
		req.AlertsSince = req.NewSince
	}
	for source, paths := range map[detect.Source][]string{detect.SourceFalco: in.Texts("falco"),
		detect.SourceAudit: in.Texts("auditLog")} {
		for _, path := range paths {
			req.Inputs = append(req.Inputs, detect.Input{Source: source, Path: path})
		}
	}
	res, err := detect.Find(ctx, req)
	if err != nil {
		return outcome{}, err
	}
	kept := keptSuspects(res)
	high := detect.AtLeastHigh(res.Suspects)
	summary := fmt.Sprintf("%d suspects", len(res.Suspects)+res.More)
	lines, _ := res.Gaps.Lines()
	if len(lines) > 0 {
		summary += " in what could be looked at; " + lines[0]
	}
	o := outcome{summary: summary, detail: kept,
		results: map[string]any{"suspects": int64(len(res.Suspects) + res.More), "high": high,
			"pods": w.newPods(res.Suspects), "complete": len(res.Gaps) == 0 && res.Err() == nil}}
	if err := res.Err(); err != nil || high || len(res.Gaps) == 0 {
		return o, err
	}
	return o, fmt.Errorf("%w whether there are signs of an attack: %s", ErrUndetermined, strings.Join(lines, "; "))
}

func keptSuspects(res *detect.Result) *suspects {
	const mostReasons = 3
	s := &suspects{Suspects: []suspect{}}
	for _, found := range res.Suspects {
		if len(s.Suspects) == topSuspects {
			break
		}
		one := suspect{Kind: found.Kind, Name: found.Name, Score: int(found.Score), Reasons: []string{}}
		for _, f := range found.Findings[:min(len(found.Findings), mostReasons)] {
			one.Reasons = append(one.Reasons, f.Reason)
		}
		s.Suspects = append(s.Suspects, one)
	}
	s.More = len(res.Suspects) + res.More - len(s.Suspects)
	for _, g := range res.Gaps {
		s.Gaps = append(s.Gaps, g.Err().Error())
	}
	return s
}

// newPods are suspects that can be contained. Their names came from alerts: one
// that cannot be a pod's is left out.
func (w *work) newPods(found []detect.Suspect) []string {
	pods := []string{}
	one := runbook.Of(runbook.Pod)
	for _, s := range found {
		if s.Kind != "pod" || !s.Score.AtLeastHigh() || s.Incident != "" || s.Gone || len(pods) == topSuspects {
			continue
		}
		if _, err := one.Convert(s.Name); err == nil {
			pods = append(pods, s.Name)
		}
	}
	return pods
}
