package drill

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/drill/sim"
)

// moveState is how far a move has got.
type moveState struct {
	*Move
	next      time.Time
	tried     int
	succeeded int
	over      bool
	failed    map[types.UID]bool // the last time, by the pod that made it
}

// attack makes the moves that are due, in the order in which they are.
func (w *World) attack(now time.Time) error {
	const most = 10_000 // of a clock that was set forward by days
	for range most {
		m := w.nextMove(now)
		if m == nil {
			return nil
		}
		if err := w.make(m, m.next); err != nil {
			return fmt.Errorf("the move %s: %w", m.Name, err)
		}
		m.tried++
		switch {
		case m.Every == 0 || m.Times > 0 && m.tried >= m.Times:
			m.over = m.Every != 0 || m.succeeded > 0 || !m.waits()
			m.next = m.next.Add(time.Second)
		default:
			m.next = w.at(w.since(m.next) + time.Duration(m.Every))
		}
	}
	return nil
}

// waits: what happens once waits until its conditions hold.
func (m *moveState) waits() bool { return m.Every == 0 && m.If != Condition{} }

func (w *World) nextMove(now time.Time) *moveState {
	var first *moveState
	for i := range w.moves {
		m := &w.moves[i]
		if !m.over && !m.next.After(now) && (first == nil || m.next.Before(first.next)) {
			first = m
		}
	}
	return first
}

// make makes one move, at a time.
func (w *World) make(m *moveState, at time.Time) error {
	v := w.look()
	if !w.holdsIn(v, m.If) {
		w.fail(v, m, at)
		return nil
	}
	var actors []*corev1.Pod
	switch m.By {
	case "outside":
		return w.fromOutside(v, m, at)
	case "app":
		actors = w.innocent(v.selected(m.App.Namespace, m.App.Labels))
	default:
		for _, f := range w.holds {
			if p := v.pod(f.UID); p != nil && runs(p) {
				actors = append(actors, p)
			}
		}
	}
	if m.By == "pod" && len(actors) > 1 {
		actors = actors[:1]
	}
	for _, p := range actors {
		if err := w.act(v, m, p, at); err != nil {
			return err
		}
	}
	return nil
}

// fail tells once that a move from outside comes to nothing: once the attacker
// has reason to try it.
func (w *World) fail(v *view, m *moveState, at time.Time) {
	after := m.If.After == "" || w.holdsIn(v, Condition{After: m.If.After})
	if m.Fails == "" || m.failed[""] || !after || m.If.CutOff && w.anyOpen(v) {
		return
	}
	m.failed[""] = true
	w.tell(at, "attacker", w.vars(m, nil, nil).Replace(m.Fails), true)
}

func (w *World) innocent(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return w.hold(p.UID) != nil })
}

func (w *World) hold(uid types.UID) *Foothold {
	for _, f := range w.holds {
		if f.UID == uid {
			return f
		}
	}
	return nil
}

// holdsIn reports whether the conditions hold that are not of a pod.
func (w *World) holdsIn(v *view, c Condition) bool {
	if c.After != "" && !slices.ContainsFunc(w.moves, func(m moveState) bool {
		return m.Name == c.After && m.succeeded > 0
	}) {
		return false
	}
	if c.CutOff && w.anyOpen(v) {
		return false
	}
	if c.Secret != "" && !w.secretWorks(v, c.Secret) {
		return false
	}
	if c.Account != nil && !w.accountWorks(c.Account) {
		return false
	}
	if c.Exists != (Object{}) && !w.exists(c.Exists) {
		return false
	}
	return c.Runs == "" || slices.ContainsFunc(v.pods, func(p corev1.Pod) bool {
		return runs(&p) && usesImage(&p, c.Runs) && w.hold(p.UID) == nil
	})
}

// anyOpen: a compromised pod runs that is not cut off.
func (w *World) anyOpen(v *view) bool {
	return slices.ContainsFunc(w.holds, func(f *Foothold) bool {
		p := v.pod(f.UID)
		return p != nil && runs(p) && !v.cutOff(p)
	})
}

// secretWorks: a value of before is accepted: it is still there, or a process
// goes on that has read it, other than the attacker's own.
func (w *World) secretWorks(v *view, key string) bool {
	if sameValue(w.before.secrets[key], secretData(w.Cluster, key)) {
		return true
	}
	w.record.mu.Lock()
	changed := w.record.secrets[key]
	w.record.mu.Unlock()
	namespace, name, _ := strings.Cut(key, "/")
	return slices.ContainsFunc(v.pods, func(p corev1.Pod) bool {
		return p.Namespace == namespace && runs(&p) && usesSecret(&p, name) &&
			p.CreationTimestamp.Time.Before(changed.Truncate(time.Second)) && w.hold(p.UID) == nil
	})
}

