package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"irctl/internal/plural"
	"irctl/internal/rotate"
	"irctl/internal/runbook"
	"irctl/internal/steps"
	"irctl/internal/steps/eradicate"
	"irctl/internal/timeline"
)

func eradicateOperation() *operation {
	kinds := make([]string, len(rotate.Generated))
	for i, k := range rotate.Generated {
		kinds[i] = string(k)
	}
	return &operation{
		Signature: runbook.Signature{Name: "eradicate", Asks: true, Doc: "Take from the attacker what the suspects " +
			"could give away: deploy the patched version, apply the team's manifests, take the suspects' accounts " +
			"their rights, and replace the secrets that they could read: new value, store, Secret, restart, verify, " +
			"old value off. As irctl eradicate. No value is ever in a runbook: those come from files. What only a " +
			"person can do is left and named, and the step is then done in part. Secrets are replaced for good; " +
			"irctl undo takes the rest back.",
			Inputs: []runbook.Field{
				{Name: "secrets", Domain: runbook.ListOf(runbook.String),
					Doc: "Which Secrets, as NAME or NAMESPACE/NAME; serviceaccount/NAME for the tokens of one."},
				{Name: "allSecrets", Domain: runbook.Of(runbook.Boolean),
					Doc: "Every one that the suspects could read, unless secrets names some."},
				{Name: "generate", Domain: runbook.ListOf(runbook.String),
					Doc: "[SECRET/]KEY=KIND[:PUBKEY]: how a new value is made: " + strings.Join(kinds, ", ") + "."},
				{Name: "generateRest", Domain: runbook.OneOf("", string(rotate.Random), string(rotate.Password)),
					Doc: "How keys are made of which nothing else is said, and which no third party is known to " +
						"issue; else a Secret with such a key is left."},
				{Name: "setFrom", Domain: runbook.ListOf(runbook.String),
					Doc: "[SECRET/]KEY=FILE: a value that only a third party can issue."},
				{Name: "keep", Domain: runbook.ListOf(runbook.String), Doc: "[SECRET/]KEY: it is no secret."},
				{Name: "postgres", Domain: runbook.ListOf(runbook.String),
					Doc: "[SECRET/]KEY=ROLE: the password of a PostgreSQL role."},
				{Name: "postgresAdmin", Domain: runbook.Of(runbook.String),
					Doc: "File with the connection string of who may alter the roles."},
				{Name: "postgresForward", Domain: runbook.Of(runbook.String),
					Doc: "[NAMESPACE/]pod|service/NAME[:PORT] of that server, reached through the API server."},
				{Name: "storeCommands", Domain: runbook.ListOf(runbook.String),
					Doc: `[SECRET/]KEY=["program", "argument", …]: the team's own command, which stores a new ` +
						`value.`,
					Secret: true},
				{Name: "revoked", Domain: runbook.ListOf(runbook.String),
					Doc: "[SECRET/]KEY: its old value was revoked at its issuer."},
				{Name: "again", Domain: runbook.Of(runbook.Boolean),
					Doc: "Replace also what this incident has replaced already."},
				{Name: "images", Domain: runbook.ListOf(runbook.String), Doc: "[CONTAINER=]IMAGE: patched versions, " +
					"deployed first in the incident's workloads; without CONTAINER in the one whose image is of the " +
					"same repository."},
				{Name: "allowTag", Domain: runbook.Of(runbook.Boolean), Doc: "Take images that are named by a tag."},
				{Name: "apply", Domain: runbook.ListOf(runbook.String),
					Doc: "Files and folders of the team's manifests, applied server-side."},
				{Name: "namespace", Domain: runbook.Of(runbook.Name),
					Doc: "That of manifests without one; else they are refused."},
				{Name: "forceConflicts", Domain: runbook.Of(runbook.Boolean),
					Doc: "With apply: take fields from other field managers."},
				{Name: "removeBindings", Domain: runbook.Of(runbook.Boolean),
					Doc: "Take the suspects' service accounts out of the bindings that give them rights."},
			},
			Results: []runbook.Result{
				{Name: "eradicated", Domain: runbook.Of(runbook.Boolean),
					Doc: "The attacker has nothing left of what the suspects could read."},
				{Name: "patched", Domain: runbook.Of(runbook.Boolean), Doc: "The images that were given run, or will " +
					"when the workload is started, and no container has an image of the suspects."},
				{Name: "left", Domain: runbook.ListOf(runbook.Text), Doc: "What only a person can do."},
				{Name: "unrotated", Domain: runbook.ListOf(runbook.String),
					Doc: "Secrets that the suspects could read and that were not replaced."},
			},
			Check: func(in runbook.Literals) (string, string) {
				for _, name := range []string{"secrets", "allSecrets", "images", "apply", "removeBindings"} {
					if in.Given(name) {
						return "", ""
					}
				}
				return "", "what is to be taken from the attacker? Give secrets or allSecrets, images, apply, or " +
					"removeBindings"
			}},
		plans:    true,
		describe: describeEradicate,
		do:       doEradicate,
		plan:     planEradicate,
	}
}

func describeEradicate(in runbook.Inputs) string {
	var parts []string
	if images := in.Texts("images"); len(images) > 0 {
		parts = append(parts, "deploy "+strings.Join(images, ", "))
	}
	if files := in.Texts("apply"); len(files) > 0 {
		parts = append(parts, "apply "+strings.Join(files, ", "))
	}
	if in.Yes("removeBindings", false) {
		parts = append(parts, "take the suspects' accounts their rights")
	}
	switch secrets := in.Texts("secrets"); {
	case len(secrets) > 0:
		parts = append(parts, "replace "+strings.Join(secrets, ", "))
	case in.Yes("allSecrets", false):
		parts = append(parts, "replace every secret that the suspects could read")
	}
	return strings.Join(parts, "; ")
}

