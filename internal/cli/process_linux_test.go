package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"irctl/internal/drill/sim"
	"irctl/internal/incident"
	"irctl/internal/timeline"
)

// stand is a cluster with a suspect, and a home for the processes that work on
// it. Each request is shown to at, which may hold it up.
type stand struct {
	*testing.T
	scene
	dir  string
	mu   sync.Mutex
	at   func(sim.Request) sim.Fault
	more []string // of the environment
}

func newStand(t *testing.T, more ...string) *stand {
	t.Helper()
	c, err := sim.New(sim.Options{Now: time.Now, Token: "sim-token"})
	if err == nil {
		err = c.Apply(sim.TodoApp)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{T: t, dir: t.TempDir(), more: more}
	s.cluster = c
	s.server = c.Server(func(r sim.Request) sim.Fault {
		s.mu.Lock()
		at := s.at
		s.mu.Unlock()
		if at == nil {
			return sim.Fault{}
		}
		return at(r)
	})
	s.listener = httptest.NewTLSServer(s.server)
	t.Cleanup(s.listener.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.listener.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(s.dir, "kubeconfig"), []byte(c.Kubeconfig(s.listener.URL, string(authority))),
		0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), "backend-") {
			s.suspect = p.GetName()
			break
		}
	}
	return s
}

func (s *stand) when(at func(sim.Request) sim.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
}

// once calls do when the nth request comes that is asked about, before it is
// executed.
func (s *stand) once(asked func(sim.Request) bool, nth int, do func()) {
	n, done := 0, sync.Once{}
	s.when(func(r sim.Request) sim.Fault {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !asked(r) {
			return sim.Fault{}
		}
		if n++; n != nth {
			return sim.Fault{}
		}
		return sim.Fault{Before: func() { done.Do(do) }}
	})
}

func (s *stand) contain() []string {
	return []string{"contain", "--pod", s.suspect, "-n", "todo-app", "--second-look", "0"}
}

// process is an irctl at work.
type process struct {
	*exec.Cmd
	t        *testing.T
	out, err *os.File // our ends
	mu       sync.Mutex
	text     bytes.Buffer // of standard error, or the terminal
	news     *sync.Cond
	ended    chan struct{}
	terminal *unix.Termios // how it was before the process began; nil: it has none
}

// heedHangup has the processes of a test heed SIGHUP, also where these tests run
// under nohup: a signal that is caught here has its default in what is started.
var heedHangup = sync.OnceFunc(func() { signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) })

func (s *stand) command(args ...string) *process {
	heedHangup()
	exe, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	p := &process{Cmd: exec.Command(exe, args...), t: s.T, ended: make(chan struct{})}
	p.news = sync.NewCond(&p.mu)
	p.Args[0] = "irctl"
	p.Dir = s.dir
	p.Env = append(os.Environ(), append([]string{"KUBECONFIG=" + filepath.Join(s.dir, "kubeconfig"), "XDG_STATE_HOME=" +
		filepath.Join(s.dir, "state"),
		"XDG_CONFIG_HOME=" + filepath.Join(s.dir, "config"), "TERM=xterm", "NO_COLOR=1"}, s.more...)...)
	s.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// piped starts a process whose output goes into pipes.
func (s *stand) piped(args ...string) *process {
	p := s.command(args...)
	var theirs [2]*os.File
	var errs [2]error
	p.out, theirs[0], errs[0] = os.Pipe()
	p.err, theirs[1], errs[1] = os.Pipe()
	p.Stdout, p.Stderr = theirs[0], theirs[1]
	if err := p.Start(); err != nil || errs[0] != nil || errs[1] != nil {
		s.Fatal(err, errs)
	}
	_, _ = theirs[0].Close(), theirs[1].Close()
	go func() { _, _ = io.Copy(io.Discard, p.out) }()
	read := make(chan struct{})
	go func() { defer close(read); p.read(p.err) }()
	go p.wait(read)
	return p
}

// onTerminal starts a process that leads the session of a terminal of its own.
// out is the terminal's other end, and in this process's err its own.
func (s *stand) onTerminal(args ...string) *process {
	p := s.command(args...)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		s.Skip("no terminals here:", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120})
	}
	if err != nil {
		s.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		s.Fatal(err)
	}
	if p.terminal, err = unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err != nil {
		s.Fatal(err)
	}
	p.Stdin, p.Stdout, p.Stderr = tty, tty, tty
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.Start(); err != nil {
		s.Fatal(err)
	}
	p.out, p.err = master, tty
	s.Cleanup(func() { _, _ = master.Close(), tty.Close() })
	read := make(chan struct{})
	go func() { defer close(read); p.read(master) }()
	go func() {
		_ = p.Wait()
		_, _ = tty.WriteString(theEnd)
		p.wait(read)
	}()
	return p
}

