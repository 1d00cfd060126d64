package detect

import "fmt"

// auditDebug finds containers added to running pods (kubectl debug).
var auditDebug = auditDetector{
	wants: func(p *auditPeek) bool {
		return p.is("pods", "ephemeralcontainers") && string(p.verb) != "get"
	},
	find: func(e *auditEvent) (Finding, bool) {
		f := Finding{Code: "debug-container", Score: 52, Technique: deployContainer,
			Subject: Subject{Namespace: e.Object.Namespace, Pod: e.Object.Name, User: e.User.Username}}
		if _, _, ok := e.serviceAccount(); ok {
			f.Score = 74
		}
		if e.denied() {
			f.Score -= 8
		}
		f.Reason = fmt.Sprintf("%s put an ephemeral container into it, from %s%s", e.who(), e.from(), e.outcome())
		return f, true
	},
}
