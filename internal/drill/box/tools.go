package box

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tools are the commands that there are.
var tools map[string]func(c *call, args []string) int

func init() { // sh runs tools
	tools = map[string]func(c *call, args []string) int{
		"sh": runShell, "cat": runCat, "head": runHead, "tail": runTail, "grep": runGrep, "wc": runWc, "tr": runTr,
		"ls": runLs, "find": runFind, "tar": runTar,
		"ps": runPs, "ss": runSs, "netstat": runNetstat, "mount": runMount, "env": runEnv, "printenv": runEnv,
		"id": runID, "whoami": runWhoami,
		"hostname": runHostname, "uname": runUname, "date": runDate, "readlink": runReadlink, "sha256sum": runSum,
		"sleep": runSleep, "which": runWhich,
	}
}

// options splits off the letters of options. Those in valued have a value,
// which is the rest of the word, or the next.
func options(args []string, valued string) (flags map[rune]string, rest []string) {
	flags = map[rune]string{}
	for len(args) > 0 {
		word := args[0]
		if len(word) < 2 || word[0] != '-' {
			break
		}
		args = args[1:]
		if word == "--" {
			break
		}
		for i, r := range word[1:] {
			flags[r] = ""
			if !strings.ContainsRune(valued, r) {
				continue
			}
			if flags[r] = word[i+2:]; flags[r] == "" && len(args) > 0 {
				flags[r], args = args[0], args[1:]
			}
			break
		}
	}
	return flags, args
}

// each gives the content of files, or of the standard input.
func (c *call) each(name string, files []string, do func(file string, in io.Reader) error) int {
	if len(files) == 0 {
		files = []string{"-"}
	}
	code := 0
	for _, f := range files {
		in := c.in
		if f != "-" {
			n, err := c.files.walk(c.at(f), true)
			switch {
			case err != nil:
				code = c.fail(name, "%s: %s", f, reason(err))
				continue
			case n.IsDir():
				code = c.fail(name, "%s: Is a directory", f)
				continue
			}
			in = n.open()
		}
		if err := do(f, in); err != nil {
			code = c.fail(name, "%s: %v", f, err)
		}
	}
	return code
}

func runCat(c *call, args []string) int {
	_, files := options(args, "")
	return c.each("cat", files, func(_ string, in io.Reader) error {
		_, err := io.Copy(c.out, in)
		return err
	})
}

// count reads -n N, -c N and -N.
func count(args []string) (lines bool, n int, files []string) {
	n, lines = 10, true
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		if v, err := strconv.Atoi(args[0][1:]); err == nil {
			return true, v, args[1:]
		}
	}
	flags, files := options(args, "nc")
	for letter, text := range flags {
		if v, err := strconv.Atoi(strings.TrimLeft(text, "+-")); err == nil {
			n, lines = v, letter == 'n'
		}
	}
	return lines, n, files
}

// part copies the first or the last lines or bytes.
func (c *call) part(name string, args []string, last bool) int {
	inLines, n, files := count(args)
	return c.each(name, files, func(_ string, in io.Reader) error {
		text, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		units := [][]byte{text}
		if inLines {
			units = bytes.SplitAfter(text, []byte("\n"))
			if len(units[len(units)-1]) == 0 {
				units = units[:len(units)-1]
			}
		} else {
			units = units[:0]
			for i := range text {
				units = append(units, text[i:i+1])
			}
		}
		if n = min(max(n, 0), len(units)); last {
			units = units[len(units)-n:]
		} else {
			units = units[:n]
		}
		_, err = c.out.Write(bytes.Join(units, nil))
		return err
	})
}

func runHead(c *call, args []string) int { return c.part("head", args, false) }
func runTail(c *call, args []string) int { return c.part("tail", args, true) }

