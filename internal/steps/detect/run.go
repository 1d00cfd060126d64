package detect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"irctl/internal/cluster"
	"irctl/internal/userfile"
)

// Request is where to look for suspects.
type Request struct {
	// Client of the cluster to look at; nil: the alerts alone are read.
	Client *cluster.Client
	// Namespace is the only one of interest; "": all, and what is in none.
	Namespace string
	// AlertsSince leaves out older alerts; zero: none. NewSince is from when on
	// an event, a binding or a bare pod of the cluster counts as new.
	AlertsSince, NewSince time.Time
	// Timeout bounds a look at the cluster; 0: nothing does.
	Timeout time.Duration
	// Inputs are read to their ends; Follow waits there for more.
	Inputs []Input
	Follow bool
	// Inside are the networks from which requests are expected, besides those
	// that are nobody's on the internet.
	Inside []netip.Prefix
}

// Input is a file of alerts.
type Input struct {
	// Source is SourceFalco or SourceAudit.
	Source Source
	// Path of the file; Reader is read instead, if it is set.
	Path   string
	Reader io.Reader
}

// Result is what was found.
type Result struct {
	// Suspects are the worst first.
	Suspects []Suspect `json:"suspects"`
	// More is how many further suspects there are, see Top.
	More int `json:"more,omitempty"`
	// Gaps are the looks that could not be taken, and what of the sources was not
	// understood.
	Gaps Gaps `json:"gaps,omitempty"`
	// Sources tells how much was read of each input.
	Sources []InputReport `json:"sources,omitempty"`
	// Dropped is how many findings were too many to keep.
	Dropped int64 `json:"dropped,omitempty"`
}

// Top keeps the first n suspects; 0: all.
func (r *Result) Top(n int) {
	if n > 0 && len(r.Suspects) > n {
		r.More += len(r.Suspects) - n
		r.Suspects = r.Suspects[:n]
	}
}

// Err is what kept an input from being read to its end.
func (r *Result) Err() error {
	var errs []error
	for _, s := range r.Sources {
		errs = append(errs, s.err)
	}
	return errors.Join(errs...)
}

// InputReport is how an input read.
type InputReport struct {
	Source Source `json:"source"`
	Path   string `json:"path"`
	Lines  int64  `json:"lines"`
	// Malformed lines were passed over, Long ones judged by their first
	// megabyte, Old ones left out as was asked for.
	Malformed int64 `json:"malformed,omitempty"`
	Long      int64 `json:"long,omitempty"`
	Old       int64 `json:"old,omitempty"`
	// Example says what was wrong with the first malformed line.
	Example string `json:"example,omitempty"`
	// Error is what kept it from being read to its end.
	Error string `json:"error,omitempty"`

	err     error
	foreign error // it is no text of one object a line
	ended   error // why it was not read to its end, though it could be
}

// Run is one search for suspects. Its methods may be called concurrently.
type Run struct {
	req   Request
	onNew func(Finding)

	mu       sync.Mutex
	tally    *Tally
	snapshot *Snapshot
	gaps     Gaps
	reports  []InputReport
	looked   bool // at the cluster, to the end
	done     bool
}

// NewRun prepares a search. onNew, if there is one, is told every finding that
// was not there before; it is called by one at a time.
func NewRun(req Request, onNew func(Finding)) *Run {
	if onNew == nil {
		onNew = func(Finding) {}
	}
	r := &Run{req: req, onNew: onNew, tally: NewTally(), snapshot: &Snapshot{}}
	for _, in := range req.Inputs {
		report := InputReport{Source: in.Source, Path: in.Path}
		if !req.Follow {
			report.ended = errUnread
		}
		r.reports = append(r.reports, report)
	}
	return r
}

// Find looks at the cluster once and reads every input to its end.
func Find(ctx context.Context, req Request) (*Result, error) {
	r := NewRun(req, nil)
	var noNamespace *cluster.NoNamespaceError
	if err := r.LookOnce(ctx); err != nil && (len(req.Inputs) == 0 || errors.As(err, &noNamespace)) {
		return nil, err
	}
	r.ReadInputs(ctx)
	return r.Result(), ctx.Err()
}

// LookOnce looks at the cluster, if there is one. The error is that nothing of
// it could be read at all, or that there is no such namespace. A look that is
// interrupted does not replace one that was not.
func (r *Run) LookOnce(ctx context.Context) error {
	if r.req.Client == nil {
		return nil
	}
	whole := ctx
	if r.req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.req.Timeout,
			fmt.Errorf("--timeout of %s is over: %w", r.req.Timeout, context.DeadlineExceeded))
		defer cancel()
	}
	s := Look(ctx, r.req.Client, r.req.Namespace, r.req.NewSince)
	if len(s.Pods) == 0 {
		if err := r.req.Client.CheckNamespace(ctx, r.req.Namespace); err != nil {
			return err
		}
	}
	var found []Finding
	gaps := s.Examine(func(f Finding) { found = append(found, f) })
	r.mu.Lock()
	if r.looked && whole.Err() != nil {
		r.mu.Unlock()
		return nil
	}
	r.gaps, r.looked = gaps, true
	if s.unread[pods] == nil {
		r.snapshot = s
	}
	r.mu.Unlock()
	for _, f := range found {
		r.Add(f)
	}
	if len(gaps) == len(checks) {
		return gaps[0].err
	}
	return nil
}

