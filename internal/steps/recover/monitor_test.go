package recover

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/detect"
)

// Which finding is a sign: of alerts what is high, of the cluster what is a sign
// on a pod of the incident's workloads, of the time since the watch began; and
// never one about a suspect, or of another namespace.
func TestWhichFindingIsAHit(t *testing.T) {
	t.Parallel()
	const high, sign, below = detect.Score(70), detect.Score(50), detect.Score(10)
	if !high.AtLeastHigh() || sign.AtLeastHigh() || !sign.Sign() || below.Sign() {
		t.Fatal("the scores are not what this test takes them for")
	}
	w := &Watched{Namespaces: []string{"app", "web"}, Since: began,
		Indicators: Indicators{Pods: []SuspectPod{{Namespace: "x", Name: "y", UID: "z"},
			{Namespace: "app", Name: "suspect", UID: "uid-suspect"}}},
		Workloads: []*Workload{{Owner: &cluster.Owner{Ref: cluster.Deployment.Named("app", "first", "1")}},
			{Owner: &cluster.Owner{Ref: cluster.Deployment.Named("app", "app", "2")}}}}
	of := func(source detect.Source, score detect.Score, more ...func(*detect.Finding)) detect.Finding {
		f := detect.Finding{Source: source, Score: score, LastSeen: began.Add(time.Minute),
			Subject: detect.Subject{Namespace: "app", Pod: "new", PodUID: "uid-new", Workload: "deployment/app"}}
		for _, edit := range more {
			edit(&f)
		}
		return f
	}
	subject := func(edit func(*detect.Subject)) func(*detect.Finding) {
		return func(f *detect.Finding) { edit(&f.Subject) }
	}
	for name, c := range map[string]struct {
		finding detect.Finding
		code    string // "": none
	}{
		"an alert":         {of(detect.SourceFalco, high), HitAlert},
		"of the audit log": {of(detect.SourceAudit, high), HitAlert},
		"not high":         {of(detect.SourceFalco, sign), ""},
		"of the second namespace": {of(detect.SourceFalco, high, subject(func(s *detect.Subject) {
			s.Namespace = "web"
		})), HitAlert},
		"of another namespace": {of(detect.SourceFalco, high, subject(func(s *detect.Subject) {
			s.Namespace = "other"
		})), ""},
		"before the watch": {of(detect.SourceFalco, high, func(f *detect.Finding) {
			f.LastSeen = began.Add(-time.Second)
		}), ""},
		"just as it began": {of(detect.SourceFalco, high, func(f *detect.Finding) {
			f.LastSeen = began
		}), HitAlert},
		"without a time": {of(detect.SourceFalco, high, func(f *detect.Finding) {
			f.LastSeen = time.Time{}
		}), HitAlert},
		"begun before, and gone on with": {of(detect.SourceFalco, high, func(f *detect.Finding) {
			f.FirstSeen = began.Add(-time.Hour)
		}), HitAlert},
		"of no workload of the incident": {of(detect.SourceFalco, high, subject(func(s *detect.Subject) {
			s.Workload = "deployment/x"
		})), HitAlert},
		"about the suspect": {of(detect.SourceFalco, high, subject(func(s *detect.Subject) {
			s.PodUID = "uid-suspect"
		})), ""},
		"about a suspect by name alone": {of(detect.SourceFalco, high, subject(func(s *detect.Subject) {
			s.Pod, s.PodUID = "suspect", ""
		})), ""},
		"about a new pod of a suspect's name": {of(detect.SourceFalco, high, subject(func(s *detect.Subject) {
			s.Pod = "suspect"
		})), HitAlert},
		"about a name of another namespace": {of(detect.SourceFalco, high, subject(func(s *detect.Subject) {
			s.Namespace, s.Pod, s.PodUID = "web", "suspect", ""
		})), HitAlert},
		"seen in the cluster": {of(detect.SourceCluster, sign), HitDetected},
		"by another case of the kind": {of(detect.SourceCluster, sign, subject(func(s *detect.Subject) {
			s.Workload = "Deployment/app"
		})), HitDetected},
		"seen, and older": {of(detect.SourceCluster, sign, func(f *detect.Finding) {
			f.LastSeen = began.Add(-time.Hour)
		}), HitDetected},
		"seen, and no sign": {of(detect.SourceCluster, below), ""},
		"seen on no pod": {of(detect.SourceCluster, high, subject(func(s *detect.Subject) {
			s.Pod = ""
		})), ""},
		"seen on another workload": {of(detect.SourceCluster, high, subject(func(s *detect.Subject) {
			s.Workload = "deployment/x"
		})), ""},
		"seen on one in the other place": {of(detect.SourceCluster, high, subject(func(s *detect.Subject) {
			s.Namespace = "web"
		})), ""},
		"seen on the suspect": {of(detect.SourceCluster, high, subject(func(s *detect.Subject) {
			s.PodUID = "uid-suspect"
		})), ""},
	} {
		hit, ok := w.Finding(c.finding)
		if ok != (c.code != "") || ok && (hit.Code != c.code || hit.Pod != c.finding.Subject.Pod ||
			hit.UID != c.finding.Subject.PodUID) {
			t.Errorf("%s: %v, %+v; expected %q", name, ok, hit, c.code)
		}
	}
}

