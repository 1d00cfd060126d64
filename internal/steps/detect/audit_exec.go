package detect

import (
	"fmt"
	"strings"
)

// auditExec finds commands run in pods, sessions attached to, and ports
// forwarded from them. The verb says nothing: kubectl asks for a web socket,
// with get, where it used to create.
var auditExec = auditDetector{
	wants: func(p *auditPeek) bool {
		return p.is("pods", "exec") || p.is("pods", "attach") || p.is("pods", "portforward")
	},
	find: func(e *auditEvent) (Finding, bool) {
		q := e.query()
		f := Finding{Code: "exec", Score: 50, Technique: adminCommand, Object: strings.Join(q["command"], " "),
			Subject: Subject{Namespace: e.Object.Namespace, Pod: e.Object.Name, Container: q.Get("container"),
				User: e.User.Username}}
		did := "ran " + quoted(f.Object) + " in it"
		switch e.Object.Subresource {
		case "attach":
			f.Code, f.Score, did = "attach", 48, "attached to it"
		case "portforward":
			f.Code, f.Score, f.Technique, did = "port-forward", 42, externalRemote, "forwarded ports of it"
		}
		// A person may have good reasons. A program that enters pods has hardly any.
		if _, _, ok := e.serviceAccount(); ok {
			f.Score += 22
		}
		if e.denied() {
			f.Score, did = f.Score-8, "tried to: "+did
		}
		f.Reason = fmt.Sprintf("%s %s, from %s%s", e.who(), did, e.from(), e.outcome())
		return f, true
	},
}

func quoted(command string) string {
	if command == "" {
		return "a command"
	}
	return fmt.Sprintf("%q", cut(command, maxObject))
}