// theEnd is put after what a process said on its terminal.
const theEnd = "\x04"

func (p *process) read(from io.Reader) {
	r := bufio.NewReader(from)
	for {
		b, err := r.ReadByte()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.text.WriteByte(b)
		p.news.Broadcast()
		p.mu.Unlock()
		if b == theEnd[0] {
			return
		}
	}
}

// wait waits for the end, and until what was said is read; nil: nobody knows.
func (p *process) wait(read <-chan struct{}) {
	_ = p.Wait()
	if read != nil {
		<-read
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.ended)
	p.news.Broadcast()
}

// says waits until the process has said something.
func (p *process) says(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !strings.Contains(p.text.String(), what) {
		select {
		case <-p.ended:
			p.t.Errorf("it ended (%s) without saying %q, but:\n%s", p.ProcessState, what, p.text.String())
			return
		default:
			p.news.Wait()
		}
	}
}

func (p *process) send(sig syscall.Signal) { _ = p.Process.Signal(sig) }

// code waits for the end; a signal's is as a shell has it.
func (p *process) code() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		_ = p.Process.Signal(syscall.SIGQUIT)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("%v does not end: %s", p.Args, p.text.String())
	}
	if ws, ok := p.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ProcessState.ExitCode()
}

func (s *stand) ends(code int, p *process) {
	s.Helper()
	if got := p.code(); got != code {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.Errorf("%v: exit code %d, want %d:\n%s", p.Args, got, code, p.text.String())
	}
}

// journal is that of the only incident, which is whole; nil: there is none.
func (s *stand) journal() []timeline.Entry {
	s.Helper()
	store, err := incident.NewStore(filepath.Join(s.dir, "state", "irctl"), incident.Options{})
	if err != nil {
		s.Fatal(err)
	}
	all, errs := store.List(context.Background())
	if len(all) > 1 || len(errs) > 0 {
		s.Fatalf("%d incidents: %v", len(all), errs)
	}
	if len(all) == 0 {
		return nil
	}
	report, err := store.Verify(all[0].ID)
	if err != nil || len(report.Problems) > 0 {
		s.Errorf("the journal: %v, %v", report.Problems, err)
	}
	entries, err := store.Entries(all[0].ID)
	if err != nil {
		s.Error(err)
	}
	return entries
}

// partials are the files that are not finished.
func (s *stand) partials() []string {
	list, err := filepath.Glob(filepath.Join(s.dir, "state", "irctl", "incidents", "*", ".*.partial"))
	if err != nil {
		s.Fatal(err)
	}
	return list
}

func writes(r sim.Request) bool { return r.Writes() }
func plans(r sim.Request) bool  { return r.Verb == "list" && r.Resource == "networkpolicies" }

// verifies tells the requests after the last of so many writes.
func verifies(made int) func(sim.Request) bool {
	return func(r sim.Request) bool {
		if r.Writes() {
			made--
		}
		return made == 0 && !r.Writes()
	}
}

// looks is the cluster as a responder sees it, in whatever incident.
func (s *stand) looks() string {
	text := strings.ReplaceAll(s.summary(), s.suspect, "SUSPECT")
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return text
}

