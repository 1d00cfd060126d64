package engine_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"irctl/internal/casefile"
	"irctl/internal/cluster/apifake"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/steps/contain"
)

// acceptNow is irctl accept.
func (p *process) acceptNow(t *testing.T, id string, req engine.AcceptRequest) ([]engine.Acceptable, error) {
	t.Helper()
	h, err := p.Store.Open(t.Context(), incident.ID(id), p.Actor())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	return p.Accept(t.Context(), h, req)
}

func (p *process) mustAccept(t *testing.T, id string, req engine.AcceptRequest) []engine.Acceptable {
	t.Helper()
	list, err := p.acceptNow(t, id, req)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// standsAt is what status says, and what the journal alone does.
func (p *process) standsAt(t *testing.T, id, dir string) string {
	t.Helper()
	s := p.statusOf(t, id, dir)
	told := casefile.Of(journal(t, dir)).Contained()
	return fmt.Sprintf("%s, %d accepted; by the journal %s", s.Verdict, engine.Accepted(s.Targets, s.Unsettled),
		told.Verdict)
}

func TestAcceptedWeighsNoMoreUntilItIsTakenBack(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	id := p.mustContain(t).Incident
	object := "todo-app/" + w.suspect
	stands := func(want string) {
		t.Helper()
		if got := p.standsAt(t, id, dir); got != want {
			t.Errorf("%s, expected %s", got, want)
		}
	}
	const open, closed = "contained with exposures, 0 accepted; by the journal contained with exposures",
		"contained, 1 accepted; by the journal contained"
	stands(open)
	list := p.mustAccept(t, id, engine.AcceptRequest{Code: "token", Object: object, Reason: "role removed, 14:20"})
	if len(list) != 1 || list[0].Named() != "token="+object || list[0].Accepted == nil ||
		list[0].Accepted.Reason != "role removed, 14:20" {
		t.Errorf("%+v", list)
	}
	stands(closed)
	p.mustAccept(t, id, engine.AcceptRequest{Code: "token", Object: object, Withdraw: true})
	stands(open)
	p.mustAccept(t, id, engine.AcceptRequest{Code: "token", Object: object, Reason: "and again"})
	stands(closed)
	x := acceptedOf(p.statusOf(t, id, dir))
	if len(x) != 1 || x[0].Accepted.Reason != "and again" || x[0].Accepted.By == "" || x[0].Accepted.At.IsZero() {
		t.Errorf("who accepted it, when and why: %+v", x)
	}
	if _, err := p.acceptNow(t, id, engine.AcceptRequest{Code: "token", Withdraw: true}); err == nil ||
		!strings.Contains(err.Error(), "accepted are token="+object) {
		t.Errorf("what is accepted of one object is not taken back without it: %v", err)
	}
}

func acceptedOf(s *engine.StatusResult) (list []contain.Exposure) {
	for _, f := range s.Targets {
		for _, x := range f.Exposures {
			if x.Accepted != nil {
				list = append(list, x)
			}
		}
	}
	return list
}

func TestAcceptedWithoutAnObjectHoldsForPodsToCome(t *testing.T) {
	for _, object := range []bool{false, true} {
		t.Run(fmt.Sprint("with object ", object), func(t *testing.T) {
			w, dir := newWorld(t), t.TempDir()
			p := w.mustStart(t, dir)
			other := nameAfter(w, w.suspect)
			id := p.mustContain(t, func(r *engine.ContainRequest) {
				r.Options.Steps = contain.DefaultSteps[:2]
			}).Incident
			req := engine.AcceptRequest{Code: "token", Reason: "the account is watched"}
			want := contain.Contained
			if object {
				req.Object, want = "todo-app/"+w.suspect, contain.Exposed
			}
			p.mustAccept(t, id, req)
			p.suspects = []string{other}
			res := p.mustContain(t, func(r *engine.ContainRequest) {
				r.Options.Steps, r.Incident = contain.DefaultSteps[:2], incident.ID(id)
			})
			if res.Verdict != want {
				t.Errorf("the second pod with the same finding is %q, expected %q", res.Verdict, want)
			}
		})
	}
}

// nameAfter is another pod of the suspect's workload.
func nameAfter(w *world, suspect string) string {
	for _, o := range w.List(sim.Pods, "todo-app") {
		if name := o.GetName(); strings.HasPrefix(name, "backend-") && name != suspect {
			return name
		}
	}
	return ""
}

func TestWhatCannotBeAccepted(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	id := p.mustContain(t).Incident
	for name, c := range map[string]struct {
		req   engine.AcceptRequest
		wants string
	}{
		"no reason": {engine.AcceptRequest{Code: "token", Reason: " "},
			"an acceptance needs a reason"},
		"no such code": {engine.AcceptRequest{Code: "tokens", Reason: "x"},
			"no finding tokens is open: did you mean token? (open are token)"},
		"nothing like it": {engine.AcceptRequest{Code: "meteorite", Reason: "x"},
			"no finding meteorite is open: open are token"},
		"no such object": {engine.AcceptRequest{Code: "token", Object: "todo-app/x", Reason: "x"},
			"no finding token=todo-app/x is open"},
		"a remark": {engine.AcceptRequest{Code: "node-traffic", Reason: "x"},
			"no finding node-traffic is open"},
		"taken back, and never given": {engine.AcceptRequest{Code: "token", Withdraw: true},
			"nothing is accepted in incident " + id},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(journal(t, dir))
			_, err := p.acceptNow(t, id, c.req)
			if err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("got %v; want %s", err, c.wants)
			}
			if n := len(journal(t, dir)); n != before {
				t.Errorf("%d entries were journaled", n-before)
			}
		})
	}
}

