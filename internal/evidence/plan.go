package evidence

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Plan says what an investigation would fetch, before anything is.
type Plan struct {
	Pods       int `json:"pods"`
	Containers int `json:"containers"`
	// Unreadable pods: what there is of them is not known.
	Unreadable int        `json:"unreadable,omitempty"`
	Items      []PlanItem `json:"items"`
	// Bytes is how much it is all together, roughly, before compression.
	Bytes int64 `json:"bytes"`
	// AtMost: the logs' size is not known; it is their limit that is counted.
	AtMost bool `json:"atMost,omitempty"`
}

// PlanItem is one kind of artefact.
type PlanItem struct {
	What     string `json:"what"`
	Requests int    `json:"requests"`
	Bytes    int64  `json:"bytes"`
}

// planCounts is what the size of a collection depends on.
type planCounts struct {
	pods, owners, namespaces, nodes, accounts int
	configMaps, secrets, claims, files        int
	containers, running, logs                 int
}

// PlanInvestigation reads the pods and counts. What the logs hold is asked of
// the kubelets, where that is permitted.
func PlanInvestigation(ctx context.Context, req Request) Plan {
	limits := req.Limits.orDefault()
	q := newInquiry(req, newAPI(req.Client, req.Dynamic, req.Config, newRequests(limits)), limits)
	var reading errgroup.Group
	reading.SetLimit(limits.Concurrency)
	var unreadable atomic.Int64
	for _, p := range q.pods {
		reading.Go(func() error {
			if _, err := p.read(ctx); err != nil {
				unreadable.Add(1)
			}
			return nil
		})
	}
	_ = reading.Wait() // the functions return no errors
	counts := q.count(ctx)
	plan := Plan{Pods: counts.pods, Containers: counts.containers, Unreadable: int(unreadable.Load())}
	logs, known := q.logSizes(ctx)
	for _, s := range wantedStages(req.Scope) {
		item := PlanItem{What: s.what, Requests: s.requests(counts)}
		item.Bytes = int64(item.Requests) * s.each
		if s.what == logStage {
			item.Bytes, plan.AtMost = logs, !known
			if !known {
				item.Bytes = int64(counts.logs) * limits.LogBytes
			}
		}
		plan.Bytes += item.Bytes
		plan.Items = append(plan.Items, item)
	}
	return plan
}

func (q *inquiry) count(ctx context.Context) planCounts {
	one := func(pick func(*podFacts) []string) int { return len(q.named(ctx, pick)) }
	n := planCounts{
		pods: len(q.pods), namespaces: len(q.namespaces()), nodes: len(q.nodes(ctx)), files: len(q.scope.Files),
		accounts:   one(func(f *podFacts) []string { return []string{f.serviceAccount} }),
		configMaps: one(func(f *podFacts) []string { return f.configMaps }),
		secrets:    one(func(f *podFacts) []string { return f.secrets }),
		claims:     one(func(f *podFacts) []string { return f.claims }),
	}
	for _, p := range q.pods {
		facts, err := p.read(ctx)
		if err != nil {
			continue
		}
		n.owners += len(facts.owners)
		for _, c := range facts.containers {
			n.containers++
			n.logs++
			if c.running {
				n.running++
			}
			if c.restarted {
				n.logs++
			}
		}
	}
	return n
}

// logSizes asks the kubelets how much the containers have logged.
func (q *inquiry) logSizes(ctx context.Context) (total int64, known bool) {
	var asking errgroup.Group
	asking.SetLimit(q.limits.Concurrency)
	var mu sync.Mutex
	known = true
	for _, node := range q.nodes(ctx) {
		asking.Go(func() error {
			size, err := q.logSizeOn(ctx, node)
			mu.Lock()
			defer mu.Unlock()
			total += size
			known = known && err == nil
			return nil
		})
	}
	_ = asking.Wait() // the functions return no errors
	return total, known
}

func (q *inquiry) logSizeOn(ctx context.Context, node string) (total int64, err error) {
	ours := map[name]bool{}
	for _, p := range q.pods {
		ours[name{p.Namespace, p.Name}] = true
	}
	var summary struct {
		Pods []struct {
			PodRef     struct{ Name, Namespace string }
			Containers []struct{ Logs struct{ UsedBytes int64 } }
		}
	}
	err = q.api.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return q.api.openPath(ctx, http.MethodGet, "/api/v1/nodes/"+node+"/proxy/stats/summary")
	}, func(body io.Reader) error {
		return json.NewDecoder(io.LimitReader(body, maxPage)).Decode(&summary)
	})
	for _, p := range summary.Pods {
		if !ours[name{p.PodRef.Namespace, p.PodRef.Name}] {
			continue
		}
		for _, c := range p.Containers {
			total += min(max(c.Logs.UsedBytes, 0), q.limits.LogBytes)
		}
	}
	return total, err
}