// contained is what a containment comes to that nobody interrupts.
func contained(t *testing.T) (code, made int, summary string) {
	s := newStand(t)
	p := s.piped(append(s.contain(), "--yes")...)
	code = p.code()
	if code != 0 && code != 3 {
		t.Fatalf("exit code %d: %s", code, p.text.String())
	}
	return code, s.server.Written(), s.looks()
}

// losing are the ways in which nobody is there any more.
var losing = map[string]func(*process){
	"SIGHUP":        func(p *process) { p.send(syscall.SIGHUP) },
	"a closed pipe": func(p *process) { _, _ = p.out.Close(), p.err.Close() },
}

func TestOnceApprovedChangesBeginNeitherHangupNorClosedPipeEndsThem(t *testing.T) {
	t.Parallel()
	code, made, want := contained(t)
	type stage struct {
		asked func() func(sim.Request) bool
		nth   int
	}
	stages := map[string]stage{"while it verifies": {func() func(sim.Request) bool { return verifies(made) }, 1}}
	for n := range made {
		stages[fmt.Sprintf("at write %d", n+1)] = stage{func() func(sim.Request) bool { return writes }, n + 1}
	}
	for how, lose := range losing {
		for when, at := range stages {
			t.Run(how+" "+when, func(t *testing.T) {
				s := newStand(t)
				begun := make(chan *process, 1)
				reached := false
				s.once(at.asked(), at.nth, func() { reached = true; lose(<-begun) })
				p := s.piped(append(s.contain(), "--yes")...)
				begun <- p
				s.ends(code, p)
				if !reached {
					t.Fatal("it never came so far")
				}
				if got := s.looks(); got != want {
					t.Errorf("the cluster is\n%s\nwant\n%s", got, want)
				}
				s.journal()
			})
		}
	}
}

func TestALostTerminalAfterTheAnswerEndsNothing(t *testing.T) {
	t.Parallel()
	code, _, want := contained(t)
	s := newStand(t)
	begun := make(chan *process, 1)
	s.once(writes, 1, func() { _ = (<-begun).out.Close() })
	p := s.onTerminal(s.contain()...)
	p.says("[y/N]")
	_, _ = p.out.WriteString("y\n")
	_ = p.err.Close() // nobody but the process has it now
	begun <- p
	s.ends(code, p)
	if got := s.looks(); got != want {
		t.Errorf("the cluster is\n%s\nwant\n%s", got, want)
	}
}

var ending = map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143}

