package runbook_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"irctl/internal/runbook"
)

// vocabulary is enough to try every kind of input.
var vocabulary = []runbook.Signature{
	{Name: "manual", Doc: "Ask.", Inputs: []runbook.Field{
		{Name: "instruction", Domain: runbook.Of(runbook.Text), Required: true, Doc: "What."},
		{Name: "answers", Domain: runbook.ListOf(runbook.String), Doc: "Answers."},
	}, Results: []runbook.Result{{Name: "answer", Domain: runbook.OneOf("done"), ChoicesOf: "answers",
		Doc: "The answer."}}},
	{Name: "contain", Doc: "Contain.", Asks: true, Inputs: []runbook.Field{
		{Name: "pods", Domain: runbook.ListOf(runbook.Pod), Required: true, Doc: "The suspects."},
		{Name: "live", Domain: runbook.Of(runbook.Boolean), Doc: "Live."},
		{Name: "wait", Domain: runbook.Of(runbook.Duration), Doc: "Wait."},
		{Name: "steps", Domain: runbook.Domain{Type: runbook.String, List: true, Choices: []string{"detach", "scale"}},
			Doc: "Steps."},
		{Name: "path", Domain: runbook.Of(runbook.Path), Doc: "A path."},
	}, Results: []runbook.Result{
		{Name: "verdict", Domain: runbook.OneOf("contained", "not contained"), Doc: "The verdict."},
		{Name: "open", Domain: runbook.ListOf(runbook.String), Doc: "What is open."},
	}},
	{Name: "command", Doc: "Run.", Inputs: []runbook.Field{
		{Name: "argv", Domain: runbook.ListOf(runbook.Argument), Required: true, Doc: "The command."},
		{Name: "okExit", Domain: runbook.ListOf(runbook.Integer), Doc: "Codes."},
	}},
	{Name: "close", Doc: "Close.", Last: true},
}

const head = `apiVersion: irctl/v1
kind: Runbook
name: test
version: 1.0.0
title: A test
parameters:
- {name: pod, type: pod, required: true}
- {name: pods, type: pod, list: true}
- {name: text, type: string}
- {name: live, type: boolean, default: true}
- {name: count, type: integer, default: 3}
- {name: wait, type: duration, default: 90s}
phases:
- name: contain
  steps:
`

// use reads all parameters, so that no warning is in the way.
const use = `  - name: use
    uses: manual
    with: {instruction: "${params.pod} ${params.pods} ${params.text} ${params.live} ${params.count} ${params.wait}"}
`

func parse(t testing.TB, text string) *runbook.Runbook {
	t.Helper()
	r, problems := runbook.Parse([]byte(text), "test.yaml", vocabulary)
	if r == nil || len(problems) > 0 {
		t.Fatalf("%v\n%s", problems, text)
	}
	return r
}

