package detect

import "fmt"

// auditOutside finds requests from addresses outside of the networks that are
// ours. Nodes are left out: in some clouds they have public addresses.
var auditOutside = auditDetector{
	wants: func(p *auditPeek) bool {
		return p.outside && !p.component() && string(p.user) != "system:anonymous"
	},
	find: func(e *auditEvent) (Finding, bool) {
		f := Finding{Code: "outside-address", Score: 30, Technique: validAccounts, Object: e.from(), Subject: e.actor()}
		what := "made a request"
		if _, _, ok := e.serviceAccount(); ok {
			f.Score, f.Technique = 54, accessToken
			if f.Subject.Pod != "" {
				// Such a token is only ever mounted into that pod.
				f.Score, what = 84, "used a token that was given to a pod"
			}
		}
		if e.denied() {
			f.Score -= 4
		}
		f.Reason = fmt.Sprintf("%s %s from %s, which is outside of the known networks%s", e.who(), what, e.from(),
			e.outcome())
		return f, true
	},
}