func TestCtrlCAndTermStopAfterTheCallInFlightAndTheSameCommandGoesOn(t *testing.T) {
	t.Parallel()
	code, made, want := contained(t)
	for sig, exit := range ending {
		for n := 1; n <= made; n++ {
			t.Run(fmt.Sprintf("%s at write %d", sig, n), func(t *testing.T) {
				s := newStand(t)
				begun := make(chan *process, 1)
				s.once(writes, n, func() {
					p := <-begun
					p.send(sig)
					p.says("stopping after the call in flight")
				})
				p := s.piped(append(s.contain(), "--yes")...)
				begun <- p
				s.ends(exit, p)
				p.says("the same command goes on from there")
				entries := s.journal()
				if left := timeline.Pending(entries); len(left) > 0 {
					t.Errorf("%d intents without an outcome", len(left))
				}
				outcomes := map[timeline.Outcome]int{}
				for _, e := range entries {
					if e.Kind == timeline.KindOutcome {
						outcomes[e.Outcome]++
					}
				}
				// One that the server refuses, and that would be tried again, has failed.
				done, failed := outcomes[timeline.OutcomeDone], outcomes[timeline.OutcomeFailed]
				if made := s.server.Written(); done != made || done+failed != n || made < n-1 {
					t.Errorf("stopped at write %d, of which %d were made; the journal says %v", n, made, outcomes)
				}
				s.ends(code, s.piped(append(s.contain(), "--yes")...))
				if got := s.looks(); got != want {
					t.Errorf("the cluster is\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}

func TestBeforeChangesBeginASignalEndsItAndNothingWasChanged(t *testing.T) {
	t.Parallel()
	for sig, exit := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGHUP: 143} {
		t.Run(fmt.Sprintf("%s while it plans", sig), func(t *testing.T) {
			s := newStand(t)
			begun := make(chan *process, 1)
			s.once(plans, 1, func() {
				p := <-begun
				p.send(sig)
				<-p.ended
			})
			p := s.piped(append(s.contain(), "--yes")...)
			begun <- p
			s.ends(exit, p)
			p.says("nothing was changed")
			if s.server.Written() != 0 || s.journal() != nil {
				t.Error("something was")
			}
		})
		t.Run(fmt.Sprintf("%s at the question", sig), func(t *testing.T) {
			s := newStand(t)
			p := s.onTerminal(s.contain()...)
			p.says("[y/N]")
			p.send(sig)
			s.ends(exit, p)
			if s.server.Written() != 0 || s.journal() != nil {
				t.Error("something was changed")
			}
		})
	}
}

func TestAReaderOfAClosedPipeEndsSilently(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	s.ends(0, s.piped("incident", "open", "--title", "a"))
	for _, args := range [][]string{{"timeline", "show"}, {"incident", "list"}, append(s.contain(), "--dry-run")} {
		p := s.command(args...)
		ours, theirs, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = ours.Close()
		var said bytes.Buffer
		p.Stdout, p.Stderr = theirs, &said
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		_ = theirs.Close()
		p.wait(nil)
		s.ends(128+int(syscall.SIGPIPE), p)
		if strings.Contains(said.String(), "error") {
			t.Errorf("%v said %s", args, said.String())
		}
	}
}

// collecting is a request of an investigation, with the bundle begun.
func collecting(r sim.Request) bool { return r.Resource == "pods/log" }

func (s *stand) investigate() []string {
	return []string{"investigate", "--pod", s.suspect, "-n", "todo-app", "-r", "responder@example.org"}
}

func TestAnInterruptedInvestigationSealsWhatThereIs(t *testing.T) {
	keys := "GNUPGHOME=" + gnupgHome(t)
	for sig, exit := range map[syscall.Signal]int{syscall.SIGHUP: 143, syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		s := newStand(t, keys)
		begun := make(chan *process, 1)
		s.once(collecting, 1, func() {
			p := <-begun
			p.send(sig)
			<-p.ended
		})
		p := s.piped(s.investigate()...)
		begun <- p
		s.ends(exit, p)
		bundles, _ := filepath.Glob(filepath.Join(s.dir, "state", "irctl", "incidents", "*", "*.tar.gz.gpg"))
		if len(bundles) != 1 || len(s.partials()) > 0 {
			t.Fatalf("%s: bundles %v, unfinished %v", sig, bundles, s.partials())
		}
		s.ends(0, s.piped("evidence", "verify", bundles[0]))
	}
}

func TestWhatAKillLeavesIsNamedAndRemovedOnlyWhenAsked(t *testing.T) {
	s := newStand(t, "GNUPGHOME="+gnupgHome(t))
	begun := make(chan *process, 1)
	held, release := make(chan struct{}), make(chan struct{})
	s.once(collecting, 1, func() {
		close(held)
		select {
		case <-release:
		case <-(<-begun).ended:
		}
	})
	p := s.piped(s.investigate()...)
	begun <- p
	<-held
	s.when(nil)
	unfinished := s.partials()
	if len(unfinished) != 1 {
		t.Fatalf("unfinished are %v", unfinished)
	}
	names := func() string {
		status := s.command("status")
		out, err := status.Output()
		if err != nil {
			t.Fatalf("status: %v", err)
		}
		return string(out)
	}

	// It is at work on it.
	if text := names(); strings.Contains(text, "unfinished") {
		t.Errorf("status takes what is being written for a leftover:\n%s", text)
	}
	s.ends(0, s.piped("evidence", "clean", "--yes"))
	if got := s.partials(); !slices.Equal(got, unfinished) {
		t.Fatalf("what is being written was removed: %v", got)
	}

	_ = p.Process.Kill()
	<-p.ended
	if text := names(); !strings.Contains(text, unfinished[0]) || !strings.Contains(text, "irctl evidence clean") {
		t.Errorf("status does not name %s:\n%s", unfinished[0], text)
	}
	s.ends(4, s.piped("evidence", "clean"))
	if got := s.partials(); !slices.Equal(got, unfinished) {
		t.Fatalf("it was removed before anybody asked: %v", got)
	}
	s.ends(0, s.piped("evidence", "clean", "--yes"))
	if got := s.partials(); len(got) > 0 {
		t.Errorf("left are %v", got)
	}
}

// TestTheUIGivesTheTerminalBackWhenItIsEnded: also for whoever has it next.
func TestTheUIGivesTheTerminalBackWhenItIsEnded(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		s := newStand(t)
		p := s.onTerminal()
		p.says(s.suspect[:8]) // it is drawn, and so the terminal taken
		p.send(sig)
		s.ends(143, p)
		after, err := unix.IoctlGetTermios(int(p.err.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if *p.terminal != *after {
			t.Errorf("%s: the terminal is left as %+v, and was %+v", sig, *after, *p.terminal)
		}
		p.says("\x1b[?1049l")
	}
}

// TestACommandThatReadsForEverEndsAtTheFirstSignal: nobody writes to the pipe.
func TestACommandThatReadsForEverEndsAtTheFirstSignal(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	fifo := filepath.Join(s.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.piped("eradicate", "--set-from", "backend-secret/SECRET_KEY="+fifo, "--secret", "backend-secret")
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // returns once it is being read
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	p.send(syscall.SIGTERM)
	s.ends(143, p)
}

// TestAPipeWhereAFileIsNamed: what must be a file is refused at once where it is a
// pipe, that it may be one is waited for until the first signal.
func TestAPipeWhereAFileIsNamed(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	pipe := func(name string) string {
		path := filepath.Join(s.dir, name)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sealed, fifo, other := filepath.Join(s.dir, "b.tar.gz.gpg"), pipe("fifo"), pipe("other.yaml")
	if err := os.WriteFile(sealed, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe("b.tar.gz.gpg.json") // the receipt beside the bundle
	for _, args := range [][]string{
		{"evidence", "verify", sealed}, {"evidence", "verify", fifo}, {"evidence", "ls", fifo},
		{"runbook", "lint", other}, {"evidence", "cat", fifo, "x"},
		{"--config", fifo, "config", "validate"}, {"doctor", "--apply", other}, {"eradicate", "--apply", other},
	} {
		p := s.piped(args...)
		if p.code() == 0 {
			t.Errorf("%v: exit code 0", args)
		}
		if p.says("regular file"); p.ProcessState.ExitCode() > 128 {
			t.Errorf("%v: killed", args)
		}
	}
	for _, args := range [][]string{
		{"evidence", "verify", sealed + "2", "--key", fifo}, {"evidence", "verify", sealed + "2", "--tsa-ca", fifo},
		{"detect", "--falco", fifo, "--no-cluster"},
		{"detect", "--falco", fifo, "--watch", "--listen", "127.0.0.1:0", "--listen-token-file", fifo},
		{"investigate", "--pod", s.suspect, "-n", "todo-app", "-r", fifo}, {"drill", "serve", "--scenario", other},
		{"eradicate", "--postgres-admin", fifo}, {"eradicate", "--set-from", "a/B=" + fifo, "--secret", "a"},
	} {
		p := s.piped(args...)
		path := fifo
		if slices.Contains(args, other) {
			path = other
		}
		w, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		for began := time.Now(); errors.Is(err, unix.ENXIO) &&
			time.Since(began) < 20*time.Second; time.Sleep(10 * time.Millisecond) {
			w, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0) // until somebody reads it
		}
		if err != nil {
			p.send(syscall.SIGTERM)
			p.mu.Lock()
			t.Errorf("%v does not read the pipe: %v: %s", args, err, p.text.String())
			p.mu.Unlock()
			continue
		}
		p.send(syscall.SIGTERM)
		s.ends(143, p)
		_ = w.Close()
	}
}
