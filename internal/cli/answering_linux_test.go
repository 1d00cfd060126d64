package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// answering FILE COMMAND… runs a command on a terminal, as a person does who reads:
// each line of the file is typed once something is asked, and the end of the input
// when there are no more lines. Of a line that begins with "ahead: " the rest is
// typed without waiting.
func answering() { os.Exit(answer(os.Args[1], os.Args[2:])) }

func answer(file string, args []string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "answering:", err)
		return 125
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fail(err)
	}
	ours, theirs, err := pseudoTerminal()
	if err != nil {
		return fail(err)
	}
	defer ours.Close()
	answers := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	// ahead are the lines that are typed without waiting; together with the answer
	// before them in one go, as they are pasted.
	ahead := func(keys string) string {
		for len(answers) > 0 && strings.HasPrefix(answers[0], "ahead: ") {
			keys += strings.TrimPrefix(answers[0], "ahead: ") + "\n"
			answers = answers[1:]
		}
		return keys
	}
	if keys := ahead(""); keys != "" {
		if err := typed(ours, theirs, keys); err != nil {
			return fail(err)
		}
	}
	prompts := &prompts{to: os.Stderr, asked: func() error {
		keys := "\x04" // ctrl+d
		if len(answers) > 0 {
			line := answers[0]
			answers = answers[1:]
			keys = ahead(line + "\n")
		}
		_, err := ours.WriteString(keys)
		return err
	}}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, os.Stdout, prompts
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		return fail(err)
	}
	return 0
}

// typed types lines, and sees that the terminal has them before it returns.
func typed(ours, theirs *os.File, keys string) error {
	if _, err := ours.WriteString(keys); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n, err := unix.IoctlGetInt(int(theirs.Fd()), unix.TIOCINQ); err != nil || n >= len(keys) {
			return err
		}
	}
	return errors.New("the terminal does not take what is typed")
}

// prompts is standard error, which asks where it ends in the middle of a line.
type prompts struct {
	to    io.Writer
	asked func() error
	mu    sync.Mutex
}

func (p *prompts) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := p.to.Write(b)
	if err == nil && (bytes.HasSuffix(b, []byte(": ")) || bytes.HasSuffix(b, []byte("] "))) {
		err = p.asked()
	}
	return n, err
}

// pseudoTerminal opens both ends of a terminal. What is typed on it is not shown.
func pseudoTerminal() (ours, theirs *os.File, err error) {
	if ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	if theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	mode, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
	if err != nil {
		return nil, nil, err
	}
	mode.Lflag &^= unix.ECHO
	return ours, theirs, unix.IoctlSetTermios(int(theirs.Fd()), unix.TCSETS, mode)
}

func init() { helpers["answering"] = answering }