// ReadInputs reads all inputs, each by itself, until they end or the context
// does. A read that never returns, of a terminal say, is left behind.
func (r *Run) ReadInputs(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range r.req.Inputs {
		wg.Go(func() {
			report := r.read(ctx, i)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reports[i] = report
		})
	}
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		// Those that can be interrupted say how far they came.
		select {
		case <-ended:
		case <-time.After(inputGrace):
		}
	}
}

// inputGrace is how long inputs may take to notice that they are interrupted.
const inputGrace = time.Second

// Add takes a finding in: what the cluster knows of its subject is added, and
// what is of no interest left out.
func (r *Run) Add(f Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return
	}
	r.snapshot.complete(&f.Subject)
	if r.req.Namespace != "" && f.Subject.Namespace != r.req.Namespace {
		return
	}
	if kept, isNew := r.tally.Add(f); isNew {
		r.onNew(kept)
	}
}

// Result ends the search and ranks what it found.
func (r *Run) Result() *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
	res := &Result{Suspects: Rank(r.tally.Findings()), Gaps: slices.Clone(r.gaps), Sources: slices.Clone(r.reports),
		Dropped: r.tally.Dropped()}
	for _, s := range r.reports {
		if g := s.gap(); g != nil {
			res.Gaps = append(res.Gaps, *g)
		}
	}
	if r.looked && r.snapshot.byName != nil && len(r.snapshot.Pods) == 0 {
		why := noPods(r.req.Namespace)
		res.Gaps = append(res.Gaps, Gap{Check: "pods", Text: why.Error(), err: why, source: true})
	}
	for i := range res.Suspects {
		s := &res.Suspects[i]
		if s.Kind != "pod" || r.req.Client == nil || r.snapshot.byName == nil {
			continue
		}
		p := r.snapshot.Pod(s.Subject.Namespace, s.Subject.Pod)
		if s.Gone = p == nil || s.Subject.PodUID != string(p.UID); !s.Gone {
			s.Incident = incidentOf(p)
		}
	}
	return res
}

// noPods is that there was nothing to find a suspect among.
func noPods(namespace string) error {
	if namespace == "" {
		return errors.New("there are no pods in the cluster")
	}
	return fmt.Errorf("there are no pods in namespace %s", namespace)
}

// checkEvery is after how many lines it is looked whether to go on.
const checkEvery = 1024

// read reads one input. It never fails as a whole: what was wrong is in the report.
func (r *Run) read(ctx context.Context, i int) InputReport {
	in := r.req.Inputs[i]
	report := InputReport{Source: in.Source, Path: in.Path}
	err := func() error {
		source, err := in.open(ctx, r.req.Follow)
		if err != nil {
			return err
		}
		defer func() { _ = source.Close() }() // it was only read
		return r.readLines(ctx, newLineReader(source), r.parser(in.Source), &report, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reports[i] = report
		})
	}()
	var foreign errNoLines
	switch {
	case errors.As(err, &foreign):
		report.foreign, report.Example = err, err.Error()
	case err == nil, errors.Is(err, io.EOF):
	case ctx.Err() != nil && r.req.Follow: // which is how following ends
	case ctx.Err() != nil:
		report.ended = context.Cause(ctx)
	default:
		report.err = fmt.Errorf("reading %s: %w", in.Path, err)
		report.Error = report.err.Error()
	}
	return report
}

func (in Input) open(ctx context.Context, follow bool) (io.ReadCloser, error) {
	switch {
	case in.Reader != nil:
		return io.NopCloser(in.Reader), nil
	case follow:
		return openFollowed(ctx, in.Path)
	}
	return userfile.Stream(ctx, in.Path)
}

// parser is what makes findings of the lines of a source.
func (r *Run) parser(s Source) func(line []byte, whole bool, report func(Finding)) error {
	if s == SourceAudit {
		return newAuditReader(slices.Concat(Inside, r.req.Inside)).parse
	}
	return func(line []byte, whole bool, report func(Finding)) error {
		if !whole {
			return errLong
		}
		f, err := parseFalco(line)
		if err == nil {
			report(f)
		}
		return err
	}
}

var errLong = fmt.Errorf("a line of more than %d bytes", MaxLine)

// readLines reads to the end. While more is waited for, a read may never return:
// then so tells how far it came.
func (r *Run) readLines(ctx context.Context, lines *lineReader, parse func([]byte, bool, func(Finding)) error,
	report *InputReport, so func()) error {
	take := func(f Finding) {
		if !f.FirstSeen.IsZero() && f.FirstSeen.Before(r.req.AlertsSince) {
			report.Old++
			return
		}
		r.Add(f)
	}
	for {
		if report.Lines%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, whole, err := lines.next()
		if err != nil {
			return err
		}
		if report.Lines == 0 {
			if err := linesOf(line); err != nil {
				return err
			}
		}
		report.Lines++
		if !whole {
			report.Long++
		}
		if err = parse(line, whole, take); err != nil {
			if report.Malformed == 0 {
				report.Example = cut(err.Error(), maxReason)
			}
			report.Malformed++
		}
		if r.req.Follow {
			so()
		}
	}
}
