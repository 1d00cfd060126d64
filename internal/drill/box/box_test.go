package box_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"irctl/internal/drill/box"
)

var now = time.Date(2026, 2, 12, 3, 7, 0, 0, time.UTC)

// infected is a container with a miner, whose binary is deleted.
func infected() *box.Box {
	ip := netip.MustParseAddr("10.244.0.7")
	return &box.Box{Hostname: "backend-1", IP: ip, Env: []string{"SECRET_KEY=s3cret"}, UID: 1000,
		Users: map[string]int64{"appuser": 1000}, Shell: true, Now: now,
		Processes: []box.Process{{PID: 1, UID: 1000, Command: "uvicorn app:app", Env: []string{"SECRET_KEY=s3cret"},
			Started: now.Add(-48 * time.Hour)},
			{PID: 31, Parent: 1, UID: 1000, Command: "/tmp/.x/miner -c c.json", Started: now.Add(-10 * time.Minute),
				CPU: 150}},
		Sockets: []box.Socket{{PID: 1, Local: netip.MustParseAddrPort("0.0.0.0:8000")},
			{PID: 31, Local: netip.AddrPortFrom(ip, 41022), Remote: netip.MustParseAddrPort("198.51.100.23:443")}},
		Files: []box.File{{Path: "/tmp/.x/miner", Mode: 0o755, UID: 1000, Size: 70_000, Deleted: true},
			{Path: "/tmp/.x/c.json", Mode: 0o600, UID: 1000, Content: "{}\n", Modified: now.Add(-10 * time.Minute)},
			{Path: "/app/data", Link: "/srv/data"},
			{Path: "/srv/data/notes.txt", Mode: 0o644, Content: "one\ntwo\nthree\n"}},
		Mounts: []box.Mount{{Path: "/srv", Type: "nfs", Source: "10.0.0.9:/srv"}}}
}

func run(t *testing.T, b *box.Box, in string, command ...string) (string, string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	code, err := b.Run(t.Context(), command, box.Streams{In: strings.NewReader(in), Out: &out, Err: &errs})
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return out.String(), errs.String(), code
}

func TestShell(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		script, out, err string
		code             int
	}{
		{"id", "uid=1000(appuser) gid=1000(appuser) groups=1000(appuser)\n", "", 0},
		{"echo $SECRET_KEY; whoami; hostname", "s3cret\nappuser\nbackend-1\n", "", 0},
		{`for p in /proc/[0-9]*; do tr '\0' ' ' <"$p/cmdline"; echo; done`,
			"uvicorn app:app \n/tmp/.x/miner -c c.json \n", "", 0},
		{`tr '\0' '\n' <"/proc/31/environ" || true; cat /proc/1/environ | tr '\0' '\n'`, "SECRET_KEY=s3cret\n", "", 0},
		{"cd /app/data && ls && head -n 1 notes.txt && tail -1 notes.txt; tail -c 4 notes.txt",
			"notes.txt\none\nthree\nree\n", "", 0},
		{"grep -n t /srv/data/notes.txt; grep -q nothing /srv/data/notes.txt || echo none", "2:two\n3:three\nnone\n",
			"", 0},
		{"ls /nowhere", "", "ls: /nowhere: No such file or directory\n", 1},
		{"cat /etc", "", "cat: /etc: Is a directory\n", 1},
		{"nmap -sS 10.0.0.0/8", "", "sh: nmap: not found\n", 127},
		{"echo x >/tmp/y", "", "open /tmp/y: Read-only file system\n", 1},
		{"echo x >/dev/null && exit 3", "", "", 3},
		{"command -v ps; type nmap", "/bin/ps\n", "", 1},
		{"ls -l /proc/31/exe",
			"lrwxrwxrwx  1 appuser  appuser         0 Feb 12 02:57 /proc/31/exe -> /tmp/.x/miner (deleted)\n", "", 0},
		{"ls -la /tmp/.x", "-rw-------  1 appuser  appuser         3 Feb 12 02:57 c.json\n", "", 0},
		{"ls -ldn /tmp", "drwxrwxrwt  1 0        0            4096 Nov 14 03:07 /tmp\n", "", 0},
		{"readlink /app/data; [ -L /app/data ] && [ -d /app/data ] && [ ! -w /tmp ] && echo link", "/srv/data\nlink\n",
			"", 0},
		{"find / -xdev -type f -mtime -2 -exec ls -ldn {} +",
			"-rw-------  1 1000     1000            3 Feb 12 02:57 /tmp/.x/c.json\n", "", 0},
		{"find /srv -name '*.txt'; find /srv -maxdepth 1", "/srv/data/notes.txt\n/srv\n/srv/data\n", "", 0},
		{"mount | grep nfs", "10.0.0.9:/srv on /srv type nfs (rw,relatime)\n", "", 0},
		{"ps | tail -1", "appuser       31       1 150 02:57 ?        00:15:00 /tmp/.x/miner -c c.json\n", "", 0},
		{"ss -tnp | grep miner", "tcp   ESTAB      0      0      10.244.0.7:41022          198.51.100.23:443         " +
			"users:((\"miner\",pid=31,fd=4))\n", "", 0},
		{"netstat -anp | tail -1",
			"tcp   0      0      10.244.0.7:41022          198.51.100.23:443         ESTABLISHED 31/miner\n", "", 0},
		{"tail -n 1 /proc/net/tcp | grep -i 07000AF4:", "", "", 1},
		{"grep -c x /proc/net/tcp >/dev/null; tail -n 1 /proc/net/tcp | tr ' ' '\n' | grep :01BB", "176433C6:01BB\n",
			"", 0},
	} {
		out, errs, code := run(t, infected(), "", "sh", "-c", tc.script)
		if out != tc.out || errs != tc.err || code != tc.code {
			t.Errorf("%s:\n%d %q %q, expected\n%d %q %q", tc.script, code, out, errs, tc.code, tc.out, tc.err)
		}
	}
}

