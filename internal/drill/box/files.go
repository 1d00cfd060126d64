package box

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// node is a file, a directory or a link.
type node struct {
	name     string
	mode     fs.FileMode
	uid      int64
	modified time.Time
	text     string
	size     int64 // of a binary; 0: that of text
	link     string
	// jump is where a link of /proc leads that is no path.
	jump     *node
	children map[string]*node
	// mounted: another file system begins here.
	mounted bool
}

// tree is what a box's shell sees.
type tree struct{ root *node }

func (n *node) length() int64 {
	if n.IsDir() {
		return 4096
	}
	return max(n.size, int64(len(n.text)))
}

// open reads a file. What is in a binary depends on its name only.
func (n *node) open() io.Reader {
	if n.size == 0 {
		return strings.NewReader(n.text)
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, n.name) // never fails
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%032x", h.Sum64()))
	const magic = "\x7fELF\x02\x01\x01"
	return io.LimitReader(io.MultiReader(strings.NewReader(magic), rand.NewChaCha8(seed)), n.size)
}

// Name, Size, Mode, ModTime, IsDir, Sys and Type make it a [fs.FileInfo]; it is
// its own [fs.DirEntry].
func (n *node) Name() string               { return n.name }
func (n *node) Size() int64                { return n.length() }
func (n *node) Mode() fs.FileMode          { return n.mode }
func (n *node) ModTime() time.Time         { return n.modified }
func (n *node) IsDir() bool                { return n.mode.IsDir() }
func (n *node) Sys() any                   { return nil }
func (n *node) Type() fs.FileMode          { return n.mode.Type() }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }

// list are the entries of a directory, by name.
func (n *node) list() []*node {
	var out []*node
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		out = append(out, n.children[name])
	}
	return out
}

func newDir(name string, at time.Time) *node {
	return &node{name: name, mode: fs.ModeDir | 0o755, modified: at, children: map[string]*node{}}
}

// dir makes a directory, and those above it.
func (n *node) dir(p string, at time.Time) *node {
	for name := range strings.SplitSeq(strings.Trim(path.Clean("/"+p), "/"), "/") {
		if name == "" {
			continue
		}
		next := n.children[name]
		if next == nil || !next.IsDir() {
			next = newDir(name, at)
			n.children[name] = next
		}
		n = next
	}
	return n
}

// put adds a node at a path.
func (n *node) put(p string, what *node) {
	above, name := path.Split(path.Clean("/" + p))
	what.name = name
	n.dir(above, what.modified).children[name] = what
}

// maxLinks is how many symbolic links a path may have.
const maxLinks = 40

// walk finds what a path leads to; follow: also where it is a link. An absolute
// link leads from this tree's root, also one found by way of /proc/1/root: as
// Linux has it.
func (t *tree) walk(p string, follow bool) (*node, error) {
	at, rest, links := []*node{t.root}, strings.Split(p, "/"), 0
	for len(rest) > 0 {
		name, here := rest[0], at[len(at)-1]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		if !here.IsDir() {
			return nil, syscall.ENOTDIR
		}
		next := here.children[name]
		switch {
		case next == nil:
			return nil, fs.ErrNotExist
		case next.Type() != fs.ModeSymlink || len(rest) == 0 && !follow:
			at = append(at, next)
		case next.jump != nil:
			at = []*node{next.jump}
		default:
			if links++; links > maxLinks {
				return nil, errors.New("too many levels of symbolic links")
			}
			if strings.HasPrefix(next.link, "/") {
				at = []*node{t.root}
			}
			rest = append(strings.Split(next.link, "/"), rest...)
		}
	}
	return at[len(at)-1], nil
}

// built is when the images of the simulated cluster were made, before now.
const built = 90 * 24 * time.Hour

// own are a box's own files.
func (b *Box) own() *node {
	at := b.Now.Add(-built)
	root := newDir("/", at)
	for _, d := range []string{"/etc", "/tmp", "/proc", "/dev", "/run", "/var", "/usr", "/bin"} {
		root.dir(d, at)
	}
	root.children["tmp"].mode |= fs.ModeSticky | 0o777
	root.put("/var/run", &node{mode: fs.ModeSymlink | 0o777, link: "/run", modified: at})
	root.put("/dev/null", &node{mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, modified: at})
	users := "root:x:0:0:root:/root:/bin/sh\n"
	for _, name := range slices.Sorted(maps.Keys(b.Users)) {
		users += fmt.Sprintf("%s:x:%d:%d::/home/%s:/bin/sh\n", name, b.Users[name], b.Users[name], name)
	}
	for p, text := range map[string]string{"/etc/passwd": users, "/etc/hostname": b.Hostname + "\n",
		"/etc/hosts": fmt.Sprintf("127.0.0.1\tlocalhost\n%s\t%s\n", b.IP, b.Hostname),
		"/etc/resolv.conf": "search todo-app.svc.cluster.local svc.cluster.local cluster.local\nnameserver " +
			"10.96.0.10\noptions ndots:5\n"} {
		root.put(p, &node{mode: 0o644, text: text, modified: at})
	}
	if b.Shell {
		for name := range tools {
			root.put("/bin/"+name, &node{mode: 0o755, size: 4096, modified: at})
		}
	}
	for _, m := range b.Mounts {
		root.dir(m.Path, at).mounted = true
	}
	for _, f := range b.Files {
		if !f.Deleted {
			root.put(f.Path, f.node(at))
		}
	}
	return root
}

func (f File) node(otherwise time.Time) *node {
	n := &node{name: path.Base(f.Path), mode: f.Mode, uid: f.UID, modified: f.Modified, text: f.Content, size: f.Size,
		link: f.Link}
	if n.modified.IsZero() {
		n.modified = otherwise
	}
	if f.Link != "" {
		n.mode = fs.ModeSymlink | 0o777
	}
	if n.mode.IsDir() {
		n.children = map[string]*node{}
	}
	return n
}

// tree is what is seen in a box: its own files, and the processes that it sees.
func (b *Box) tree() *tree {
	t := &tree{root: b.own()}
	files := t.root
	if b.Beside != nil {
		files = b.Beside.own()
		b.Beside.procInto(files, files)
	}
	b.seen().procInto(t.root, files)
	return t
}
