package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestMain lets the test binary be a process of its own, to be killed, or to
// have its memory measured: "child NAME ARGUMENT…" in the environment.
func TestMain(m *testing.M) {
	words := strings.Fields(os.Getenv(childEnv))
	if len(words) == 0 {
		os.Exit(m.Run())
	}
	if err := children[words[0]](words[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(peakMemory())
}

// peakMemory of this process in KiB. Not what the parent is told of a child:
// that begins with the parent's own.
func peakMemory() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
	return kib
}

const childEnv = "IRCTL_EVIDENCE_TEST_CHILD"

var children = map[string]func(args []string) error{
	"seal":     sealChild,
	"snapshot": snapshotChild,
}

// child is this program as another process, which collects garbage as irctl
// does, whatever GOGC the tests have: its memory is looked at.
func child(t testing.TB, words ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(words, " "), "GOGC=100")
	cmd.Stderr = os.Stderr
	return cmd
}

// sealChild puts a file into a bundle: seal KEYFILE FILE BUNDLE [SHARED].
func sealChild(args []string) error {
	recipients, err := LoadRecipients(context.Background(), args[:1])
	if err != nil {
		return err
	}
	f, err := os.Open(args[1])
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var bundles []*Bundle
	for _, path := range args[2:] {
		b, err := Create(path, recipients, nil, Meta{}, time.Now)
		if err != nil {
			return err
		}
		bundles = append(bundles, b)
	}
	bags := newBags(bundles)
	a, err := bags.create("test", args[1], false, []string{"log"})
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{a}, struct{ io.Reader }{f}, make([]byte, 32<<10))
	err = errors.Join(err, a.End(err), bags.finish())
	for _, b := range bundles {
		_, finishErr := b.Finish(context.Background(), "")
		err = errors.Join(err, finishErr)
	}
	return err
}

func podName(i int) string { return fmt.Sprintf("backend-%04d", i) }

// snapshotChild: snapshot KEYFILE SERVER PODS LOGBYTES BUNDLE.
func snapshotChild(args []string) error {
	recipients, err := LoadRecipients(context.Background(), args[:1])
	if err != nil {
		return err
	}
	var pods int
	var limit int64
	if _, err := fmt.Sscan(args[2]+" "+args[3], &pods, &limit); err != nil {
		return err
	}
	config := &rest.Config{Host: args[1], QPS: -1}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	req := Request{Client: kube, Dynamic: dyn, Config: config, Recipients: recipients, Path: args[4],
		Limits: Limits{LogBytes: limit, Time: time.Hour, Stall: time.Minute}}
	for i := range pods {
		req.Pods = append(req.Pods, PodRef{Namespace: "todo-app", Name: podName(i)})
	}
	_, err = Investigate(context.Background(), req)
	return err
}
