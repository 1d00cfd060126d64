package evidence

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress of a collection.
type Progress struct {
	// Artefacts that ended, however they did, and Bytes that were read.
	Artefacts int
	Bytes     int64
	// Current is the path of the artefact that was begun last.
	Current string
}

// ErrBundleLimit is the reason of what was cut for Limits.BundleBytes.
var ErrBundleLimit = fmt.Errorf("%w at the limit of the whole bundle", ErrTruncated)

// progress counts, and tells at every artefact and else not more often than
// progressInterval.
type progress struct {
	limit  int64 // of all bytes together
	mu     sync.Mutex
	tell   func(Progress) // nil: nobody listens
	now    Progress
	told   time.Time
	closed bool
}

const progressInterval = 100 * time.Millisecond

func (p *progress) begin(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Current = path
	p.report()
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Artefacts++
	p.report()
}

// add tells how many of n bytes may still be written.
func (p *progress) add(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = int(min(int64(n), p.limit-p.now.Bytes))
	p.now.Bytes += int64(n)
	if time.Since(p.told) >= progressInterval {
		p.report()
	}
	return n
}

func (p *progress) report() {
	if p.tell != nil && !p.closed {
		p.told = time.Now()
		p.tell(p.now)
	}
}

// close: a collector that does not stop is not heard any more.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

func (p *progress) writer(to io.Writer) io.Writer { return progressWriter{to, p} }

type progressWriter struct {
	to io.Writer
	p  *progress
}

func (w progressWriter) Write(b []byte) (int, error) {
	room := w.p.add(len(b))
	n, err := w.to.Write(b[:room])
	if err == nil && room < len(b) {
		err = fmt.Errorf("%w, %d bytes", ErrBundleLimit, w.p.limit)
	}
	return n, err
}
