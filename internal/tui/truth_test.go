package tui

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
	"irctl/internal/engine"
	"irctl/internal/fixture"
	"irctl/internal/incident"
	"irctl/internal/report"
	"irctl/internal/steps/contain"
	"irctl/internal/timeline"
)

// telling is how a containment stands, by each who tells it.
type telling struct {
	Status, Header, Report contain.Verdict
	// Unsettled, Open and Accepted are what the header and the report name besides.
	Unsettled, Open, Accepted int
}

// A verdict that was journaled is what somebody saw then, and no more: without
// every one of them status, header and report say the same of a cluster that can
// be looked at, and of one that cannot they say nothing better.
func TestVerdictsInTheJournalDecideNothing(t *testing.T) {
	t.Parallel()
	fixtures, err := fixture.Load("v1")
	if err != nil || len(fixtures) < 12 {
		t.Fatal(len(fixtures), err)
	}
	for _, f := range fixtures {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := f.Install(dir, "http://127.0.0.1:1"); err != nil {
				t.Fatal(err)
			}
			store, err := incident.NewStore(filepath.Join(dir, "state"), incident.Options{Now: f.Now})
			if err != nil {
				t.Fatal(err)
			}
			in, err := report.Read(store, incident.ID(f.Scene.Incident))
			if err != nil {
				t.Fatal(err)
			}
			without := in
			verdict := func(e timeline.Entry) bool { return e.Kind == timeline.KindVerdict }
			without.Entries = slices.DeleteFunc(slices.Clone(in.Entries), verdict)
			looking, blind := desks(t, f, store, false), desks(t, f, store, true)

			open := f.Name != "closed" // of a closed one the report looks at nothing
			a, b := tellings(t, looking, in), tellings(t, looking, without)
			switch {
			case open && !cmp.Equal(a, b), a.Status != b.Status, a.Header != b.Header:
				t.Errorf("the verdict depends on verdicts (-with +without):\n%s", cmp.Diff(a, b))
			case open && (a.Status != a.Header || a.Status != a.Report):
				t.Errorf("they do not tell the same: %+v", a)
			}
			for name, e := range map[string]*engine.Engine{"no right to look": blind, "nobody has looked": nil} {
				a, b := tellings(t, e, in), tellings(t, e, without)
				for who, pair := range map[string][2]contain.Verdict{"status": {a.Status, b.Status},
					"header": {a.Header, b.Header}, "report": {a.Report, b.Report}} {
					if contain.Worse(pair[0], pair[1]) != pair[1] {
						t.Errorf("%s: %s says %q, and without verdicts %q", name, who, pair[0], pair[1])
					}
				}
				if a.Header != "" && a.Report != a.Header {
					t.Errorf("%s: the header says %q, and the report %q", name, a.Header, a.Report)
				}
			}
		})
	}
}

// desks is an engine at a fixture's cluster; blind: that has no right to read.
func desks(t *testing.T, f *fixture.Fixture, store *incident.Store, blind bool) *engine.Engine {
	t.Helper()
	c, err := f.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	server := httptest.NewServer(c.Server(f.Webhook))
	t.Cleanup(server.Close)
	client, err := cluster.New(&rest.Config{Host: server.URL, BearerToken: "sim"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(t.Context(), client, store, quiet{}, "production")
	if err != nil {
		t.Fatal(err)
	}
	e.Now = f.Now
	if blind {
		for _, verb := range []string{"get", "list", "watch"} {
			c.Deny(sim.Rule{Verb: verb})
		}
	}
	return e
}

// tellings is what each says of an incident; nil: nobody looks at the cluster.
func tellings(t *testing.T, e *engine.Engine, in report.Input) telling {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	m := root{desk: &desk{}, file: fileOf(in.Incident, in.Entries, "", 0)}
	var out telling
	if e != nil {
		s := e.Status(ctx, in.Incident, in.Entries)
		m.status = &looked{s, e.Now(), lastOf(in.Entries)}
		out.Status = s.Verdict
		e.LookFor(ctx, &in)
	}
	j := m.containment()
	out.Header, out.Unsettled, out.Open, out.Accepted = j.verdict, len(j.unmet), len(j.open), j.accepted
	if v := report.New(in).Verdict; v != nil && v.Verdict != "nothing is contained" {
		out.Report = contain.Verdict(v.Verdict)
		if out.Status == out.Report && v.Accepted != out.Accepted {
			t.Errorf("%d accepted in the report, and %d in the header", v.Accepted, out.Accepted)
		}
	}
	return out
}
