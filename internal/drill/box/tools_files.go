package box

import (
	"archive/tar"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

func runLs(c *call, args []string) int {
	flags, files := options(args, "")
	has := func(r rune) bool { _, ok := flags[r]; return ok }
	if len(files) == 0 {
		files = []string{"."}
	}
	code := 0
	for i, f := range files {
		n, err := c.files.walk(c.at(f), !has('l') && !has('d'))
		if err == nil && has('l') && !has('d') && (strings.HasSuffix(f, "/") || n.Type() != fs.ModeSymlink) {
			n, err = c.files.walk(c.at(f), true)
		}
		if err != nil {
			code = c.fail("ls", "%s: %s", f, reason(err))
			continue
		}
		if !n.IsDir() || has('d') {
			c.lsLine(n, f, has('l') || has('n'), has('n'))
			continue
		}
		if len(files) > 1 {
			if i > 0 {
				fmt.Fprintln(c.out)
			}
			fmt.Fprintf(c.out, "%s:\n", f)
		}
		for _, e := range n.list() {
			if !strings.HasPrefix(e.name, ".") || has('a') || has('A') {
				c.lsLine(e, e.name, has('l') || has('n'), has('n'))
			}
		}
	}
	return code
}

func (c *call) lsLine(n *node, name string, long, numeric bool) {
	if !long {
		fmt.Fprintln(c.out, name)
		return
	}
	owner := c.box.seen().uidName(n.uid)
	if numeric {
		owner = fmt.Sprint(n.uid)
	}
	at := n.modified.UTC().Format("Jan _2 15:04")
	if c.box.Now.Sub(n.modified) > 180*24*time.Hour {
		at = n.modified.UTC().Format("Jan _2  2006")
	}
	if n.link != "" {
		name += " -> " + n.link
	}
	fmt.Fprintf(c.out, "%s %2d %-8s %-8s %8d %s %s\n", modeText(n.mode), 1, owner, owner, n.length(), at, name)
}

// modeText is a mode as ls shows it.
func modeText(m fs.FileMode) string {
	kind := "-"
	switch {
	case m.IsDir():
		kind = "d"
	case m&fs.ModeSymlink != 0:
		kind = "l"
	case m&fs.ModeCharDevice != 0:
		kind = "c"
	}
	text := []byte(kind + m.Perm().String()[1:])
	if m&fs.ModeSticky != 0 {
		text[9] = 't'
	}
	if m&fs.ModeSetuid != 0 {
		text[3] = 's'
	}
	return string(text)
}

// condition is one of find's.
type condition func(p string, n *node) bool

// runFind knows -xdev, -maxdepth, -type, -name, -path, -mtime, -mmin, -newer,
// -perm -MODE, -print and -exec.
func runFind(c *call, args []string) int {
	var roots []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		roots, args = append(roots, args[0]), args[1:]
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	f := &finder{call: c, deepest: 1 << 10}
	if err := f.parse(args); err != nil {
		return c.fail("find", "%v", err)
	}
	code := 0
	for _, r := range roots {
		n, err := c.files.walk(c.at(r), strings.HasSuffix(r, "/"))
		if err != nil {
			code = c.fail("find", "%s: %s", r, reason(err))
			continue
		}
		f.visit(r, n, 0)
	}
	if len(f.command) > 0 && f.together && len(f.found) > 0 {
		code = max(code, f.exec(f.found))
	}
	return code
}

type finder struct {
	*call
	conditions []condition
	oneSystem  bool
	deepest    int
	command    []string
	together   bool // -exec … +
	found      []string
}

func (f *finder) visit(p string, n *node, depth int) {
	matches := true
	for _, is := range f.conditions {
		matches = matches && is(p, n)
	}
	switch {
	case !matches:
	case len(f.command) == 0:
		fmt.Fprintln(f.out, p)
	case f.together:
		f.found = append(f.found, p)
	default:
		f.exec([]string{p})
	}
	if depth >= f.deepest || f.ctx.Err() != nil || f.oneSystem && n.mounted && depth > 0 {
		return
	}
	for _, e := range n.list() {
		f.visit(strings.TrimSuffix(p, "/")+"/"+e.name, e, depth+1)
	}
}

// exec runs a command with {} replaced.
func (f *finder) exec(files []string) int {
	var words []string
	for _, w := range f.command {
		if w == "{}" {
			words = append(words, files...)
		} else {
			words = append(words, w)
		}
	}
	if !f.box.has(words[0]) {
		return f.fail("find", "%s: No such file or directory", words[0])
	}
	return f.run(words)
}

func (f *finder) parse(args []string) error {
	for len(args) > 0 {
		what := args[0]
		args = args[1:]
		switch what {
		case "-xdev", "-mount":
			f.oneSystem = true
			continue
		case "-print":
			continue
		}
		if len(args) == 0 {
			return fmt.Errorf("%s: not known here, or its argument is missing", what)
		}
		if what == "-exec" {
			end := 0
			for end < len(args) && args[end] != ";" && args[end] != "+" {
				end++
			}
			if end == 0 || end == len(args) {
				return fmt.Errorf("-exec: a command that ends with ; or + is needed")
			}
			f.command, f.together, args = args[:end], args[end] == "+", args[end+1:]
			continue
		}
		is, err := f.condition(what, args[0])
		if err != nil {
			return err
		}
		if is != nil {
			f.conditions = append(f.conditions, is)
		}
		args = args[1:]
	}
	return nil
}

func (f *finder) condition(what, value string) (condition, error) {
	switch what {
	case "-maxdepth":
		n, err := strconv.Atoi(value)
		f.deepest = n
		return nil, err
	case "-type":
		kind, ok := map[string]fs.FileMode{"f": 0, "d": fs.ModeDir, "l": fs.ModeSymlink}[value]
		if !ok {
			return nil, fmt.Errorf("-type %s: use f, d or l", value)
		}
		return func(_ string, n *node) bool { return n.Type() == kind }, nil
	case "-name", "-path":
		if _, err := path.Match(value, ""); err != nil {
			return nil, err
		}
		return func(p string, n *node) bool {
			ok, _ := path.Match(value, map[string]string{"-name": n.name, "-path": p}[what]) // the pattern was tried
			return ok
		}, nil
	case "-mtime", "-mmin":
		unit := 24 * time.Hour
		if what == "-mmin" {
			unit = time.Minute
		}
		n, err := strconv.Atoi(strings.TrimLeft(value, "+-"))
		if err != nil {
			return nil, fmt.Errorf("%s %s: a number is needed", what, value)
		}
		return func(_ string, node *node) bool {
			age := int(f.box.Now.Sub(node.modified) / unit)
			switch value[0] {
			case '-':
				return age < n
			case '+':
				return age > n
			}
			return age == n
		}, nil
	case "-newer":
		than, err := f.files.walk(f.at(value), true)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", value, reason(err))
		}
		return func(_ string, n *node) bool { return n.modified.After(than.modified) }, nil
	case "-perm":
		bits, err := strconv.ParseUint(strings.TrimLeft(value, "-/"), 8, 32)
		if err != nil {
			return nil, fmt.Errorf("-perm %s: an octal number is needed", value)
		}
		return func(_ string, n *node) bool {
			mode := uint64(n.mode.Perm())
			if n.mode&fs.ModeSetuid != 0 {
				mode |= 0o4000
			}
			return mode&bits == bits && n.Type() != fs.ModeSymlink
		}, nil
	}
	return nil, fmt.Errorf("%s: not known here", what)
}

