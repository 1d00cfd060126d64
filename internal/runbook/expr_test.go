package runbook

import (
	"errors"
	"strings"
	"testing"
)

func compiled(t *testing.T) *environment {
	t.Helper()
	e, err := newEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.declare(variable{"params.pod", Of(String)}, variable{"params.n", Of(Integer)},
		variable{"steps.a.outcome", Of(String)}); err != nil {
		t.Fatal(err)
	}
	return e
}

// What is in braces is an expression up to the brace that closes it: not one in
// braces of its own, nor one in a text, also where that holds an escaped quote.
func TestWhereAnExpressionEnds(t *testing.T) {
	t.Parallel()
	facts := Facts{"params.pod": "p", "params.n": int64(2)}
	for text, want := range map[string]string{
		"pod ${params.pod}":                          "pod p",
		"${params.pod}/${params.pod}.":               "p/p.",
		`${{"a": params.pod}["a"]} }`:                "p }",
		`${{"a": {"b": params.pod}}["a"]["b"]}!`:     "p!",
		`${"}" + params.pod}`:                        "}p",
		`${'}' + params.pod}`:                        "}p",
		`${"'}" + params.pod + '"}'}`:                `'}p"}`,
		`${"a\"}" + params.pod}`:                     `a"}p`,
		`${"a\\" + params.pod}`:                      `a\p`,
		`$${params.pod} is ${params.pod}`:            "${params.pod} is p",
		`${"{" + params.pod}`:                        "{p",
		`${params.n > 1 ? "}" : "{"} and ${"\"{" }}`: `} and "{}`,
		"no expression } {":                          "no expression } {",
		"$ {params.pod} $":                           "$ {params.pod} $",
	} {
		tpl, problems := compiled(t).compileTemplate(text)
		if len(problems) > 0 {
			t.Errorf("%s: %+v", text, problems)
			continue
		}
		if got, _, err := tpl.render(t.Context(), facts); err != nil || got != want {
			t.Errorf("%s: %q, %v; expected %q", text, got, err, want)
		}
	}
	for _, text := range []string{"${params.pod", `${"}`, `${{"a": 1}`, `${"\"}`} {
		if _, problems := compiled(t).compileTemplate(text); len(problems) != 1 ||
			!strings.Contains(problems[0].text, "not closed") {
			t.Errorf("%s: %+v", text, problems)
		}
	}
}

// What reads the results of steps, or what is left, is known only in the run.
func TestWhatIsKnownBeforeTheRun(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`params.pod == "x"`: true, `incident.id == "x"`: true, `run.unattended`: true, `true`: true,
		`steps.a.outcome == "done"`: false, `run.left > 0`: false, `params.n > 1 && run.left == 0`: false,
		`params.pod == steps.a.outcome`: false,
	} {
		x, problems := compiled(t).compile(text)
		if len(problems) > 0 {
			t.Errorf("%s: %+v", text, problems)
			continue
		}
		if got := x.Static(); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// A condition that cannot be evaluated is an error, and neither true nor false.
func TestAConditionThatCannotBeEvaluated(t *testing.T) {
	t.Parallel()
	facts := Facts{"params.pod": "p", "params.n": int64(0)}
	for text, want := range map[string]string{
		`params.n == 0`: "true", `params.n > 0`: "false", `1 / params.n == 0`: "error",
		`steps.a.outcome == "done"`: "error", `[1][params.n + 5] == 1`: "error", `params.pod`: "error",
		`params.n`: "error",
	} {
		x, problems := compiled(t).compile(text)
		if len(problems) > 0 {
			t.Errorf("%s: %+v", text, problems)
			continue
		}
		holds, err := x.Holds(t.Context(), facts)
		got := map[bool]string{true: "true", false: "false"}[holds]
		if err != nil {
			got = "error"
		}
		if got != want || err != nil && (!errors.Is(err, ErrExpression) || holds) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	tpl, problems := compiled(t).compileTemplate("a ${steps.a.outcome}")
	if len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	if text, _, err := tpl.render(t.Context(), facts); !errors.Is(err, ErrExpression) || text != "" {
		t.Errorf("%q, %v", text, err)
	}
}
