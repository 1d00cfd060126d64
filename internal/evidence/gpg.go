package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// openWithGpg has gpg decrypt a bundle as it is read.
func openWithGpg(ctx context.Context, bundle io.Reader) (*Reader, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "gpg", "--batch", "--no-auto-check-trustdb", "--status-fd", "2", "--decrypt")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	cmd.Stdin = bundle
	m := &gpgMessage{cmd: cmd, cancel: cancel, status: boundedBuffer{limit: 64 << 10}}
	cmd.Stderr = &m.status
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("opening the bundle with gpg: %w; or give the file of a private key", err)
	}
	m.out = out
	r, err := newReader(m, m.Close)
	if err != nil {
		// What gpg says explains more than that there was nothing to decompress.
		_, _ = io.Copy(io.Discard, m) // its error is kept
		return nil, errors.Join(fmt.Errorf("opening the bundle: %w", cmpError(m.verdict, err)), m.Close())
	}
	return r, nil
}

// gpgMessage is what gpg decrypts. Its end is only the end if gpg says that the
// message was authentic to there.
type gpgMessage struct {
	cmd     *exec.Cmd
	cancel  context.CancelFunc
	out     io.ReadCloser
	status  boundedBuffer
	waited  bool
	verdict error // nil: authentic
}

func (m *gpgMessage) Read(p []byte) (int, error) {
	n, err := m.out.Read(p)
	if err == nil {
		return n, nil
	}
	if m.wait(); m.verdict != nil {
		return n, m.verdict
	}
	return n, io.EOF
}

// wait for gpg, and read its verdict from its status lines.
func (m *gpgMessage) wait() {
	if m.waited {
		return
	}
	m.waited = true
	err := m.cmd.Wait()
	status := m.status.buf.Bytes()
	switch {
	case bytes.Contains(status, []byte("[GNUPG:] DECRYPTION_OKAY")) &&
		bytes.Contains(status, []byte("[GNUPG:] GOODMDC")) && err == nil:
	case bytes.Contains(status, []byte("[GNUPG:] NO_SECKEY")) &&
		!bytes.Contains(status, []byte("[GNUPG:] BEGIN_DECRYPTION")):
		m.verdict = ErrNoKey
	default:
		m.verdict = fmt.Errorf("%w: gpg says: %s", ErrAltered, lastWords(status))
	}
}

// Close also ends a gpg that was not read to its end.
func (m *gpgMessage) Close() error {
	m.cancel()
	_ = m.out.Close()
	m.wait()
	return nil
}

// lastWords is the last thing gpg said to people.
func lastWords(status []byte) string {
	last := "nothing"
	for line := range strings.Lines(string(status)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "[GNUPG:]") {
			last = line
		}
	}
	return last
}
