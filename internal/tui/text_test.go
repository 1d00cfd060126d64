package tui

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// hostile are texts that an attacker may have chosen.
var hostile = []string{
	"plain", "", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "a\nb\rc\td\x00e\x7ff\u009bg",
	"\u202eevil\u202c", "\u2066x\u2069", "a\u200bb\u200dc\ufeff", "漢字漢字漢字",
	strings.Repeat("e\u0301\u0302\u0303\u0304", 40), "שלום עולם", "مرحبا",
	"👩‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️", "\xff\xfe\xc0", strings.Repeat("A", 1<<20), strings.Repeat("漢", 1<<16), "ᄀ\u1161\u11a8",
	"\ue000\U000e0041",
}

func TestHostileTextStaysInItsPlace(t *testing.T) {
	for _, ascii := range []bool{false, true} {
		th := newTheme(false, ascii)
		for _, s := range hostile {
			for _, width := range []int{1, 7, 80} {
				p := th.page(width)
				p.text(bad, "! ", s)
				p.line(th.cell(th.safe(s), 20) + th.paint(faint, "x"))
				p.fact("name", s)
				for _, l := range p.lines {
					if w := ansi.StringWidth(l); w > width {
						t.Errorf("ascii %v, %d columns: %.40q is %d wide", ascii, width, l, w)
					}
					if th.printable(l) != l {
						t.Errorf("ascii %v: %.60q holds what does not print", ascii, l)
					}
				}
			}
		}
	}
}

func TestPodsAreFiltered(t *testing.T) {
	m := pods{rows: []podRow{
		{namespace: "todo-app", name: "backend-748c-2cvs4", workload: "Deployment/backend", node: "node-1",
			image: "registry.example.com/todo-backend:1.4.2"},
		{namespace: "todo-app", name: "mcp-server-59b3-4lm2h", workload: "Deployment/mcp-server", node: "node-1",
			image: "registry.example.com/todo-mcp-server:1.4.3"},
		{namespace: "kube-system", name: "kube-router-4xcpl", workload: "DaemonSet/kube-router", node: "node-2",
			image: "registry.example.com/kube-router:2"},
		{namespace: "shop", name: "web-1", workload: "", node: "node-2", image: "registry.example.com/backend:2"},
	}}
	for _, c := range []struct{ filter, want string }{
		{"", "backend-748c-2cvs4 mcp-server-59b3-4lm2h kube-router-4xcpl web-1"},
		{"mcp", "mcp-server-59b3-4lm2h"}, // not "registry.exaMple.Com/kube-...P"
		{"MCP", "mcp-server-59b3-4lm2h"},
		{"backend", "backend-748c-2cvs4 web-1"}, // the name above the image
		{"server", "mcp-server-59b3-4lm2h"},
		{"todo-app/mcp", "mcp-server-59b3-4lm2h"},
		{"app", "backend-748c-2cvs4 mcp-server-59b3-4lm2h"},
		{"node-2 kube", "kube-router-4xcpl"},
		{"bnd", "backend-748c-2cvs4"}, // by its letters
		{"mcpsrv", "mcp-server-59b3-4lm2h"},
		{"back 2cv", "backend-748c-2cvs4"},
		{"xyz", ""},
	} {
		m.filter = c.filter
		var got []string
		for _, r := range m.match().shown {
			got = append(got, r.name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q shows %q, and not %q", c.filter, got, c.want)
		}
	}
}
