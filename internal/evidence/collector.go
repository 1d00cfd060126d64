package evidence

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Collector fetches one kind of artefact about one subject and puts it out. It
// bounds all it reads, and leaves no more than it says in memory.
//
// What it cannot get it records, through Output, and goes on with the rest. The
// error it returns is for what keeps it from knowing what there is to get; it
// is recorded as the failure of the collector as a whole. It returns soon after
// its context is done.
type Collector interface {
	// Name is one word; it is the collector's in collection.json.
	Name() string
	Collect(ctx context.Context, out *Output) error
}

// stage is a kind of collector, of which there is one for each pod, or one for
// all of them.
type stage struct {
	// what it fetches, for the plan, and roughly how much: how many requests,
	// and how many bytes each of them brings.
	what     string
	requests func(planCounts) int
	each     int64
	perPod   func(*inquiry, *pod) Collector
	overall  func(*inquiry) Collector
	// wanted: nil is always.
	wanted func(Scope) bool
}

// snapshotStages are what a pod's containment would destroy, and what is needed
// to understand it.
func snapshotStages() []stage {
	return []stage{
		{what: "the pod as the API serves it", requests: func(n planCounts) int { return 2 * n.pods }, each: 16 << 10,
			perPod: func(_ *inquiry, p *pod) Collector { return &podCollector{pod: p} }},
		{what: logStage, requests: func(n planCounts) int { return n.logs },
			perPod: func(q *inquiry, p *pod) Collector {
				return &logCollector{pod: p, limit: q.limits.LogBytes, since: q.scope.Since}
			}},
		{what: "events of the pods and their owners", requests: func(n planCounts) int {
			return 2 * (n.pods + n.owners)
		}, each: 4 << 10,
			perPod: func(_ *inquiry, p *pod) Collector { return &eventCollector{pod: p} }},
		{what: "the chain of owners", requests: func(n planCounts) int { return n.owners }, each: 8 << 10,
			perPod: func(_ *inquiry, p *pod) Collector { return &ownerCollector{pod: p} }},
	}
}

const logStage = "logs of all containers, current and previous"

// allStages is the one place where collectors are registered, in the order of
// volatility (RFC 3227, section 2.1): what is lost first is collected first.
// The pod comes before all because it is small and says which containers there
// are; a checkpoint of its memory before anything runs in it.
func allStages() []stage {
	always := snapshotStages()
	stages := append([]stage{always[0]}, intrusiveStages()...)
	stages = append(stages, always[1])
	stages = append(stages, stage{what: "the files that were named, by exec", requests: func(n planCounts) int {
		return n.files * n.running
	}, each: 1 << 20,
		wanted: func(s Scope) bool { return len(s.Files) > 0 },
		perPod: func(q *inquiry, p *pod) Collector { return &fileCollector{inquiry: q, pod: p} }})
	stages = append(stages, always[2:]...)
	return append(stages, surroundingStages()...)
}

// intrusiveStages leave traces in the containers, or on the node.
func intrusiveStages() []stage {
	return []stage{
		{what: "a checkpoint of each container's memory, kept on the node", requests: func(n planCounts) int {
			return n.running
		}, each: 256,
			wanted: func(s Scope) bool { return s.Checkpoint },
			perPod: func(q *inquiry, p *pod) Collector { return &checkpointCollector{inquiry: q, pod: p} }},
		{what: "processes, sockets, mounts, environment, recent files, by exec", requests: func(n planCounts) int {
			return len(questions) * n.running
		}, each: 64 << 10,
			wanted: func(s Scope) bool { return s.Live },
			perPod: func(q *inquiry, p *pod) Collector { return &liveCollector{inquiry: q, pod: p} }},
	}
}

// surroundingStages are about what is around the pods.
func surroundingStages() []stage {
	perNamespace := func(lists int) func(planCounts) int {
		return func(n planCounts) int { return lists * n.namespaces }
	}
	return []stage{
		{what: "all events of the namespaces and nodes", requests: func(n planCounts) int {
			return 2 * (n.namespaces + n.nodes)
		}, each: 100 << 10,
			overall: func(q *inquiry) Collector { return &surroundingEvents{inquiry: q} }},
		{what: "the kubelets' own view of the pods", requests: func(n planCounts) int {
			return 2 * n.nodes
		}, each: 100 << 10,
			overall: func(q *inquiry) Collector { return &kubeletCollector{inquiry: q} }},
		{what: "image references and digests", requests: func(planCounts) int { return 0 },
			perPod: func(_ *inquiry, p *pod) Collector { return &imageCollector{pod: p} }},
		{what: "replica sets and controller revisions: the rollout history", requests: perNamespace(2), each: 50 << 10,
			overall: func(q *inquiry) Collector { return &rolloutCollector{inquiry: q} }},
		{what: "Services, EndpointSlices, Ingresses, NetworkPolicies, and the effective policy",
			requests: perNamespace(4), each: 20 << 10,
			overall: func(q *inquiry) Collector { return &networkCollector{inquiry: q} }},
		{what: "service accounts, their role bindings, and what these allow", requests: func(n planCounts) int {
			return 4 + n.accounts
		}, each: 10 << 10,
			overall: func(q *inquiry) Collector { return &identityCollector{inquiry: q} }},
		{what: "ConfigMaps that the pods use", requests: func(n planCounts) int { return n.configMaps }, each: 4 << 10,
			overall: func(q *inquiry) Collector { return &configMapCollector{inquiry: q} }},
		{what: "Secrets that the pods can read: names, keys, sizes, keyed digests", requests: func(n planCounts) int {
			return n.secrets
		}, each: 4 << 10,
			overall: func(q *inquiry) Collector { return &secretCollector{inquiry: q} }},
		{what: "persistent volumes and their claims", requests: func(n planCounts) int {
			return 3 * n.claims
		}, each: 4 << 10,
			overall: func(q *inquiry) Collector { return &storageCollector{inquiry: q} }},
		{what: "the nodes", requests: func(n planCounts) int { return n.nodes }, each: 20 << 10,
			overall: func(q *inquiry) Collector { return &nodeCollector{inquiry: q} }},
		{what: "the namespaces and their labels, autoscalers, disruption budgets, quotas, limits",
			requests: perNamespace(5), each: 4 << 10,
			overall: func(q *inquiry) Collector { return &governanceCollector{inquiry: q} }},
		{what: "entries of the API audit log that concern the pods", requests: func(planCounts) int { return 0 },
			wanted:  func(s Scope) bool { return s.AuditLog != "" },
			overall: func(q *inquiry) Collector { return &auditCollector{inquiry: q} }},
	}
}

