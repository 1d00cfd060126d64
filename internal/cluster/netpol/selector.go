package netpol

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// KeysToRemove returns the label keys to take off so that a selector no longer
// matches: all keys by which it selects positively, sorted, of those that are
// there. ok is false if no removal can do that: an empty selector, or one that
// only says what must not be.
func KeysToRemove(sel labels.Selector, set map[string]string) (keys []string, ok bool) {
	requirements, selectable := sel.Requirements()
	if !selectable {
		return nil, true // it selects nothing anyway
	}
	for _, r := range requirements {
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals, selection.Exists, selection.GreaterThan,
			selection.LessThan:
			ok = true
			if _, there := set[r.Key()]; there {
				keys = append(keys, r.Key())
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), ok
}
