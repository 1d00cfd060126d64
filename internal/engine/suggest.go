package engine

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"irctl/internal/incident"
	"irctl/internal/runbook"
	"irctl/internal/steps/detect"
	"irctl/internal/timeline"
)

// Fitting is what of a suspect, or of the pods that an incident is about, fits a
// runbook's parameter; "": nothing does. What a suspect says was perhaps written
// by an attacker, so that it is to be parsed as the parameter before it is used.
func Fitting(p *runbook.Parameter, pods []string, s *detect.Suspect) string {
	d, about := p.Domain(), detect.Subject{}
	if s != nil {
		about = s.Subject
	}
	switch {
	case d.Type == runbook.Pod && d.List:
		return strings.Join(pods, ",")
	case d.Type == runbook.Pod && len(pods) > 0:
		return pods[0]
	case d.Type == runbook.Name && p.Name == "node":
		return about.Node
	case d.Type == runbook.Object && p.Name == "account" && about.ServiceAccount != "":
		return about.Namespace + "/" + about.ServiceAccount
	case d.Type == runbook.Workload && about.Workload != "":
		return about.Namespace + "/" + strings.ToLower(about.Workload)
	case d.Type == runbook.String && p.Name == "alert" && s != nil && len(s.Findings) > 0:
		return cmp.Or(s.Findings[0].Rule, s.Findings[0].Reason)
	}
	return ""
}

// UndoWithin undoes in the incident of a walk. Where nothing stands any more, the
// steps of the walk that contain are to be done again.
func (e *Engine) UndoWithin(ctx context.Context, id incident.ID, book *runbook.Runbook, req UndoRequest) (*UndoResult,
	error) {
	h, err := e.Store.Open(ctx, id, e.Actor())
	if err != nil {
		return nil, err
	}
	res, err := e.Undo(ctx, h, req)
	left := h.Log.Entries()
	if err = errors.Join(err, h.Close()); err != nil || res.Cancelled || len(timeline.Standing(left)) > 0 {
		return res, err
	}
	var containing []string
	for _, s := range book.Steps() {
		if s.Uses == "contain" {
			containing = append(containing, s.Name)
		}
	}
	return res, e.Reopen(ctx, id, book, containing, "it was undone")
}
