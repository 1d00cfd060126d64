package detect

import "fmt"

// auditToken finds tokens of service accounts that were asked for. The kubelet
// asks for those that it mounts into pods.
var auditToken = auditDetector{
	wants: func(p *auditPeek) bool {
		return p.is("serviceaccounts", "token") && string(p.verb) == "create" && !p.component()
	},
	find: func(e *auditEvent) (Finding, bool) {
		f := Finding{Code: "token-request", Score: 48, Technique: stealToken, Object: "serviceaccounts/" +
			e.Object.Namespace + "/" + e.Object.Name, Subject: e.actor()}
		if _, _, ok := e.serviceAccount(); ok && !e.system() {
			f.Score = 64
		}
		if e.denied() {
			f.Score -= 6
		}
		f.Reason = fmt.Sprintf("%s asked for a token of service account %s/%s, from %s%s", e.who(), e.Object.Namespace,
			e.Object.Name, e.from(), e.outcome())
		return f, true
	},
}
