package cli

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"irctl/internal/engine"
)

// TestThePipesLinesAreAnswersInTheirOrder: nothing of a pipe or a file is dropped,
// by whatever question, and no question reads another's line.
func TestThePipesLinesAreAnswersInTheirOrder(t *testing.T) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	const lines = "real\n\nshe knows\ny\nlast"
	if _, err := theirs.WriteString(lines); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	for name, in := range map[string]io.Reader{"a pipe": ours, "a reader": strings.NewReader(lines)} {
		a := &App{Streams: Streams{In: in, Err: io.Discard}}
		for _, want := range []string{"real\n", "\n", "she knows\n", "y\n", "last", ""} {
			if got, err := a.question(t.Context(), "? "); got != want || err != nil {
				t.Errorf("%s: %q, %v, and not %q", name, got, err, want)
			}
		}
	}
}

// TestAnAnswerHasAnEnd: what is longer than a line of a terminal is none.
func TestAnAnswerHasAnEnd(t *testing.T) {
	a := &App{Streams: Streams{In: strings.NewReader(strings.Repeat("y", 1<<20)), Err: io.Discard}}
	if got, err := a.question(t.Context(), "? "); got != "" || !errors.Is(err, engine.ErrRefused) {
		t.Errorf("%.20q, %v", got, err)
	}
}
