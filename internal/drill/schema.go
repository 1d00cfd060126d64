package drill

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"irctl/internal/runbook"
)

// described is a type of the format that is written as a text.
type described interface{ describe() *runbook.Schema }

func (Span) describe() *runbook.Schema {
	return &runbook.Schema{Type: "string", Pattern: `^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`}
}

func (Object) describe() *runbook.Schema {
	return &runbook.Schema{Type: "string", Pattern: `^([^/]*/)?[^/]+/[^/]+$`}
}

func (Mode) describe() *runbook.Schema {
	return &runbook.Schema{Type: "string", Pattern: `^[0-7]{1,5}$`}
}

// Schema is the JSON Schema of scenarios, for editors. It is made of the Go
// types, which are what the loader reads files into; what fields have to do with
// each other is for the loader alone to check.
func Schema() *runbook.Schema {
	s := schemaOf(reflect.TypeFor[Scenario]())
	s.Schema, s.ID = "https://json-schema.org/draft/2020-12/schema", "urn:irctl:scenario:v1"
	s.Title, s.Description = "irctl drill scenario", "An incident to practise. See docs/drill.md."
	s.Properties["name"].Pattern = namePattern.String()
	move := s.Properties["attack"].Items.Properties
	move["by"].Enum, move["alert"].Properties["priority"].Enum = actors, priorities
	s.Properties["cluster"].Properties["kinds"].Items.Enum = slices.Sorted(maps.Keys(customKinds))
	return s
}

func schemaOf(t reflect.Type) *runbook.Schema {
	if d, ok := reflect.Zero(t).Interface().(described); ok && t.Kind() != reflect.Pointer {
		return d.describe()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.String:
		return &runbook.Schema{Type: "string"}
	case reflect.Bool:
		return &runbook.Schema{Type: "boolean"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return &runbook.Schema{Type: "integer"}
	case reflect.Map:
		return &runbook.Schema{Type: "object"}
	case reflect.Slice:
		return &runbook.Schema{Type: "array", Items: schemaOf(t.Elem())}
	case reflect.Interface:
		return &runbook.Schema{}
	case reflect.Struct:
		s := &runbook.Schema{Type: "object", Properties: map[string]*runbook.Schema{}, Additional: new(bool)}
		fieldsOf(t, s)
		return s
	}
	panic("no schema for " + t.String()) // of one of our own types: a test would not get past it
}

func fieldsOf(t reflect.Type, s *runbook.Schema) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			fieldsOf(f.Type, s)
			continue
		}
		p := schemaOf(f.Type)
		p.Description = f.Tag.Get("doc")
		if enum := f.Tag.Get("enum"); enum != "" {
			p.Enum = strings.Split(enum, ",")
		}
		s.Properties[name] = p
		if options != "omitempty" {
			s.Required = append(s.Required, name)
		}
	}
}
