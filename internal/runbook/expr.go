package runbook

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// The language is CEL, as in Kubernetes, with its standard library and no
// more. It cannot loop but over a list, nor call anything.
const (
	// maxExpression bounds an expression's text, in bytes.
	maxExpression = 1024
	// maxCost bounds its evaluation, in CEL's own units: some milliseconds.
	maxCost = 100_000
	// interruptEvery is after how many comprehension steps the context is looked at.
	interruptEvery = 100
)

// variable is something that expressions can read, by its whole name:
// params.pod, steps.cutOff.verdict. There are no objects behind the dots, so
// that an unknown name is an error when the runbook is loaded.
type variable struct {
	name   string
	domain Domain
}

// environment is what is known at a place of a runbook.
type environment struct {
	vars map[string]variable
	// upcoming are steps that are known, but not yet here.
	upcoming map[string]bool
	cel      *cel.Env
}

// Variables that every expression can read besides params and steps.
var ambient = []variable{
	{"incident.id", Of(String)},
	{"incident.severity", Of(String)},
	{"run.unattended", Of(Boolean)},
	{runLeft, Of(Integer)},
}

func newEnvironment() (*environment, error) {
	base, err := cel.NewEnv(cel.ParserRecursionLimit(32), cel.ParserExpressionSizeLimit(maxExpression))
	if err != nil {
		return nil, err
	}
	e := &environment{vars: map[string]variable{}, upcoming: map[string]bool{}, cel: base}
	return e, e.declare(ambient...)
}

// declare makes variables known from here on. The parts of a reference are
// variables too: params.pod.namespace.
func (e *environment) declare(vars ...variable) error {
	var options []cel.EnvOption
	for _, v := range vars {
		e.vars[v.name] = v
		options = append(options, cel.Variable(v.name, v.domain.celType()))
		for _, part := range v.domain.parts() {
			name := v.name + "." + part
			e.vars[name] = variable{name, Of(String)}
			options = append(options, cel.Variable(name, cel.StringType))
		}
	}
	extended, err := e.cel.Extend(options...)
	if err != nil {
		return err
	}
	e.cel = extended
	return nil
}

// Expression is a compiled one.
type Expression struct {
	text    string
	program cel.Program
	out     *cel.Type
	vars    []string
}

// String is its text.
func (x *Expression) String() string { return x.text }

// runLeft is how much of the run so far is left to a person.
const runLeft = "run.left"

// Static tells whether it can be evaluated before the run: it reads no
// results of steps.
func (x *Expression) Static() bool {
	return !slices.ContainsFunc(x.vars, func(v string) bool { return strings.HasPrefix(v, "steps.") || v == runLeft })
}

// exprError is a problem at a place within an expression.
type exprError struct {
	offset int // in bytes
	text   string
	fix    string
}

func (e *environment) compile(text string) (*Expression, []exprError) {
	if len(text) > maxExpression {
		return nil, []exprError{{0, fmt.Sprintf("an expression of %d bytes, at most %d", len(text), maxExpression),
			"take it apart into several steps"}}
	}
	source := common.NewTextSource(text)
	parsed, issues := e.cel.ParseSource(source)
	if issues.Err() != nil {
		return nil, celErrors(text, issues)
	}
	used, problems := e.references(text, parsed.NativeRep())
	if len(problems) > 0 {
		return nil, problems
	}
	checked, issues := e.cel.Check(parsed)
	if issues.Err() != nil {
		return nil, celErrors(text, issues)
	}
	if problems := e.comparisons(text, parsed.NativeRep()); len(problems) > 0 {
		return nil, problems
	}
	program, err := e.cel.Program(checked, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(interruptEvery))
	if err != nil {
		return nil, []exprError{{0, err.Error(), ""}}
	}
	return &Expression{text: text, program: program, out: checked.OutputType(), vars: used}, nil
}

func celErrors(text string, issues *cel.Issues) []exprError {
	var out []exprError
	for _, err := range issues.Errors() {
		offset := offsetOf(text, err.Location.Line(), err.Location.Column())
		message, _, _ := strings.Cut(err.Message, "\n")
		out = append(out, exprError{offset, message, ""})
	}
	return out
}

// offsetOf turns a line and a column, in runes, into bytes.
func offsetOf(text string, line, column int) int {
	offset := 0
	for ; line > 1; line-- {
		_, rest, found := strings.Cut(text[offset:], "\n")
		if !found {
			return len(text)
		}
		offset = len(text) - len(rest)
	}
	for i := range text[offset:] {
		if column == 0 {
			return offset + i
		}
		column--
	}
	return len(text)
}