func edited(t *testing.T, ref cluster.Ref, path string, before, after any) change.Change {
	t.Helper()
	c, ok := change.NewEdit(ref, "", "", change.Field{Path: strings.Split(path, "."), Before: before, After: after})
	if !ok {
		t.Fatal("no change")
	}
	return c
}

// What of the incident's changes does not stand any more is a sign, each by
// itself; one that cannot be read is a gap, and neither hides another.
func TestWhatWasTakenBackIsASign(t *testing.T) {
	t.Parallel()
	labelled := func(name, team string) *corev1.Pod {
		p := owned(name)
		p.Labels["team"] = team
		return &p
	}
	f := newFake(t, labelled("stands", "blue"), labelled("back", "red"), labelled("drifted", "green"),
		labelled("secret", "red"), labelled("last", "red"),
		policy("kept", nil, networkingv1.PolicyTypeIngress), policy("widened", nil, networkingv1.PolicyTypeEgress),
		labelled("replaced", "blue"))
	f.deny("/pods/secret")
	set := func(ref cluster.Ref) change.Change { return edited(t, ref, "metadata.labels.team", "red", "blue") }
	pod := func(name string) cluster.Ref { return cluster.Pod.Named("app", name, types.UID("uid-"+name)) }
	quarantine := func(name string) change.Change {
		return change.NewCreate(cluster.NetworkPolicy.Named("app", name, ""),
			map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
				"metadata": map[string]any{"name": name, "namespace": "app"},
				"spec":     map[string]any{"podSelector": map[string]any{}, "policyTypes": []any{"Ingress"}}})
	}
	w := &Watched{Client: f.client, Standing: []Recorded{
		{Change: set(pod("stands")), Summary: "stands"}, {Change: set(pod("gone")), Summary: "gone"},
		{Change: set(cluster.Pod.Named("app", "replaced", "uid-of-before")), Summary: "replaced"},
		{Change: set(pod("back")), Summary: "label back"}, {Change: set(pod("drifted")), Summary: "label drifted"},
		{Change: set(pod("secret")), Summary: "secret"},
		{Change: quarantine("kept")}, {Change: quarantine("widened"), Summary: "create widened"},
		{Change: quarantine("deleted")},
		{Change: set(cluster.Deployment.Named("app", "app", "uid-app")), Summary: "scale"},
		{Change: set(pod("last")), Summary: "label last"}}}
	hits, gaps := w.reverted(t.Context())
	var texts []string
	for _, h := range hits {
		if h.Code != HitReverted || h.Namespace != "app" {
			t.Errorf("%+v", h)
		}
		texts = append(texts, h.Text)
	}
	want := []string{"somebody took it back: label back",
		"Pod app/drifted was changed by somebody since: label drifted",
		"NetworkPolicy app/widened was changed by somebody since: create widened",
		"NetworkPolicy app/deleted was deleted", "Deployment app/app was deleted", "somebody took it back: label last"}
	if !slices.Equal(texts, want) {
		t.Errorf("%q\nexpected\n%q", texts, want)
	}
	if len(gaps) != 1 || !strings.Contains(gaps[0].String(), "Pod app/secret") ||
		!strings.Contains(gaps[0].String(), "you may not") {
		t.Errorf("gaps: %v", gaps)
	}
	if s := w.lookWith(t); len(s.Hits) != len(want) || len(s.Gaps) != 1 {
		t.Errorf("a look tells %d hits and %v", len(s.Hits), s.Gaps)
	}
}

