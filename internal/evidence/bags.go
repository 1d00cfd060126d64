package evidence

import (
	"errors"
	"path/filepath"
	"strings"
)

// bags are those that a collection fills: the original, and the one to be
// shared, if there is one.
type bags struct {
	original *Bag
	shared   *Bag // nil: there is none
	redactor *redactor
}

func newBags(bundles []*Bundle) bags {
	b := bags{original: bundles[0].Bag()}
	if len(bundles) > 1 {
		b.shared, b.redactor = bundles[1].Bag(), newRedactor()
	}
	return b
}

func bundleName(path string) string { return strings.TrimSuffix(filepath.Base(path), Extension) }

// err is the first failure to write any of the archives.
func (b bags) err() error {
	if b.shared == nil {
		return b.original.Err()
	}
	return errors.Join(b.original.Err(), b.shared.Err())
}

func (b bags) lose(cause error) {
	b.original.lose(cause)
	if b.shared != nil {
		b.shared.lose(cause)
	}
}

func (b bags) create(collector, source string, confidential bool, names []string) (*artefact, error) {
	original, err := b.original.Create(collector, source, names...)
	if err != nil || b.shared == nil {
		return &artefact{ArtefactWriter: original}, err
	}
	shared, err := b.shared.Create(collector, source, names...)
	if err != nil {
		return nil, errors.Join(err, original.End(err))
	}
	a := &artefact{ArtefactWriter: original, shared: shared}
	if !confidential {
		shared.twin = original
		a.redaction = b.redactor.begin(original.Path(), shared)
	}
	return a, nil
}

// artefact writes one artefact into the original bag as it comes, and into the
// shared one without what looks like a secret.
type artefact struct {
	*ArtefactWriter                 // in the original
	shared          *ArtefactWriter // nil: there is no shared bag
	redaction       *redaction      // nil: it is withheld from the shared bag
}

// errWithheld is the reason of what is not in the shared bag.
var errWithheld = errors.New("confidential, or not text that could be redacted; it is in the original")

// Write gives both a little at a time: the shared bag stays close behind.
func (a *artefact) Write(p []byte) (written int, err error) {
	if a.redaction == nil {
		return a.ArtefactWriter.Write(p)
	}
	for len(p) > 0 {
		n, err := a.ArtefactWriter.Write(p[:min(len(p), redactWindow)])
		written += n
		if err == nil {
			_, err = a.redaction.Write(p[:n])
		}
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// End ends both.
func (a *artefact) End(cause error) error {
	if a.shared == nil {
		return a.ArtefactWriter.End(cause)
	}
	if a.redaction == nil || a.redaction.binary {
		err := a.ArtefactWriter.End(cause)
		a.shared.annotate(Withheld, a.digest())
		return errors.Join(err, a.shared.End(errWithheld))
	}
	flushErr := a.redaction.flush()
	err := a.ArtefactWriter.End(cause)
	original := a.digest()
	original.Replaced = a.redaction.counts
	a.shared.annotate("", original)
	return errors.Join(err, flushErr, a.shared.End(cause))
}
