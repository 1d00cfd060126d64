package evidence

import (
	"context"
	"io"
	"sync"
)

// Collector fetches one kind of artefact about one subject and puts it out. It
// reads only, bounds all it reads, and leaves no more than it says in memory.
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

// podCollectors is the one place where collectors of a pod are registered, in
// the order of volatility (RFC 3227, section 2.1): what is lost first is
// collected first. The pod comes before its logs because it is small and says
// which containers there are.
func podCollectors(pod *pod, limits Limits) []Collector {
	return []Collector{
		&podCollector{pod: pod},
		&logCollector{pod: pod, limit: limits.LogBytes},
		&eventCollector{pod: pod},
		&ownerCollector{pod: pod},
	}
}

// Output is where one collector puts what it collects: a folder of the bag.
// It may be used from many goroutines. Its methods return nothing: how each
// artefact ended is in its record, and an archive that cannot be written
// cancels the whole collection.
type Output struct {
	bag       *Bag
	collector string
	folder    []string
	requests  *requests
	progress  *progress
	abort     context.CancelCauseFunc
}

// Stream records an artefact: what open gives, up to limit bytes. The source
// is the request that it answers; the names are its path below the collector's
// folder. Stream waits until another request is allowed.
func (o *Output) Stream(ctx context.Context, source string, limit int64, open func(context.Context) (io.ReadCloser, error), names ...string) {
	var a *ArtefactWriter
	begin := sync.OnceFunc(func() { a = o.create(source, names) })
	err := o.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
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
}

// Bytes records an artefact that is at hand: complete or, with a cause, cut.
func (o *Output) Bytes(source string, content []byte, cause error, names ...string) {
	if a := o.create(source, names); a != nil {
		_, _ = o.progress.writer(a).Write(content) // an error is the archive's, and End has it too
		o.end(a, cause)
	}
}

// Fail records an artefact of which nothing could be had.
func (o *Output) Fail(source string, cause error, names ...string) {
	o.Bytes(source, nil, cause, names...)
}

func (o *Output) create(source string, names []string) *ArtefactWriter {
	path := append(append([]string(nil), o.folder...), names...)
	a, err := o.bag.Create(o.collector, source, path...)
	if err != nil {
		o.bag.lose(err)
		o.stopIfBroken()
		return nil
	}
	o.progress.begin(a.Path())
	return a
}

func (o *Output) end(a *ArtefactWriter, cause error) {
	_ = a.End(cause) // an error is the archive's
	o.progress.end()
	o.stopIfBroken()
}

func (o *Output) stopIfBroken() {
	if err := o.bag.Err(); err != nil {
		o.abort(err)
	}
}