// accountWorks: the token that was stolen is valid, and may.
func (w *World) accountWorks(u *Use) bool {
	uid := accountUID(w.Cluster, u.Account)
	return uid != "" && uid == w.before.accounts[u.Account] && may(w.Cluster, u)
}

func (w *World) exists(o Object) bool {
	gvr, err := w.resource(o.Kind)
	if err != nil {
		return false
	}
	_, err = w.Cluster.Get(gvr, o.Namespace, o.Name)
	return err == nil
}

// act is a move of one pod.
func (w *World) act(v *view, m *moveState, p *corev1.Pod, at time.Time) error {
	target, through := w.reaches(v, m.If.Reaches, p)
	vars := w.vars(m, p, target)
	if !through {
		again := m.failed[p.UID]
		if m.failed[p.UID] = true; again && m.Every == 0 {
			return nil // it waits
		}
		if !again && m.Fails != "" {
			w.tell(at, "attacker", vars.Replace(m.Fails), true)
		}
		return w.log(p, at, m.Blocked, vars)
	}
	m.failed[p.UID] = false
	m.succeeded++
	w.leaked += m.Exfiltrate
	vars = w.vars(m, p, target)
	if err := w.log(p, at, m.Log, vars); err != nil {
		return err
	}
	if m.Spread && target != nil {
		w.holds = append(w.holds, &Foothold{Namespace: target.Namespace, Name: target.Name, UID: target.UID,
			Workload: workloadName(target), Since: at, Spread: true})
	}
	if m.Event != nil {
		e := m.Event
		if err := w.Cluster.Event(sim.Pods, p.Namespace, p.Name, e.Component, e.Type, e.Reason,
			vars.Replace(e.Message)); err != nil {
			return err
		}
	}
	w.alert(m, p, at, vars)
	return w.leave(m, at, vars)
}

// reaches finds whom a pod gets through to. Of pods it is one that the
// attacker does not have yet.
func (w *World) reaches(v *view, to *Peer, from *corev1.Pod) (*corev1.Pod, bool) {
	if to == nil {
		return nil, true
	}
	protocol := corev1.ProtocolTCP
	if to.Protocol != "" {
		protocol = corev1.Protocol(to.Protocol)
	}
	if to.Host != "" {
		return nil, v.leaves(from, to.Host, protocol, to.Port)
	}
	namespace := to.Namespace
	if namespace == "" {
		namespace = from.Namespace
	}
	for _, p := range w.innocent(v.selected(namespace, to.Labels)) {
		if v.connects(from, p, protocol, to.Port) {
			return p, true
		}
	}
	return nil, false
}

func (w *World) log(p *corev1.Pod, at time.Time, lines []string, vars *strings.Replacer) error {
	for _, line := range lines {
		if err := w.Cluster.LogAt(p.Namespace, p.Name, p.Spec.Containers[0].Name, at, vars.Replace(line)); err != nil {
			return err
		}
	}
	return nil
}

// fromOutside is a move that needs no pod, or gets one.
func (w *World) fromOutside(v *view, m *moveState, at time.Time) error {
	var target *corev1.Pod
	if m.Infect != nil {
		if target = w.victim(v, m); target == nil {
			w.fail(v, m, at)
			return nil
		}
		w.holds = append(w.holds, &Foothold{Namespace: target.Namespace, Name: target.Name, UID: target.UID,
			Workload: workloadName(target), Since: at, Again: at.After(w.start)})
	}
	m.succeeded++
	m.failed[""] = false
	w.leaked += m.Exfiltrate
	return w.leave(m, at, w.vars(m, nil, target))
}

// victim is a pod that can be compromised from outside.
func (w *World) victim(v *view, m *moveState) *corev1.Pod {
	for _, p := range w.innocent(v.selected(m.Infect.Namespace, m.Infect.Labels)) {
		if m.If.Runs != "" && !usesImage(p, m.If.Runs) {
			continue
		}
		if len(m.Infect.Via) == 0 || slices.ContainsFunc(v.selected(m.Infect.Namespace, m.Infect.Via),
			func(via *corev1.Pod) bool {
				return v.connects(via, p, corev1.ProtocolTCP, m.Infect.Port)
			}) {
			return p
		}
	}
	return nil
}

// leave makes what a move leaves in the cluster and in its audit log.
func (w *World) leave(m *moveState, at time.Time, vars *strings.Replacer) error {
	if m.Audit != nil {
		w.auditLine(m, at, vars)
	}
	if m.Create != "" {
		if err := w.Cluster.Apply(vars.Replace(m.Create)); err != nil &&
			!strings.Contains(err.Error(), "already exists") {
			return err
		}
	}
	if m.Say != "" {
		who := "attacker"
		if m.By == "app" {
			who = "cluster"
		}
		w.tell(at, who, vars.Replace(m.Say), false)
	}
	return nil
}

