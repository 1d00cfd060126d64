package runbook

import (
	"fmt"
	"strings"
)

// Reference documents operations, in Markdown. It is part of docs/runbooks.md.
func Reference(vocabulary []Signature) string {
	var b strings.Builder
	for i := range vocabulary {
		sig := &vocabulary[i]
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "### %s\n\n%s\n", sig.Name, sig.Doc)
		if sig.Asks {
			b.WriteString("A person is asked first, unless the step has `confirm: false`.\n")
		}
		if len(sig.Inputs) > 0 {
			b.WriteString("\n| input | type | |\n| --- | --- | --- |\n")
		}
		for _, f := range sig.Inputs {
			doc := f.Doc
			if f.Required {
				doc = "Required. " + doc
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Domain, doc)
		}
		if len(sig.Results) > 0 {
			b.WriteString("\n| result | type | |\n| --- | --- | --- |\n")
		}
		for _, f := range sig.Results {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Domain, f.Doc)
		}
	}
	return b.String()
}
