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
	"go.yaml.in/yaml/v3"
)

// noContext is for what is evaluated while loading: it is bounded by its cost.
var noContext = context.Background()

// input is what a step gives to one input of its operation: a literal, an
// expression, or elements that are either.
type input struct {
	field    *Field
	literal  any // nil: it depends on expressions
	text     *template
	elements []element
}

// element of a list.
type element struct {
	literal any
	text    *template
}

func (p *parser) inputs(s *Step, node *yaml.Node) {
	s.inputs = map[string]*input{}
	literals := Literals{}
	with := at(node, "with")
	if len(s.With) == 0 {
		with = &yaml.Node{Line: node.Line, Column: node.Column}
	}
	for i := 0; i+1 < len(with.Content); i += 2 {
		key, value := with.Content[i], with.Content[i+1]
		field := s.sig.field(key.Value)
		switch {
		case field == nil:
			p.report(key, p.noSuchInput(s.sig, key.Value), "%s has no input %.60q", s.Uses, key.Value)
			continue
		case literals.Given(key.Value):
			p.report(key, "", "%s is given twice", key.Value)
			continue
		}
		in := p.bind(field, value)
		s.inputs[field.Name] = in
		literals[field.Name] = in.literal
	}
	for _, f := range s.sig.Inputs {
		if f.Required && s.inputs[f.Name] == nil {
			p.report(with, f.Doc, "%s needs the input %s", s.Uses, f.Name)
		}
	}
	if s.sig.Check == nil {
		return
	}
	if name, problem := s.sig.Check(literals); problem != "" {
		p.report(at(with, name), "", "%s", problem)
	}
}

func (p *parser) noSuchInput(sig *Signature, name string) string {
	known := names(sig.Inputs, func(f Field) string { return f.Name })
	if fix := didYouMean(name, known); fix != "" || len(known) == 0 {
		return fix
	}
	return "it has " + strings.Join(known, ", ")
}

// bind checks one input.
func (p *parser) bind(f *Field, n *yaml.Node) *input {
	in := &input{field: f}
	switch {
	case isTemplate(n) && f.Type == Argument:
		p.report(n, "make it a list that begins with the program", "the program to run cannot come from an expression")
	case isTemplate(n):
		in.text = p.template(n, f.Domain)
	case f.List && n.Kind == yaml.SequenceNode:
		p.bindList(in, n)
	default:
		v, err := convert(f.Domain, n)
		if err != nil {
			p.report(n, "", "%s: %s", f.Name, err)
		}
		in.literal = v
	}
	return in
}

