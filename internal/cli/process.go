package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"irctl/internal/engine"
	"irctl/internal/incident"
)

// Process runs the command line of this process, with its streams and its
// signals, and returns the exit code.
//
// The first Ctrl-C or SIGTERM stops things after the call in flight, the
// journal intact; a second one ends the process at once. SIGHUP is the same
// until approved changes begin. From then on neither it nor a closed pipe ends
// anything: a containment that stops half-way is worse than one nobody watches.
func Process() int {
	s := &signals{gone: make(chan struct{})}
	streams := System()
	streams.Out, streams.Err = stream{streams.Out, s}, stream{streams.Err, s}
	ctx := s.listen(context.Background(), streams.Err)
	ended := make(chan int, 1)
	go func() { ended <- Main(ctx, os.Args[1:], streams, os.Getenv) }()
	code := ExitError
	select {
	case code = <-ended:
	case <-s.stuck(ctx):
	}
	return s.conclude(streams.Err, code)
}

// patience is how long a command that has nothing to bring to an end may take
// to notice that it is interrupted. It may be reading a pipe nobody writes to.
const patience = 2 * time.Second

// signals are what ends this process before its time, and what they may end.
// The methods of nil do nothing: not everything runs as a process.
type signals struct {
	interrupt context.CancelCauseFunc
	gone      chan struct{} // closed once the terminal is gone and nothing ends for it

	mu       sync.Mutex
	work     engine.Work
	incident incident.ID
	lost     bool // the terminal, while approved changes are made
	expects  bool // a signal is how the command ends
	silent   bool
	ended    *interruption // nil: no signal ended anything
}

// interruption is the signal that ended a command, as a cause.
type interruption struct {
	signal os.Signal
	meant  bool // it is how the command ends
}

func (i *interruption) Error() string {
	switch i.signal {
	case os.Interrupt:
		return "interrupted by Ctrl-C"
	case syscall.SIGHUP:
		return "interrupted, since the terminal is gone (SIGHUP)"
	}
	return "interrupted by SIGTERM"
}

// Unwrap makes it what code that knows of no signals expects.
func (i *interruption) Unwrap() error { return context.Canceled }

func (i *interruption) code() int {
	if i.signal == os.Interrupt {
		return ExitInterrupted
	}
	return ExitTerminated
}

type signalsKey struct{}

// signalsOf are those of the process that a context belongs to; nil: none.
func signalsOf(ctx context.Context) *signals {
	s, _ := ctx.Value(signalsKey{}).(*signals)
	return s
}

// listen is a context that signals end; what they do not end at once is said.
func (s *signals) listen(parent context.Context, out io.Writer) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	s.interrupt = cancel
	caught := make(chan os.Signal, 8)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(caught, syscall.SIGHUP)
	}
	go func() {
		for sig := range caught {
			if s.arrived(sig) {
				signal.Reset(os.Interrupt, syscall.SIGTERM) // the next one ends at once
				s.announce(out)
			}
		}
	}()
	return context.WithValue(ctx, signalsKey{}, s)
}

// arrived does what a signal asks for, and reports whether it ends the command.
func (s *signals) arrived(sig os.Signal) (ends bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sig == syscall.SIGHUP && s.work == engine.Changing {
		if !s.lost {
			s.lost = true
			close(s.gone)
		}
		return false
	}
	if s.ended != nil {
		return sig != syscall.SIGHUP
	}
	s.ended = &interruption{sig, s.expects}
	s.interrupt(s.ended)
	return true
}

// announce says that something is still brought to an end.
func (s *signals) announce(out io.Writer) {
	s.mu.Lock()
	work, quiet := s.work, s.silent || s.ended.meant
	s.mu.Unlock()
	switch {
	case quiet:
	case work == engine.Changing:
		fmt.Fprintf(out, "%s: stopping after the call in flight; once more ends it at once\n", s.ended)
	case work == engine.Collecting:
		fmt.Fprintf(out, "%s: sealing what there is; once more ends it at once\n", s.ended)
	}
}

// begin notes what must not be left half done from here on, and in which
// incident it is. What has begun stays begun: its result is still to be printed.
func (s *signals) begin(w engine.Work, id incident.ID) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work == "" {
		// Caught, it is an error of the write. Ignored, it would be so in the
		// commands that irctl starts, too.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
	if s.work != engine.Changing {
		s.work = w
	}
	s.incident = id
}

// changing is begin for commands that change an incident's record alone.
func (s *signals) changing(id incident.ID) { s.begin(engine.Changing, id) }

// hangup is closed when the terminal is gone while approved changes are made.
// Then questions count as answered with no.
func (s *signals) hangup() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.gone
}

// expected says that a signal is how the command ends from here on: its exit
// code tells what it saw, not that it ended.
func (s *signals) expected() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expects = true
}

// hush keeps it from saying what stands, where the front end does: the UI draws
// on the terminal, and a drill has its score.
func (s *signals) hush() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

// stuck is closed when a command was interrupted, has nothing to bring to an
// end, and does not end all the same.
func (s *signals) stuck(ctx context.Context) <-chan struct{} {
	stuck := make(chan struct{})
	context.AfterFunc(ctx, func() {
		time.Sleep(patience)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.work == "" && !s.expects {
			close(stuck)
		}
	})
	return stuck
}

// conclude is the exit code of a command that ended with this one. If a signal
// ended it, what stands is said.
func (s *signals) conclude(out io.Writer, code int) int {
	s.mu.Lock()
	ended, work, id, silent := s.ended, s.work, s.incident, s.silent
	s.mu.Unlock()
	if ended == nil || ended.meant {
		return code
	}
	switch {
	case silent:
	case work == engine.Changing && id != "":
		fmt.Fprintf(out, "%s: what was done stands, and is in the journal (irctl status %s shows it); "+
			"the same command goes on from there\n", ended, id)
	case work == engine.Changing:
		fmt.Fprintf(out, "%s: what was done stands; the same command goes on from there\n", ended)
	case work == engine.Collecting:
		fmt.Fprintf(out, "%s: what was collected by then is sealed; the same command collects anew\n", ended)
	default:
		fmt.Fprintf(out, "%s: nothing was changed\n", ended)
	}
	return ended.code()
}

// stream is standard output or error. While something is at work that must not
// be left half done, it takes what nobody reads any more.
type stream struct {
	to      io.Writer
	signals *signals
}

func (w stream) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if err != nil && unheard(err) && w.signals.deaf() {
		return len(p), nil
	}
	return n, err
}

// deaf: output that cannot be delivered is no reason to stop.
func (s *signals) deaf() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.work != "" || s.ended != nil
}

// unheard: the pipe is closed, or the terminal is gone.
func unheard(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO) }
