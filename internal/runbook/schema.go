package runbook

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"irctl/internal/cluster"
)

// Schema is the part of JSON Schema (2020-12) that describes a runbook. It is
// made of the Go types, and the loader checks every document against it, so
// that what an editor accepts by it irctl accepts too.
type Schema struct {
	Schema      string             `json:"$schema,omitempty"`
	ID          string             `json:"$id,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Const       string             `json:"const,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	MaxLength   int                `json:"maxLength,omitempty"`
	MinItems    int                `json:"minItems,omitempty"`
	MaxItems    int                `json:"maxItems,omitempty"`
	Items       *Schema            `json:"items,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	// Additional is false where no other properties may be.
	Additional *bool     `json:"additionalProperties,omitempty"`
	OneOf      []*Schema `json:"oneOf,omitempty"`
	AllOf      []*Schema `json:"allOf,omitempty"`
	If         *Schema   `json:"if,omitempty"`
	Then       *Schema   `json:"then,omitempty"`

	pattern *regexp.Regexp
}

// SchemaOf is the schema of runbooks whose steps use these operations.
func SchemaOf(vocabulary []Signature) *Schema {
	root := schemaOf(reflect.TypeFor[Runbook]())
	root.Schema, root.ID = "https://json-schema.org/draft/2020-12/schema", "urn:irctl:runbook:v1"
	root.Title, root.Description = "irctl runbook", "What to do in an incident, step by step. See docs/runbooks.md."
	step := root.Properties["phases"].Items.Properties["steps"].Items
	uses := step.Properties["uses"]
	for i := range vocabulary {
		sig := &vocabulary[i]
		uses.Enum = append(uses.Enum, sig.Name)
		step.AllOf = append(step.AllOf, &Schema{
			If:   &Schema{Properties: map[string]*Schema{"uses": {Const: sig.Name}}, Required: []string{"uses"}},
			Then: sig.schema(),
		})
	}
	return root
}

// JSON is the schema as it is shipped.
func (s *Schema) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

// schema describes the inputs of an operation. It is for editors; the loader
// goes by the signature itself, which knows expressions.
func (s *Signature) schema() *Schema {
	with := &Schema{Type: "object", Properties: map[string]*Schema{}, Additional: new(bool)}
	for _, f := range s.Inputs {
		p := f.schema()
		p.Description = f.Doc
		with.Properties[f.Name] = p
		if f.Required {
			with.Required = append(with.Required, f.Name)
		}
	}
	out := &Schema{Properties: map[string]*Schema{"with": with}}
	if len(with.Required) > 0 {
		out.Required = []string{"with"}
	}
	return out
}

// substitution is a text that is an expression as a whole.
const substitution = `^\$\{[\s\S]*\}$`

func (d Domain) schema() *Schema {
	kind := map[Type]string{Integer: "integer", Boolean: "boolean"}[d.Type]
	one := &Schema{Type: "string", MaxLength: maxText}
	switch {
	case kind != "":
		one = &Schema{OneOf: []*Schema{{Type: kind}, {Type: "string", Pattern: substitution}}}
	case len(d.Choices) > 0:
		one = &Schema{OneOf: []*Schema{{Enum: d.Choices}, {Type: "string", Pattern: substitution}}}
	}
	if !d.List {
		return one
	}
	return &Schema{OneOf: []*Schema{{Type: "array", MaxItems: maxList, Items: one},
		{Type: "string", Pattern: substitution}}}
}

// schemaOf makes the schema of a Go type out of its tags.
func schemaOf(t reflect.Type) *Schema {
	switch {
	case t == reflect.TypeFor[yaml.Node]():
		return &Schema{}
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem())
	case t.Kind() == reflect.String:
		return &Schema{Type: "string", MaxLength: maxText}
	case t.Kind() == reflect.Bool:
		return &Schema{Type: "boolean"}
	case t.Kind() == reflect.Map:
		return &Schema{Type: "object"}
	case t.Kind() == reflect.Slice:
		return &Schema{Type: "array", MaxItems: maxList, Items: schemaOf(t.Elem())}
	case t.Kind() != reflect.Struct:
		panic("no schema for " + t.String()) // of one of our own types: a test would not get past it
	}
	s := &Schema{Type: "object", Properties: map[string]*Schema{}, Additional: new(bool)}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		s.Properties[name] = fieldSchema(f)
		if options != "omitempty" {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

func fieldSchema(f reflect.StructField) *Schema {
	p := schemaOf(f.Type)
	p.Description = f.Tag.Get("doc")
	switch enum := f.Tag.Get("enum"); enum {
	case "":
	case "$types":
		p.Enum = names(Types, func(t Type) string { return string(t) })
	case "$phases":
		p.Enum = names(Phases, func(n PhaseName) string { return string(n) })
	default:
		p.Enum = strings.Split(enum, ",")
	}
	if p.Pattern = f.Tag.Get("pattern"); p.Pattern != "" {
		p.pattern = regexp.MustCompile(p.Pattern)
	}
	if p.Type == "array" {
		p.MinItems = 1
	}
	return p
}

// checker checks a document against the schema, node by node, so that every
// problem has its line and column.
type checker struct{ problems []Problem }

// maxProblems is how many problems are told at a time.
const maxProblems = 50

func (c *checker) report(n *yaml.Node, fix, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, Problem{Line: n.Line, Column: n.Column, Text: fmt.Sprintf(format, args...),
			Fix: fix})
	}
}

func (c *checker) check(n *yaml.Node, s *Schema, where string) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		c.report(n, "write it out", "anchors and aliases are not allowed in runbooks")
		return
	}
	switch s.Type {
	case "object":
		c.object(n, s, where)
	case "array":
		c.array(n, s, where)
	case "string":
		c.text(n, s, where)
	case "boolean":
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			c.report(n, "", "%s must be true or false", where)
		}
	default:
		c.noAliases(n)
	}
}

// noAliases goes through what only an operation can check.
func (c *checker) noAliases(n *yaml.Node) {
	for _, child := range n.Content {
		c.check(child, &Schema{}, "")
	}
}

func (c *checker) object(n *yaml.Node, s *Schema, where string) {
	if n.Kind != yaml.MappingNode {
		c.report(n, "", "%s must have fields%s", where, listed(s))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			c.report(key, "", "%s is given twice", key.Value)
		}
		seen[key.Value] = true
		p := s.Properties[key.Value]
		switch {
		case p != nil:
			c.check(value, p, key.Value)
		case s.Additional != nil:
			c.report(key, didYouMean(key.Value, keys(s.Properties)), "unknown field %.60q in %s", key.Value, where)
		default:
			c.noAliases(value)
		}
	}
	for _, name := range s.Required {
		if !seen[name] {
			c.report(n, s.Properties[name].Description, "%s has no %s", where, name)
		}
	}
}

func (c *checker) array(n *yaml.Node, s *Schema, where string) {
	if n.Kind != yaml.SequenceNode {
		c.report(n, "begin each element with a dash", "%s must be a list", where)
		return
	}
	if len(n.Content) < s.MinItems || len(n.Content) > s.MaxItems {
		c.report(n, "", "%s has %d elements; it must have %d to %d", where, len(n.Content), s.MinItems, s.MaxItems)
		return
	}
	for _, e := range n.Content {
		c.check(e, s.Items, "an element of "+where)
	}
}

func (c *checker) text(n *yaml.Node, s *Schema, where string) {
	switch {
	case n.Kind != yaml.ScalarNode:
		c.report(n, "", "%s must be a text", where)
	case n.Tag != "!!str":
		c.report(n, "put it in quotes", "%s must be a text; %s is none", where, n.Value)
	case len(n.Value) > s.MaxLength:
		c.report(n, "", "%s is longer than %d bytes", where, s.MaxLength)
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, n.Value):
		fix := didYouMean(n.Value, s.Enum)
		if fix == "" {
			fix = "use " + strings.Join(s.Enum, ", ")
		}
		c.report(n, fix, "%s cannot be %.60q", where, n.Value)
	case s.pattern != nil && !s.pattern.MatchString(n.Value):
		c.report(n, "", "%s %.60q does not match %s", where, n.Value, s.Pattern)
	}
}

func listed(s *Schema) string {
	if len(s.Properties) == 0 {
		return ""
	}
	return ": " + strings.Join(keys(s.Properties), ", ")
}

func keys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// didYouMean names what is near to a word; "" if nothing is.
func didYouMean(word string, known []string) string {
	near := cluster.Near(word, known)
	if len(near) == 0 {
		return ""
	}
	return "did you mean " + strings.Join(near, ", ") + "?"
}