// vars fill in the texts of a move.
func (w *World) vars(m *moveState, p, target *corev1.Pod) *strings.Replacer {
	_, suspect, _ := strings.Cut(w.Suspect, "/")
	list := []string{"${suspect}", suspect, "${n}", fmt.Sprint(m.tried + 1), "${kib}", fmt.Sprint(w.leaked)}
	if p == nil {
		p = target
	}
	if p != nil {
		list = append(list, "${pod}", p.Name, "${namespace}", p.Namespace, "${node}", p.Spec.NodeName, "${ip}",
			p.Status.PodIP)
	}
	if target != nil {
		list = append(list, "${target}", target.Name)
	}
	return strings.NewReplacer(list...)
}

// alert writes one of Falco's.
func (w *World) alert(m *moveState, p *corev1.Pod, at time.Time, vars *strings.Replacer) {
	a := m.Alert
	if a == nil {
		return
	}
	image, tag, _ := strings.Cut(p.Spec.Containers[0].Image, ":")
	fields := map[string]any{"container.id": containerID(p), "container.name": p.Spec.Containers[0].Name,
		"container.image.repository": image, "container.image.tag": tag,
		"evt.time": at.UnixNano(), "k8s.ns.name": p.Namespace, "k8s.pod.name": p.Name}
	text := vars.Replace(a.Output)
	for _, k := range slices.Sorted(maps.Keys(a.Fields)) {
		fields[k] = vars.Replace(a.Fields[k])
		text += fmt.Sprintf(" %s=%s", strings.ReplaceAll(k, ".", "_"), fields[k])
	}
	w.alerts = appendLine(w.alerts, map[string]any{"hostname": p.Spec.NodeName, "priority": a.Priority, "rule": a.Rule,
		"source": "syscall", "tags": a.Tags,
		"time": at.UTC().Format(time.RFC3339Nano), "output_fields": fields,
		"output": fmt.Sprintf("%s: %s %s container_id=%s k8s_pod_name=%s k8s_ns_name=%s",
			at.UTC().Format("15:04:05.000000000"), a.Priority, text, containerID(p), p.Name, p.Namespace)})
}

func containerID(p *corev1.Pod) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.UID)) // never fails
	return fmt.Sprintf("%012x", h.Sum64()&(1<<48-1))
}

// auditLine writes a line of the audit log.
func (w *World) auditLine(m *moveState, at time.Time, vars *strings.Replacer) {
	a := m.Audit
	code := a.Code
	if code == 0 {
		code = 200
	}
	decision := "allow"
	if code == 403 {
		decision = "forbid"
	}
	resource, sub, _ := strings.Cut(a.Resource, "/")
	uri := "/api/v1"
	if a.Group != "" {
		uri = "/apis/" + a.Group + "/v1"
	}
	if a.Namespace != "" {
		uri += "/namespaces/" + a.Namespace
	}
	uri += "/" + resource
	ref := map[string]any{"resource": resource, "apiVersion": "v1"}
	for k, v := range map[string]string{"namespace": a.Namespace, "name": vars.Replace(a.Name), "apiGroup": a.Group,
		"subresource": sub} {
		if v != "" {
			ref[k] = v
		}
	}
	for _, part := range []string{vars.Replace(a.Name), sub} {
		if part != "" {
			uri += "/" + part
		}
	}
	groups := []string{"system:authenticated"}
	if parts := strings.Split(a.User, ":"); len(parts) == 4 && parts[1] == "serviceaccount" {
		groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + parts[2], "system:authenticated"}
	}
	ip := a.IP
	if _, err := netip.ParseAddr(ip); err != nil {
		ip = "10.244.0.1"
	}
	id := fnv.New64a()
	_, _ = fmt.Fprintf(id, "%s %d", m.Name, m.tried) // never fails
	w.audit = appendLine(w.audit, map[string]any{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
		"stage":   "ResponseComplete",
		"auditID": fmt.Sprintf("%08x-0000-4000-8000-%012x", id.Sum64()>>32, id.Sum64()&(1<<48-1)), "requestURI": uri,
		"verb": a.Verb,
		"user": map[string]any{"username": a.User, "groups": groups}, "sourceIPs": []string{ip}, "userAgent": a.Agent,
		"objectRef":                ref,
		"responseStatus":           map[string]any{"metadata": map[string]any{}, "code": code},
		"requestReceivedTimestamp": at.UTC().Format("2006-01-02T15:04:05.000000Z"),
		"stageTimestamp":           at.Add(4 * time.Millisecond).UTC().Format("2006-01-02T15:04:05.000000Z"),
		"annotations":              map[string]string{"authorization.k8s.io/decision": decision}})
}

func appendLine(to []byte, what any) []byte {
	line, err := json.Marshal(what)
	if err != nil {
		return to // maps of texts and numbers can be encoded
	}
	return append(append(to, line...), '\n')
}