// references finds the variables that are read, and those that do not exist:
// the checker would say only that params is undeclared.
func (e *environment) references(text string, tree *celast.AST) (used []string, problems []exprError) {
	inner := map[int64]bool{} // operands of a select: not a name of their own
	var chains []celast.Expr
	celast.PreOrderVisit(tree.Expr(), celast.NewExprVisitor(func(x celast.Expr) {
		if _, ok := chain(x); ok && !inner[x.ID()] {
			chains = append(chains, x)
			for y := x; y.Kind() == celast.SelectKind; y = y.AsSelect().Operand() {
				inner[y.AsSelect().Operand().ID()] = true
			}
		}
	}))
	for _, x := range chains {
		name, _ := chain(x)
		root, _, _ := strings.Cut(name, ".")
		if !slices.Contains([]string{"params", "steps", "incident", "run"}, root) {
			continue // of a comprehension, or the checker's to complain about
		}
		known := e.known(name)
		if known == "" {
			at := tree.SourceInfo().GetStartLocation(first(x).ID())
			what, fix := e.unknown(name)
			problems = append(problems, exprError{offsetOf(text, at.Line(), at.Column()), what, fix})
			continue
		}
		used = append(used, known)
	}
	return used, problems
}

// chain is a.b.c of nested selects.
func chain(x celast.Expr) (string, bool) {
	switch x.Kind() {
	case celast.IdentKind:
		return x.AsIdent(), true
	case celast.SelectKind:
		if operand, ok := chain(x.AsSelect().Operand()); ok && !x.AsSelect().IsTestOnly() {
			return operand + "." + x.AsSelect().FieldName(), true
		}
	}
	return "", false
}

// first is the identifier that a chain begins with.
func first(x celast.Expr) celast.Expr {
	for x.Kind() == celast.SelectKind {
		x = x.AsSelect().Operand()
	}
	return x
}

// known is the variable that a name means; "" if there is none.
func (e *environment) known(name string) string {
	if _, ok := e.vars[name]; ok {
		return name
	}
	return ""
}

func (e *environment) unknown(name string) (what, fix string) {
	parts := strings.Split(name, ".")
	if parts[0] == "steps" && len(parts) > 1 && e.upcoming[parts[1]] {
		return fmt.Sprintf("step %s comes only after this one", parts[1]), "conditions can read earlier steps"
	}
	// What is near is looked for where the name goes wrong.
	prefix := strings.Join(parts[:len(parts)-1], ".")
	what, wrong := fmt.Sprintf("unknown variable %q", name), parts[len(parts)-1]
	switch {
	case parts[0] == "params" && len(parts) > 1 && e.known("params."+parts[1]) == "":
		what, prefix, wrong = fmt.Sprintf("undefined parameter %q", parts[1]), "params", parts[1]
	case parts[0] == "steps" && len(parts) > 1 && !e.hasStep(parts[1]):
		what, prefix, wrong = fmt.Sprintf("unknown step %q", parts[1]), "steps", parts[1]
	}
	known := e.below(prefix)
	if fix = didYouMean(wrong, known); fix == "" && len(known) > 0 {
		fix = "there are " + strings.Join(known, ", ")
	}
	return what, fix
}

func (e *environment) hasStep(step string) bool { return e.known("steps."+step+".outcome") != "" }

// below are the names that can come after a prefix and its dot.
func (e *environment) below(prefix string) []string {
	found := map[string]bool{}
	for name := range e.vars {
		if rest, ok := strings.CutPrefix(name, prefix+"."); ok {
			next, _, _ := strings.Cut(rest, ".")
			found[next] = true
		}
	}
	return keys(found)
}

// comparisons finds what can never be true: a variable that can only have
// certain values, compared with another one. It is what a slip in the answer
// of a decision looks like.
func (e *environment) comparisons(text string, tree *celast.AST) (problems []exprError) {
	celast.PreOrderVisit(tree.Expr(), celast.NewExprVisitor(func(x celast.Expr) {
		if x.Kind() != celast.CallKind {
			return
		}
		call := x.AsCall()
		if f := call.FunctionName(); f != "_==_" && f != "_!=_" || len(call.Args()) != 2 {
			return
		}
		for i, a := range call.Args() {
			name, ok := chain(a)
			other := call.Args()[1-i]
			choices := e.vars[name].domain.Choices
			if !ok || len(choices) == 0 || other.Kind() != celast.LiteralKind {
				continue
			}
			if s, ok := other.AsLiteral().Value().(string); ok && s != "" && !slices.Contains(choices, s) {
				at := tree.SourceInfo().GetStartLocation(other.ID())
				problems = append(problems, exprError{offsetOf(text, at.Line(), at.Column()),
					fmt.Sprintf("%s is never %q", name, s), "it can be " + strings.Join(choices, ", ")})
			}
		}
	}))
	return problems
}

