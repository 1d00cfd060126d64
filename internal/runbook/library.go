package runbook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"irctl/internal/userfile"
)

// Library finds runbooks by name: first in a folder that was named, then in
// the team's own, then among the built-in ones. So a team can put its own
// compromised-pod in the place of irctl's.
type Library struct {
	shelves    []shelf
	vocabulary []Signature
}

// shelf is one place where runbooks are.
type shelf struct {
	dir   string // "": built in
	files fs.FS
	// must: that it is not there is an error.
	must bool
}

// BuiltIn is the source of the runbooks that ship with irctl.
const BuiltIn = "built-in"

const (
	extension = ".yaml"
	// maxFiles bounds what is read of a folder.
	maxFiles = 1000
)

// Errors of a Library.
var ErrNotFound = errors.New("no such runbook")

// NewLibrary takes the folder of --runbook-dir, or "", and that of the user's
// configuration, or "".
func NewLibrary(named, user string, builtIn fs.FS, vocabulary []Signature) *Library {
	l := &Library{vocabulary: vocabulary}
	if named != "" {
		l.shelves = append(l.shelves, shelf{dir: named, files: os.DirFS(named), must: true})
	}
	if user != "" {
		l.shelves = append(l.shelves, shelf{dir: user, files: os.DirFS(user)})
	}
	l.shelves = append(l.shelves, shelf{files: builtIn})
	return l
}

// UserDir is $XDG_CONFIG_HOME/irctl/runbooks, or that in ~/.config; "" if
// there is no such place.
func UserDir(getenv func(string) string) string {
	// The specification asks that relative paths be ignored.
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "irctl", "runbooks")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "irctl", "runbooks")
	}
	return ""
}

// Listed is a runbook of a library.
type Listed struct {
	Name string `json:"name"`
	// Source is the path of its file, or "built-in".
	Source  string `json:"source"`
	Title   string `json:"title,omitempty"`
	Version string `json:"version,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	// Hides are the sources of those of the same name that it stands before.
	Hides []string `json:"hides,omitempty"`
	// Error is why it cannot be run.
	Error string `json:"error,omitempty"`
}

// List are the runbooks there are, by name; one that is not sound too.
func (l *Library) List() ([]Listed, error) {
	index := map[string]int{}
	var list []Listed
	for _, s := range l.shelves {
		files, err := s.list()
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			name := strings.TrimSuffix(file, extension)
			if i, taken := index[name]; taken {
				list[i].Hides = append(list[i].Hides, s.source(file))
				continue
			}
			index[name] = len(list)
			list = append(list, l.describe(s, name))
		}
	}
	slices.SortFunc(list, func(a, b Listed) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (l *Library) describe(s shelf, name string) Listed {
	entry := Listed{Name: name, Source: s.source(name + extension)}
	r, err := l.load(s, name)
	if err != nil {
		entry.Error = err.Error()
		return entry
	}
	entry.Title, entry.Version, entry.SHA256 = r.Title, r.Version, r.SHA256
	return entry
}

// Find loads a runbook by its name, or by its path: what has a slash in it or
// ends in .yaml is a path.
func (l *Library) Find(ref string) (*Runbook, error) {
	if IsPath(ref) {
		data, err := ReadFile(ref)
		if err != nil {
			return nil, err
		}
		return l.parse(data, ref)
	}
	var known []string
	for _, s := range l.shelves {
		files, err := s.list()
		if err != nil {
			return nil, err
		}
		if slices.Contains(files, ref+extension) {
			return l.load(s, ref)
		}
		for _, f := range files {
			known = append(known, strings.TrimSuffix(f, extension))
		}
	}
	fix := didYouMean(ref, known)
	if fix == "" {
		slices.Sort(known)
		fix = "there are " + strings.Join(slices.Compact(known), ", ")
	}
	return nil, fmt.Errorf("%w: %.80q; %s", ErrNotFound, ref, fix)
}

// Text is the file of a runbook, by name or path, as it is.
func (l *Library) Text(ref string) ([]byte, error) {
	r, err := l.Find(ref)
	if err != nil {
		return nil, err
	}
	if r.Source != BuiltIn {
		return ReadFile(r.Source)
	}
	return fs.ReadFile(l.shelves[len(l.shelves)-1].files, r.Name+extension)
}

// IsPath tells a path from a name.
func IsPath(ref string) bool {
	return strings.ContainsRune(ref, filepath.Separator) || strings.HasSuffix(ref, extension) ||
		strings.HasSuffix(ref, ".yml")
}

func (l *Library) load(s shelf, name string) (*Runbook, error) {
	file := name + extension
	var data []byte
	var err error
	if s.dir == "" {
		data, err = fs.ReadFile(s.files, file)
	} else {
		data, err = ReadFile(filepath.Join(s.dir, file))
	}
	if err != nil {
		return nil, err
	}
	r, err := l.parse(data, s.source(file))
	if err == nil && r.Name != name {
		return nil, fmt.Errorf("%w: %s: its name is %s; in a folder of runbooks name and file must be the same",
			ErrInvalid, s.source(file), r.Name)
	}
	return r, err
}

func (l *Library) parse(data []byte, source string) (*Runbook, error) {
	r, problems := Parse(data, source, l.vocabulary)
	if r == nil {
		return nil, &InvalidError{problems}
	}
	if source == BuiltIn {
		return r, nil
	}
	abs, err := filepath.Abs(source)
	if err != nil {
		return nil, err
	}
	r.Source, r.Dir = abs, filepath.Dir(abs)
	return r, nil
}

func (s shelf) source(file string) string {
	if s.dir == "" {
		return BuiltIn
	}
	return filepath.Join(s.dir, file)
}

// list are the files of runbooks on a shelf.
func (s shelf) list() ([]string, error) {
	entries, err := fs.ReadDir(s.files, ".")
	if errors.Is(err, fs.ErrNotExist) && !s.must {
		return nil, nil
	}
	if err != nil {
		var of *fs.PathError
		if errors.As(err, &of) {
			err = of.Err // its path is that within the folder
		}
		return nil, fmt.Errorf("reading the runbooks in %s: %w", s.dir, err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), extension) && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, e.Name())
		}
		if len(files) > maxFiles {
			return nil, fmt.Errorf("reading the runbooks: there are more than %d files in %s", maxFiles, s.dir)
		}
	}
	return files, nil
}

// ReadFile reads a file of at most MaxFile bytes.
func ReadFile(path string) ([]byte, error) {
	data, err := userfile.Read(context.Background(), path, MaxFile)
	if err != nil {
		return nil, fmt.Errorf("reading the runbook: %w", err)
	}
	return data, nil
}