// Output is where one collector puts what it collects: a folder of the bag.
// It may be used from many goroutines. How each artefact ended is in its
// record; an archive that cannot be written cancels the whole collection.
type Output struct {
	bags      bags
	collector string
	folder    []string
	api       *api
	progress  *progress
	abort     context.CancelCauseFunc
	// confidential: not for the shareable bundle.
	confidential bool
}

// Confidential is an Output for what no redaction makes fit to be shared.
func (o *Output) Confidential() *Output {
	c := *o
	c.confidential = true
	return &c
}

// Stream records an artefact: what open gives, up to limit bytes. The source
// is the request that it answers; the names are its path below the collector's
// folder. Stream waits until another request is allowed. It returns how the
// artefact ended, which is recorded already.
func (o *Output) Stream(ctx context.Context, source string, limit int64,
	open func(context.Context) (io.ReadCloser, error), names ...string) error {
	var a *artefact
	begin := sync.OnceFunc(func() { a = o.create(source, names) })
	err := o.api.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		// Only now, so that the artefact's times are those of the request.
		if begin(); a == nil {
			return nil, ErrBagClosed
		}
		return open(ctx)
	}, func(body io.Reader) error {
		return copyLimited(o.progress.writer(a), body, limit)
	})
	begin() // its turn may not have come
	if a != nil {
		o.end(a, err)
	}
	return err
}

// Bytes records an artefact that is at hand: complete or, with a cause, cut.
func (o *Output) Bytes(source string, content []byte, cause error, names ...string) {
	if a := o.create(source, names); a != nil {
		_, err := o.progress.writer(a).Write(content)
		o.end(a, cmpError(cause, err))
	}
}

// JSON records what was concluded from other artefacts.
func (o *Output) JSON(source string, content any, cause error, names ...string) {
	data, err := marshal(content)
	if err != nil {
		o.Fail(source, err, names...)
		return
	}
	o.Bytes(source, data, cause, names...)
}

// Fail records an artefact of which nothing could be had.
func (o *Output) Fail(source string, cause error, names ...string) {
	o.Bytes(source, nil, cause, names...)
}

// Object records one object as the API serves it.
func (o *Output) Object(ctx context.Context, r resource, namespace, name string, names ...string) {
	_ = o.Stream(ctx, "GET "+objectPath(r.gvr, namespace, name), maxObject,
		func(ctx context.Context) (io.ReadCloser, error) {
			return o.api.open(ctx, r.gvr, namespace, name, asJSON)
		}, names...) // recorded
}

// List records the objects of a list that keep wants, one a line, each as it
// was served. An error of keep ends the list. What List returns is recorded.
func (o *Output) List(ctx context.Context, l listing, keep func(json.RawMessage) (bool, error), names ...string) error {
	a := o.create(l.source(), names)
	if a == nil {
		return ErrBagClosed
	}
	w := &listWriter{to: o.progress.writer(a), resource: l.resource}
	err := o.api.each(ctx, l, func(item json.RawMessage) error {
		wanted, err := keep(item)
		if err == nil && wanted {
			err = w.add(item)
		}
		return err
	})
	if err == nil || w.items > 0 {
		err = cmpError(err, w.close())
	}
	o.end(a, err)
	return err
}

func all(json.RawMessage) (bool, error) { return true, nil }

// listWriter writes a list in the form of the API's own.
type listWriter struct {
	to       io.Writer
	resource resource
	items    int
	size     int64
}

func (w *listWriter) add(item json.RawMessage) error {
	if w.size += int64(len(item)); w.size > maxList {
		return fmt.Errorf("%w of %d bytes", errLimit, maxList)
	}
	separator := ",\n"
	if w.items == 0 {
		separator = w.opening()
	}
	w.items++
	_, err := w.to.Write(append([]byte(separator), item...))
	return err
}

func (w *listWriter) opening() string {
	return fmt.Sprintf("{\"apiVersion\":%q,\"kind\":%q,\"items\":[\n", w.resource.gvr.GroupVersion().String(),
		w.resource.kind+"List")
}

func (w *listWriter) close() error {
	end := "\n]}\n"
	if w.items == 0 {
		end = w.opening() + "]}\n"
	}
	_, err := io.WriteString(w.to, end)
	return err
}

func (o *Output) create(source string, names []string) *artefact {
	path := append(append([]string(nil), o.folder...), names...)
	a, err := o.bags.create(o.collector, source, o.confidential, path)
	if err != nil {
		o.bags.lose(err)
		o.stopIfBroken()
		return nil
	}
	o.progress.begin(a.Path())
	return a
}

func (o *Output) end(a *artefact, cause error) {
	_ = a.End(cause) // an error is the archive's
	o.progress.end()
	o.stopIfBroken()
}

func (o *Output) stopIfBroken() {
	if err := o.bags.err(); err != nil {
		o.abort(err)
	}
}