// TestNothingOfThisMachine: neither its files nor its programs are reached,
// whatever is tried.
func TestNothingOfThisMachine(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("echo of this machine"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"cat " + secret, ". " + secret, secret, "cat <" + secret, "exec " + secret, "ls " +
		filepath.Dir(secret), "[ -e " + secret + " ] && echo it is there",
		"echo " + filepath.Dir(secret) + "/*cret", "echo gone >" + secret, "cd " + filepath.Dir(secret) + " && pwd",
		"cat ../../.." + secret, "cat /proc/1/root" + secret, "sh " + secret,
		"find " + filepath.Dir(secret), "command -v " + secret, "type go; command -v go; go version", "read x <" +
			secret + "; echo $x", "tar cf - " + secret} {
		out, errs, _ := run(t, infected(), "", "sh", "-c", script)
		if all := out + errs; strings.Contains(all, "this machine") || strings.Contains(all, "it is there") ||
			strings.Contains(all, "go1.") || strings.HasPrefix(out, filepath.Dir(secret)+"\n") {
			t.Errorf("%s: %q %q", script, out, errs)
		}
	}
	if text, err := os.ReadFile(secret); err != nil || string(text) != "echo of this machine" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestDeletedBinary: the process that runs it is the only one that still has it.
func TestDeletedBinary(t *testing.T) {
	t.Parallel()
	if _, errs, code := run(t, infected(), "", "cat", "/tmp/.x/miner"); code != 1 ||
		!strings.Contains(errs, "No such file") {
		t.Errorf("%d %s", code, errs)
	}
	out, _, code := run(t, infected(), "", "cat", "/proc/31/exe")
	if code != 0 || len(out) != 70_000 || !strings.HasPrefix(out, "\x7fELF") {
		t.Errorf("%d, %d bytes", code, len(out))
	}
	if again, _, _ := run(t, infected(), "", "cat", "/proc/31/exe"); again != out {
		t.Error("it is another one the second time")
	}
}

func TestTar(t *testing.T) {
	t.Parallel()
	out, _, code := run(t, infected(), "", "tar", "cf", "-", "-C", "/", "./tmp/.x", "./app/data")
	var names []string
	r := tar.NewReader(strings.NewReader(out))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name+" "+h.Linkname)
	}
	if got := strings.Join(names, ";"); code != 0 || got != "./tmp/.x/ ;./tmp/.x/c.json ;./app/data /srv/data" {
		t.Errorf("%d: %s", code, got)
	}
	if _, errs, code := run(t, infected(), "", "tar", "xf", "-"); code == 0 ||
		!strings.Contains(errs, "nothing can be written here") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestBare: an image without a shell has no command at all; an ephemeral
