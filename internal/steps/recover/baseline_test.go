package recover

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/record"
	"irctl/internal/steps/contain"
)

var began = time.Date(2026, 2, 12, 9, 30, 0, 0, time.UTC)

func podOf(namespace, name, digest string) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name)}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "app:1"}}
	if digest != "" {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ImageID: "registry/app@" + digest}}
	}
	return p
}

// Whether a pod is new is told by what was listed when the watch began, not by
// clocks: also by a watch that has only the journal to go by.
func TestWhatIsNewIsToldByWhatWasListed(t *testing.T) {
	bad := digest("b")
	b := &Baseline{Baseline: record.Baseline{At: began, Clock: ClockLocal, Digests: []string{bad}}}
	ran, not, pulling := podOf("a", "ran", bad), podOf("a", "not", digest("c")), podOf("a", "pulling", "")
	b.extend(podList{pods: []corev1.Pod{ran, not, pulling}, namespaces: []string{"a"}}, true)
	other := podOf("b", "other", bad)
	if !b.extend(podList{pods: []corev1.Pod{ran, other}, all: true}, false) {
		t.Error("that more namespaces can be listed makes no difference")
	}
	data, err := json.Marshal(b.Recorded())
	if err != nil {
		t.Fatal(err)
	}
	again := &Baseline{}
	if err := json.Unmarshal(data, &again.Baseline); err != nil {
		t.Fatal(err)
	}
	old := podOf("a", "new", bad)
	old.CreationTimestamp = metav1.NewTime(began.Add(-time.Hour)) // as a clock that is off has it
	for _, tc := range []struct {
		why  string
		pod  corev1.Pod
		want Tenure
	}{
		{"it ran the image", ran, Exposed},
		{"what it runs was not known yet", pulling, Exposed},
		{"it ran another image", not, Stayed},
		{"it was not there, whatever the clock says", old, Came},
		{"its namespace could not be listed then", other, Untold},
		{"its namespace could be listed when it came", podOf("b", "later", bad), Came},
	} {
		for name, baseline := range map[string]*Baseline{"the watch": b, "the next watch": again} {
			if got := baseline.TenureOf(&tc.pod); got != tc.want {
				t.Errorf("%s: %s: %s, expected %s", name, tc.why, got, tc.want)
			}
		}
	}
	unlisted := podOf("z", "x", bad)
	if got := (&Baseline{Baseline: record.Baseline{Namespaces: []string{"a"}}}).TenureOf(&unlisted); got != Untold {
		t.Errorf("a pod of a namespace that was never listed: %s", got)
	}
}

// The journal holds so many UIDs. Of the other pods the API server's clock tells;
// this machine's does not, nor does either within its precision.
func TestABaselineIsBounded(t *testing.T) {
	b := &Baseline{Baseline: record.Baseline{At: began, Clock: ClockServer}}
	l := podList{all: true}
	for n := range maxBaseline + 5 {
		l.pods = append(l.pods, podOf("a", fmt.Sprint(n), digest("c")))
	}
	b.extend(l, true)
	r := b.Recorded()
	if len(r.Others) != maxBaseline || !r.Cut || b.Cut {
		t.Fatalf("%d are recorded, cut: %v", len(r.Others), r.Cut)
	}
	for _, tc := range []struct {
		created time.Duration
		clock   string
		want    Tenure
	}{
		{time.Minute, ClockServer, Came}, {-time.Minute, ClockServer, Exposed}, {time.Second, ClockServer, Untold},
		{-time.Second, ClockServer, Untold},
		{time.Minute, ClockLocal, Untold},
	} {
		p := podOf("a", "unknown", digest("c"))
		p.CreationTimestamp = metav1.NewTime(began.Add(tc.created))
		r := &Baseline{Baseline: record.Baseline{At: began, Clock: tc.clock, All: true, Cut: true}}
		if got := r.TenureOf(&p); got != tc.want {
			t.Errorf("created %s after, by the clock of %s: %s, expected %s", tc.created, tc.clock, got, tc.want)
		}
	}
}

// What has been so since before the watch began is also exposed; what is new, or
// has become so, is a sign.
func TestOnlyWhatIsNewIsASign(t *testing.T) {
	bad := digest("b")
	labelled := func(p corev1.Pod) corev1.Pod {
		p.Labels = map[string]string{contain.QuarantineLabel: contain.QuarantineValue, contain.IncidentLabel: "inc-1"}
		return p
	}
	renamed := func(p corev1.Pod, uid types.UID) corev1.Pod { p.UID = uid; return p }
	suspect := podOf("app", "suspect", bad)
	cutOff := Recorded{Step: contain.StepDetach,
		Change: change.Change{Object: cluster.Pod.Named("app", "suspect", suspect.UID)}}
	for name, tc := range map[string]struct {
		before, now    []corev1.Pod
		standing       bool
		signs, exposed []string
	}{
		"it ran the image before": {[]corev1.Pod{podOf("a", "p", bad)}, []corev1.Pod{podOf("a", "p", bad)},
			false, nil, []string{"image p"}},
		"it was pulling the image before": {[]corev1.Pod{podOf("a", "p", "")}, []corev1.Pod{podOf("a", "p", bad)},
			false, nil, []string{"image p"}},
		"it came with the image": {nil, []corev1.Pod{podOf("a", "p", bad)}, false, []string{"image p"},
			nil},
		"it began to run the image": {[]corev1.Pod{podOf("a", "p", digest("c"))},
			[]corev1.Pod{podOf("a", "p", bad)}, false, []string{"image p"}, nil},
		"it had the name before": {[]corev1.Pod{renamed(podOf("app", "suspect", ""), "u2")},
			[]corev1.Pod{renamed(podOf("app", "suspect", ""), "u2")}, false, nil, []string{"name suspect"}},
		"it came with the name": {nil, []corev1.Pod{renamed(podOf("app", "suspect", ""), "u2")}, false,
			[]string{"name suspect"}, nil},
		"a suspect that is cut off":            {nil, []corev1.Pod{labelled(suspect)}, true, nil, nil},
		"a suspect that was cut off":           {nil, []corev1.Pod{suspect}, true, []string{"released suspect"}, nil},
		"a suspect that irctl let go, or left": {nil, []corev1.Pod{suspect}, false, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := &Watched{Incident: "inc-1", Namespaces: []string{"app"}, Since: began,
				Indicators: Indicators{Digests: []string{bad},
					Pods: []SuspectPod{{Namespace: "app", Name: "suspect", UID: string(suspect.UID)}}}}
			w.Baseline = &Baseline{Baseline: record.Baseline{At: began, Digests: []string{bad}}}
			w.Baseline.extend(podList{pods: tc.before, all: true}, true)
			if tc.standing {
				w.Standing = []Recorded{cutOff}
			}
			s := w.see(podList{pods: tc.now, all: true})
			for what, c := range map[string]struct {
				got  []Hit
				want []string
			}{"signs": {s.Hits, tc.signs}, "also exposed": {s.Exposed, tc.exposed}} {
				var got []string
				for _, h := range c.got {
					got = append(got, h.Code+" "+h.Pod)
				}
				if fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("%s: %v, expected %v", what, got, c.want)
				}
			}
		})
	}
}
