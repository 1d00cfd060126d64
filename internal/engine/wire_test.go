package engine_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"irctl/deploy"
	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// silent makes the answers to the calls that match never come, until the test ends.
func (w *world) silent(t *testing.T, never func(sim.Request) bool) *process {
	t.Helper()
	ended := make(chan struct{})
	server := w.Server(func(r sim.Request) sim.Fault {
		if never(r) {
			return sim.Fault{Before: func() { <-ended }}
		}
		return sim.Fault{}
	})
	listener := httptest.NewServer(server)
	t.Cleanup(func() { close(ended); listener.CloseClientConnections(); listener.Close() })
	p, err := w.connect(t, t.Context(), listener.URL, server, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// As the client of every command, but that a test can wait for its limits.
	limits := cluster.Limits{Read: quick, Write: 3500 * time.Millisecond, Tell: quick / 10}
	if p.Client, err = cluster.NewWithin(&rest.Config{Host: listener.URL}, limits); err != nil {
		t.Fatal(err)
	}
	p.Client.OnWait(func(what string) {
		p.front.Observe(engine.Event{Kind: engine.Waiting, Step: engine.StepAnswer, Text: what})
	})
	return p
}

const quick = 500 * time.Millisecond

// TestASilentListDoesNotHoldUpTheCut: one list is never answered. The suspect is
// cut off all the same, after one read's time, and the verdict names the gap.
func TestASilentListDoesNotHoldUpTheCut(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]struct {
		verdict contain.Verdict
		gap     string
	}{
		"networkpolicies":        {contain.Undetermined, "listing network policies in namespace todo-app"},
		"endpointslices":         {contain.Exposed, "listing endpoint slices in namespace todo-app"},
		"replicationcontrollers": {contain.Exposed, "listing replication controllers in namespace todo-app"},
		"scaledobjects":          {contain.Exposed, "listing KEDA scaled objects in namespace todo-app"},
		"clusterroles":           {contain.Exposed, "reading roles and bindings"},
		"daemonsets":             {contain.Exposed, "listing daemon sets in namespace todo-app"},
	} {
		t.Run(list, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var mu sync.Mutex
			var begun, written time.Time
			p := w.silent(t, func(r sim.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if r.Writes() && r.Resource == "pods" {
					written = time.Now()
				}
				return r.Verb == "list" && r.Resource == list
			})
			p.Timeout = time.Minute
			begun = time.Now()
			res, err := p.containNow(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begun)
			mu.Lock()
			defer mu.Unlock()
			if written.IsZero() || written.Sub(begun) > 20*quick {
				t.Errorf("the suspect was cut off after %s", written.Sub(begun))
			}
			if took > 30*quick {
				t.Errorf("the verdict took %s", took)
			}
			if res.Verdict != want.verdict {
				t.Errorf("verdict %q; want %q", res.Verdict, want.verdict)
			}
			for _, a := range res.Actions {
				if a.Outcome != timeline.OutcomeDone {
					t.Errorf("%s: %s: %s", a.Summary, a.Outcome, a.Error)
				}
			}
			var said []string
			for _, f := range res.Targets {
				for _, c := range f.Checks {
					if c.Unknown {
						said = append(said, c.Text)
					}
				}
				for _, e := range f.Exposures {
					if e.Code == "unknown" || e.Code == "token-rights" || strings.Contains(e.Text, "silent") {
						said = append(said, e.Text)
					}
				}
			}
			if all := strings.Join(said, "\n"); !strings.Contains(all, want.gap) ||
				!strings.Contains(all, "the API server was silent") {
				t.Errorf("the verdict does not name %q: %s", want.gap, all)
			}
			p.front.mu.Lock()
			events := slices.Clone(p.front.events)
			p.front.mu.Unlock()
			if !slices.ContainsFunc(events, func(e engine.Event) bool {
				return e.Kind == engine.Waiting && e.Step == engine.StepAnswer && strings.HasSuffix(e.Text, "/"+list)
			}) {
				t.Error("nobody was told what is waited for")
			}
		})
	}
}