func TestNothingIsAcceptedOfAnIncidentThatCannotBeUsed(t *testing.T) {
	token := engine.AcceptRequest{Code: "token", Reason: "x"}
	t.Run("closed", func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		p := w.mustStart(t, dir)
		id := p.mustContain(t).Incident
		h, err := p.Store.Open(t.Context(), incident.ID(id), p.Actor())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.CloseIncident(t.Context(), h,
			engine.CloseRequest{LeaveStanding: "kept for the police"}); err != nil {
			t.Fatal(err)
		}
		h.Close()
		if _, err := p.acceptNow(t, id, token); !errors.Is(err, engine.ErrRefused) ||
			!strings.Contains(err.Error(), "irctl incident reopen "+id) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		p := w.mustStart(t, dir)
		id := p.mustContain(t).Incident
		if err := os.Remove(filepath.Join(dir, "incidents", id, "timeline.head")); err != nil {
			t.Fatal(err)
		}
		h, err := p.Store.Open(t.Context(), incident.ID(id), p.Actor())
		if err == nil {
			_, err = p.Accept(t.Context(), h, token)
			h.Close()
		}
		if err == nil {
			t.Error("it was accepted")
		}
	})
	t.Run("of another cluster", func(t *testing.T) {
		w, dir := newWorld(t), t.TempDir()
		id := w.mustStart(t, dir).mustContain(t).Incident
		_, err := anotherCluster(t).mustStart(t, dir).acceptNow(t, id, token)
		if !errors.Is(err, engine.ErrUndetermined) {
			t.Errorf("got %v", err)
		}
	})
}

// Containment that is left when an incident is closed is accepted by who closed it,
// until the incident is opened again.
func TestWhoLeavesContainmentStandingAcceptsIt(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	id := p.mustContain(t).Incident
	h, err := p.Store.Open(t.Context(), incident.ID(id), p.Actor())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := p.CloseIncident(t.Context(), h,
		engine.CloseRequest{LeaveStanding: "kept for the police"}); err != nil {
		t.Fatal(err)
	}
	s := p.statusOf(t, id, dir)
	if a := s.LeftStanding; a == nil || a.Reason != "kept for the police" || a.By == "" || a.At.IsZero() {
		t.Errorf("left standing: %+v", a)
	}
	for _, f := range s.Targets {
		for _, x := range f.Exposures {
			if strings.Contains(x.Close, "irctl accept") &&
				!strings.HasPrefix(x.Close, "irctl incident reopen "+id+"; then ") {
				t.Errorf("of a closed incident nothing is accepted, and it says %q", x.Close)
			}
		}
	}
	if err := h.Reopen("they took it"); err != nil {
		t.Fatal(err)
	}
	if a := p.statusOf(t, id, dir).LeftStanding; a != nil {
		t.Errorf("it is open again, and accepted still: %+v", a)
	}
}

