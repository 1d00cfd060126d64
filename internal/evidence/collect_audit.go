package evidence

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"irctl/internal/userfile"
)

// auditCollector takes from a file of the API server's audit log the entries
// that concern the pods: requests about them, about the Secrets and ConfigMaps
// that they use, and requests made by their service accounts.
type auditCollector struct{ *inquiry }

func (c *auditCollector) Name() string { return "audit" }

const (
	// maxAuditLine bounds an entry, which can hold a request's and an answer's body.
	maxAuditLine = 4 << 20
	maxAuditKept = 1 << 30
)

func (c *auditCollector) Collect(ctx context.Context, out *Output) error {
	path := c.scope.AuditLog
	f := c.filter(ctx)
	var reading sync.WaitGroup
	_ = out.Stream(ctx, "the file "+path, maxAuditKept, func(ctx context.Context) (io.ReadCloser, error) {
		file, err := userfile.Stream(ctx, path)
		if err != nil {
			return nil, err
		}
		read, write := io.Pipe()
		reading.Go(func() {
			defer func() { _ = file.Close() }() // only read
			write.CloseWithError(f.copy(write, file))
		})
		return read, nil
	}, "audit", "audit.jsonl") // recorded
	reading.Wait()
	c.asked.read(f.auditSummary)
	out.JSON("concluded from the file "+path, &f.auditSummary, nil, "audit", "summary.json")
	return nil
}

// auditFilter knows which entries concern the pods.
type auditFilter struct {
	since time.Time
	users map[string]bool
	// objects by resource/namespace/name.
	objects map[string]bool
	auditSummary
}

// auditSummary counts what was read.
type auditSummary struct {
	Lines     int            `json:"lines"`
	Kept      int            `json:"kept"`
	Earlier   int            `json:"beforeTheWindow"`
	Malformed int            `json:"malformed"`
	TooLong   int            `json:"tooLong"`
	ByVerb    map[string]int `json:"byVerb"`
}

func (c *auditCollector) filter(ctx context.Context) *auditFilter {
	f := &auditFilter{since: c.scope.Since, users: map[string]bool{}, objects: map[string]bool{},
		auditSummary: auditSummary{ByVerb: map[string]int{}}}
	for _, p := range c.pods {
		f.objects["pods/"+p.String()] = true
	}
	for _, n := range c.named(ctx, func(p *podFacts) []string { return []string{p.serviceAccount} }) {
		f.users["system:serviceaccount:"+n.namespace+":"+n.name] = true
		f.objects["serviceaccounts/"+n.String()] = true
	}
	for _, n := range c.named(ctx, func(p *podFacts) []string { return p.secrets }) {
		f.objects["secrets/"+n.String()] = true
	}
	for _, n := range c.named(ctx, func(p *podFacts) []string { return p.configMaps }) {
		f.objects["configmaps/"+n.String()] = true
	}
	return f
}

// copy writes the lines that concern, each as it is.
func (f *auditFilter) copy(to io.Writer, from io.Reader) error {
	lines := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := readLine(lines, maxAuditLine)
		if len(line) > 0 && f.concerns(line) {
			if _, err := to.Write(append(line, '\n')); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, errLongLine):
			f.TooLong++
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the audit log: %w", err)
		}
	}
}

// errLongLine: a line was passed over since it is longer than the limit.
var errLongLine = errors.New("the line is too long")

// readLine reads a line without its end, of at most limit bytes.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > limit; !long {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if long && err == nil {
			return nil, errLongLine
		}
		return bytes.TrimRight(line, "\r\n"), err
	}
}

func (f *auditFilter) concerns(line []byte) bool {
	f.Lines++
	var e struct {
		Verb             string
		RequestTimestamp time.Time `json:"requestReceivedTimestamp"`
		User             struct{ Username string }
		ImpersonatedUser struct{ Username string }
		ObjectRef        struct{ Resource, Namespace, Name string }
	}
	if json.Unmarshal(line, &e) != nil || e.Verb == "" { // every event has one
		f.Malformed++
		return false
	}
	object := strings.Join([]string{e.ObjectRef.Resource, e.ObjectRef.Namespace, e.ObjectRef.Name}, "/")
	if !f.objects[object] && !f.users[e.User.Username] && !f.users[e.ImpersonatedUser.Username] {
		return false
	}
	if !f.since.IsZero() && e.RequestTimestamp.Before(f.since) {
		f.Earlier++
		return false
	}
	f.Kept++
	if len(f.ByVerb) < 64 || f.ByVerb[e.Verb] > 0 {
		f.ByVerb[e.Verb]++
	}
	return true
}