func (w *Watched) lookWith(t *testing.T) Sight {
	t.Helper()
	w.Baseline = &Baseline{Baseline: record.Baseline{All: true}}
	return w.Look(t.Context())
}

// A suspect that is not cut off any more is a sign: it has lost either label.
func TestASuspectThatIsLetGo(t *testing.T) {
	t.Parallel()
	both := map[string]string{contain.QuarantineLabel: contain.QuarantineValue, contain.IncidentLabel: "inc-1"}
	for name, c := range map[string]struct {
		labels map[string]string
		step   string
		uid    types.UID
		going  bool
		want   bool
	}{
		"it has both": {both, contain.StepDetach, "uid-suspect", false, false},
		"it has lost the incident": {map[string]string{contain.QuarantineLabel: contain.QuarantineValue},
			contain.StepDetach, "uid-suspect", false, true},
		"it has another incident's": {map[string]string{contain.QuarantineLabel: contain.QuarantineValue,
			contain.IncidentLabel: "inc-2"}, contain.StepDetach, "uid-suspect", false, true},
		"it has lost the label": {map[string]string{contain.IncidentLabel: "inc-1"}, contain.StepDetach, "uid-suspect",
			false, true},
		"it has another value": {map[string]string{contain.QuarantineLabel: "false", contain.IncidentLabel: "inc-1"},
			contain.StepDetach, "uid-suspect", false, true},
		"it is being deleted":  {nil, contain.StepDetach, "uid-suspect", true, false},
		"it was never cut off": {nil, contain.StepQuarantine, "uid-suspect", false, false},
		"another was cut off":  {nil, contain.StepDetach, "uid-other", false, false},
	} {
		p := owned("suspect")
		p.Labels = c.labels
		if c.going {
			p.DeletionTimestamp = &metav1.Time{Time: began}
		}
		w := &Watched{Incident: "inc-1", Baseline: &Baseline{Baseline: record.Baseline{All: true}},
			Indicators: Indicators{Pods: []SuspectPod{{Namespace: "app", Name: "suspect", UID: "uid-suspect"}}},
			Standing: []Recorded{{Step: contain.StepScale,
				Change: change.Change{Object: cluster.Pod.Named("app", "suspect", "uid-suspect")}},
				{Step: c.step, Change: change.Change{Object: cluster.Pod.Named("app", "suspect", c.uid)}}}}
		s := w.see(podList{pods: []corev1.Pod{p}, all: true})
		if got := len(s.Hits) == 1 && s.Hits[0].Code == HitReleased; got != c.want || len(s.Hits)+len(s.Exposed) > 1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// Pods with the suspects' image or name, by all that decides about them.
func TestWhatOfPodsIsASign(t *testing.T) {
	t.Parallel()
	bad := digest("b")
	named := func(p corev1.Pod, name string, kind string) corev1.Pod {
		p.Name = name
		if kind != "" {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: "x", Controller: yes()}}
		}
		return p
	}
	phase := func(p corev1.Pod, phase corev1.PodPhase) corev1.Pod { p.Status.Phase = phase; return p }
	going := func(p corev1.Pod) corev1.Pod { p.DeletionTimestamp = &metav1.Time{Time: began}; return p }
	known := func(p corev1.Pod) corev1.Pod { p.UID = "uid-known"; return p }
	part := &Baseline{Baseline: record.Baseline{Namespaces: []string{"app"}}}
	for name, c := range map[string]struct {
		pods      []corev1.Pod
		baseline  *Baseline
		sameImage bool
		want      string // hits | exposed | gaps
	}{
		"came with the image": {[]corev1.Pod{podOf("app", "p", bad)}, nil, false, "image p||"},
		"two came": {[]corev1.Pod{podOf("app", "p", bad), podOf("app", "q", bad)}, nil, false,
			"image p,image q||"},
		"the image by decision": {[]corev1.Pod{podOf("app", "p", bad)}, nil, true, "||"},
		"another image":         {[]corev1.Pod{podOf("app", "p", digest("c"))}, nil, false, "||"},
		"succeeded": {[]corev1.Pod{phase(podOf("app", "p", bad), corev1.PodSucceeded),
			podOf("app", "q", bad)}, nil, false, "image q||"},
		"failed": {[]corev1.Pod{phase(podOf("app", "p", bad), corev1.PodFailed),
			podOf("app", "q", bad)}, nil, false, "image q||"},
		"a suspect, and one that came": {[]corev1.Pod{podOf("app", "suspect", bad), podOf("app", "q", bad)}, nil,
			false, "image q||"},
		"ran it before": {[]corev1.Pod{known(podOf("app", "p", bad))},
			&Baseline{Baseline: record.Baseline{All: true, Digests: []string{bad}, Exposed: []string{"uid-known"}}},
			false, "|image p|"},
		"ran it before, and ends": {[]corev1.Pod{going(known(podOf("app", "p", bad)))},
			&Baseline{Baseline: record.Baseline{All: true, Digests: []string{bad}, Exposed: []string{"uid-known"}}},
			false, "||"},
		"ran another before": {[]corev1.Pod{known(podOf("app", "p", bad))},
			&Baseline{Baseline: record.Baseline{All: true, Digests: []string{bad}, Others: []string{"uid-known"}}},
			false, "image p||"},
		"ran what is told of only now": {[]corev1.Pod{known(podOf("app", "p", bad))},
			&Baseline{Baseline: record.Baseline{All: true, Digests: []string{digest("d")},
				Others: []string{"uid-known"}}}, false, "|image p|"},
		"not known since when": {[]corev1.Pod{podOf("far", "p", bad), podOf("far", "q", bad),
			podOf("farther", "r", bad)}, part, false, "||far/p,farther/r"},
		"came with the name": {[]corev1.Pod{named(podOf("app", "p", ""), "suspect", "ReplicaSet")}, nil,
			false, "name suspect||"},
		"the name, in another namespace": {[]corev1.Pod{named(podOf("web", "p", ""), "suspect", "")}, nil, false,
			"||"},
		"of a StatefulSet, which gives it": {[]corev1.Pod{named(podOf("app", "p", ""), "suspect", "StatefulSet")}, nil,
			false, "||"},
		"had the name before": {[]corev1.Pod{known(named(podOf("app", "p", ""), "suspect", ""))},
			&Baseline{Baseline: record.Baseline{All: true, Others: []string{"uid-known"}}}, false, "|name suspect|"},
		"had the name, not known since": {[]corev1.Pod{named(podOf("far", "p", ""), "away", "")}, part, false,
			"||far/away"},
		"both image and name": {[]corev1.Pod{named(podOf("app", "p", bad), "suspect", "")}, nil, false,
			"image suspect,name suspect||"},
	} {
		w := &Watched{Incident: "inc-1", SameImage: c.sameImage, Baseline: c.baseline,
			Indicators: Indicators{Digests: []string{digest("0"), bad},
				Pods: []SuspectPod{{Namespace: "far", Name: "away", UID: "u"},
					{Namespace: "app", Name: "suspect", UID: "uid-suspect"}}}}
		if w.Baseline == nil {
			w.Baseline = &Baseline{Baseline: record.Baseline{All: true}}
		}
		list := podList{pods: c.pods, namespaces: []string{"app"}}
		told := func(hits []Hit) string {
			var of []string
			for _, h := range hits {
				of = append(of, h.Code+" "+h.Pod)
			}
			return strings.Join(of, ",")
		}
		s := w.see(list)
		var gaps []string
		for _, g := range s.Gaps {
			_, pod, _ := strings.Cut(g.What, "such as ")
			pod, _, _ = strings.Cut(pod, ",")
			_, ns, _ := strings.Cut(g.What, "of namespace ")
			ns, _, _ = strings.Cut(ns, " ")
			gaps = append(gaps, ns+"/"+pod)
		}
		if got := told(s.Hits) + "|" + told(s.Exposed) + "|" + strings.Join(gaps, ","); got != c.want {
			t.Errorf("%s: %s, expected %s", name, got, c.want)
		}
		if again := w.see(list); len(again.Gaps) > 0 {
			t.Errorf("%s: said again: %v", name, again.Gaps)
		}
	}
}

