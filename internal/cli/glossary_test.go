package cli_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// judging are the types whose values are words that people read.
var judging = map[string][]string{
	"contain":  {"Verdict", "Severity"},
	"engine":   {"EradicateVerdict", "RecoverVerdict"},
	"timeline": {"Outcome"},
	"change":   {"State"},
}

// Every verdict, outcome and state of an object is a term of the glossary.
func TestVerdictsAndOutcomesAreInTheGlossary(t *testing.T) {
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	terms := map[string]bool{}
	_, glossary, _ := strings.Cut(string(text), "## Glossary")
	for line := range strings.Lines(glossary) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for _, term := range strings.Split(cells[1], ",") {
				if term = strings.TrimSpace(term); terms[term] {
					t.Errorf("%q is in the glossary twice", term)
				}
				terms[strings.TrimSpace(term)] = true
			}
		}
	}
	words := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, name := range judging[file.Name.Name] {
			for word := range wordsOf(file, name) {
				words[word] = true
				if !terms[word] {
					t.Errorf("%s: %q, a %s, is not in the glossary of CONTRIBUTING.md", path, word, name)
				}
			}
		}
		return nil
	})
	if err != nil || len(words) < 20 {
		t.Errorf("only %d words were found: %v", len(words), err)
	}
}

// wordsOf are the constants of a type.
func wordsOf(file *ast.File, name string) map[string]bool {
	words := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != name {
			return true
		}
		for _, value := range spec.Values {
			if lit, ok := value.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if word, err := strconv.Unquote(lit.Value); err == nil && word != "" {
					words[word] = true
				}
			}
		}
		return true
	})
	return words
}
