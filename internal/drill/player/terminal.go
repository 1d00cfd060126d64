package player

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// Terminal is one that nobody sees, with a shell in it. It is tmux's.
type Terminal struct {
	// Watch is told every screen that is read while something is waited for, with
	// its colours as escape sequences; nil: nobody is.
	Watch func(screen string)

	socket string
}

const (
	// patience is how long a screen is waited for. What is waited for comes in
	// seconds; a busy machine takes its time.
	patience = 3 * time.Minute
	blink    = 50 * time.Millisecond
)

// Open opens a terminal of a size. Its socket is in a directory, whose path must
// be short; variables, each NAME=VALUE, are added to the shell's environment.
func Open(ctx context.Context, dir string, columns, lines int, variables ...string) (*Terminal, error) {
	t := &Terminal{socket: filepath.Join(dir, "tmux")}
	// Of several words, tmux runs a program; of one it has a login shell run it,
	// whose profile has a PATH of its own.
	args := append([]string{"new-session", "-d", "-s", session, "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines),
		"env", "LC_ALL=C.UTF-8", "TZ=UTC", "PS1=$ ", "ENV="}, variables...)
	if _, err := t.tmux(ctx, append(args, "sh")...); err != nil {
		return nil, err
	}
	if _, err := t.Shows(ctx, "$"); err != nil { // what is typed before it would be in its way
		return nil, errors.Join(err, t.Close(ctx))
	}
	return t, nil
}

// session is the only one of the server that the socket leads to.
const session = "drill"

func (t *Terminal) tmux(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "tmux", append([]string{"-S", t.socket, "-f", os.DevNull}, args...)...).
		CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("tmux %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Close ends what runs in it.
func (t *Terminal) Close(ctx context.Context) error {
	_, err := t.tmux(ctx, "kill-server")
	return err
}

// Resize makes it larger or smaller.
func (t *Terminal) Resize(ctx context.Context, columns, lines int) error {
	_, err := t.tmux(ctx, "resize-window", "-t", session, "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines))
	return err
}

// Press presses one key, as tmux names it.
func (t *Terminal) Press(ctx context.Context, key string) error {
	_, err := t.tmux(ctx, "send-keys", "-t", session, key)
	return err
}

// Type types a text.
func (t *Terminal) Type(ctx context.Context, text string) error {
	_, err := t.tmux(ctx, "send-keys", "-t", session, "-l", text)
	return err
}

// Paste pastes a text, as the program asked for that: in brackets, if it did.
func (t *Terminal) Paste(ctx context.Context, text string) error {
	if _, err := t.tmux(ctx, "set-buffer", "-b", "paste", text); err != nil {
		return err
	}
	_, err := t.tmux(ctx, "paste-buffer", "-p", "-b", "paste", "-t", session)
	return err
}

// PID is the process of the shell in it.
func (t *Terminal) PID(ctx context.Context) (string, error) {
	out, err := t.tmux(ctx, "display-message", "-p", "-t", session, "#{pane_pid}")
	return strings.TrimSpace(out), err
}

// Screen is what is on it, with its colours as escape sequences, and the spaces
// at the ends of lines, which may have a colour, too.
func (t *Terminal) Screen(ctx context.Context) (string, error) {
	return t.tmux(ctx, "capture-pane", "-e", "-N", "-p", "-t", session)
}

var trailing = regexp.MustCompile(`(?m) +$`)

// Until waits until the screen, read without its colours, is as it is to be, and
// returns it.
func (t *Terminal) Until(ctx context.Context, what string, ok func(text string) bool) (string, error) {
	for end := time.Now().Add(patience); ; {
		screen, err := t.Screen(ctx)
		if err != nil {
			return "", err
		}
		text := trailing.ReplaceAllString(ansi.Strip(screen), "")
		if ok(text) {
			return screen, nil
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("%s did not appear within %s; the screen is\n%s", what, patience, text)
		}
		if t.Watch != nil {
			t.Watch(screen)
		}
		select {
		case <-time.After(blink):
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not appear: %w; the screen is\n%s", what, ctx.Err(), text)
		}
	}
}

// Shows waits until a text is on the screen; lines that were broken are read as one.
func (t *Terminal) Shows(ctx context.Context, want string) (string, error) {
	return t.Until(ctx, fmt.Sprintf("%q", want), func(text string) bool { return strings.Contains(joined(text), want) })
}

// joined is a text with every space and line break as one space.
func joined(text string) string { return strings.Join(strings.Fields(text), " ") }