func runGrep(c *call, args []string) int {
	flags, rest := options(args, "e")
	pattern, given := flags['e']
	if !given {
		if len(rest) == 0 {
			c.fail("grep", "a pattern is needed")
			return exitUsage
		}
		pattern, rest = rest[0], rest[1:]
	}
	has := func(r rune) bool { _, ok := flags[r]; return ok }
	if has('F') {
		pattern = regexp.QuoteMeta(pattern)
	}
	if has('i') {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		c.fail("grep", "%v", err)
		return exitUsage
	}
	found := false
	code := c.each("grep", rest, func(file string, in io.Reader) error {
		lines, number := bufio.NewScanner(in), 0
		lines.Buffer(nil, maxScript)
		for lines.Scan() {
			number++
			if re.MatchString(lines.Text()) == has('v') {
				continue
			}
			if found = true; has('q') {
				continue
			}
			if len(rest) > 1 {
				fmt.Fprintf(c.out, "%s:", file)
			}
			if has('n') {
				fmt.Fprintf(c.out, "%d:", number)
			}
			fmt.Fprintln(c.out, lines.Text())
		}
		return lines.Err()
	})
	switch {
	case code != 0:
		return exitUsage
	case !found:
		return 1
	}
	return 0
}

func runWc(c *call, args []string) int {
	flags, files := options(args, "")
	return c.each("wc", files, func(file string, in io.Reader) error {
		text, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		var out []string
		for _, u := range []struct {
			letter rune
			n      int
		}{{'l', bytes.Count(text, []byte("\n"))}, {'w', len(bytes.Fields(text))}, {'c', len(text)}} {
			if _, asked := flags[u.letter]; asked || len(flags) == 0 {
				out = append(out, fmt.Sprint(u.n))
			}
		}
		if file != "-" {
			out = append(out, file)
		}
		_, err = fmt.Fprintln(c.out, strings.Join(out, " "))
		return err
	})
}

// runTr translates one character into another, or deletes with -d.
func runTr(c *call, args []string) int {
	flags, sets := options(args, "")
	_, deletes := flags['d']
	if len(sets) < 1 || !deletes && len(sets) != 2 {
		return c.fail("tr", "two characters are needed")
	}
	for i := range sets {
		sets[i] = strings.NewReplacer(`\0`, "\x00", `\n`, "\n", `\t`, "\t").Replace(sets[i])
	}
	from, to := []rune(sets[0]), []rune{}
	if !deletes {
		to = []rune(sets[1])
	}
	text, err := io.ReadAll(c.in)
	if err != nil {
		return c.fail("tr", "%v", err)
	}
	_, err = io.WriteString(c.out, strings.Map(func(r rune) rune {
		i := slices.Index(from, r)
		switch {
		case i < 0:
			return r
		case len(to) == 0:
			return -1
		}
		return to[min(i, len(to)-1)]
	}, string(text)))
	if err != nil {
		return 1
	}
	return 0
}

func runSum(c *call, args []string) int {
	return c.each("sha256sum", args, func(file string, in io.Reader) error {
		h := sha256.New()
		if _, err := io.Copy(h, in); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.out, "%x  %s\n", h.Sum(nil), file)
		return err
	})
}

func runEnv(c *call, args []string) int {
	for _, e := range c.env {
		name, value, _ := strings.Cut(e, "=")
		switch {
		case len(args) == 0:
			fmt.Fprintln(c.out, e)
		case name == args[0]:
			fmt.Fprintln(c.out, value)
		}
	}
	return 0
}

func runID(c *call, _ []string) int {
	uid, name := c.box.UID, c.box.uidName(c.box.UID)
	fmt.Fprintf(c.out, "uid=%[1]d(%[2]s) gid=%[1]d(%[2]s) groups=%[1]d(%[2]s)\n", uid, name)
	return 0
}

func runWhoami(c *call, _ []string) int {
	fmt.Fprintln(c.out, c.box.uidName(c.box.UID))
	return 0
}

func runHostname(c *call, _ []string) int {
	fmt.Fprintln(c.out, c.box.Hostname)
	return 0
}

func runUname(c *call, args []string) int {
	text := "Linux"
	if flags, _ := options(args, ""); len(flags) > 0 {
		text = "Linux " + c.box.Hostname + " 6.12.0 #1 SMP x86_64 GNU/Linux"
	}
	fmt.Fprintln(c.out, text)
	return 0
}

func runDate(c *call, _ []string) int {
	fmt.Fprintln(c.out, c.box.Now.UTC().Format(time.UnixDate))
	return 0
}

func runReadlink(c *call, args []string) int {
	_, files := options(args, "")
	code := 0
	for _, f := range files {
		n, err := c.files.walk(c.at(f), false)
		if err != nil || n.link == "" {
			code = 1
			continue
		}
		fmt.Fprintln(c.out, n.link)
	}
	return code
}

