package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// shell runs commands in a box.
type shell struct {
	box   *Box
	files *tree
}

// call is one command that runs.
type call struct {
	*shell
	ctx      context.Context
	dir      string
	env      []string
	in       io.Reader
	out, err io.Writer
	terminal bool
}

// Exit codes of a shell.
const (
	exitNotFound = 127
	exitUsage    = 2
)

// has reports whether a command is there, by its name or its path.
func (b *Box) has(name string) bool {
	_, ok := tools[path.Base(name)]
	inPath := !strings.Contains(name, "/") || path.Dir(name) == "/bin" || path.Dir(name) == "/usr/bin"
	return ok && inPath && b.Shell
}

// start runs a command that no shell has asked for.
func (s *shell) start(ctx context.Context, command []string, streams Streams) int {
	env := append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/", "HOSTNAME=" + s.box.Hostname}, s.box.Env...)
	c := &call{shell: s, ctx: ctx, dir: "/", env: env, in: streams.In, out: streams.Out, err: streams.Err,
		terminal: streams.Terminal}
	return c.run(command)
}

// run runs a command that is there.
func (c *call) run(command []string) int {
	return tools[path.Base(command[0])](c, command[1:])
}

// fail says what is wrong, as a command does.
func (c *call) fail(name, format string, args ...any) int {
	fmt.Fprintf(c.err, "%s: %s\n", name, fmt.Sprintf(format, args...))
	return 1
}

// at makes a path absolute.
func (c *call) at(p string) string {
	if strings.HasPrefix(p, "/") {
		return p
	}
	return c.dir + "/" + p
}

// reason is an error of a file in the words of a command.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "No such file or directory"
	case errors.Is(err, fs.ErrPermission):
		return "Read-only file system"
	}
	return err.Error()
}

// runShell is sh: a script, a file with one, or what is typed.
func runShell(c *call, args []string) int {
	script := c.in
	switch {
	case len(args) > 1 && strings.HasPrefix(args[0], "-") && strings.HasSuffix(args[0], "c"):
		script = strings.NewReader(args[1])
		args = args[min(3, len(args)):] // the next is $0
	case len(args) > 0 && !strings.HasPrefix(args[0], "-"):
		n, err := c.files.walk(c.at(args[0]), true)
		if err != nil {
			fmt.Fprintf(c.err, "sh: %s: %s\n", args[0], reason(err))
			return exitNotFound
		}
		script, args = n.open(), args[1:]
	default:
		args = nil
		if c.terminal {
			return c.converse()
		}
	}
	text, err := io.ReadAll(io.LimitReader(script, maxScript))
	if err != nil {
		return c.fail("sh", "%v", err)
	}
	return c.interpret(string(text), args)
}

// maxScript bounds what is read as a script.
const maxScript = 1 << 20

func (c *call) interpret(script string, args []string) int {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(script), "sh")
	if err != nil {
		c.fail("sh", "%v", err)
		return exitUsage
	}
	runner, err := c.runner(c.in, c.out, c.err, args)
	if err != nil {
		return c.fail("sh", "%v", err)
	}
	return c.exitCode(runner.Run(c.ctx, file))
}

func (c *call) exitCode(err error) int {
	if status := interp.ExitStatus(0); errors.As(err, &status) {
		return int(status)
	}
	if err != nil {
		return c.fail("sh", "%v", err)
	}
	return 0
}

