package evidence

import (
	"context"
	"slices"
	"strings"
)

// inquiry is what the collectors of one collection share.
type inquiry struct {
	api      *api
	memos    *memos
	pods     []*pod
	scope    Scope
	limits   Limits
	announce Announce
	rights   *podRights
	asked    *asked
}

func newInquiry(req Request, api *api, limits Limits) *inquiry {
	q := &inquiry{api: api, memos: &memos{api: api, mapper: req.Mapper}, scope: req.Scope, limits: limits,
		announce: req.Announce, rights: newPodRights(), asked: req.asked}
	for _, ref := range req.Pods {
		q.pods = append(q.pods, &pod{PodRef: ref, api: api, memo: q.memos})
	}
	return q
}

// name is the key of a namespaced thing.
type name struct{ namespace, name string }

func (n name) String() string { return n.namespace + "/" + n.name }

// namespaces of the pods.
func (q *inquiry) namespaces() []string {
	var found []string
	for _, p := range q.pods {
		found = append(found, p.Namespace)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// named collects from all pods the names that pick finds in their facts. A pod
// that cannot be read has none; its own collector says so.
func (q *inquiry) named(ctx context.Context, pick func(*podFacts) []string) []name {
	seen := map[name]bool{}
	var found []name
	for _, p := range q.pods {
		facts, err := p.read(ctx)
		if err != nil {
			continue
		}
		for _, n := range pick(facts) {
			key := name{p.Namespace, n}
			if n != "" && !seen[key] {
				seen[key] = true
				found = append(found, key)
			}
		}
	}
	slices.SortFunc(found, func(x, y name) int { return strings.Compare(x.String(), y.String()) })
	return found
}

// nodes that the pods run on.
func (q *inquiry) nodes(ctx context.Context) []string {
	var found []string
	for _, n := range q.named(ctx, func(f *podFacts) []string { return []string{f.node} }) {
		found = append(found, n.name)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// podsIn are the pods of a namespace that could be read, with their facts.
func (q *inquiry) podsIn(ctx context.Context, namespace string) map[*pod]*podFacts {
	found := map[*pod]*podFacts{}
	for _, p := range q.pods {
		if p.Namespace != namespace {
			continue
		}
		if facts, err := p.read(ctx); err == nil {
			found[p] = facts
		}
	}
	return found
}