func runSleep(c *call, args []string) int {
	seconds := 0.0
	for _, a := range args {
		n, err := strconv.ParseFloat(strings.TrimSuffix(a, "s"), 64)
		if err != nil {
			return c.fail("sleep", "invalid time interval %q", a)
		}
		seconds += n
	}
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0
	case <-c.ctx.Done():
		return 1
	}
}

func runWhich(c *call, args []string) int {
	code := 0
	for _, a := range args {
		if !c.box.has(a) {
			code = 1
			continue
		}
		fmt.Fprintln(c.out, "/bin/"+path.Base(a))
	}
	return code
}

// clock is a time as ps shows it: of today, or the day.
func clock(at, now time.Time) string {
	if now.Sub(at) < 24*time.Hour {
		return at.UTC().Format("15:04")
	}
	return at.UTC().Format("Jan02")
}

func runPs(c *call, args []string) int {
	seen := c.box.seen()
	users := strings.Contains(strings.Join(args, ""), "u")
	if users {
		fmt.Fprintln(c.out, "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND")
	} else {
		fmt.Fprintln(c.out, "UID          PID    PPID  C STIME TTY          TIME CMD")
	}
	list := slices.SortedFunc(slices.Values(seen.Processes), func(a, b Process) int {
		return cmp.Compare(a.PID, b.PID)
	})
	for _, p := range list {
		used := (c.box.Now.Sub(p.Started) * time.Duration(p.CPU) / 100).Round(time.Second)
		if users {
			fmt.Fprintf(c.out, "%-8s %7d %4d.0  0.5 312000 41000 ?        Ssl  %5s %3d:%02d %s\n", seen.uidName(p.UID),
				p.PID, p.CPU, clock(p.Started, c.box.Now), int(used.Minutes()), int(used.Seconds())%60, p.Command)
			continue
		}
		fmt.Fprintf(c.out, "%-8s %7d %7d %2d %5s ?        %02d:%02d:%02d %s\n", seen.uidName(p.UID), p.PID, p.Parent,
			p.CPU, clock(p.Started, c.box.Now),
			int(used.Hours()), int(used.Minutes())%60, int(used.Seconds())%60, p.Command)
	}
	return 0
}

func (s Socket) remote() string {
	if !s.Remote.IsValid() {
		return "0.0.0.0:*"
	}
	return s.Remote.String()
}

func runSs(c *call, _ []string) int {
	seen := c.box.seen()
	fmt.Fprintf(c.out, "%-6s%-11s%-7s%-7s%-26s%-26s%s\n", "Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port",
		"Peer Address:Port", "Process")
	for i, s := range seen.Sockets {
		state, _ := s.state()
		fmt.Fprintf(c.out, "%-6s%-11s%-7d%-7d%-26s%-26susers:((%q,pid=%d,fd=%d))\n", "tcp", state, 0, 0, s.Local,
			s.remote(), seen.processOf(s).name(), s.PID, i+3)
	}
	return 0
}

func runNetstat(c *call, _ []string) int {
	seen := c.box.seen()
	fmt.Fprintf(c.out, "Active Internet connections (servers and established)\n%-6s%-7s%-7s%-26s%-26s%-12s%s\n",
		"Proto", "Recv-Q", "Send-Q", "Local Address", "Foreign Address", "State", "PID/Program name")
	for _, s := range seen.Sockets {
		state, _ := s.state()
		state = strings.NewReplacer("ESTAB", "ESTABLISHED", "-", "_").Replace(state)
		fmt.Fprintf(c.out, "%-6s%-7d%-7d%-26s%-26s%-12s%d/%s\n", "tcp", 0, 0, s.Local, s.remote(), state, s.PID,
			seen.processOf(s).name())
	}
	return 0
}

func runMount(c *call, _ []string) int {
	for _, m := range c.box.mounts() {
		fmt.Fprintf(c.out, "%s on %s type %s (%s)\n", m.Source, m.Path, m.Type, cmp.Or(m.Options, "rw,relatime"))
	}
	return 0
}

// Commands are the names of the commands in a box with a shell.
func Commands() []string { return slices.Sorted(maps.Keys(tools)) }
