package evidence

import (
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
)

// memos remember what several pods have in common, so that a workload of fifty
// pods is asked about once.
type memos struct {
	api     *api
	mapping sync.Mutex
	mapper  meta.RESTMapper
	owners  memo[owner]
	events  memo[eventList]
}

// maxMemo bounds what each memo holds, in bytes. Beyond it, things are asked
// for again.
const maxMemo = 4 << 20

// memo calls for each key once while it has room.
type memo[T any] struct {
	mu      sync.Mutex
	entries map[string]*memoEntry[T]
	size    int
}

type memoEntry[T any] struct {
	once  sync.Once
	value T
}

// get returns the value of a key, from load if it is not known; load also says
// what it weighs. Others who ask for the same key meanwhile wait for it.
func (m *memo[T]) get(key string, load func() (T, int)) T {
	m.mu.Lock()
	if m.entries == nil {
		m.entries = map[string]*memoEntry[T]{}
	}
	entry, ok := m.entries[key]
	if !ok {
		entry = &memoEntry[T]{}
		m.entries[key] = entry
	}
	m.mu.Unlock()
	entry.once.Do(func() {
		value, weight := load()
		entry.value = value
		weight += len(key)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.size+weight > maxMemo {
			delete(m.entries, key)
			return
		}
		m.size += weight
	})
	return entry.value
}
