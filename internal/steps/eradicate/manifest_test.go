package eradicate_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"irctl/internal/steps/eradicate"
)

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: prod}\n"

func TestReadManifests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("team/b.yml", configMap+"---\n# nothing\n---\n"+configMap)
	write("team/a.json",
		`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"j"}}]}`)
	write("team/README.md", "not a manifest")
	write("team/deeper/c.yaml", "not: read")
	list, err := eradicate.ReadManifests(t.Context(), []string{filepath.Join(dir, "team")})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list {
		names = append(names, m.Name())
	}
	if got := strings.Join(names, ", "); got != "ConfigMap j, ConfigMap prod/a, ConfigMap prod/a" {
		t.Error(got)
	}

	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ path, want string }{
		"missing":     {filepath.Join(dir, "nowhere"), "no such file"},
		"a pipe":      {filepath.Join(dir, "pipe"), "it is not a regular file"},
		"no YAML":     {write("x1", "a: [b"), "document 1"},
		"a text":      {write("x2", "hello"), "document 1"},
		"a key twice": {write("x3", configMap+"data: {a: b, a: c}\n"), "already"},
		"no kind":     {write("x4", "apiVersion: v1\nmetadata: {name: x}\n"), "Kind"},
		"no name": {write("x5", "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}\n"),
			"no name"},
		"a typed list": {write("x6", "apiVersion: v1\nkind: ConfigMapList\nmetadata: {name: x}\nitems: []\n"),
			"objects of their own"},
		"comments alone":     {write("x7", "# a\n---\n# b\n"), "no object in it"},
		"too large":          {write("x8", "a: "+strings.Repeat("x", 4<<20)), "larger than"},
		"too many":           {write("x9", strings.Repeat(configMap+"---\n", 501)), "more than 500"},
		"a folder of others": {filepath.Dir(write("others/notes.txt", "x")), "no file whose name ends in"},
		"a bomb": {write("x10", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c "+
			"[*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"+
			"f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n"), "document 1"},
	} {
		_, err := eradicate.ReadManifests(t.Context(), []string{tc.path})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseManifests: whatever a file holds, what comes out has a kind and a
// name and can be copied, or it is an error.
func FuzzParseManifests(f *testing.F) {
	for _, seed := range []string{configMap, "---\n---\n", `{"apiVersion":"v1","kind":"List","items":[1,{}]}`,
		"a: &a {b: *a}", "apiVersion: 1\nkind: []\nmetadata: 3\n",
		"apiVersion: v1\nkind: X\nmetadata: {name: y, annotations: [1]}\nspec: {n: 1e999, m: 0x10, big: " +
			"99999999999999999999}\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := eradicate.ParseManifests("f", data)
		if err != nil {
			return
		}
		for _, m := range list {
			if m.Object.GetKind() == "" || m.Object.GetName() == "" || m.Object.GetUID() != "" {
				t.Errorf("%v", m.Object.Object)
			}
			m.Object.DeepCopy()
		}
	})
}
