package evidence

import (
	"fmt"
	"slices"
	"sync"

	"irctl/internal/plural"
)

// asked is what was asked for by name, and whether anything came of it. A
// collection may go on without it; to the person who asked it is not a success.
type asked struct {
	mu    sync.Mutex
	files map[string]bool
	audit *auditSummary
}

// took notes that a file was got from a container, at least in part.
func (a *asked) took(file string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files[file] = true
}

// read notes what was understood of the audit log.
func (a *asked) read(s auditSummary) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.audit = &s
}

// missing are the files that no container gave.
func (a *asked) missing(s Scope) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []string
	for _, file := range s.Files {
		if !a.files[cleaned(file)] && !slices.Contains(list, file) {
			list = append(list, file)
		}
	}
	return list
}

// notUnderstood says of which source nothing was.
func (a *asked) notUnderstood(s Scope) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case s.AuditLog == "" || a.audit == nil:
		return nil
	case a.audit.Lines+a.audit.TooLong == 0:
		return []string{fmt.Sprintf("the audit log %s is empty", s.AuditLog)}
	case a.audit.Malformed == a.audit.Lines:
		return []string{fmt.Sprintf("nothing of the audit log %s was understood: %s, none of them an event", s.AuditLog,
			plural.Count(a.audit.Lines+a.audit.TooLong, "line"))}
	}
	return nil
}