// TestProblems: what is wrong is told where it is, and what would help.
func TestProblems(t *testing.T) {
	steps := func(s string) string { return head + use + s }
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"not YAML": {"a: [", []string{`1:1: this is not YAML: did not find expected node content`}},
		"empty":    {"", []string{`1:1: this is not YAML: the file is empty`}},
		"two documents": {head + use + "---\na: b\n",
			[]string{`1:1: there is more than one document in the file; one file holds one runbook`}},
		"another version": {strings.Replace(head+use, "irctl/v1", "irctl/v2", 1),
			[]string{`1:13: apiVersion cannot be "irctl/v2"; did you mean irctl/v1?`}},
		"unknown field": {strings.Replace(head+use, "title:", "titel:", 1), []string{
			`1:1: the runbook has no title; One line.`,
			`5:1: unknown field "titel" in the runbook; did you mean title?`}},
		"number for a text": {strings.Replace(head+use, "1.0.0", "1.0", 1),
			[]string{`4:10: version must be a text; 1.0 is none; put it in quotes`}},
		"anchor": {steps("  - &a {name: a, uses: close}\n"),
			[]string{`19:5: anchors and aliases are not allowed in runbooks; write it out`}},
		"unknown operation": {steps("  - {name: a, uses: contian, with: {pods: [a/b]}}\n"),
			[]string{`19:21: uses cannot be "contian"; did you mean contain?`}},
		"unknown input": {steps("  - {name: a, uses: contain, with: {pods: [a/b], lvie: true}}\n"), []string{
			`19:50: contain has no input "lvie"; did you mean live, wait?`}},
		"missing input": {steps("  - {name: a, uses: contain, with: {live: true}}\n"),
			[]string{`19:36: contain needs the input pods; The suspects.`}},
		"wrong type": {steps("  - {name: a, uses: contain, with: {pods: [a/b], live: 3}}\n"),
			[]string{`19:56: live: true or false is expected here`}},
		"wrong choice": {steps("  - {name: a, uses: contain, with: {pods: [a/b], steps: [detahc]}}\n"),
			[]string{`19:58: steps: "detahc" is not one of detach, scale`}},
		"not a pod": {steps("  - {name: a, uses: contain, with: {pods: [../etc]}}\n"),
			[]string{`19:44: pods: "../etc" is not NAMESPACE/NAME`}},
		"wrong CEL": {steps("  - {name: a, uses: close, when: 'params.count +'}\n"),
			[]string{`19:49: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', ` +
				`'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}`}},
		"CEL types": {steps("  - {name: a, uses: close, when: 'params.count == \"3\"'}\n"),
			[]string{`19:48: found no matching overload for '_==_' applied to '(int, string)'`}},
		"not a boolean": {steps("  - {name: a, uses: close, when: params.count}\n"),
			[]string{`19:34: a condition must be true or false; this is of type int`}},
		"braces in when": {steps("  - {name: a, uses: close, when: '${params.live}'}\n"),
			[]string{`19:34: a condition is an expression already; leave ${ and } away`}},
		"undefined parameter": {steps("  - {name: a, uses: close, when: params.poods == \"\"}\n"), []string{
			`19:34: undefined parameter "poods"; did you mean pods, pod?`}},
		"unknown step": {steps("  - {name: a, uses: close, when: steps.usee.done}\n"),
			[]string{`19:34: unknown step "usee"; did you mean use?`}},
		"later step": {steps(
			"  - {name: a, uses: manual, when: steps.b.done, with: {instruction: x}}\n  - {name: b, uses: close}\n"),
			[]string{`19:35: step b comes only after this one; conditions can read earlier steps`}},
		"unknown result": {steps("  - {name: a, uses: close, when: steps.use.answr == \"\"}\n"),
			[]string{`19:34: unknown variable "steps.use.answr"; did you mean answer?`}},
		"never equal": {steps("  - {name: a, uses: manual, with: {instruction: x, answers: [real, none]}}\n  - " +
			"{name: b, uses: close, when: 'steps.a.answer == \"reel\"'}\n"), []string{
			`20:53: steps.a.answer is never "reel"; it can be real, none`}},
		"never true": {steps("  - {name: a, uses: close, when: 1 > 2}\n"),
			[]string{`19:34: step a is unreachable: its condition is never true; take it out, or correct the ` +
				`condition`}},
		"after the last": {steps("  - {name: a, uses: close}\n  - {name: b, uses: manual, with: {instruction: x}}\n"),
			[]string{`20:5: step b is unreachable: nothing comes after close; put it before step a`}},
		"duplicate step":  {steps("  - {name: use, uses: close}\n"), []string{`19:12: there are two steps named use`}},
		"duplicate field": {steps("  - {name: a, name: b, uses: close}\n"), []string{`19:15: name is given twice`}},
		"phase order": {steps("") + "- name: detect\n  steps: [{name: a, uses: close}]\n", []string{
			`19:9: phase detect comes too late; the order is detect, contain, investigate, eradicate, recover, ` +
				`post-mortem`}},
		"program from a parameter": {steps("  - {name: a, uses: command, with: {argv: ['${params.text}', x]}}\n"),
			[]string{
				`19:44: the program to run cannot come from an expression; name the program itself`}},
		"argv from a parameter": {steps("  - {name: a, uses: command, with: {argv: '${params.pods}'}}\n"), []string{
			`19:43: the program to run cannot come from an expression; make it a list that begins with the program`}},
		"expression type": {steps("  - {name: a, uses: contain, with: {pods: [a/b], live: '${params.count}'}}\n"),
			[]string{
				`19:59: an expression of type int cannot be used here; it must be of type bool`}},
		"not closed": {steps("  - {name: a, uses: manual, with: {instruction: 'a ${params.pod'}}\n"),
			[]string{`19:52: ${ is not closed; write $${ for ${ itself`}},
		"in a block": {steps(
			"  - name: a\n    uses: manual\n    with:\n      instruction: |\n        first\n        see " +
				"${params.pot}\n"), []string{`24:15: undefined parameter "pot"; did you mean pod, pods, count?`}},
		"unused parameter": {strings.Replace(head+use, "${params.text} ", "", 1),
			[]string{`9:10: warning: parameter text is never used; take it out`}},
		"wrong default": {strings.Replace(head+use, "default: 3", "default: three", 1),
			[]string{`11:41: a whole number is expected here`}},
		"timeout": {steps("  - {name: a, uses: close, timeout: 48h}\n"),
			[]string{`19:37: timeout "48h" is not a duration of at most 24h0m0s, such as 10m`}},
	} {
		t.Run(name, func(t *testing.T) {
			r, problems := runbook.Parse([]byte(c.text), "", vocabulary)
			var got []string
			fatal := false
			for _, p := range problems {
				got = append(got, p.String())
				fatal = fatal || !p.Warning
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if fatal == (r != nil) {
				t.Errorf("a runbook: %v, although fatal: %v", r != nil, fatal)
			}
		})
	}
}