func isTemplate(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!str" && strings.Contains(n.Value, "${")
}

func (p *parser) bindList(in *input, n *yaml.Node) {
	one := in.field.Domain
	one.List = false
	fixed := true
	for i, e := range n.Content {
		if isTemplate(e) {
			fixed = false
			if i == 0 && one.Type == Argument {
				p.report(e, "name the program itself", "the program to run cannot come from an expression")
			}
			in.elements = append(in.elements, element{text: p.template(e, in.field.Domain)})
			continue
		}
		v, err := convert(one, e)
		if err != nil {
			p.report(e, "", "%s: %s", in.field.Name, err)
			continue
		}
		in.elements = append(in.elements, element{literal: v})
	}
	if !fixed {
		return
	}
	v, err := convert(in.field.Domain, n)
	if err == nil {
		in.literal = v
	}
}

// template compiles a text with expressions and checks their types. In a list
// an expression of its own may be a list: its elements are put in its place.
func (p *parser) template(n *yaml.Node, d Domain) *template {
	t, errs := p.env.compileTemplate(n.Value)
	if p.reportExpr(n, errs); t == nil {
		return nil
	}
	for _, part := range t.parts {
		if part.expr == nil {
			continue
		}
		p.use(part.expr)
		if problem := mismatch(t, part.expr, d); problem != "" {
			p.reportExpr(n, []exprError{{part.offset, problem, ""}})
		}
	}
	return t
}

func mismatch(t *template, x *Expression, d Domain) string {
	one := d
	one.List = false
	whole := t.whole() == x
	isText := one.celType() == cel.StringType
	switch {
	case whole && (d.List || !isText) && x.out.IsExactType(d.celType()):
		return ""
	case whole && d.List && x.out.IsExactType(one.celType()):
		return "" // it becomes the one element
	case !isText:
		return fmt.Sprintf("an expression of type %s cannot be used here; it must be of type %s", x.out, d.celType())
	case x.out.Kind() == cel.ListKind && d.Type != Text:
		return "a list within a text cannot be used here"
	case x.out.Kind() == cel.ListKind, x.out.IsExactType(cel.StringType), x.out.IsExactType(cel.IntType),
		x.out.IsExactType(cel.BoolType), x.out.IsExactType(cel.DurationType):
		return ""
	}
	return fmt.Sprintf("an expression of type %s cannot be used in a text", x.out)
}

// Inputs are the values that an operation is given, by name.
type Inputs map[string]any

// Inputs evaluates the inputs of a step. Every value is of the domain that the
// operation declares, whatever it was made of.
func (s *Step) Inputs(ctx context.Context, facts Facts) (Inputs, error) {
	values := Inputs{}
	for i := range s.sig.Inputs {
		f := &s.sig.Inputs[i]
		v, err := s.inputs[f.Name].value(ctx, facts)
		if err == nil && f.Required && empty(v) {
			err = errors.New("it is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("input %s of %s: %w", f.Name, s.Uses, err)
		}
		if v != nil {
			values[f.Name] = v
		}
	}
	return values, nil
}

func empty(v any) bool {
	r := reflect.ValueOf(v)
	return v == nil || (r.Kind() == reflect.String || r.Kind() == reflect.Slice) && r.Len() == 0
}

// value is nil for what was not given.
func (in *input) value(ctx context.Context, facts Facts) (any, error) {
	switch {
	case in == nil:
		return nil, nil
	case in.literal != nil:
		return in.literal, nil
	case in.text != nil:
		v, err := in.substitute(ctx, in.text, facts)
		if err == nil && in.field.List {
			v = spread(v)
		}
		if err != nil {
			return nil, err
		}
		return in.field.Convert(v)
	}
	var list []any
	for _, e := range in.elements {
		if e.text == nil {
			list = append(list, e.literal)
			continue
		}
		v, err := in.substitute(ctx, e.text, facts)
		if err != nil {
			return nil, err
		}
		list = append(list, spread(v)...)
	}
	return in.field.Convert(list)
}

// spread are the elements of a list, or the one that a value is.
func spread(v any) []any {
	if list, err := elementsOf(v); err == nil {
		return list
	}
	return []any{v}
}

// substitute gives the value of an expression that stands alone, else a text.
func (in *input) substitute(ctx context.Context, t *template, facts Facts) (any, error) {
	if x := t.whole(); x != nil && (in.field.List || in.field.celType() != cel.StringType) {
		v, err := x.eval(ctx, facts)
		if err != nil {
			return nil, err
		}
		if in.field.Type != Argument {
			return v, nil
		}
		return arguments(v)
	}
	text, leading, err := t.render(ctx, facts)
	if err == nil && leading && in.field.Type == Argument {
		err = noOption(text)
	}
	return text, err
}

// arguments makes arguments of a value: one, or those of a list.
func arguments(v any) (any, error) {
	list := slices.Clone(spread(v))
	for i, e := range list {
		text := Format(e)
		if err := noOption(text); err != nil {
			return nil, err
		}
		list[i] = text
	}
	return list, nil
}

// noOption refuses a substituted argument that a program would take for an
// option.
func noOption(text string) error {
	if strings.HasPrefix(text, "-") {
		return fmt.Errorf("%.60q begins with a dash, so the program would take it for an option; write the option "+
			"before it: --name=${…}", text)
	}
	return nil
}

// Text is an input that is a text.
func (in Inputs) Text(name string) string { s, _ := in[name].(string); return s }

// Texts is a list of texts.
func (in Inputs) Texts(name string) []string { s, _ := in[name].([]string); return s }

// Numbers is a list of numbers.
func (in Inputs) Numbers(name string) []int64 { n, _ := in[name].([]int64); return n }

// Yes is a boolean; what was not given is the fallback.
func (in Inputs) Yes(name string, fallback bool) bool {
	if b, ok := in[name].(bool); ok {
		return b
	}
	return fallback
}

// Duration is a duration; 0 if it was not given.
func (in Inputs) Duration(name string) time.Duration { d, _ := in[name].(time.Duration); return d }

// Plain are the inputs as they are written in JSON.
func (in Inputs) Plain() map[string]any { return plain(in) }

func plain(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = Plain(v)
	}
	return out
}
