package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"irctl/internal/evidence"
	"irctl/internal/sanitize"
)

// unlock has the key that signs for evidence unlocked, before a step that seals
// begins. Without its passphrase the step is done as well.
func (m *accessible) unlock(ctx context.Context) error {
	if m.signs == nil {
		return nil
	}
	err := m.try(ctx, nil)
	for err != nil {
		switch {
		case errors.Is(err, evidence.ErrPassphrase):
			fmt.Fprintln(m.out, "That is not its passphrase.")
		case errors.Is(err, evidence.ErrKeyLocked):
			fmt.Fprintf(m.out, "This step seals evidence, and the key that signs for it is locked: %s\n",
				sanitize.Line(m.signs.Ref()))
		default:
			fmt.Fprintf(m.out, "%s\nThe evidence is sealed, and not signed.\n", sanitize.Line(err.Error()))
			return nil
		}
		passphrase, asked := m.secret(ctx, "Its passphrase, which is not shown (empty: go on without a signature)")
		if asked != nil {
			return asked
		}
		if len(passphrase) == 0 {
			fmt.Fprintln(m.out, "The evidence is sealed, and not signed. You are asked again before the next.")
			return nil
		}
		err = m.try(ctx, passphrase)
		clear(passphrase)
	}
	return nil
}

func (m *accessible) try(ctx context.Context, passphrase []byte) error {
	bounded, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	return m.signs.Unlock(bounded, passphrase)
}

// secret reads a line that the terminal does not show.
func (m *accessible) secret(ctx context.Context, prompt string) ([]byte, error) {
	f, ok := m.In.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		text, err := m.question(ctx, prompt+": ")
		return []byte(strings.TrimRight(text, "\r\n")), err
	}
	if err := m.dropTypedAhead(); err != nil {
		return nil, err
	}
	fmt.Fprintf(m.out, "%s: ", prompt)
	defer fmt.Fprintln(m.out) // what ended the line was not shown either
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	line, err := awaited(ctx, func() ([]byte, error) {
		line, err := term.ReadPassword(int(f.Fd()))
		if err != nil {
			err = fmt.Errorf("reading the passphrase: %w", err)
		}
		return line, err
	})
	if ctx.Err() != nil && err != nil { // it is still being read
		err = errors.Join(err, term.Restore(int(f.Fd()), before))
	}
	return line, err
}
