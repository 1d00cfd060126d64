package plural_test

import (
	"testing"

	"irctl/internal/plural"
)

func TestCount(t *testing.T) {
	for want, c := range map[string]struct {
		n    int
		what string
	}{
		"0 pods":           {0, "pod"},
		"1 pod":            {1, "pod"},
		"2 pods":           {2, "pod"},
		"1 entry":          {1, "entry"},
		"4 keys":           {4, "key"},
		"3 entries":        {3, "entry"},
		"2 open incidents": {2, "open incident"},
		"-1 hand-overs":    {-1, "hand-over"},
	} {
		if got := plural.Count(c.n, c.what); got != want {
			t.Errorf("Count(%d, %q) is %q, want %q", c.n, c.what, got, want)
		}
	}
}