// A change that did not happen says what settles it: both ways are tried.
func TestWhatDidNotHappenIsDoneAgainOrBorne(t *testing.T) {
	scale := "deployments/scale"
	label := "pods"
	for name, c := range map[string]struct {
		denied   string
		bearable bool
	}{
		"the scaling":    {scale, true},
		"the detachment": {label, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := newWorld(t), t.TempDir()
			denied, err := w.start(t, t.Context(), dir, func(r sim.Request) sim.Fault {
				if r.Resource == c.denied && r.Verb == "patch" && !r.DryRun {
					return sim.Fault{Error: sim.Denied("policy.example.com", "not on a Tuesday")}
				}
				return sim.Fault{}
			})
			if err != nil {
				t.Fatal(err)
			}
			denied.Timeout = soon
			res, err := denied.containNow(t.Context())
			if err != nil || res.Verdict != contain.NotContained || len(res.Unsettled) == 0 {
				t.Fatalf("%v: %+v", err, res)
			}
			id, u := res.Incident, res.Unsettled[0]
			accept := "; irctl accept 'unsettled=" + u.Object + "' --incident " + id + " --reason … leaves it so"
			want := "irctl contain --incident " + id + " does it again"
			if c.bearable {
				want += accept
			}
			if u.Close != want {
				t.Errorf("it says %q, expected %q", u.Close, want)
			}
			p := w.mustStart(t, dir)
			t.Run("borne", func(t *testing.T) {
				copied := copyState(t, dir)
				p := w.mustStart(t, copied)
				_, err := p.acceptNow(t, id, engine.AcceptRequest{Code: casefile.Unsettled, Object: u.Object,
					Reason: "they need it"})
				got := p.standsAt(t, id, copied)
				if c.bearable != (err == nil) ||
					c.bearable != (got == "contained with exposures, 1 accepted; "+
						"by the journal contained with exposures") {
					t.Errorf("%v, and it is %s", err, got)
				}
			})
			req, err := p.Again(t.Context(), incident.ID(id))
			if err != nil {
				t.Fatal(err)
			}
			if res, err = p.Contain(t.Context(), req); err != nil || res.Verdict != contain.Exposed ||
				len(res.Unsettled) > 0 || res.Incident != id {
				t.Errorf("done again: %v: %+v", err, res)
			}
		})
	}
}

// What an incident remembers is done again as it was meant, not as by default.
func TestAgainIsAsItWasMeant(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	meant := func(r *engine.ContainRequest) {
		r.Options = contain.Options{Steps: contain.DefaultSteps[:2], AllowDNS: true,
			AllowNamespaces: []string{"kube-system"}, KeepLabels: true}
	}
	id := p.mustContain(t, meant).Incident
	req, err := p.Again(t.Context(), incident.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	o := req.Options
	if strings.Join(o.Steps, ",") != "quarantine,detach" || !o.AllowDNS || !o.KeepLabels ||
		strings.Join(o.AllowNamespaces, ",") != "kube-system" {
		t.Errorf("%+v", o)
	}
	before := w.State()
	res, err := p.Contain(t.Context(), req)
	if err != nil || len(res.Actions) != 0 || len(w.State()) != len(before) {
		t.Errorf("%v: it changes something the second time: %+v", err, res.Actions)
	}
	if err := w.Delete(sim.Pods, "todo-app", w.suspect); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Again(t.Context(), incident.ID(id)); !errors.Is(err, engine.ErrUndetermined) {
		t.Errorf("its only suspect is gone: %v", err)
	}
}

// What carries the incident's label and is not in the journal is taken back by the
// command that is printed, and then is no longer found.
func TestAStrayIsTakenBackByItsCommand(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	p := w.mustStart(t, dir)
	id := p.mustContain(t).Incident
	listener := httptest.NewServer(w.Server(nil))
	t.Cleanup(listener.Close)
	none := incident.Incident{ID: incident.ID(id), State: incident.StateOpen, Cluster: p.recordOf(t, id).Cluster}
	strays := p.Status(t.Context(), none, nil).Strays
	if len(strays) != 2 {
		t.Fatalf("%+v", strays)
	}
	for _, s := range strays {
		if err := apifake.Kubectl(t.Context(), &rest.Config{Host: listener.URL}, s.Undo); err != nil {
			t.Error(err)
		}
	}
	if left := p.Status(t.Context(), none, nil).Strays; len(left) != 0 {
		t.Errorf("they are there still: %+v", left)
	}
	for _, o := range w.List(sim.Pods, "todo-app") {
		if o.GetName() == w.suspect && (o.GetLabels()["app"] != "backend" || len(o.GetAnnotations()) > 0) {
			t.Errorf("labels %v, annotations %v", o.GetLabels(), o.GetAnnotations())
		}
	}
}

func (p *process) recordOf(t *testing.T, id string) incident.Incident {
	t.Helper()
	i, err := p.Store.Load(incident.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	return i
}