// runner is an interpreter that has nothing but the box: each of its handlers is
// replaced, so that it reaches neither files nor programs of this machine.
func (c *call) runner(in io.Reader, out, errs io.Writer, args []string) (*interp.Runner, error) {
	return interp.New(interp.Env(expand.ListEnviron(c.env...)), interp.StdIO(in, out, errs),
		interp.Params(append([]string{"--"}, args...)...), interp.Dir("/"),
		interp.CallHandler(func(_ context.Context, args []string) ([]string, error) {
			if len(args) > 1 && (args[0] == "type" || args[0] == "command" && (args[1] == "-v" || args[1] == "-V")) {
				// the interpreter would look for it on this machine
				return append([]string{"which"}, args[len(args)-1]), nil
			}
			return args, nil
		}),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return c.exec }),
		interp.OpenHandler(c.open),
		interp.StatHandler(func(_ context.Context, name string, follow bool) (fs.FileInfo, error) {
			n, err := c.files.walk(slashed(name), follow)
			if err != nil {
				return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
			}
			return n, nil
		}),
		interp.AccessHandler(func(_ context.Context, name string, mode interp.AccessMode) error {
			if _, err := c.files.walk(slashed(name), true); err != nil || mode&interp.AccessWrite != 0 {
				return &fs.PathError{Op: "access", Path: name, Err: fs.ErrPermission}
			}
			return nil
		}),
		interp.ReadDirHandler2(func(_ context.Context, name string) ([]fs.DirEntry, error) {
			n, err := c.files.walk(slashed(name), true)
			if err != nil {
				return nil, &fs.PathError{Op: "open", Path: name, Err: err}
			}
			var entries []fs.DirEntry
			for _, e := range n.list() {
				entries = append(entries, e)
			}
			return entries, nil
		}))
}

// slashed is a path as the interpreter has it on whatever machine.
func slashed(p string) string { return strings.ReplaceAll(p, `\`, "/") }

// exec runs what a script names.
func (c *call) exec(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	if !c.box.has(args[0]) {
		fmt.Fprintf(hc.Stderr, "sh: %s: not found\n", args[0])
		return interp.ExitStatus(exitNotFound)
	}
	var env []string
	hc.Env.Each(func(name string, v expand.Variable) bool {
		if v.Exported && v.IsSet() {
			env = append(env, name+"="+v.String())
		}
		return true
	})
	inner := &call{shell: c.shell, ctx: ctx, dir: slashed(hc.Dir), env: env, in: hc.Stdin, out: hc.Stdout,
		err: hc.Stderr}
	if inner.in == nil {
		inner.in = eof{}
	}
	if code := inner.run(args); code != 0 {
		return interp.ExitStatus(uint8(code))
	}
	return nil
}

// file is one that a script reads, or /dev/null, where it may write.
type file struct {
	io.Reader
	io.Writer
}

func (file) Close() error { return nil }

func (c *call) open(_ context.Context, name string, flag int, _ os.FileMode) (io.ReadWriteCloser, error) {
	p := slashed(name)
	if p == "/dev/null" {
		return file{eof{}, io.Discard}, nil
	}
	if flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND) != 0 {
		//nolint:staticcheck // a shell's words
		return nil, &fs.PathError{Op: "open", Path: p, Err: errors.New("Read-only file system")}
	}
	n, err := c.files.walk(p, true)
	if err == nil && n.IsDir() {
		err = errors.New("Is a directory") //nolint:staticcheck // a shell's words
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return file{n.open(), io.Discard}, nil
}

// converse is a shell on a terminal.
func (c *call) converse() int {
	screen := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{c.in, c.out}, "$ ")
	runner, err := c.runner(nil, screen, screen, nil)
	if err != nil {
		return c.fail("sh", "%v", err)
	}
	parser, code := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)), 0
	var typed bytes.Buffer
	for !runner.Exited() && c.ctx.Err() == nil {
		line, err := screen.ReadLine()
		if err != nil {
			break // the person has gone
		}
		typed.WriteString(line + "\n")
		parsed, err := parser.Parse(bytes.NewReader(typed.Bytes()), "sh")
		if syntax.IsIncomplete(err) && typed.Len() < maxScript {
			screen.SetPrompt("> ")
			continue
		}
		screen.SetPrompt("$ ")
		typed.Reset()
		if err != nil {
			fmt.Fprintf(screen, "sh: %v\n", err)
			continue
		}
		code = (&call{err: screen}).exitCode(runner.Run(c.ctx, parsed))
	}
	return code
}
