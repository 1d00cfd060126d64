package tui

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reader reads a terminal, with patience that has an end.
type reader struct {
	chunks chan []byte
	text   bytes.Buffer
}

func readerOf(f *os.File) *reader {
	r := &reader{chunks: make(chan []byte, 1000)}
	go func() {
		defer close(r.chunks)
		for {
			b := make([]byte, 4096)
			n, err := f.Read(b)
			if err != nil {
				return
			}
			r.chunks <- b[:n]
		}
	}()
	return r
}

// until is which of the texts appeared; "": none did.
func (r *reader) until(texts ...string) string {
	deadline := time.After(20 * time.Second)
	for {
		for _, text := range texts {
			if strings.Contains(r.text.String(), text) {
				return text
			}
		}
		select {
		case b, ok := <-r.chunks:
			if !ok {
				return ""
			}
			r.text.Write(b)
		case <-deadline:
			return ""
		}
	}
}

// TestAKeyBeforeTheConfirmationIsOnTheTerminal: over a line that is slow, or
// stands still, the key that asks and the one that confirms are typed ahead. What
// was not written to the terminal yet is not shown.
func TestAKeyBeforeTheConfirmationIsOnTheTerminal(t *testing.T) {
	ours, theirs := openTerminal(t)
	defer theirs.Close()
	screen := &glass{}
	out := screen.drawnOn(theirs)
	screen.makes(7)
	seen := readerOf(ours)
	for _, frame := range []struct {
		text  string
		shows bool
	}{{"r: make 3 changes", false}, {"\x1b[31m " + confirmSign + "make 3 changes\x1b[m", true}} {
		if _, err := out.Write([]byte(frame.text)); err != nil {
			t.Fatal(err)
		}
		if seen.until(frame.text) == "" || screen.shows(7) != frame.shows {
			t.Errorf("%q is written, and the confirmation is shown: %v", frame.text, screen.shows(7))
		}
	}
}

// TestAConfirmationOnARealTerminal: what the program writes to its own terminal
// is what counts as shown.
func TestAConfirmationOnARealTerminal(t *testing.T) {
	l := newLab(t)
	ours, theirs := openTerminal(t)
	defer theirs.Close()
	if err := unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	o := l.options()
	o.Alerts, o.In, o.Out = []byte(l.alert()), theirs, theirs
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, o)
		done <- err
	}()
	seen := readerOf(ours)
	press := func(key string) {
		seen.text.Reset()
		if _, err := ours.WriteString(key); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct{ sees, press string }{{"critical", "\r"}, {"s: start", "s"}, {"false-alarm", "1"},
		{"(asks once more)", "r"}, {confirmSign, confirmKey}} {
		if seen.until(step.sees) == "" {
			t.Fatalf("%q does not appear: %q", step.sees, seen.text.String())
		}
		press(step.press)
	}
	const ahead, contained = "before the question was on the screen", "Remains open"
	got := seen.until(contained, ahead)
	if got == ahead { // it was pressed while the frame was being written
		press(confirmKey)
		got = seen.until(contained)
	}
	if got != contained {
		t.Errorf("%q", seen.text.String())
	}
	press("q")
	if err := <-done; err != nil {
		t.Error(err)
	}
}
