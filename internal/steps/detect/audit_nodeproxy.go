package detect

import (
	"bytes"
	"fmt"
	"strings"
)

// auditNodeProxy finds commands run through the kubelet's own API, which
// appear nowhere as an exec. Reading metrics that way is customary.
var auditNodeProxy = auditDetector{
	wants: func(p *auditPeek) bool {
		return p.is("nodes", "proxy") && (bytes.Contains(p.uri, []byte("/proxy/run/")) ||
			bytes.Contains(p.uri, []byte("/proxy/exec/")) || bytes.Contains(p.uri, []byte("/proxy/attach/")) ||
			bytes.Contains(p.uri, []byte("/proxy/portForward/")))
	},
	find: func(e *auditEvent) (Finding, bool) {
		f := Finding{Code: "node-proxy", Score: 76, Technique: adminCommand, Subject: e.actor()}
		// /api/v1/nodes/NODE/proxy/run/NAMESPACE/POD/CONTAINER
		_, path, _ := strings.Cut(e.URI, "/proxy/")
		path, _, _ = strings.Cut(path, "?")
		if parts := strings.Split(path, "/"); len(parts) >= 4 {
			f.Subject = Subject{Namespace: parts[1], Pod: parts[2], Container: parts[3], User: e.User.Username,
				Node: e.Object.Name}
		}
		if e.denied() {
			f.Score = 62
		}
		f.Reason = fmt.Sprintf("%s went through the kubelet of node %s to %s, past the controls on exec, from %s%s",
			e.who(), e.Object.Name, path, e.from(), e.outcome())
		return f, true
	},
}
