package detect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// auditDetector looks for one kind of thing in the API server's audit log.
type auditDetector struct {
	// wants looks at the raw bytes of an event, to pass over what is certainly
	// of no interest without decoding it.
	wants func(*auditPeek) bool
	// find makes a finding of an event; false: it is harmless after all.
	find func(*auditEvent) (Finding, bool)
}

// auditDetectors are all there are; an event may be of interest to several.
var auditDetectors = []auditDetector{auditExec, auditDebug, auditNodeProxy, auditSecrets, auditRBAC, auditAnonymous,
	auditToken, auditOutside}

// auditRaw is an event of which nothing is decoded yet.
// https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Event
type auditRaw struct {
	kind, apiVersion, auditID, stage, uri, verb, user, impersonated, sourceIPs, userAgent, object, status, received,
	request []byte
}

func (r *auditRaw) set(name, value []byte) {
	switch string(name) {
	case "kind":
		r.kind = value
	case "apiVersion":
		r.apiVersion = value
	case "auditID":
		r.auditID = value
	case "stage":
		r.stage = value
	case "requestURI":
		r.uri = value
	case "verb":
		r.verb = value
	case "user":
		r.user = value
	case "impersonatedUser":
		r.impersonated = value
	case "sourceIPs":
		r.sourceIPs = value
	case "userAgent":
		r.userAgent = value
	case "objectRef":
		r.object = value
	case "responseStatus":
		r.status = value
	case "requestReceivedTimestamp":
		r.received = value
	case "requestObject":
		r.request = value
	}
}

// auditPeek is what is looked at in every event, without a copy.
type auditPeek struct {
	verb, user, group, resource, subresource, uri []byte
	// outside: the request came from an address outside of the cluster's networks.
	outside bool
}

func (p *auditPeek) is(resource, subresource string) bool {
	return string(p.resource) == resource && string(p.subresource) == subresource
}

// component reports users that are parts of every control plane, and whose
// business it is to read secrets and to ask for tokens.
func (p *auditPeek) component() bool {
	switch string(p.user) {
	case "system:apiserver", "system:kube-controller-manager", "system:kube-scheduler":
		return true
	}
	return bytes.HasPrefix(p.user, []byte("system:node:"))
}

// auditEvent is an event that may be of interest, decoded.
type auditEvent struct {
	ID, Stage, URI, Verb, UserAgent string
	User                            authenticationv1.UserInfo
	Impersonated                    *authenticationv1.UserInfo
	SourceIPs                       []string
	Object                          auditObject
	Status                          struct {
		Code int `json:"code"`
	}
	Received time.Time
	Request  json.RawMessage
}

// auditObject is what a request is about.
type auditObject struct {
	Resource    string `json:"resource"`
	Namespace   string `json:"namespace"`
	Name        string `json:"name"`
	APIGroup    string `json:"apiGroup"`
	Subresource string `json:"subresource"`
}

var errNoAudit = errors.New("it is no event of audit.k8s.io")

// auditReader turns lines of an audit log into findings.
type auditReader struct {
	inside  []netip.Prefix
	current auditPeek       // at the event that is being read
	known   map[string]bool // address: outside
	started map[string]bool // IDs of long requests that were reported when they began
}

// maxKnown bounds both memories of a reader; a full one is emptied.
const maxKnown = 4096

func newAuditReader(inside []netip.Prefix) *auditReader {
	return &auditReader{inside: inside, known: map[string]bool{}, started: map[string]bool{}}
}

// parse calls report for what a line tells. A line that is only the beginning
// of one is judged by what it holds.
func (r *auditReader) parse(line []byte, whole bool, report func(Finding)) error {
	var raw auditRaw
	if err := members(line, raw.set); err != nil && whole {
		return fmt.Errorf("reading an audit event: %w", err)
	}
	if string(raw.kind) != `"Event"` || !bytes.HasPrefix(raw.apiVersion, []byte(`"audit.k8s.io/`)) {
		return errNoAudit
	}
	// An event is written per stage; what was received is not answered yet.
	if string(raw.stage) == `"RequestReceived"` {
		return nil
	}
	r.current = r.peek(&raw)
	var event *auditEvent
	for _, d := range auditDetectors {
		if !d.wants(&r.current) {
			continue
		}
		if event == nil {
			var err error
			if event, err = raw.decode(); err != nil {
				return fmt.Errorf("reading an audit event: %w", err)
			}
			if r.repeated(event) {
				return nil
			}
		}
		if f, ok := d.find(event); ok {
			f.Source, f.FirstSeen, f.Count, f.Alert = SourceAudit, event.Received, 1, line
			report(f)
		}
	}
	return nil
}

