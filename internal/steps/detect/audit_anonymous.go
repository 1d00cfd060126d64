package detect

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// auditAnonymous finds requests without credentials, besides those to the
// paths that every cluster answers to everybody.
var auditAnonymous = auditDetector{
	wants: func(p *auditPeek) bool {
		return bytes.Equal(p.user, []byte("system:anonymous")) && !public(p.uri)
	},
	find: func(e *auditEvent) (Finding, bool) {
		if e.Object.Namespace == "kube-public" && e.Object.Name == "cluster-info" {
			return Finding{}, false // what kubeadm join reads
		}
		if !slices.Contains(e.User.Groups, "system:unauthenticated") {
			return Finding{}, false
		}
		path, _, _ := strings.Cut(e.URI, "?")
		f := Finding{Code: "anonymous", Score: 78, Technique: defaultAccounts, Object: e.Verb + " " + path,
			Subject: e.actor()}
		if e.denied() {
			f.Score = 25 // whoever can reach the server can ask
		}
		f.Reason = fmt.Sprintf("somebody without credentials: %s %s, from %s%s", e.Verb, cut(path, maxObject), e.from(),
			e.outcome())
		return f, true
	},
}

// publicPaths are those of system:public-info-viewer and of probes.
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#discovery-roles
var publicPaths = [][]byte{[]byte("/healthz"), []byte("/livez"), []byte("/readyz"), []byte("/version")}

func public(uri []byte) bool {
	path, _, _ := bytes.Cut(uri, []byte("?"))
	return slices.ContainsFunc(publicPaths, func(p []byte) bool {
		rest, ok := bytes.CutPrefix(path, p)
		return ok && (len(rest) == 0 || rest[0] == '/')
	})
}
