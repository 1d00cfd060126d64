//go:build unix

package timeline_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"irctl/internal/timeline"
)

// TestMain lets a test start this binary again as another process, which does
// what role says to the journal given as an argument.
func TestMain(m *testing.M) {
	roles := map[string]func(path string) error{
		"write until killed":     writeUntilKilled,
		"write over the limit":   writeOverTheLimit,
		"recover over the limit": recoverOverTheLimit,
	}
	if role, ok := roles[os.Getenv("TIMELINE_TEST_ROLE")]; ok {
		if err := role(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func process(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, path)
	cmd.Env = append(os.Environ(), "TIMELINE_TEST_ROLE="+role)
	return cmd
}

func run(t *testing.T, role, path string) {
	t.Helper()
	if out, err := process(t, role, path).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", role, err, out)
	}
}

// writeUntilKilled appends from several goroutines and prints the seq of
// every entry once it is acknowledged.
func writeUntilKilled(path string) error {
	l, err := timeline.Open(path, timeline.Options{Incident: incident})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				e, err := l.Append(timeline.Entry{Kind: timeline.KindNote, Summary: strings.Repeat("x", n*37%9000)})
				if err != nil {
					fmt.Println("error", err)
					return
				}
				fmt.Println(e.Seq)
			}
		})
	}
	wg.Wait()
	return nil
}

func TestKilledWriterLosesNoAcknowledgedEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "timeline.jsonl")
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		cmd := process(t, "write until killed", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		first, err := lines.ReadString('\n') // it is at work now
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(random.IntN(20_000))*time.Microsecond, func() { cmd.Process.Kill() })
		rest, err := io.ReadAll(lines)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Wait()

		last := int64(0)
		acknowledged := strings.SplitAfter(first+string(rest), "\n")
		for _, line := range acknowledged[:len(acknowledged)-1] { // what follows the last newline is torn
			seq, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			if err != nil {
				t.Fatalf("the writer says %q", line)
			}
			last = max(last, seq)
		}
		entries, err := timeline.Read(path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if int64(len(entries)) < last {
			t.Fatalf("round %d: %d entries, %d were acknowledged", round, len(entries), last)
		}
		for _, p := range verify(t, path).Problems {
			if p.Damage != timeline.Torn {
				t.Fatalf("round %d: %v", round, p)
			}
		}
	}
}

// fullDisk makes every file of this process end at size bytes.
func fullDisk(size uint64) error {
	signal.Ignore(syscall.SIGXFSZ) // so that the write fails instead
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

func writeOverTheLimit(path string) error {
	l, err := timeline.Open(path, timeline.Options{Incident: incident})
	if err != nil {
		return err
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := fullDisk(uint64(len(before)) + 100); err != nil {
		return err
	}
	for range 3 {
		if err := appendsFail(l); err != nil {
			return err
		}
		after, err := os.ReadFile(path)
		if err != nil || string(after) != string(before) {
			return fmt.Errorf("the file changed: %d bytes, were %d, %w", len(after), len(before), err)
		}
	}
	if err := fullDisk(1 << 40); err != nil {
		return err
	}
	if _, err := l.Append(timeline.Entry{Kind: timeline.KindNote, Summary: "space is back"}); err != nil {
		return err
	}
	return l.Close()
}

// appendsFail appends from several goroutines at once, which share writes.
func appendsFail(l *timeline.Log) error {
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			_, err := l.Append(timeline.Entry{Kind: timeline.KindNote, Summary: strings.Repeat("x", 500)})
			if errors.Is(err, syscall.EFBIG) && strings.Contains(err.Error(), "nothing was recorded") {
				err = nil
			} else {
				err = fmt.Errorf("Append over the limit: %w", err)
			}
			errs <- err
		}()
	}
	var err error
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	return err
}

func TestFailedWriteLeavesTheJournalAsItWas(t *testing.T) {
	path := journal(t, 2)
	run(t, "write over the limit", path)
	r := verify(t, path)
	if !r.OK() || r.Entries != 6 || r.HeadFile == nil || r.HeadFile.Seq != 6 {
		t.Errorf("report %+v", r)
	}
}

func recoverOverTheLimit(path string) error {
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := fullDisk(uint64(len(before)) + 10); err != nil {
		return err
	}
	if _, err := timeline.Open(path, timeline.Options{Incident: incident}); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("Open: %w", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		return fmt.Errorf("the torn line changed: %q, %w", after, err)
	}
	return nil
}

func TestTornLineSurvivesARecoveryThatFails(t *testing.T) {
	path := journal(t, 2)
	torn := `{"seq":6,"torn`
	writeFile(t, path, append(readFile(t, path), torn...))
	run(t, "recover over the limit", path)
	l := open(t, path)
	entries := l.Entries()
	if last := entries[len(entries)-1]; last.Kind != timeline.KindRecovered ||
		!strings.Contains(last.Data.String(), `torn`) {
		t.Errorf("last entry %+v", last)
	}
	if r := verify(t, path); !r.OK() || r.Entries != 6 {
		t.Errorf("report %+v", r)
	}
}