// Facts are the values of variables by their whole names.
type Facts map[string]any

// ResolveName makes Facts what CEL evaluates against.
func (f Facts) ResolveName(name string) (any, bool) {
	v, ok := f[name]
	return v, ok
}

// Parent is CEL's: there is no outer scope.
func (f Facts) Parent() cel.Activation { return nil }

// set sets a variable, and its parts.
func (f Facts) set(v variable, value any) {
	f[v.name] = value
	for i, part := range v.domain.parts() {
		f[v.name+"."+part] = v.domain.part(value, i)
	}
}

// ErrExpression: an expression could not be evaluated.
var ErrExpression = errors.New("the expression could not be evaluated")

// eval evaluates to one of the values that Domain.Convert makes.
func (x *Expression) eval(ctx context.Context, facts Facts) (any, error) {
	out, _, err := x.program.ContextEval(ctx, facts)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrExpression, x.text, err)
	}
	return native(out)
}

// Holds evaluates a condition.
func (x *Expression) Holds(ctx context.Context, facts Facts) (bool, error) {
	v, err := x.eval(ctx, facts)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%w: %s is not true or false", ErrExpression, x.text)
	}
	return b, nil
}

func native(v ref.Val) (any, error) {
	switch v := v.(type) {
	case types.String, types.Int, types.Bool:
		return v.Value(), nil
	case types.Duration:
		return v.Duration, nil
	}
	for _, t := range []reflect.Type{reflect.TypeFor[[]string](), reflect.TypeFor[[]int64]()} {
		if list, err := v.ConvertToNative(t); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("%w: a value of type %s cannot be used here", ErrExpression, v.Type())
}

// template is a text with expressions in it: "pod ${params.pod}".
type template struct {
	parts []templatePart
}

// templatePart is a text, or an expression that begins at an offset.
type templatePart struct {
	text   string
	offset int // of the expression in the whole text
	expr   *Expression
}

// whole is the expression of a template that is nothing else; nil if it is more.
func (t *template) whole() *Expression {
	if len(t.parts) == 1 {
		return t.parts[0].expr
	}
	return nil
}

// compileTemplate finds ${…}; $${ stands for ${ itself.
func (e *environment) compileTemplate(text string) (*template, []exprError) {
	t := &template{}
	var problems []exprError
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			t.parts = append(t.parts, templatePart{text: plain.String()})
			plain.Reset()
		}
	}
	for i := 0; i < len(text); {
		switch {
		case strings.HasPrefix(text[i:], "$${"):
			plain.WriteString("${")
			i += len("$${")
		case strings.HasPrefix(text[i:], "${"):
			begin := i + len("${")
			end := closing(text, begin)
			if end < 0 {
				return nil, append(problems, exprError{i, "${ is not closed", "write $${ for ${ itself"})
			}
			flush()
			expr, errs := e.compile(text[begin:end])
			for _, err := range errs {
				err.offset += begin
				problems = append(problems, err)
			}
			t.parts = append(t.parts, templatePart{expr: expr, offset: begin})
			i = end + 1
		default:
			plain.WriteByte(text[i])
			i++
		}
	}
	flush()
	if len(problems) > 0 {
		return nil, problems
	}
	return t, nil
}

// closing is where the brace that closes an expression is: not one within a
// text or within braces of its own. -1: there is none.
func closing(text string, from int) int {
	depth, quote := 0, byte(0)
	for i := from; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth == 0:
			return i
		case c == '}':
			depth--
		}
	}
	return -1
}

// render fills a template. leading: it begins with something substituted.
func (t *template) render(ctx context.Context, facts Facts) (text string, leading bool, err error) {
	var b strings.Builder
	for i, p := range t.parts {
		if p.expr == nil {
			b.WriteString(p.text)
			continue
		}
		v, err := p.expr.eval(ctx, facts)
		if err != nil {
			return "", false, err
		}
		leading = leading || i == 0
		b.WriteString(inText(v))
		if b.Len() > maxText {
			return "", false, fmt.Errorf("%w: the text would be longer than %d bytes", ErrExpression, maxText)
		}
	}
	return b.String(), leading, nil
}

// inText is a value within a text.
func inText(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ", ")
	case time.Duration:
		return v.String()
	}
	return Format(v)
}
