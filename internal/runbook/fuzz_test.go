package runbook_test

import (
	"path"
	"strings"
	"testing"
	"unicode"

	"irctl/internal/runbook"
)

// FuzzParse: whatever a file holds, loading it ends, and says where it is
// wrong, or gives a runbook that can be drawn.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "a: [", head + use, head + use +
		"  - {name: a, uses: close, when: 'params.count + 1 > size(params.pods)'}\n",
		head + "  - &a {name: a, uses: *a}\n", "? a\n: b", head + use +
			"  - {name: a, uses: manual, with: {instruction: \"${'}' + \\\"{\\\"} $${\"}}\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, problems := runbook.Parse(data, "f", vocabulary)
		if r == nil {
			if len(problems) == 0 {
				t.Fatal("refused without a reason")
			}
			for _, p := range problems {
				if p.Line < 0 || p.Column < 0 {
					t.Fatalf("%+v", p)
				}
			}
			return
		}
		_, _ = r.Tree(), r.Mermaid()
	})
}

// FuzzSubstitution: whatever a parameter holds, an argument stays one, and is
// no option; a pod stays a pod, and a path stays where it is.
func FuzzSubstitution(f *testing.F) {
	r, problems := runbook.Parse([]byte(head+use+`  - name: a
    uses: command
    with: {argv: [scan, "${params.text}", "x=${params.text}", end]}
  - name: b
    uses: contain
    with: {pods: ["shop/${params.text}"], path: "/logs/${params.text}"}
`), "", vocabulary)
	if r == nil {
		f.Fatal(problems)
	}
	for _, seed := range []string{"", "a b", "-x", "--", "../..", "${params.pod}", "$(id)", "a/b", "\x1b[0m", "a\nb",
		"'; drop", ".", "a.b-c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		params, err := r.Given(map[string]string{"text": text}, "shop")
		if err != nil {
			return
		}
		facts := r.Facts(params, runbook.Ambient{})
		if in, err := r.Steps()[1].Inputs(t.Context(), facts); err == nil {
			argv := in.Texts("argv")
			if len(argv) != 4 || argv[1] != text || argv[2] != "x="+text || strings.HasPrefix(argv[1], "-") ||
				strings.ContainsFunc(text, unicode.IsControl) {
				t.Fatalf("%q became %q", text, argv)
			}
		}
		if in, err := r.Steps()[2].Inputs(t.Context(), facts); err == nil {
			pod, p := in.Texts("pods")[0], in.Text("path")
			if strings.Count(pod, "/") != 1 || strings.ContainsAny(pod, " ;$`\\") ||
				!strings.HasPrefix(path.Clean(p)+"/", "/logs/") {
				t.Fatalf("%q became %q and %q", text, pod, p)
			}
		}
	})
}