// runTar makes archives, on the standard output.
func runTar(c *call, args []string) int {
	if len(args) > 0 && args[0] == "--help" {
		fmt.Fprintln(c.out, "Usage: tar c[z]f - [-C DIR] FILE...")
		return 0
	}
	dir, file := c.dir, ""
	var files []string
	creates := false
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-C" && i+1 < len(args):
			i++
			dir = c.at(args[i])
		case i == 0 || strings.HasPrefix(a, "-") && a != "-":
			creates = creates || strings.Contains(a, "c")
			if strings.Contains(a, "f") && i+1 < len(args) {
				i++
				file = args[i]
			}
			if strings.Contains(a, "z") {
				return c.fail("tar", "compression is not simulated")
			}
		default:
			files = append(files, a)
		}
	}
	if !creates || file != "-" || len(files) == 0 {
		return c.fail("tar", "only tar cf - FILE is simulated: nothing can be written here")
	}
	w, code := tar.NewWriter(c.out), 0
	for _, f := range files {
		p := f
		if !strings.HasPrefix(p, "/") {
			p = dir + "/" + f
		}
		n, err := c.files.walk(p, false)
		if err != nil {
			c.fail("tar", "%s: Cannot stat: %s", f, reason(err))
			code = 2
			continue
		}
		if err := c.pack(w, strings.TrimPrefix(cmp.Or(f, "."), "/"), n); err != nil {
			return c.fail("tar", "%v", err)
		}
	}
	if err := w.Close(); err != nil {
		return 1
	}
	return code
}

func (c *call) pack(w *tar.Writer, name string, n *node) error {
	h, err := tar.FileInfoHeader(n, n.link)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname = name, int(n.uid), int(n.uid), c.box.seen().uidName(n.uid)
	if n.IsDir() {
		h.Name += "/"
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if n.mode.IsRegular() {
		if _, err := io.Copy(w, n.open()); err != nil {
			return err
		}
	}
	for _, e := range n.list() {
		if err := c.pack(w, strings.TrimSuffix(name, "/")+"/"+e.name, e); err != nil {
			return err
		}
	}
	return nil
}
