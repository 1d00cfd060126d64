package detect

import "fmt"

// auditSecrets finds secrets that were read, and tries to.
var auditSecrets = auditDetector{
	wants: func(p *auditPeek) bool {
		if !p.is("secrets", "") || p.component() {
			return false
		}
		switch string(p.verb) {
		case "get", "list", "watch":
			return true
		}
		return false
	},
	find: func(e *auditEvent) (Finding, bool) {
		_, _, account := e.serviceAccount()
		f := Finding{Code: "secret-read", Technique: containerAPI, Subject: e.actor()}
		what := ""
		switch {
		case e.Object.Name != "":
			f.Object, f.Score = "secrets/"+e.Object.Namespace+"/"+e.Object.Name, 40
			what = "secret " + e.Object.Namespace + "/" + e.Object.Name
		case e.Object.Namespace != "":
			f.Object, f.Score = "secrets/"+e.Object.Namespace, 46
			what = "all secrets of namespace " + e.Object.Namespace
		default:
			f.Object, f.Score = "secrets", 56
			what = "all secrets of the cluster"
		}
		switch {
		case e.denied():
			// Who may not, and asks: a program knows what it may.
			f.Code, f.Score = "secret-denied", 44
			if account {
				f.Score = 62
			}
		case e.system():
			f.Score = 15 // the controllers there do little else
		case !account && e.Object.Name != "":
			f.Score = 30
		}
		did := "read"
		if e.denied() {
			did = "tried to read"
		}
		f.Reason = fmt.Sprintf("%s %s %s, from %s%s", e.who(), did, what, e.from(), e.outcome())
		return f, true
	},
}
