package drill

import (
	"context"
	"fmt"
	"strings"
	"time"

	"irctl/internal/engine"
)

// Briefing is what the person on call is told.
func (w *World) Briefing() string { return w.fill(w.Scenario.Briefing) }

// Params are those of the runbook, NAME=VALUE.
func (w *World) Params() map[string]string {
	params := map[string]string{}
	for k, v := range w.Scenario.Params {
		params[k] = w.fill(v)
	}
	return params
}

// Params are those of the runbook that is played well.
func (h *Hands) Params() map[string]string {
	params := h.World.Params()
	for k, v := range h.World.Scenario.Play.Params {
		params[k] = strings.ReplaceAll(h.World.fill(v), "${dir}", h.Dir)
	}
	return params
}

// Answer plays well: it does what a step of the runbook asks a person to do,
// takes the time that a person takes, and answers.
func (h *Hands) Answer(ctx context.Context, q engine.Question) (engine.Answer, error) {
	if q.Step == nil {
		return engine.Answer{}, engine.ErrUnattended
	}
	turn, ok := h.World.Scenario.Play.Steps[q.Step.Name]
	if !ok {
		return engine.Answer{}, engine.ErrUnattended
	}
	if err := h.Do(ctx, turn.Do); err != nil {
		return engine.Answer{}, fmt.Errorf("the play of step %s: %w", q.Step.Name, err)
	}
	if err := h.World.Sleep(ctx, time.Duration(turn.Takes)); err != nil {
		return engine.Answer{}, err
	}
	answer := turn.Answer
	if answer == "" {
		answer = engine.AnswerDone
	}
	return engine.Answer{Choice: answer, By: "drill", Note: turn.Note}, nil
}
