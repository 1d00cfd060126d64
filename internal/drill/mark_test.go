package drill_test

import (
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"irctl/internal/drill"
)

// TestMarkOf: a kubeconfig leads to a drill if its context says so, not by its name.
func TestMarkOf(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: v1\nkind: Config\ncurrent-context: DRILL-a\ncontexts:\n- {name: other, context: " +
		"{cluster: c, user: u}}\n- name: DRILL-a\n  context:\n    cluster: c\n    user: u\n"
	for _, tc := range []struct {
		name, text, context string
		want                drill.Mark
		ok                  bool
	}{
		{"no mark", head, "", drill.Mark{}, false},
		{"a mark", head + "    extensions: [{name: irctl-drill, extension: {scenario: a, speed: 5}}]\n", "",
			drill.Mark{Scenario: "a", Speed: 5}, true},
		{"another context", head + "    extensions: [{name: irctl-drill, extension: {scenario: a, speed: 5}}]\n",
			"other", drill.Mark{}, false},
		{"no such context", head, "none", drill.Mark{}, false},
		{"no speed", head + "    extensions: [{name: irctl-drill, extension: {scenario: a}}]\n", "",
			drill.Mark{Scenario: "a", Speed: 1}, true},
		{"too fast", head + "    extensions: [{name: irctl-drill, extension: {speed: 1e9}}]\n", "",
			drill.Mark{Speed: 1}, true},
	} {
		config, err := clientcmd.Load([]byte(tc.text))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := drill.MarkOf(*config, tc.context); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %+v, %v", tc.name, got, ok)
		}
	}
}
