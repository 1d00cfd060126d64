package runbooks_test

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"irctl/internal/engine"
	"irctl/internal/runbook"
	"irctl/runbooks"
)

var update = flag.Bool("update", false, "rewrite the schema, and the operations in docs/runbooks.md")

// TestLint: what ships is sound, without a warning.
func TestLint(t *testing.T) {
	files, err := runbooks.Files.ReadDir(".")
	if err != nil || len(files) == 0 {
		t.Fatal(err, len(files))
	}
	for _, f := range files {
		data, err := runbooks.Files.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		r, problems := runbook.Parse(data, f.Name(), engine.Operations())
		for _, p := range problems {
			t.Error(p)
		}
		if r == nil {
			continue
		}
		if r.Name+".yaml" != f.Name() {
			t.Errorf("%s is named %s", f.Name(), r.Name)
		}
		if len(r.Contacts) == 0 || r.Severity == "" || r.Summary == "" || len(r.Phases) < 6 {
			t.Errorf("%s has no contacts, severity, summary, or not all phases", r.Name)
		}
	}
}

func TestSkeletonIsSound(t *testing.T) {
	text, err := runbook.New("ours")
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := runbook.Parse([]byte(text), "ours.yaml", engine.Operations()); len(problems) > 0 {
		t.Error(problems)
	}
}

// TestSchema: the schema that ships is that of the Go types and the
// operations, and the runbooks that ship are as it says also where it
// describes inputs, which the loader checks by other means.
func TestSchema(t *testing.T) {
	schema := runbook.SchemaOf(engine.Operations())
	want, err := schema.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("runbook.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(want), runbooks.Schema); diff != "" {
		t.Errorf("the schema is not up to date; go test ./runbooks -update rewrites it:\n%s", diff)
	}
	if !json.Valid([]byte(runbooks.Schema)) {
		t.Error("the schema is no JSON")
	}
	inputs := map[string]*runbook.Schema{}
	for _, rule := range schema.Properties["phases"].Items.Properties["steps"].Items.AllOf {
		inputs[rule.If.Properties["uses"].Const] = rule.Then.Properties["with"]
	}
	files, _ := runbooks.Files.ReadDir(".")
	for _, f := range files {
		data, _ := runbooks.Files.ReadFile(f.Name())
		var doc struct {
			Phases []struct{ Steps []map[string]any }
		}
		if err := yaml.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		for _, phase := range doc.Phases {
			for _, step := range phase.Steps {
				with, _ := step["with"].(map[string]any)
				s := inputs[step["uses"].(string)]
				for name := range with {
					if s.Properties[name] == nil {
						t.Errorf("%s: %v: the schema knows no input %s", f.Name(), step["name"], name)
					}
				}
				for _, name := range s.Required {
					if with[name] == nil {
						t.Errorf("%s: %v: the schema requires %s", f.Name(), step["name"], name)
					}
				}
			}
		}
	}
}

// TestDocumentation: the operations are documented as they are.
func TestDocumentation(t *testing.T) {
	const path, begin, end = "../docs/runbooks.md", "<!-- operations: go test ./runbooks -update -->\n\n",
		"<!-- end of operations -->\n"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the operations", path)
	}
	want := before + begin + runbook.Reference(engine.Operations()) + "\n" + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("the operations in %s are not up to date; go test ./runbooks -update rewrites them:\n%s", path, diff)
	}
	for _, example := range strings.Split(string(data), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(example, "```")
		if !strings.HasPrefix(text, "apiVersion:") {
			continue
		}
		if _, problems := runbook.Parse([]byte(text), path, engine.Operations()); len(problems) > 0 {
			t.Errorf("an example is not sound: %v\n%s", problems, text)
		}
	}
}