// Which pods could be listed, and what of that is a gap.
func TestWhichPodsAWatchSees(t *testing.T) {
	t.Parallel()
	here, there, far := owned("here"), owned("there"), owned("far")
	there.Namespace, far.Namespace = "web", "far"
	all := "GET /api/v1/pods$"
	for name, c := range map[string]struct {
		deny []string
		pods int
		all  bool
		ns   string
		gaps int
		seen bool
	}{
		"all of them":           {nil, 3, true, "", 0, true},
		"of its namespaces":     {[]string{all}, 2, false, "app web", 1, true},
		"of the second alone":   {[]string{all, "namespaces/app/pods"}, 1, false, "web", 2, true},
		"of the first alone":    {[]string{all, "namespaces/web/pods"}, 1, false, "app", 2, true},
		"none, nothing is told": {[]string{"pods$"}, 0, false, "", 3, false},
	} {
		f := newFake(t, &here, &there, &far)
		f.deny(c.deny...)
		w := &Watched{Client: f.client, Namespaces: []string{"app", "web"}, Since: began}
		list, gaps := w.pods(t.Context())
		if len(list.pods) != c.pods || list.all != c.all || strings.Join(list.namespaces, " ") != c.ns ||
			len(gaps) != c.gaps {
			t.Errorf("%s: %d pods, all: %v, of %v; gaps %v", name, len(list.pods), list.all, list.namespaces, gaps)
		}
		if gaps := w.Begin(t.Context()); len(gaps) != c.gaps || w.Baseline == nil || w.Baseline.All != c.all ||
			len(w.Baseline.Others)+len(w.Baseline.Exposed) != c.pods {
			t.Errorf("%s: the watch begins with %+v, and gaps %v", name, w.Baseline, gaps)
		}
		if s := w.Look(t.Context()); s.Pods != c.seen || len(s.Gaps) != c.gaps {
			t.Errorf("%s: a look: %+v", name, s)
		}
		first := w.Baseline
		if gaps := w.Begin(t.Context()); gaps != nil || w.Baseline != first {
			t.Errorf("%s: it begins twice", name)
		}
		f.deny()
		if s := w.Look(t.Context()); s.Grown == c.all || !s.Pods {
			t.Errorf("%s: once all can be listed: %+v", name, s)
		}
	}
	// An error that is no denial says nothing of the namespaces: they are not asked.
	f := newFake(t)
	f.answers["/api/v1/pods?"] = "not JSON"
	list, gaps := (&Watched{Client: f.client, Namespaces: []string{"app"}}).pods(t.Context())
	if len(gaps) != 1 || len(list.namespaces) > 0 || list.all || len(f.Requests("namespaces/app")) > 0 {
		t.Errorf("%+v, gaps %v", list, gaps)
	}
}

// The watch begins by the API server's clock, if that tells the time.
func TestAWatchBeginsByTheServersClock(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	w := &Watched{Client: f.client, Since: began}
	w.Begin(t.Context())
	offset, known := f.client.ClockOffset()
	if !known || w.Baseline.Clock != ClockServer || !w.Baseline.At.Equal(began.Add(offset)) {
		t.Errorf("%+v, the server's clock is ahead by %s: %v", w.Baseline, offset, known)
	}
}