// peek never fails: what is malformed within the event is found out when it is decoded.
func (r *auditReader) peek(raw *auditRaw) auditPeek {
	p := auditPeek{verb: unquoted(raw.verb), uri: unquoted(raw.uri)}
	_ = members(raw.user, func(name, value []byte) {
		if string(name) == "username" {
			p.user = unquoted(value)
		}
	})
	_ = members(raw.object, func(name, value []byte) {
		switch string(name) {
		case "resource":
			p.resource = unquoted(value)
		case "subresource":
			p.subresource = unquoted(value)
		case "apiGroup":
			p.group = unquoted(value)
		}
	})
	p.outside = r.outside(lastText(raw.sourceIPs))
	return p
}

// outside judges the last of the source addresses: the others are what the
// client says. Without one, nothing is claimed.
func (r *auditReader) outside(ip []byte) bool {
	if len(ip) == 0 {
		return false
	}
	if outside, known := r.known[string(ip)]; known {
		return outside
	}
	addr, err := netip.ParseAddr(string(ip))
	outside := err == nil && !within(addr.Unmap(), r.inside)
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	r.known[string(ip)] = outside
	return outside
}

// Inside are the address ranges that are nobody's on the internet.
var Inside = []netip.Prefix{
	// RFC 1918
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	// RFC 6598, carriers and some clouds' nodes
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), // the host itself, the link
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128"),
}

func within(addr netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(addr.WithZone("")) {
			return true
		}
	}
	return false
}

// repeated reports the end of a request whose beginning was reported. Only
// requests that last, such as exec, have an event for their beginning.
func (r *auditReader) repeated(e *auditEvent) bool {
	switch {
	case e.ID == "":
		return false
	case e.Stage == "ResponseStarted":
		if len(r.started) >= maxKnown {
			clear(r.started)
		}
		r.started[cut(e.ID, maxName)] = true
		return false
	case r.started[e.ID]:
		delete(r.started, e.ID)
		return true
	}
	return false
}

func (r *auditRaw) decode() (*auditEvent, error) {
	e := &auditEvent{Request: r.request}
	for _, f := range []struct {
		raw  []byte
		into any
	}{
		{r.auditID, &e.ID}, {r.stage, &e.Stage}, {r.uri, &e.URI}, {r.verb, &e.Verb}, {r.userAgent, &e.UserAgent},
		{r.user, &e.User}, {r.impersonated, &e.Impersonated},
		{r.sourceIPs, &e.SourceIPs}, {r.object, &e.Object}, {r.status, &e.Status}, {r.received, &e.Received},
	} {
		if len(f.raw) == 0 {
			continue
		}
		if err := json.Unmarshal(f.raw, f.into); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// denied reports that the API server did not do it.
func (e *auditEvent) denied() bool { return e.Status.Code >= 400 }

// serviceAccount is the namespace and name of the service account that asked.
func (e *auditEvent) serviceAccount() (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(e.User.Username, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// system reports a service account of kube-system: the control plane's
// controllers have theirs there.
func (e *auditEvent) system() bool {
	ns, _, ok := e.serviceAccount()
	return ok && ns == "kube-system"
}

// actor is who asked: the pod, where the token is bound to one and so says
// which; else the service account; else the user.
func (e *auditEvent) actor() Subject {
	ns, name, ok := e.serviceAccount()
	if !ok {
		return Subject{User: e.User.Username}
	}
	s := Subject{Namespace: ns, ServiceAccount: name}
	if pod := e.User.Extra["authentication.kubernetes.io/pod-name"]; len(pod) > 0 {
		s.Pod = pod[0]
	}
	if uid := e.User.Extra["authentication.kubernetes.io/pod-uid"]; len(uid) > 0 {
		s.PodUID = uid[0]
	}
	if node := e.User.Extra["authentication.kubernetes.io/node-name"]; len(node) > 0 {
		s.Node = node[0]
	}
	return s
}

// who names who asked, and as whom.
func (e *auditEvent) who() string {
	who := e.User.Username
	if s := e.actor(); s.Pod != "" {
		who += " (pod " + s.Namespace + "/" + s.Pod + ")"
	}
	if e.Impersonated != nil {
		who += " as " + e.Impersonated.Username
	}
	return cut(who, 2*maxName)
}

// from names the address that a request came from.
func (e *auditEvent) from() string {
	if len(e.SourceIPs) == 0 {
		return "an unknown address"
	}
	return e.SourceIPs[len(e.SourceIPs)-1]
}

// outcome says so if it was denied.
func (e *auditEvent) outcome() string {
	if e.denied() {
		return fmt.Sprintf(", and was denied (%d)", e.Status.Code)
	}
	return ""
}

// query are the parameters of the request; what is malformed is left out.
func (e *auditEvent) query() url.Values {
	_, raw, _ := strings.Cut(e.URI, "?")
	values, _ := url.ParseQuery(raw)
	return values
}