// TestTheAPIGoneBetweenDetachingAndScaling: for some seconds nothing listens. The
// wait for the controller tolerates that, and the workload is taken down after.
func TestTheAPIGoneBetweenDetachingAndScaling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.mustStart(t, t.TempDir())
	var gone atomic.Bool
	var once sync.Once
	config := &rest.Config{Host: p.Client.Config.Host}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return trip(func(r *http.Request) (*http.Response, error) {
			if gone.Load() {
				return nil, &net.OpError{Op: "dial", Net: "tcp",
					Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
			}
			resp, err := next.RoundTrip(r)
			if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/pods/"+w.suspect) {
				once.Do(func() {
					gone.Store(true)
					time.AfterFunc(4*time.Second, func() { gone.Store(false) })
				})
			}
			return resp, err
		})
	})
	var err error
	if p.Client, err = cluster.New(config); err != nil {
		t.Fatal(err)
	}
	res, err := p.containNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range res.Actions {
		if a.Outcome != timeline.OutcomeDone {
			t.Errorf("%s: %s: %s", a.Summary, a.Outcome, a.Error)
		}
	}
	if res.Verdict == contain.NotContained || res.Verdict == contain.Undetermined {
		t.Errorf("verdict %q", res.Verdict)
	}
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestWhatBecomesOfAFailure: only what irctl would not do is refused, and only
// what the API server would not do is denied. Each says which it is.
func TestWhatBecomesOfAFailure(t *testing.T) {
	t.Parallel()
	policy := &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 422,
		Reason: metav1.StatusReasonInvalid,
		Message: `pods "p" is forbidden: ValidatingAdmissionPolicy 'labels' with binding 'labels-all' denied ` +
			`request: labels stay as they are`}}
	down := apierrors.NewInternalError(errors.New(
		`failed calling webhook "w.example.com": failed to call webhook: Post "https://w.n.svc:443": connection ` +
			`refused`))
	for name, c := range map[string]struct {
		err     *apierrors.StatusError
		outcome timeline.Outcome
		text    string
		hint    string
		most    int // how often it was sent; 0: as long as there was time
	}{
		"a policy": {policy, timeline.OutcomeDenied,
			"ValidatingAdmissionPolicy 'labels' with binding 'labels-all' denied request",
			"the ValidatingAdmissionPolicy labels (binding labels-all) forbids it", 1},
		"a webhook": {sim.Denied("w.example.com", "change freeze"), timeline.OutcomeDenied, "change freeze",
			"the admission webhook w.example.com forbids it", 1},
		"a webhook that is down": {down, timeline.OutcomeFailed, "the admission webhook w.example.com cannot be called",
			"the API server must ask the webhook w.example.com", 0},
		"429": {sim.Throttled(0), timeline.OutcomeFailed, "the API server throttles",
			"the API server throttles: try again, with a longer --timeout", 0},
		"an invalid object": {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil), timeline.OutcomeFailed,
			"is invalid", "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var sent atomic.Int32
			p, err := w.start(t, t.Context(), t.TempDir(), func(r sim.Request) sim.Fault {
				if r.Verb == "patch" && r.Resource == "pods" {
					sent.Add(1)
					return sim.Fault{Error: c.err}
				}
				return sim.Fault{}
			})
			if err != nil {
				t.Fatal(err)
			}
			p.Timeout = 1500 * time.Millisecond
			res, err := p.containNow(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range res.Actions {
				if a.Step != contain.StepDetach {
					continue
				}
				if a.Outcome != c.outcome || !strings.Contains(a.Error, c.text) ||
					strings.Contains(a.Error, "refused") && c.err != down {
					t.Errorf("%s: %s", a.Outcome, a.Error)
				}
				if hint := cluster.Explain(a.Err(), deploy.RoleFor); !strings.Contains(hint, c.hint) {
					t.Errorf("advice: %s", hint)
				}
			}
			if n := int(sent.Load()); c.most > 0 && n > c.most || c.most == 0 && n < 3 {
				t.Errorf("it was sent %d times", n)
			}
			if res.Verdict != contain.NotContained {
				t.Errorf("verdict %q", res.Verdict)
			}
			entries, err := p.Store.Entries(incident.ID(res.Incident))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(entries, func(e timeline.Entry) bool {
				return e.Kind == timeline.KindOutcome && e.Step == contain.StepDetach && e.Outcome == c.outcome
			}) {
				t.Errorf("the journal has no outcome %s of the detachment", c.outcome)
			}
		})
	}
}

// TestCredentialsThatEndInTheMiddle: that is said at once, what was done is known,
// and after the log-in the same command goes on.
func TestCredentialsThatEndInTheMiddle(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	p.Timeout = time.Minute
	var ended atomic.Bool
	config := &rest.Config{Host: p.Client.Config.Host}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return trip(func(r *http.Request) (*http.Response, error) {
			if ended.Load() {
				return &http.Response{StatusCode: http.StatusUnauthorized,
						Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
						Body: io.NopCloser(strings.NewReader(
							`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized",` +
								`"code":401}`))},
					nil
			}
			resp, err := next.RoundTrip(r)
			if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/pods/"+w.suspect) {
				ended.Store(true)
			}
			return resp, err
		})
	})
	var err error
	if p.Client, err = cluster.New(config); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	res, err := p.containNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	if res.Verdict != contain.Undetermined {
		t.Errorf("verdict %q, though nothing could be looked at", res.Verdict)
	}
	want := map[string]timeline.Outcome{contain.StepQuarantine: timeline.OutcomeDone,
		contain.StepDetach: timeline.OutcomeDone, contain.StepScale: timeline.OutcomeFailed}
	for _, a := range res.Actions {
		if a.Outcome != want[a.Step] {
			t.Errorf("%s: %s: %s", a.Step, a.Outcome, a.Error)
		}
		if a.Err() != nil && (cluster.FailureOf(a.Err()).Kind != cluster.NotSignedIn ||
			strings.Contains(a.Error, "not known")) {
			t.Errorf("%s: %s", a.Step, a.Error)
		}
	}
	entries, err := p.Store.Entries(incident.ID(res.Incident))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(timeline.Standing(entries)); n != 2 {
		t.Errorf("%d changes stand, by the journal", n)
	}
	if again := w.mustStart(t, dir).mustContain(t); again.Incident != res.Incident ||
		again.Verdict != contain.Exposed && again.Verdict != contain.Contained {
		t.Errorf("after the log-in: incident %s, verdict %q", again.Incident, again.Verdict)
	}
}
