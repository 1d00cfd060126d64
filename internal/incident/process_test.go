//go:build unix

package incident_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"irctl/internal/incident"
	"irctl/internal/timeline"
)

// TestMain lets a test start this binary again as another process, which does
// what role says with the state directory given as an argument.
func TestMain(m *testing.M) {
	roles := map[string]func(dir string) error{
		"hold":      hold,
		"join":      join,
		"note":      noteUntilKilled,
		"create":    createUntilKilled,
		"umask-000": func(dir string) error { return createWithUmask(0, dir) },
		"umask-022": func(dir string) error { return createWithUmask(0o22, dir) },
		"umask-077": func(dir string) error { return createWithUmask(0o77, dir) },
		"read-only": useReadOnly,
	}
	if role, ok := roles[os.Getenv("INCIDENT_TEST_ROLE")]; ok {
		if err := role(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func process(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, dir)
	cmd.Env = append(os.Environ(), "INCIDENT_TEST_ROLE="+role)
	return cmd
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// hold opens the one incident of the store and keeps it until it is killed.
func hold(dir string) error {
	s, err := incident.NewStore(dir, options())
	if err != nil {
		return err
	}
	id, err := s.Find("inc-")
	if err != nil {
		return err
	}
	if _, err := s.Open(context.Background(), id, alice); err != nil {
		return err
	}
	fmt.Println("held")
	time.Sleep(time.Hour)
	return nil
}

func TestIncidentInUseNamesTheHolderAndIsFreeOnceThatIsKilled(t *testing.T) {
	s := store(t)
	id, _ := closed(t, s)
	holder := process(t, "hold", s.Dir())
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	holder.Stderr = os.Stderr
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatal(line, err)
	}

	start := time.Now()
	_, err = s.Open(t.Context(), id, alice)
	var locked *incident.LockedError
	if !errors.Is(err, incident.ErrLocked) || !errors.As(err, &locked) {
		t.Fatalf("error %v", err)
	}
	if waited := time.Since(start); waited < options().LockWait || waited > 5*time.Second {
		t.Errorf("waited %v", waited)
	}
	if locked.Holder == nil || locked.Holder.PID != holder.Process.Pid || !locked.Holder.Since.Equal(options().Now()) {
		t.Errorf("holder %+v, want pid %d", locked.Holder, holder.Process.Pid)
	}
	for _, part := range []string{string(id), strconv.Itoa(holder.Process.Pid), "2026-01-02T15:04:05Z", `"bastion"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the message does not name %s: %v", part, err)
		}
	}
	if _, err := s.Load(id); err != nil {
		t.Errorf("reading needs no lock: %v", err)
	}
	if list, errs := s.List(t.Context()); len(list) != 1 || len(errs) != 0 {
		t.Errorf("listing needs no lock: %v", errs)
	}

	holder.Process.Kill()
	holder.Wait()
	reopen(t, s, id)
}

// noteUntilKilled adds notes to the one incident of the store, and says which.
func noteUntilKilled(dir string) error {
	s, err := incident.NewStore(dir, incident.Options{LockWait: time.Minute})
	if err != nil {
		return err
	}
	id, err := s.Find("inc-")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		text := fmt.Sprintf("note %d of process %d", n, os.Getpid())
		if _, err := s.Append(id, alice, timeline.Entry{Kind: timeline.KindNote, Summary: text}); err != nil {
			return err
		}
		fmt.Println(text)
	}
}

// TestNotesOfOtherProcessesGoInWhileThisOneActs: neither waits for the other,
// and what a process that is killed has said was recorded is there.
func TestNotesOfOtherProcessesGoInWhileThisOneActs(t *testing.T) {
	s, err := incident.NewStore(store(t).Dir(), incident.Options{LockWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Create(t.Context(), fresh)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var others []*exec.Cmd
	var said []*bytes.Buffer
	for range 3 {
		cmd, out := process(t, "note", s.Dir()), &bytes.Buffer{}
		cmd.Stdout, cmd.Stderr = out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		others, said = append(others, cmd), append(said, out)
	}
	own := 0
	for deadline := time.Now().Add(time.Minute); ; own++ {
		if _, err := h.Log.Append(timeline.Entry{Kind: timeline.KindNote,
			Summary: fmt.Sprintf("own %d", own)}); err != nil {
			t.Fatal(err)
		}
		if len(h.Log.Entries()) > own+20 { // some of theirs are among them
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d entries, of which %d are mine", len(h.Log.Entries()), own)
		}
	}
	for _, cmd := range others {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if _, err := h.Log.Append(timeline.Entry{Kind: timeline.KindNote, Summary: "the last"}); err != nil {
		t.Fatal(err)
	}
	recorded := map[string]bool{}
	for _, e := range h.Log.Entries() {
		recorded[e.Summary] = true
	}
	for n := range own {
		if !recorded[fmt.Sprintf("own %d", n)] {
			t.Errorf("my entry %d is lost", n)
		}
	}
	for _, out := range said {
		for line := range strings.Lines(out.String()) {
			if text, whole := strings.CutSuffix(line, "\n"); whole && !recorded[text] {
				t.Errorf("lost: %s", text)
			}
		}
	}
	path, err := s.TimelinePath(h.Incident().ID)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := timeline.Verify(path); err != nil || !r.OK() || r.Entries != int64(len(h.Log.Entries())) {
		t.Errorf("%+v, %v", r, err)
	}
}

// join finds or creates the incident of the one target there is.
func join(dir string) error {
	s, err := incident.NewStore(dir, incident.Options{LockWait: time.Minute})
	if err != nil {
		return err
	}
	h, _, err := s.Join(context.Background(), func(i incident.Incident) bool {
		return i.Targets[0].UID == target.UID
	}, fresh)
	if err != nil {
		return err
	}
	return h.Close()
}

func TestProcessesThatRaceForATargetCreateOneIncident(t *testing.T) {
	s := store(t)
	var all []*exec.Cmd
	for range 8 {
		cmd := process(t, "join", s.Dir())
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	list, errs := s.List(t.Context())
	if len(list) != 1 || len(errs) != 0 {
		t.Errorf("%d incidents, %v", len(list), errs)
	}
}

func createUntilKilled(dir string) error {
	s, err := incident.NewStore(dir, incident.Options{})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		h, err := s.Create(context.Background(), fresh)
		if err != nil {
			return err
		}
		if err := h.CloseIncident("done"); err != nil {
			return err
		}
		if err := h.Close(); err != nil {
			return err
		}
	}
}

func TestKilledCreateLeavesWholeIncidentsOrNone(t *testing.T) {
	s := store(t)
	made := func() bool {
		list, _ := s.List(t.Context())
		return len(list) > 0
	}
	// On a busy machine it takes longer until there is one.
	for round := 0; round < 12 || round < 200 && !made(); round++ {
		cmd := process(t, "create", s.Dir())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(round) * 1300 * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	list, errs := s.List(t.Context())
	if len(errs) != 0 || len(list) == 0 {
		t.Errorf("%d incidents; %v", len(list), errs)
	}
	for _, i := range list {
		h := reopen(t, s, i.ID)
		if n := len(h.Log.Entries()); n == 0 {
			t.Errorf("%s has no opened entry", i.ID)
		}
		h.Close()
	}
	create(t, s)
}

func createWithUmask(umask int, dir string) error {
	syscall.Umask(umask)
	s, err := incident.NewStore(filepath.Join(dir, "a", "b"), options())
	if err != nil {
		return err
	}
	h, err := s.Create(context.Background(), fresh)
	if err != nil {
		return err
	}
	return h.Close()
}

// TestWhatIrctlMakesIsPrivateWhateverTheUmask: directories are 0700, files 0600.
func TestWhatIrctlMakesIsPrivateWhateverTheUmask(t *testing.T) {
	for _, umask := range []string{"000", "022", "077"} {
		t.Run(umask, func(t *testing.T) {
			dir := t.TempDir()
			run(t, process(t, "umask-"+umask, dir))
			seen := 0
			for path, mode := range modes(t, filepath.Join(dir, "a")) {
				seen++
				if mode.IsDir() && mode.Perm() != 0o700 || !mode.IsDir() && mode.Perm() != 0o600 {
					t.Errorf("%s is %v", path, mode)
				}
			}
			if seen < 7 {
				t.Errorf("looked at %d files only", seen)
			}
		})
	}
}

// TestAForeignDirectoryKeepsItsModeAndIsNotWrittenTo: what irctl did not make is
// not its to close. It can be read; a write is refused, and says what to do.
func TestAForeignDirectoryKeepsItsModeAndIsNotWrittenTo(t *testing.T) {
	const chmod, another = "chmod 700 ", "name a directory that is for irctl alone, such as "
	for _, tc := range []struct {
		name, of string // below the state directory
		mode     fs.FileMode
		foreign  bool // somebody else's file is in it
		remedy   string
	}{
		{"as mkdir makes it", "", 0o755, false, chmod},
		{"the group may write", "", 0o770, false, chmod},
		{"others may only pass", "", 0o711, false, chmod},
		{"for everybody, such as /tmp", "", fs.ModeSticky | 0o777, false, another},
		{"with files of others", "", 0o755, true, another},
		{"the folder of incidents", "incidents", 0o755, false, chmod},
		{"an incident", "incidents/ID", 0o750, false, chmod},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := store(t)
			id, incidentDir := closed(t, s)
			dir := filepath.Join(s.Dir(), strings.Replace(tc.of, "ID", string(id), 1))
			if tc.foreign {
				if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("ours"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, tc.mode); err != nil {
				t.Fatal(err)
			}
			before := tree(t, s.Dir())
			s, err := incident.NewStore(s.Dir(), options())
			if err != nil {
				t.Fatal(err)
			}
			if list, errs := s.List(t.Context()); len(list) != 1 || len(errs) != 0 {
				t.Errorf("reading: %d incidents, %v", len(list), errs)
			}
			if r, err := s.Verify(id); err != nil || !r.OK() {
				t.Errorf("verifying: %+v, %v", r, err)
			}
			_, openErr := s.Open(t.Context(), id, alice)
			_, noteErr := s.Append(id, alice, timeline.Entry{Kind: timeline.KindNote, Summary: "x"})
			refused := []error{openErr, noteErr}
			if dir != incidentDir {
				_, createErr := s.Create(t.Context(), fresh)
				_, _, joinErr := s.Join(t.Context(), func(incident.Incident) bool { return false }, fresh)
				refused = append(refused, createErr, joinErr, s.CheckWritable())
			}
			for _, err := range refused {
				if !errors.Is(err, incident.ErrNotPrivate) || !strings.Contains(fmt.Sprint(err), tc.remedy+dir) {
					t.Errorf("error %v", err)
				}
			}
			if diff := cmp.Diff(before, tree(t, s.Dir())); diff != "" {
				t.Error(diff)
			}
			// The remedy is one.
			if next := filepath.Join(dir, "irctl"); tc.remedy == another {
				if s, err = incident.NewStore(next, options()); err == nil {
					err = s.CheckWritable()
				}
			} else {
				err = os.Chmod(dir, 0o700)
			}
			if err != nil {
				t.Fatal(err)
			}
			create(t, s)
		})
	}
}

// tree is everything that can be seen of a directory: names, modes, contents,
// and when they were written.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for path := range modes(t, root) {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		text := []byte{}
		if info.Mode().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
		got[path] = fmt.Sprint(info.Mode(), " ", info.ModTime().UnixNano(), " ", string(text))
	}
	return got
}

// TestReadingMakesNothing: neither the state directory, nor a lock, nor a repair
// of what a crash left.
func TestReadingMakesNothing(t *testing.T) {
	base := t.TempDir()
	s, err := incident.NewStore(filepath.Join(base, "a", "irctl"), options())
	if err != nil {
		t.Fatal(err)
	}
	if list, errs := s.List(t.Context()); len(list)+len(errs) != 0 {
		t.Errorf("%v %v", list, errs)
	}
	if _, err := s.Find("inc-"); !errors.Is(err, incident.ErrNotFound) {
		t.Error(err)
	}
	if err := s.CheckWritable(); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(base); err != nil || len(names) != 0 {
		t.Errorf("made: %v %v", names, err)
	}

	id, dir := closed(t, s)
	yaml := filepath.Join(dir, "incident.yaml")
	text, err := os.ReadFile(yaml)
	if err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, s, id).CloseIncident("over"); err != nil {
		t.Fatal(err)
	}
	// As a crash leaves it: incident.yaml is behind, a line is torn, no lock is there.
	journal, err := os.OpenFile(filepath.Join(dir, "timeline.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = journal.WriteString(`{"seq":3`)
	if err := errors.Join(err, journal.Close(), os.WriteFile(yaml, text, 0o600),
		os.Remove(filepath.Join(dir, "timeline.head")),
		os.Remove(filepath.Join(dir, "timeline.lock")), os.Remove(filepath.Join(dir, "lock"))); err != nil {
		t.Fatal(err)
	}
	before := tree(t, base)
	h, err := s.Look(id)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(h.Log.Entries()); n != 2 || h.Log.Head().Seq != 2 {
		t.Errorf("%d entries, head %+v", n, h.Log.Head())
	}
	if _, err := h.Log.Append(timeline.Entry{Kind: timeline.KindNote, Summary: "x"}); !errors.Is(err,
		timeline.ErrClosed) {
		t.Errorf("written: %v", err)
	}
	if err := h.AddTargets([]incident.Target{{Kind: "Pod", Name: "x"}}); !errors.Is(err, incident.ErrReading) {
		t.Errorf("changed: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	copied, err := s.LookDir(dir)
	if err != nil || copied.Incident().ID != id {
		t.Errorf("%v", err)
	}
	_, verifyErr := s.Verify(id)
	_, entriesErr := s.Entries(id)
	if err := errors.Join(verifyErr, entriesErr); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, tree(t, base)); diff != "" {
		t.Error(diff)
	}
}

func TestStateDirectoryThatCannotBeUsed(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	real, link, dangling := filepath.Join(base, "real"), filepath.Join(base, "link"), filepath.Join(base, "dangling")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, link),
		os.Symlink(filepath.Join(base, "none"), dangling)); err != nil {
		t.Fatal(err)
	}
	linkedInside := filepath.Join(base, "inside")
	if err := errors.Join(os.Mkdir(linkedInside, 0o700),
		os.Symlink(real, filepath.Join(linkedInside, "incidents"))); err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{
		"under a file":             filepath.Join(file, "irctl"),
		"deep under a file":        filepath.Join(file, "a", "b", "irctl"),
		"a file":                   file,
		"a symbolic link":          link,
		"a dangling symbolic link": dangling,
		"a symbolic link inside":   linkedInside,
	}
	if os.Geteuid() == 0 {
		other := filepath.Join(base, "other")
		if err := errors.Join(os.Mkdir(other, 0o700), os.Chown(other, 12345, -1)); err != nil {
			t.Fatal(err)
		}
		dirs["another user's"] = other
	} else {
		dirs["another user's"] = "/"
	}
	for name, dir := range dirs {
		t.Run(name, func(t *testing.T) {
			s, err := incident.NewStore(dir, options())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.CheckWritable(); !errors.Is(err, incident.ErrStateDir) {
				t.Errorf("checking: %v", err)
			}
			_, err = s.Create(t.Context(), fresh)
			if !errors.Is(err, incident.ErrStateDir) || !strings.Contains(err.Error(), dir) ||
				!strings.Contains(err.Error(), "IRCTL_STATE_DIR") {
				t.Errorf("error %v", err)
			}
		})
	}
	if entries, err := os.ReadDir(real); err != nil || len(entries) != 0 {
		t.Errorf("something was created through the link: %v %v", entries, err)
	}
}

// useReadOnly checks what a store whose directory cannot be written can do.
func useReadOnly(dir string) error {
	if err := makeReadOnly(dir); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600); err == nil {
		return errors.New("the directory can be written: the test tests nothing")
	}
	clear := func(what string, err error) error {
		if errors.Is(err, incident.ErrStateDir) && strings.Contains(err.Error(), dir) &&
			strings.Contains(err.Error(), "IRCTL_STATE_DIR") &&
			(errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)) {
			return nil
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	s, err := incident.NewStore(dir, options())
	if err != nil {
		return fmt.Errorf("a store that can be read: %w", err)
	}
	list, errs := s.List(context.Background())
	if len(list) != 1 || len(errs) != 0 {
		return fmt.Errorf("%d incidents, %v", len(list), errs)
	}
	if r, err := s.Verify(list[0].ID); err != nil || !r.OK() {
		return fmt.Errorf("verify: %v, %w", r, err)
	}
	_, createErr := s.Create(context.Background(), fresh)
	_, openErr := s.Open(context.Background(), list[0].ID, alice)
	_, _, joinErr := s.Join(context.Background(), func(incident.Incident) bool { return true }, fresh)
	inside, err := incident.NewStore(filepath.Join(dir, "new"), options())
	if err != nil {
		return err
	}
	_, newErr := inside.Create(context.Background(), fresh)
	return errors.Join(clear("create", createErr), clear("open", openErr), clear("join", joinErr),
		clear("check", s.CheckWritable()),
		clear("new store", newErr), clear("check of a new store", inside.CheckWritable()))
}

func TestReadOnlyStateDirectory(t *testing.T) {
	s := store(t)
	closed(t, s)
	cmd := process(t, "read-only", s.Dir())
	readOnlyProcess(cmd)
	t.Cleanup(func() { makeWritable(t, s.Dir()) })
	run(t, cmd)
}

// takeAwayWriting is what stops everybody but root.
func takeAwayWriting(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o500)
		}
		return os.Chmod(path, 0o400)
	})
}

func makeWritable(t *testing.T, dir string) {
	t.Helper()
	for path, mode := range modes(t, dir) {
		if mode.IsDir() {
			if err := os.Chmod(path, 0o700); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestWithLockIsExclusive(t *testing.T) {
	s := store(t)
	err := s.WithLock(t.Context(), func() error {
		err := s.WithLock(t.Context(), func() error { t.Error("two at a time"); return nil })
		if !errors.Is(err, incident.ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
			t.Errorf("error %v", err)
		}
		return errors.New("from inside")
	})
	if err == nil || err.Error() != "from inside" {
		t.Errorf("error %v", err)
	}
	if err := s.WithLock(t.Context(), func() error { return nil }); err != nil {
		t.Error(err)
	}
}
