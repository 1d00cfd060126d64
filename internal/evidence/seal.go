package evidence

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// ErrNoRecipients: nothing can be sealed that nobody could open.
var ErrNoRecipients = errors.New("no recipients to encrypt to")

// Seal returns a writer that encrypts to all recipients what is written to it
// and writes the OpenPGP message to dst. Close finishes the message and does
// not close dst; without it the message cannot be decrypted.
//
// The message is what GnuPG 2.2 reads: AES-256 in CFB mode with a modification
// detection code (RFC 4880, section 5.13), or AES-128 where a recipient's key
// says it cannot do better. Only if every recipient's key announces the AEAD
// format of RFC 9580, that is used. OpenPGP's own compression and file name are
// not.
func Seal(dst io.Writer, recipients ...Recipient) (io.WriteCloser, error) {
	if len(recipients) == 0 {
		return nil, ErrNoRecipients
	}
	entities := make([]*openpgp.Entity, len(recipients))
	for i, r := range recipients {
		if r.entity == nil {
			return nil, fmt.Errorf("%w: the recipient at position %d is empty", ErrNoRecipients, i+1)
		}
		entities[i] = r.entity
	}
	out := bufio.NewWriterSize(dst, sealChunk)
	message, err := openpgp.Encrypt(out, entities, nil, nil, nil, sealConfig())
	if err != nil {
		return nil, fmt.Errorf("encrypting to the recipients: %w", err)
	}
	return &sealer{message: message, out: out}, nil
}

// sealChunk is how much is encrypted at a time. The library holds back each
// write until the next one comes, so a large write would become as much memory.
const sealChunk = 64 << 10

func sealConfig() *packet.Config {
	return &packet.Config{
		DefaultCipher:          packet.CipherAES256,
		DefaultCompressionAlgo: packet.CompressionNone,
	}
}

type sealer struct {
	message io.WriteCloser
	out     *bufio.Writer
	failed  error
}

func (s *sealer) Write(p []byte) (written int, err error) {
	for len(p) > 0 && s.failed == nil {
		n, err := s.message.Write(p[:min(len(p), sealChunk)])
		written += n
		p = p[n:]
		s.failed = err
	}
	return written, s.failed
}

// Close gives the message no valid end if a piece of it is missing.
func (s *sealer) Close() error {
	if s.failed != nil {
		return s.failed
	}
	if err := s.message.Close(); err != nil {
		return err
	}
	return s.out.Flush()
}
