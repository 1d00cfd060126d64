package evidence

import (
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

// progress counts, and tells at every artefact and else not more often than
// progressInterval.
type progress struct {
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

func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Bytes += int64(n)
	if time.Since(p.told) >= progressInterval {
		p.report()
	}
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
	n, err := w.to.Write(b)
	w.p.add(n)
	return n, err
}
