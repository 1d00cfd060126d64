package evidence

import (
	"slices"
	"testing"
)

func TestAFileIsMissingThatNoContainerGave(t *testing.T) {
	a := &asked{files: map[string]bool{}}
	a.took("/etc/passwd") // by one of several containers
	if got := a.missing(Scope{Files: []string{"/etc//passwd", "/none", "/none"}}); !slices.Equal(got,
		[]string{"/none"}) {
		t.Errorf("missing: %q", got)
	}
}

func TestNothingIsCollectedOnlyIfNoArtefactIsThere(t *testing.T) {
	for _, tc := range []struct {
		counts  map[Status]int
		nothing bool
	}{{nil, true}, {map[Status]int{Forbidden: 30, Failed: 2, Absent: 1}, true},
		{map[Status]int{Complete: 1, Forbidden: 30}, false}, {map[Status]int{Truncated: 1}, false}} {
		r := Result{}
		if r.Receipt.Artefacts = tc.counts; r.Nothing() != tc.nothing {
			t.Errorf("%v: nothing is %v", tc.counts, r.Nothing())
		}
	}
}
