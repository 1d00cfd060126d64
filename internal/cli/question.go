package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"irctl/internal/engine"
)

// question asks a person, and returns the line of the answer. What was typed on a
// terminal before the question was asked answers nothing: it is dropped. The lines
// of a pipe or a file are answers in their order, and none of them is lost.
func (a *App) question(ctx context.Context, prompt string) (string, error) {
	if err := a.dropTypedAhead(); err != nil {
		return "", err
	}
	fmt.Fprint(a.Err, prompt)
	return awaited(ctx, func() (string, error) { return readLine(a.In) })
}

// dropTypedAhead drops what is in the terminal's own buffer; there is no other,
// since [readLine] reads no further than the line.
func (a *App) dropTypedAhead() error {
	f, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	if err := flushTerminal(int(f.Fd())); err != nil && !unheard(err) {
		return fmt.Errorf("dropping what was typed before the question: %w", err)
	}
	return nil
}

// maxAnswer bounds a line, in bytes: what a terminal holds of one.
const maxAnswer = 4096

// readLine reads up to the end of a line, or of the input, and nothing after it.
func readLine(in io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := in.Read(b)
		if n > 0 {
			if line = append(line, b[0]); b[0] == '\n' {
				return string(line), nil
			}
			if len(line) > maxAnswer {
				return "", fmt.Errorf("%w: the answer is longer than %d bytes", engine.ErrRefused, maxAnswer)
			}
		}
		switch {
		case errors.Is(err, io.EOF), err != nil && unheard(err): // nobody answers
			return string(line), nil
		case err != nil:
			return "", fmt.Errorf("reading the answer: %w", err)
		}
	}
}
