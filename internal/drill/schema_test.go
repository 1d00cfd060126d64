package drill_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"irctl/internal/drill"
	"irctl/internal/runbook"
)

var update = flag.Bool("update", false, "rewrite the schema")

// TestSchema: the schema that ships is that of the Go types, and the scenarios
// that ship are as it says.
func TestSchema(t *testing.T) {
	t.Parallel()
	schema := drill.Schema()
	want, err := schema.JSON()
	if err != nil {
		t.Fatal(err)
	}
	const file = "scenarios/scenario.schema.json"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Errorf("the schema is not up to date; go test ./internal/drill -run TestSchema -update rewrites it:\n%s",
			diff)
	}
	files, err := filepath.Glob("scenarios/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(text, []byte("# yaml-language-server: $schema=scenario.schema.json\n")) {
			t.Errorf("%s does not name its schema", f)
		}
		for _, problem := range problems(t, string(text), schema) {
			t.Errorf("%s: %s", f, problem)
		}
	}
}

// TestSchemaRefuses what the loader refuses, as far as a schema can.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	schema := drill.Schema()
	if p := problems(t, smallest, schema); len(p) > 0 {
		t.Fatal(p)
	}
	for _, tc := range [][2]string{{"exfiltrate: 1", "exfiltrates: 1"}, {"kind: Scenario", "kind: Runbook"},
		{"name: ours", "name: ../ours"}, {"containWithin: 5m", "containWithin: soon"},
		{"exfiltrate: 1", "by: everybody"}, {", port: 443", ""}, {"title: Ours\n", ""},
		{"exfiltrate: 1", "exfiltrate: much"}, {"compromised:", "cluster: {kinds: [Foo]}\ncompromised:"},
		{"key: {", "key: {objects: [x], "}, {"key: {", "inside: [{image: x, files: [{path: /x, mode: rwx}]}]\nkey: {"},
		{"key: {", "inside: [{processes: []}]\nkey: {"}} {
		text := strings.Replace(smallest, tc[0], tc[1], 1)
		if text == smallest || len(problems(t, text, schema)) == 0 {
			t.Errorf("%s is accepted", tc[1])
		}
		if _, err := drill.Parse("ours.yaml", []byte(text)); err == nil {
			t.Errorf("the loader accepts %s, the schema does not", tc[1])
		}
	}
}

// problems is what a schema says against a document, as far as these use of
// JSON Schema.
func problems(t *testing.T, text string, s *runbook.Schema) []string {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	return against(doc, s, "the document")
}

func against(v any, s *runbook.Schema, where string) (all []string) {
	kind := ""
	switch v := v.(type) {
	case map[string]any:
		kind = "object"
		for name, field := range v {
			p := s.Properties[name]
			switch {
			case p != nil:
				all = append(all, against(field, p, where+"."+name)...)
			case s.Additional != nil:
				all = append(all, where+" has no "+name)
			}
		}
		for _, name := range s.Required {
			if v[name] == nil {
				all = append(all, where+" needs "+name)
			}
		}
	case []any:
		kind = "array"
		for i, e := range v {
			all = append(all, against(e, s.Items, fmt.Sprintf("%s[%d]", where, i))...)
		}
	case string:
		kind = "string"
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) ||
			len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			all = append(all, where+" cannot be "+v)
		}
	case int:
		kind = "integer"
	case bool:
		kind = "boolean"
	}
	if s.Type != "" && s.Type != kind {
		all = append(all, fmt.Sprintf("%s is no %s", where, s.Type))
	}
	return all
}
