// Package box owns what a container of the simulated cluster looks like from
// within: processes, connections, mounts and files, and a shell that looks at
// them. Nothing is run: the shell is an interpreter whose files, and whose
// commands, are those of a [Box] and never those of this machine. All of it can
// be read, nothing can be written.
package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"time"
)

// Box is a container as it is at a moment.
type Box struct {
	Hostname string
	IP       netip.Addr
	// Env is that of its first process, NAME=VALUE.
	Env []string
	// UID is who runs the commands in it; Users have names.
	UID   int64
	Users map[string]int64

	Processes []Process
	Sockets   []Socket
	Files     []File
	Mounts    []Mount
	// Shell: it has a shell and the usual commands; else it has none at all.
	Shell bool
	// Beside is the container whose processes this one sees: it is an ephemeral
	// one. nil: it sees its own.
	Beside *Box
	Now    time.Time
}

// Process runs in it.
type Process struct {
	PID, Parent int
	UID         int64
	Command     string // with its arguments, which have no spaces
	Exe         string // "": the first word of the command
	Env         []string
	Started     time.Time
	// CPU is how much of one it uses, in percent.
	CPU int
}

// Socket is one of TCP, of a process.
type Socket struct {
	PID           int
	Local, Remote netip.AddrPort // no Remote: it listens
	// Waits: nobody has answered yet.
	Waits bool
}

// File is a file, with its directories. A directory has a mode that says so.
type File struct {
	Path     string
	Mode     fs.FileMode
	UID      int64
	Modified time.Time
	Content  string
	// Size of a binary, of which the content does not matter; 0: that of Content.
	Size int64
	// Link is where a symbolic link leads.
	Link string
	// Deleted: only the process that runs it still has it.
	Deleted bool
}

// Mount is a file system.
type Mount struct {
	Path, Type, Source, Options string
}

// Streams of a command.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal: a person types.
	Terminal bool
}

// ErrNoCommand says that a command is not there, in the words of a runtime.
var ErrNoCommand = errors.New("executable file not found in $PATH")

// Run runs a command, and returns its exit code.
func (b *Box) Run(ctx context.Context, command []string, s Streams) (int, error) {
	if len(command) == 0 || !b.has(command[0]) {
		name := ""
		if len(command) > 0 {
			name = command[0]
		}
		return 0, fmt.Errorf("exec: %q: %w", name, ErrNoCommand)
	}
	if s.In == nil {
		s.In = eof{}
	}
	at := &shell{box: b, files: b.tree()}
	return at.start(ctx, command, s), nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// uidName is the name of a user; without one it is the number.
func (b *Box) uidName(uid int64) string {
	if uid == 0 {
		return "root"
	}
	for name, n := range b.Users {
		if n == uid {
			return name
		}
	}
	return fmt.Sprint(uid)
}

// seen is the box whose processes are seen in this one.
func (b *Box) seen() *Box {
	if b.Beside != nil {
		return b.Beside
	}
	return b
}
