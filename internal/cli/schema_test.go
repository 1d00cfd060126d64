package cli_test

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spf13/cobra"

	"irctl/internal/cli"
)

// schemaFile describes what every command prints with -o json. It is made of the
// Go types, by this test with -update.
const schemaFile = "../../docs/schema/irctl-v1.schema.json"

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(outputSchema(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shipped, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(shipped, text.Bytes()) {
		t.Errorf("%s is not what the types say: go test ./internal/cli -run TestSchema -update", schemaFile)
	}
}

// Every command that prints JSON has a kind, and every kind a schema and a command.
func TestEveryKindHasASchemaAndACommand(t *testing.T) {
	used := map[string]bool{"Finding": true, "CollectionPlan": true}
	for _, c := range everyCommand() {
		if kind := cli.KindOf(c); kind != "" {
			used[kind] = true
		}
	}
	if kinds := slices.Sorted(maps.Keys(cli.ResultTypes)); !slices.Equal(kinds, slices.Sorted(maps.Keys(used))) {
		t.Errorf("schemas are there of %v, and commands print %v", kinds, slices.Sorted(maps.Keys(used)))
	}
}

func everyCommand() []*cobra.Command {
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		all = append(all, c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(cli.Commands())
	return all
}

var theSchema = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("irctl.json", document); err != nil {
		return nil, err
	}
	schemas := map[string]*jsonschema.Schema{}
	for kind := range cli.ResultTypes {
		if schemas[kind], err = c.Compile("irctl.json#/$defs/" + kind); err != nil {
			return nil, err
		}
	}
	return schemas, nil
})

// checkOutput says what is wrong with what was printed as JSON.
func checkOutput(t *testing.T, kind, printed string) {
	t.Helper()
	schemas, err := theSchema()
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(printed))
	if err != nil {
		t.Errorf("no JSON: %v: %.300s", err, printed)
		return
	}
	if err := schemas[kind].Validate(v); err != nil {
		t.Errorf("it is no %s: %v", kind, err)
	}
	object, _ := v.(map[string]any)
	if object["apiVersion"] != "irctl/v1" || object["kind"] != kind {
		t.Errorf("it is %v of %v, and not %s of irctl/v1", object["kind"], object["apiVersion"], kind)
	}
}

// outputSchema is made of the types of what is printed.
func outputSchema(t *testing.T) map[string]any {
	m := &schemaMaker{t: t, defs: map[string]any{}, names: map[reflect.Type]string{}}
	var kinds []any
	for _, kind := range slices.Sorted(maps.Keys(cli.ResultTypes)) {
		typ := cli.ResultTypes[kind]
		s := m.object(typ)
		properties := s["properties"].(map[string]any)
		properties["apiVersion"], properties["kind"] = map[string]any{"const": "irctl/v1"},
			map[string]any{"const": kind}
		required := slices.Concat([]string{"apiVersion", "kind"}, s["required"].([]string))
		slices.Sort(required)
		s["required"] = slices.Compact(required)
		m.defs[kind] = s
		kinds = append(kinds, map[string]any{"$ref": "#/$defs/" + kind})
	}
	return map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:irctl:output:v1",
		"title": "irctl output",
		"description": "What irctl prints with -o json, by its kind: see docs/cli.md. Keys may be added; those that " +
			"are here stay.",
		"oneOf": kinds, "$defs": m.defs}
}

type schemaMaker struct {
	t     *testing.T
	defs  map[string]any
	names map[reflect.Type]string
}

var camelCase = regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)

// object is the schema of a struct by itself, with those that are embedded.
func (m *schemaMaker) object(typ reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-", !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous && name == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			s := m.object(inner)
			maps.Copy(properties, s["properties"].(map[string]any))
			required = append(required, s["required"].([]string)...)
			continue
		case !tagged:
			m.t.Errorf("%s.%s has no name in JSON", typ, f.Name)
		}
		if name = cmp.Or(name, f.Name); !camelCase.MatchString(name) {
			m.t.Errorf("%s.%s is called %q in JSON, which is no camelCase", typ, f.Name, name)
		}
		s := m.schema(f.Type)
		optional := strings.Contains(options, "omit")
		if use, deprecated := f.Tag.Lookup("deprecated"); deprecated {
			s = map[string]any{"allOf": []any{s}, "deprecated": true, "description": use}
		}
		if nilable := f.Type.Kind() == reflect.Pointer || f.Type.Kind() == reflect.Slice ||
			f.Type.Kind() == reflect.Map; nilable && !optional {
			s = map[string]any{"oneOf": []any{s, map[string]any{"type": "null"}}}
		}
		properties[name] = s
		if !optional {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	return map[string]any{"type": "object", "properties": properties, "required": slices.Compact(required)}
}

func (m *schemaMaker) schema(typ reflect.Type) map[string]any {
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case typ == reflect.TypeFor[json.RawMessage](), typ.Kind() == reflect.Interface:
		return map[string]any{}
	case typ.Kind() == reflect.Pointer:
		return m.schema(typ.Elem())
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return map[string]any{"type": "string"}
	case typ.Implements(reflect.TypeFor[json.Marshaler]()), reflect.PointerTo(typ).
		Implements(reflect.TypeFor[json.Marshaler]()):
		return map[string]any{} // as its own format says
	}
	switch typ.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": m.schema(typ.Elem())}
	case reflect.Slice, reflect.Array:
		if typ.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string"}
		}
		return map[string]any{"type": "array", "items": m.schema(typ.Elem())}
	case reflect.Struct:
		return map[string]any{"$ref": "#/$defs/" + m.define(typ)}
	}
	return map[string]any{"type": "integer"}
}

// define puts a type among the definitions, under a name of its own.
func (m *schemaMaker) define(typ reflect.Type) string {
	if name, known := m.names[typ]; known {
		return name
	}
	pkg := typ.PkgPath()[strings.LastIndex(typ.PkgPath(), "/")+1:]
	name := pkg + "." + typ.Name()
	if typ.Name() == "" {
		m.t.Fatalf("%s has no name", typ)
	}
	m.names[typ] = name
	m.defs[name] = m.object(typ)
	return name
}
