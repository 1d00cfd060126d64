package runbook

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits of a runbook.
const (
	// MaxFile bounds the file, in bytes.
	MaxFile = 256 << 10
	// maxSteps bounds the steps of all phases together.
	maxSteps = 200
	// maxTimeout bounds a step.
	maxTimeout = 24 * time.Hour
)

// Parse loads a runbook and checks it as a whole. It returns a runbook only if
// it can be run; the problems hold warnings, too. File is what the problems
// are reported under.
func Parse(data []byte, file string, vocabulary []Signature) (*Runbook, []Problem) {
	p := &parser{data: data, vocabulary: vocabulary, schema: SchemaOf(vocabulary)}
	r := p.parse()
	failed := false
	for i := range p.problems {
		p.problems[i].File = file
		failed = failed || !p.problems[i].Warning
	}
	slices.SortStableFunc(p.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	if failed {
		return nil, p.problems
	}
	sum := sha256.Sum256(data)
	r.SHA256, r.Source = hex.EncodeToString(sum[:]), file
	return r, p.problems
}

// parser goes through a runbook twice: first for its shape, by the schema,
// then for its meaning, in the order in which it will be run.
type parser struct {
	checker
	data       []byte
	lines      [][]byte
	vocabulary []Signature
	schema     *Schema
	root       *yaml.Node
	env        *environment
	used       map[string]bool // variables
	last       *Step           // after which nothing can come
}

func (p *parser) parse() *Runbook {
	if p.root = p.document(); p.root == nil {
		return nil
	}
	if p.check(p.root, p.schema, "the runbook"); len(p.problems) > 0 {
		return nil
	}
	r := &Runbook{}
	if err := p.root.Decode(r); err != nil {
		p.report(p.root, "", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	}
	env, err := newEnvironment()
	if err != nil {
		p.report(p.root, "", "%s", err)
		return nil
	}
	p.lines, p.env, p.used, r.exprs = bytes.Split(p.data, []byte("\n")), env, map[string]bool{}, env
	p.parameters(r)
	p.phases(r)
	p.unused(r)
	return r
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// document is the only one in the file; nil, and a problem, if it is none.
func (p *parser) document() *yaml.Node {
	var doc yaml.Node
	if len(p.data) > MaxFile {
		p.report(&yaml.Node{Line: 1, Column: 1}, "", "the file is larger than %d bytes", MaxFile)
		return nil
	}
	d := yaml.NewDecoder(bytes.NewReader(p.data))
	if err := d.Decode(&doc); err != nil {
		at := &yaml.Node{Line: 1, Column: 1}
		m := yamlLine.FindStringSubmatch(err.Error())
		if n, err := strconv.Atoi(m[1]); err == nil {
			at.Line = n
		}
		text := strings.TrimPrefix(err.Error(), m[0])
		if errors.Is(err, io.EOF) {
			text = "the file is empty"
		}
		p.report(at, "", "this is not YAML: %s", text)
		return nil
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		p.report(&doc, "one file holds one runbook", "there is more than one document in the file")
		return nil
	}
	if len(doc.Content) != 1 {
		p.report(&doc, "", "the file is empty")
		return nil
	}
	return doc.Content[0]
}

// at is the node of a path of keys and indices.
func at(n *yaml.Node, path ...any) *yaml.Node {
	for _, key := range path {
		switch key := key.(type) {
		case int:
			n = n.Content[key]
		case string:
			i := slices.IndexFunc(n.Content, func(c *yaml.Node) bool { return c.Value == key })
			if i < 0 || i+1 >= len(n.Content) {
				return n
			}
			n = n.Content[i+1]
		}
	}
	return n
}

func (p *parser) parameters(r *Runbook) {
	var vars []variable
	seen := map[string]bool{}
	for i := range r.Parameters {
		param, node := &r.Parameters[i], at(p.root, "parameters", i)
		if seen[param.Name] {
			p.report(at(node, "name"), "", "there are two parameters named %s", param.Name)
			continue
		}
		seen[param.Name] = true
		p.parameter(param, node)
		vars = append(vars, variable{"params." + param.Name, param.domain})
	}
	if err := p.env.declare(vars...); err != nil {
		p.report(at(p.root, "parameters"), "", "%s", err)
	}
}

func (p *parser) parameter(param *Parameter, node *yaml.Node) {
	d := Domain{Type: param.Type, List: param.List, Choices: param.Choices}
	isText := d.Type != Integer && d.Type != Boolean && d.Type != Duration
	if (len(d.Choices) > 0 || param.Pattern != "") && !isText {
		p.report(at(node, "type"), "", "choices and pattern are for texts, not for type %s", d.Type)
	}
	if d.List && (d.Type == Boolean || d.Type == Duration || d.Type == Text) {
		p.report(at(node, "list"), "", "there are no lists of type %s", d.Type)
		d.List = false
	}
	if param.Pattern != "" {
		re, err := regexp.Compile("^(?:" + param.Pattern + ")$")
		if err != nil {
			p.report(at(node, "pattern"), "", "this is no regular expression: %s", err)
		}
		d.pattern = re
	}
	param.domain, param.fallback = d, d.Zero()
	if param.Default.Kind == 0 {
		return
	}
	if param.Required {
		p.report(at(node, "default"), "leave one of them out", "a required parameter has no default")
	}
	v, err := convert(d, &param.Default)
	if err != nil {
		p.report(at(node, "default"), "", "%s", err)
		return
	}
	param.fallback = v
}

// convert makes the value of a node.
func convert(d Domain, n *yaml.Node) (any, error) {
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return d.Convert(v)
}

func (p *parser) phases(r *Runbook) {
	before := -1
	seen := map[PhaseName]bool{}
	for i := range r.Phases {
		phase := &r.Phases[i]
		node := at(p.root, "phases", i, "name")
		order := slices.Index(Phases, phase.Name)
		switch {
		case seen[phase.Name]:
			p.report(node, "put its steps together", "phase %s is there twice", phase.Name)
		case order < before:
			p.report(node, "the order is "+strings.Join(names(Phases, func(n PhaseName) string { return string(n) }),
				", "), "phase %s comes too late", phase.Name)
		}
		seen[phase.Name], before = true, max(before, order)
		for j := range phase.Steps {
			phase.Steps[j].phase = phase.Name
		}
	}
	if n := len(r.Steps()); n > maxSteps {
		p.report(at(p.root, "phases"), "", "%d steps, at most %d", n, maxSteps)
		return
	}
	for _, s := range r.Steps() {
		p.env.upcoming[s.Name] = true
	}
	for i := range r.Phases {
		for j := range r.Phases[i].Steps {
			p.step(&r.Phases[i].Steps[j], at(p.root, "phases", i, "steps", j))
		}
	}
}

func (p *parser) step(s *Step, node *yaml.Node) {
	if !p.env.upcoming[s.Name] {
		p.report(at(node, "name"), "", "there are two steps named %s", s.Name)
		return
	}
	if p.last != nil {
		p.report(node, "put it before step "+p.last.Name, "step %s is unreachable: nothing comes after %s", s.Name,
			p.last.Uses)
	}
	p.condition(s, node)
	p.timeout(s, node)
	i := slices.IndexFunc(p.vocabulary, func(v Signature) bool { return v.Name == s.Uses })
	if i >= 0 { // else the schema has said so
		s.sig = &p.vocabulary[i]
		p.inputs(s, node)
		if s.sig.Last && s.When == "" {
			p.last = s
		}
	}
	delete(p.env.upcoming, s.Name)
	if err := p.env.declare(s.variables()...); err != nil {
		p.report(node, "", "%s", err)
	}
}

func (p *parser) timeout(s *Step, node *yaml.Node) {
	if s.Timeout == "" {
		return
	}
	d, err := time.ParseDuration(s.Timeout)
	if err != nil || d <= 0 || d > maxTimeout {
		p.report(at(node, "timeout"), "", "timeout %q is not a duration of at most %s, such as 10m", s.Timeout,
			maxTimeout)
	}
	s.timeout = d
}

func (p *parser) condition(s *Step, node *yaml.Node) {
	if s.When == "" {
		return
	}
	n := at(node, "when")
	if strings.HasPrefix(strings.TrimSpace(s.When), "${") {
		p.report(n, "leave ${ and } away", "a condition is an expression already")
		return
	}
	expr, errs := p.env.compile(s.When)
	if p.reportExpr(n, errs); len(errs) > 0 {
		return
	}
	if expr.out.String() != "bool" {
		p.report(n, "", "a condition must be true or false; this is of type %s", expr.out)
		return
	}
	p.use(expr)
	s.when = expr
	if len(expr.vars) > 0 {
		return
	}
	if holds, err := expr.Holds(noContext, Facts{}); err != nil {
		p.report(n, "", "%s", err)
	} else if !holds {
		p.report(n, "take it out, or correct the condition", "step %s is unreachable: its condition is never true",
			s.Name)
	}
}

func (p *parser) use(expr *Expression) {
	for _, v := range expr.vars {
		p.used[v] = true
	}
}

// unused warns of parameters that nothing reads.
func (p *parser) unused(r *Runbook) {
	for i := range r.Parameters {
		name := "params." + r.Parameters[i].Name
		read := false
		for v := range maps.Keys(p.used) {
			read = read || v == name || strings.HasPrefix(v, name+".")
		}
		if !read && len(p.problems) < maxProblems {
			n := at(p.root, "parameters", i, "name")
			p.problems = append(p.problems, Problem{Line: n.Line, Column: n.Column, Warning: true,
				Text: fmt.Sprintf("parameter %s is never used", r.Parameters[i].Name), Fix: "take it out"})
		}
	}
}

// variables are what later conditions can read of a step.
func (s *Step) variables() []variable {
	prefix := "steps." + s.Name + "."
	vars := []variable{{prefix + "outcome", OneOf(Outcomes...)}, {prefix + "done", Of(Boolean)}}
	if s.sig == nil {
		return vars
	}
	for _, result := range s.sig.Results {
		d := result.Domain
		if in := s.inputs[result.ChoicesOf]; in != nil {
			if choices, ok := in.literal.([]string); ok {
				d.Choices = choices
			}
		}
		vars = append(vars, variable{prefix + result.Name, d})
	}
	return vars
}

// Outcomes are those that a step can have.
var Outcomes = []string{"done", "partial", "failed", "refused", "skipped"}

// reportExpr reports problems within the text of a scalar.
func (p *parser) reportExpr(n *yaml.Node, errs []exprError) {
	for _, e := range errs {
		line, column := p.locate(n, e.offset)
		p.report(&yaml.Node{Line: line, Column: column}, e.fix, "%s", e.text)
	}
}

// locate is where an offset of a scalar's text is in the file. Of a folded
// text it is the line where it begins.
func (p *parser) locate(n *yaml.Node, offset int) (line, column int) {
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		before := n.Value[:min(offset, len(n.Value))]
		newlines := strings.Count(before, "\n")
		line = n.Line + 1 + newlines
		if line > len(p.lines) {
			return n.Line, n.Column
		}
		text := p.lines[line-1]
		indent := len(text) - len(bytes.TrimLeft(text, " "))
		return line, indent + 1 + len(before) - (strings.LastIndexByte(before, '\n') + 1)
	case n.Style&yaml.FoldedStyle != 0 || strings.Contains(n.Value, "\n"):
		return n.Line, n.Column
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		return n.Line, n.Column + 1 + offset
	}
	return n.Line, n.Column + offset
}