// inputs evaluates the inputs of a step named a.
func inputs(t testing.TB, step string, given map[string]string) (runbook.Inputs, error) {
	t.Helper()
	r := parse(t, head+use+step)
	params, err := r.Given(given, "shop")
	if err != nil {
		return nil, err
	}
	for _, s := range r.Steps() {
		if s.Name == "a" {
			return s.Inputs(t.Context(), r.Facts(params, runbook.Ambient{}))
		}
	}
	t.Fatal("no step a")
	return nil, nil
}

func TestSubstitution(t *testing.T) {
	given := map[string]string{"pod": "web-0", "pods": "a, other/b", "text": "x y; $(rm -rf /) ${params.pod}",
		"wait": "2m"}
	in, err := inputs(t, `  - name: a
    uses: contain
    with:
      pods: ["${params.pod}", "${params.pods}", kube-system/dns]
      live: ${!params.live}
      wait: ${params.wait}
`, given)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"shop/web-0", "shop/a", "other/b", "kube-system/dns"}; !slices.Equal(in.Texts("pods"), want) {
		t.Errorf("pods %q, want %q", in.Texts("pods"), want)
	}
	if in.Yes("live", true) || in.Duration("wait") != 2*time.Minute {
		t.Errorf("live %v, wait %v", in["live"], in["wait"])
	}

	in, err = inputs(t, `  - name: a
    uses: command
    with: {argv: [scan, "--note=${params.text}", "${params.text}", "${params.pods}", "$${literal}"], okExit: [1, 2]}
`, given)
	if err != nil {
		t.Fatal(err)
	}
	// One argument stays one argument, and nothing in it is evaluated again.
	want := []string{"scan", "--note=" + given["text"], given["text"], "shop/a", "other/b", "${literal}"}
	if !slices.Equal(in.Texts("argv"), want) {
		t.Errorf("argv %q, want %q", in.Texts("argv"), want)
	}
	if !slices.Equal(in.Numbers("okExit"), []int64{1, 2}) {
		t.Errorf("okExit %v", in["okExit"])
	}
}

func TestHostileParametersAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		step  string
		given map[string]string
		want  string
	}{
		"option": {"  - {name: a, uses: command, with: {argv: [scan, '${params.text}']}}\n",
			map[string]string{"text": "--output=/etc/passwd"}, "begins with a dash"},
		"path": {"  - {name: a, uses: contain, with: {pods: [a/b], path: '/logs/${params.text}'}}\n",
			map[string]string{"text": "../../etc/shadow"}, "is not an absolute path without .."},
		"pod in a pod": {"  - {name: a, uses: contain, with: {pods: ['a/${params.text}']}}\n",
			map[string]string{"text": "b/c"}, "is not NAMESPACE/NAME"},
		"escape sequence": {"  - {name: a, uses: close}\n", map[string]string{"text": "\x1b[2J"},
			"control character"},
		"name of a pod": {"  - {name: a, uses: close}\n", map[string]string{"pod": "web-0;id"},
			"is not NAMESPACE/NAME"},
		"option as a pod": {"  - {name: a, uses: close}\n", map[string]string{"pod": "--all"},
			"is not NAMESPACE/NAME"},
		"too long": {"  - {name: a, uses: close}\n", map[string]string{"text": strings.Repeat("x", 1<<20)},
			"at most 16384 bytes"},
		"a name too long": {"  - {name: a, uses: close}\n",
			map[string]string{"pod": "shop/" + strings.Repeat("a", 254)}, "is not NAMESPACE/NAME"},
		"too many": {"  - {name: a, uses: close}\n", map[string]string{"pods": strings.Repeat("a,", 1000)},
			"at most 256"},
		"unknown parameter": {"  - {name: a, uses: close}\n", map[string]string{"pot": "x"}, "did you mean pod"},
		"not a number": {"  - {name: a, uses: close}\n", map[string]string{"count": "3; id"},
			"is not a whole number"},
		"text grows": {"  - {name: a, uses: command, with: {argv: [x, '=${params.text}${params.text}']}}\n",
			map[string]string{"text": strings.Repeat("x", 16<<10)}, "longer than 16384 bytes"},
		"expensive": {"  - {name: a, uses: contain, with: {pods: [a/b], live: '${params.pods.all(x, " +
			"params.pods.all(y, params.pods.all(z, x != \"\" || y != z)))}'}}\n",
			map[string]string{"pods": strings.Repeat("a,", 256)}, "cost limit exceeded"},
		"empty list of pods": {"  - {name: a, uses: contain, with: {pods: ['${params.pods}']}}\n", nil, "it is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inputs(t, c.step, c.given)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestConditionsReadResults(t *testing.T) {
	r := parse(t, head+use+`  - {name: a, uses: contain, with: {pods: [a/b]}}
  - {name: b, uses: close,
      when: 'steps.a.verdict == "contained" && !("token" in steps.a.open) && params.pod.namespace == "shop"'}
`)
	params, err := r.Given(map[string]string{"pod": "web-0"}, "shop")
	if err != nil {
		t.Fatal(err)
	}
	facts := r.Facts(params, runbook.Ambient{})
	a, b := r.Steps()[1], r.Steps()[2]
	holds := func() bool {
		ok, err := b.Condition().Holds(t.Context(), facts)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if holds() {
		t.Error("it holds before the step was done")
	}
	// As it comes back from a journal.
	facts.Record(a, "done", map[string]any{"verdict": "contained", "open": []any{"node-traffic"}})
	if !holds() {
		t.Error("it does not hold although all is so")
	}
	facts.Record(a, "done", map[string]any{"verdict": "contained", "open": []any{"token"}})
	if holds() {
		t.Error("it holds although a token is open")
	}
	if b.Condition().Static() || a.Condition() != nil {
		t.Error("what depends on results is not static")
	}
}

// TestLibrary: a name is looked for in the folder that was named, then in the
// user's, then among the built-in ones.
func TestLibrary(t *testing.T) {
	named, user := t.TempDir(), t.TempDir()
	of := func(name, title string) []byte {
		return []byte(strings.NewReplacer("name: test", "name: "+name, "A test", title).Replace(head + use))
	}
	write := func(dir, name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	builtIn := fstest.MapFS{"a.yaml": {Data: of("a", "built in")}, "b.yaml": {Data: of("b", "built in")},
		"c.yaml": {Data: of("c", "built in")}}
	write(user, "a", of("a", "the team's"))
	write(user, "b", of("b", "the team's"))
	write(named, "a", of("a", "named"))
	write(user, "broken", []byte("kind: Runbook"))
	write(user, "other", of("another", "misnamed"))
	l := runbook.NewLibrary(named, user, builtIn, vocabulary)
	for name, want := range map[string]string{"a": "named", "b": "the team's", "c": "built in"} {
		r, err := l.Find(name)
		if err != nil || r.Title != want {
			t.Errorf("%s: %+v, %v; want %s", name, r, err, want)
		}
	}
	list, err := l.List()
	if err != nil || len(list) != 5 || len(list[0].Hides) != 2 || list[2].Error == "" || list[4].Error == "" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := l.Find("../" + filepath.Base(user) + "/a"); err == nil {
		t.Error("a path that does not exist was found")
	}
	if _, err := l.Find("aa"); !errors.Is(err, runbook.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := l.Find(filepath.Join(user, "broken.yaml")); !errors.Is(err, runbook.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := runbook.NewLibrary(filepath.Join(named, "none"), "", builtIn, vocabulary).Find("a"); err == nil {
		t.Error("a named folder that does not exist is an error")
	}
}

func TestNewIsSound(t *testing.T) {
	if _, err := runbook.New("../x"); err == nil {
		t.Error("a path is no name")
	}
	if text, err := runbook.New("our-own"); err != nil || !strings.Contains(text, "name: our-own") {
		t.Errorf("%v %s", err, text)
	}
}

func TestGraphs(t *testing.T) {
	r := parse(t, head+use+
		`  - {name: a, title: "A <b>\"quoted\"</b> #1", uses: manual, when: params.live, onError: continue,
      with: {instruction: x, answers: [p, q]}}
  - {name: b, uses: command, with: {argv: [scan]}}
`)
	wantTree := `test 1.0.0  A test
└─ contain
   ├─ use  manual: use
   ├─ a  manual: A <b>"quoted"</b> #1
   │      when params.live
   │      on error: continue
   └─ b  command: b
`
	if got := r.Tree(); got != wantTree {
		t.Errorf("tree:\n%s\nwant:\n%s", got, wantTree)
	}
	wantMermaid := `%% test 1.0.0
flowchart TD
  subgraph phase_contain [contain]
    use[/"use<br/><small>manual</small>"/]
    a{"A #lt;b#gt;#quot;quoted#quot;#lt;/b#gt; #35;1<br/><small>manual</small>"}
    b[["b<br/><small>command</small>"]]
  end
  use -->|"if params.live"| a
  a --> b
  classDef conditional stroke-dasharray: 5 5
  class a conditional
`
	if got := r.Mermaid(); got != wantMermaid {
		t.Errorf("mermaid:\n%s\nwant:\n%s", got, wantMermaid)
	}
}