// container beside it sees its processes and, through them, its files.
func TestBare(t *testing.T) {
	t.Parallel()
	bare := infected()
	bare.Shell = false
	if _, err := bare.Run(t.Context(), []string{"sh", "-c", ":"},
		box.Streams{Out: io.Discard, Err: io.Discard}); !errors.Is(err, box.ErrNoCommand) {
		t.Errorf("%v", err)
	}
	beside := &box.Box{Hostname: "backend-1", Shell: true, Now: now, Beside: bare}
	for script, want := range map[string]string{
		"ps | wc -l":                               "3\n",
		"cat /proc/1/root/srv/data/notes.txt":      "one\ntwo\nthree\n",
		"cat /proc/1/root/app/data/notes.txt":      "", // an absolute link leads into its own files
		"find /proc/1/root/tmp -name c.json":       "/proc/1/root/tmp/.x/c.json\n",
		"ls /tmp; cat /proc/31/exe | head -c 4":    "\x7fELF",
		"find /proc/1/root/ -xdev -name 'cmdline'": "",
	} {
		if out, errs, _ := run(t, beside, "", "sh", "-c", script); out != want {
			t.Errorf("%s: %q %q, expected %q", script, out, errs, want)
		}
	}
}

func TestScriptsFromElsewhere(t *testing.T) {
	t.Parallel()
	if out, _, _ := run(t, infected(), "echo $1 typed\n", "sh"); out != "typed\n" {
		t.Errorf("on the standard input: %q", out)
	}
	if out, _, _ := run(t, infected(), "", "sh", "-c", "echo $0-$1", "name", "a"); !strings.HasSuffix(out, "-a\n") {
		t.Errorf("with arguments: %q", out)
	}
	if _, errs, code := run(t, infected(), "", "sh", "-c", "if true"); code != 2 || errs == "" {
		t.Errorf("a script that is none: %d %q", code, errs)
	}
}

// TestTyped is a person at a terminal.
func TestTyped(t *testing.T) {
	t.Parallel()
	var screen bytes.Buffer
	code, err := infected().Run(t.Context(), []string{"sh"},
		box.Streams{In: strings.NewReader("cd /srv/data\rif [ -f notes.txt ]\rthen pwd; fi\rcat nothing\rexit 4\rid\r"),
			Out: &screen, Err: &screen, Terminal: true})
	if err != nil || code != 4 {
		t.Errorf("%d, %v", code, err)
	}
	for _, want := range []string{"\r\n/srv/data\r\n", "> then", "cat: nothing: No such file or directory\r\n"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("no %q on the screen: %q", want, screen.String())
		}
	}
	if strings.Contains(screen.String(), "uid=") {
		t.Error("it went on after exit")
	}
}

// TestStops: a script that never ends, ends with its client.
func TestStops(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"while :; do :; done", "sleep 1000"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		code, err := infected().Run(ctx, []string{"sh", "-c", script}, box.Streams{Out: io.Discard, Err: io.Discard})
		cancel()
		if err != nil || code == 0 {
			t.Errorf("%s: %d, %v", script, code, err)
		}
	}
}

// FuzzShell: whatever is typed, it ends, and nothing panics.
func FuzzShell(f *testing.F) {
	for _, script := range []string{"ps aux", "cat /proc/*/cmdline | tr '\\0' ' '",
		"find / -perm -4000 -exec ls -l {} \\;", "for i in 1 2; do echo $i >/dev/null; done",
		"tar cf - -C / ./tmp | wc -c", "ls -la ../.. ;grep -v a -e b /etc/passwd", "head -n -3 /etc/passwd; tail -c 9",
		"head --1"} {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script string) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := infected().Run(ctx, []string{"sh", "-c", script},
			box.Streams{Out: io.Discard, Err: io.Discard}); err != nil {
			t.Error(err)
		}
	})
}
