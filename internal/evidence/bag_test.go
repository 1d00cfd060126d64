package evidence

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func fixedClock() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func fileHash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:nameHash])
}

func hexDecode(dst []byte, s string) (int, error) { return hex.Decode(dst, []byte(s)) }

// The whole archive, but for the content of what is large, as people read it.
func TestGoldenBag(t *testing.T) {
	var out bytes.Buffer
	offset := 0.5
	bag, err := NewBag(&out, "investigation-20260102t030405.000z", Meta{
		Purpose: "investigation", Incident: "inc-20260102-030405-abcd",
		Actor: Actor{OSUser: "jane", Host: "laptop", User: "jane@example.org", Groups: []string{"responders"}},
		Cluster: Cluster{Server: "https://10.0.0.1:6443", UID: "kube-system-uid", Version: "v1.37.2", Context: "prod",
			ClockOffset: &offset},
		Tool:     Tool{Name: "irctl", Version: "v1.0.0", SHA256: strings.Repeat("ab", 32)},
		Timeline: &ChainHead{Seq: 7, SHA256: strings.Repeat("cd", 32)},
	}, fixedClock)
	if err != nil {
		t.Fatal(err)
	}
	add := func(content []byte, cause error, names ...string) {
		a, err := bag.Create("logs", "GET /api/v1/namespaces/todo-app/pods/x/log", names...)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = a.Write(content)
		if err := a.End(cause); err != nil {
			t.Fatal(err)
		}
	}
	add([]byte("hello\n"), nil, "pods", "todo-app", "x", "logs", "api", "current.log")
	add(bytes.Repeat([]byte("0123456789abcdef"), (PartSize+16)/16), fmt.Errorf("%w at the limit", ErrTruncated), "pods",
		"todo-app", "x", "logs", "api", "previous.log")
	add(nil, errors.New("the node is | gone \x1b[31m"), "pods", "todo-app", "x", "logs", "side", "current.log")
	add(nil, fmt.Errorf("%w: it has not started", ErrAbsent), "pods", "todo-app", "x", "logs", "init", "current.log")
	add([]byte("evil\n"), nil, "pods", "todo-app", "../../etc/Passwd")
	if _, err := bag.Close(""); err != nil {
		t.Fatal(err)
	}

	got := describeArchive(t, out.Bytes())
	const golden = "testdata/bag.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the bag is not as in %s (go test -update writes it):\n%s", golden, got)
	}
}

func describeArchive(t testing.TB, data []byte) string {
	t.Helper()
	var b strings.Builder
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "==> %s  %s  %04o  %d bytes  %s\n", h.Name, string(h.Typeflag), h.Mode, h.Size,
			h.ModTime.UTC().Format(time.RFC3339))
		if len(content) > 16<<10 {
			content = fmt.Appendf(nil, "%.32s…\n", content)
		}
		b.Write(content)
	}
}

func TestABagTakesManyArtefactsSideBySide(t *testing.T) {
	var out bytes.Buffer
	bag, err := NewBag(&out, "bag", Meta{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 16 {
		writers.Go(func() {
			a, err := bag.Create("test", "test", fmt.Sprintf("%02d", i))
			if err != nil {
				t.Error(err)
				return
			}
			for range 200 {
				if _, err := a.Write(bytes.Repeat([]byte{byte('a' + i)}, 50_000)); err != nil {
					t.Error(err)
				}
			}
			if err := a.End(nil); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	summary, err := bag.Close("")
	if err != nil || summary.PayloadBytes != 16*200*50_000 || !summary.Complete {
		t.Errorf("%v, %+v", err, summary)
	}
}

func TestNamesOfAnAttackerBecomeNoPaths(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"", ".", "..", "/", "../../etc/passwd", "a/b", `a\b`, "a\x00b", "a\nb", "\x1b[31m",
		"A", "a", "ä", "CON", "con", "nul.txt", "x~1", strings.Repeat("a", 1000),
		strings.Repeat("a", 1001), "-rf", ".hidden", "a.part00001", "trailing.", " "} {
		safe := SafeName(name)
		if !isSafePath(safe) || strings.Contains(safe, "/") || len(safe) > MaxName {
			t.Errorf("%q became %q", name, safe)
		}
		if other, taken := seen[strings.ToLower(safe)]; taken {
			t.Errorf("%q and %q both became %q", name, other, safe)
		}
		seen[strings.ToLower(safe)] = name
	}
}

func FuzzSafeName(f *testing.F) {
	f.Add("../x")
	f.Add("Con.txt")
	f.Fuzz(func(t *testing.T, name string) {
		if safe := SafeName(name); !isSafePath(safe) || strings.ContainsAny(safe, "/\\") {
			t.Errorf("%q became %q", name, safe)
		}
	})
}
