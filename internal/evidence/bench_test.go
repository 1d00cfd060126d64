package evidence

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// logText is what a web service logs: a time, words that recur, numbers that do
// not.
func logText(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.Grow(size + 256)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	levels := []string{"INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG"}
	messages := []string{"GET /api/v1/todos", "POST /api/v1/todos", "GET /healthz", "DELETE /api/v1/todos",
		"login ok for user", "cache miss for key"}
	for b.Len() < size {
		at = at.Add(time.Duration(r.IntN(1e7)))
		fmt.Fprintf(&b, "%s %s [worker-%d] %s/%d status=%d duration=%dms trace=%016x client=10.%d.%d.%d\n",
			at.Format(time.RFC3339Nano), levels[r.IntN(len(levels))], r.IntN(16),
			messages[r.IntN(len(messages))], r.IntN(100_000), 200+r.IntN(5)*50, r.IntN(2000), r.Uint64(), r.IntN(256),
			r.IntN(256), r.IntN(256))
	}
	return b.Bytes()[:size]
}

// BenchmarkSeal seals a file of log text, 1 GiB by default
// (IRCTL_BENCH_MIB), in a process of its own, beside the pipelines that people
// would use instead, on the same machine in the same run. It reports each one's
// throughput, the processor time it takes (which a busy machine changes less),
// the ratio and, of irctl, the peak memory.
func BenchmarkSeal(b *testing.B) {
	mib, err := strconv.Atoi(os.Getenv("IRCTL_BENCH_MIB"))
	if err != nil {
		mib = 1024
	}
	g := newGnupg(b)
	g.key("Curve <curve@example.org>", "ed25519", "cv25519")
	dir := b.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, g.run("--export", "curve@example.org"), 0o600); err != nil {
		b.Fatal(err)
	}
	size := writeLog(b, filepath.Join(dir, "log"), mib)
	const gpg = `gpg --batch --quiet --trust-model always -r curve@example.org --encrypt`
	for _, tool := range []struct{ name, script string }{
		{"irctl", ""},
		{"irctl-with-redacted", ""},
		{"tar-gzip-gpg", `tar -C "$1" -cf - log | gzip | ` + gpg + ` --compress-algo none --output "$2"`},
		{"gpg", gpg + ` --output "$2" "$1/log"`},
		{"tar-zstd-gpg", `tar -C "$1" -cf - log | zstd -q | ` + gpg + ` --compress-algo none --output "$2"`},
	} {
		b.Run(tool.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				out := filepath.Join(b.TempDir(), "out"+Extension)
				// All are to be on the disk, as evidence has to be.
				cmd := exec.Command("bash", "-o", "pipefail", "-ec", tool.script+"\nsync \"$2\"", "bash", dir, out)
				if tool.script == "" {
					words := []string{"seal", key, filepath.Join(dir, "log"), out}
					if tool.name != "irctl" {
						words = append(words, filepath.Join(filepath.Dir(out), "shared"+Extension))
					}
					cmd = child(b, words...)
				}
				cmd.Stderr = os.Stderr
				peak, err := cmd.Output()
				if err != nil {
					b.Fatal(err)
				}
				if kib, err := strconv.Atoi(string(peak)); err == nil {
					b.ReportMetric(float64(kib>>10), "peak-MiB")
				}
				b.ReportMetric((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), "cpu-s")
				b.ReportMetric(float64(size)/float64(fileSize(b, out)), "ratio")
			}
		})
	}
}

// writeLog writes 64 MiB of text over and over: far apart enough for no
// compressor here to notice.
func writeLog(b *testing.B, path string, mib int) int64 {
	b.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	text := logText(min(mib, 64) << 20)
	for written := 0; written < mib<<20; written += len(text) {
		if _, err := f.Write(text); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return fileSize(b, path)
}

// BenchmarkVerify opens a bundle and checks every file in it.
func BenchmarkVerify(b *testing.B) {
	recipient, keys := testKey(b)
	path := b.TempDir() + "/bundle" + Extension
	bundle, err := Create(path, []Recipient{recipient}, nil, Meta{}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	text := logText(64 << 20)
	if err := bundle.Bag().AddBytes("test", "test", text, "log"); err != nil {
		b.Fatal(err)
	}
	if _, err := bundle.Finish(b.Context(), ""); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		checkBundle(b, path, Key{keyring: keys})
	}
}