// eradication reads the inputs of a step, and the files that they name.
func (w *work) eradication(ctx context.Context) (eradicate.Options, error) {
	in := w.in
	given := eradicate.Inputs{Secrets: in.Texts("secrets"), All: in.Yes("allSecrets", false) &&
		len(in.Texts("secrets")) == 0, Again: in.Yes("again", false),
		Generate: in.Texts("generate"), GenerateRest: in.Text("generateRest"), SetFrom: in.Texts("setFrom"),
		Keep:     in.Texts("keep"),
		Postgres: in.Texts("postgres"), PostgresAdmin: in.Text("postgresAdmin"),
		PostgresForward: in.Text("postgresForward"), Context: w.req.Namespace,
		StoreCommands: in.Texts("storeCommands"), Revoked: in.Texts("revoked"), Images: notEmpty(in.Texts("images")),
		AllowTag: in.Yes("allowTag", false),
		Apply:    in.Texts("apply"), Namespace: in.Text("namespace"), ForceConflicts: in.Yes("forceConflicts", false),
		RemoveBindings: in.Yes("removeBindings", false)}
	options, err := given.Options(ctx, nil)
	var wrong *eradicate.InputError
	if errors.As(err, &wrong) {
		return options, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return options, err
}

// notEmpty leaves out what a parameter that was not given has put into a list.
func notEmpty(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
}

func doEradicate(ctx context.Context, w *work) (outcome, error) {
	options, err := w.eradication(ctx)
	if err != nil {
		return outcome{}, err
	}
	if !options.Changes() {
		return outcome{summary: "there was nothing to do", results: map[string]any{"eradicated": false}}, nil
	}
	res, err := w.engine.Eradicate(ctx, EradicateRequest{Incident: w.id, Options: options})
	if err != nil {
		return outcome{}, err
	}
	return eradicateOutcome(res, options)
}

// planEradicate shows what would be done. Where there is no incident yet, the
// suspects are the pods among the parameters.
func planEradicate(ctx context.Context, w *work) (outcome, error) {
	options, err := w.eradication(ctx)
	if err != nil {
		return outcome{}, err
	}
	req := EradicateRequest{Incident: w.id, Options: options, DryRun: options.Changes(), PlanOnly: !options.Changes()}
	if w.id == "" {
		if req.Suspects = w.targets(ctx); len(req.Suspects) == 0 {
			return outcome{summary: w.describe()}, nil
		}
	}
	res, err := w.engine.Eradicate(ctx, req)
	if err != nil {
		return outcome{}, err
	}
	var first error
	for _, a := range res.Actions {
		first = firstOf(first, a)
	}
	return outcome{summary: fmt.Sprintf("%d changes would be made", len(res.Actions)), left: leftOf(res), detail: res},
		first
}

func (w *work) describe() string { return operationOf(w.step).describe(w.in) }

// leftOf is what of an eradication only a person can do, or say.
func leftOf(res *EradicateResult) []string {
	left := slices.Concat(res.Left, res.Kept)
	for _, r := range res.Refusals {
		text := r.Object + ": " + r.Reason
		if r.Override != "" {
			text += "; " + r.Override + " would do it"
		}
		left = append(left, text)
	}
	return left
}

func eradicateOutcome(res *EradicateResult, options eradicate.Options) (outcome, error) {
	if res.Cancelled {
		return outcome{summary: "nothing was done", detail: res}, fmt.Errorf("%w: the answer was no", ErrRefused)
	}
	o := outcome{detail: res, summary: string(res.Verdict), left: leftOf(res)}
	if options.Chooses() {
		for _, u := range res.Unknown {
			o.left = append(o.left, "not looked at: "+u)
		}
	}
	if res.Verdict == "" {
		o.summary = "there was nothing to do"
	}
	var first error
	patched := len(options.Images) > 0 && len(res.WayInOpen) == 0 &&
		!slices.ContainsFunc(res.Refusals, func(r steps.Refusal) bool { return r.Action == eradicate.StepImage })
	for _, a := range res.Actions {
		if a.Outcome != timeline.OutcomeDone && a.Outcome != timeline.OutcomeAlready {
			first = firstOf(first, a)
			patched = patched && a.Step != eradicate.StepImage
		}
	}
	o.results = map[string]any{"eradicated": res.Verdict == Eradicated, "patched": patched, "left": o.left,
		"unrotated": res.Unrotated}
	if len(o.left) > 0 {
		o.summary = fmt.Sprintf("done in part: %s", res.Verdict)
	}
	if first == nil && len(res.Failures) > 0 {
		first = errors.New(strings.Join(res.Failures, "; "))
	}
	if first == nil && res.Verdict == EradicationUnknown && options.Chooses() {
		first = fmt.Errorf("%w: %s", ErrUndetermined, strings.Join(res.Unknown, "; "))
	}
	if n := len(res.Unrotated); first == nil && n > 0 && len(o.left) == 0 {
		o.summary = fmt.Sprintf("done; %s: %s left that the suspects could read", res.Verdict,
			plural.Count(n, "secret"))
	}
	return o, first
}
