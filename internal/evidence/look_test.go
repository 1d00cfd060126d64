package evidence_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"irctl/internal/evidence"
)

func TestFindSecretsCountsByRuleAndStopsAtNothing(t *testing.T) {
	long := strings.Repeat("a line of a log that says nothing\n", 20_000)
	for name, tc := range map[string]struct {
		text string
		want map[string]int
		err  error
	}{
		"nothing": {long, map[string]int{}, nil},
		"empty":   {"", map[string]int{}, nil},
		"a password, far into the log": {long + "connecting with password=hunter2-5f0c\n" + long,
			map[string]int{"sensitive-key": 1}, nil},
		"two kinds": {"Authorization: Bearer abcdefghijkl\npostgres://u:pw@h/db\n",
			map[string]int{"sensitive-key": 1, "url-password": 1}, nil},
		"at the very end": {"password=hunter2", map[string]int{"sensitive-key": 1}, nil},
		"a key that is longer than all": {"-----BEGIN PRIVATE KEY-----\n" + long, map[string]int{"private-key": 1},
			nil},
		"what is no text": {"password=hunter2\x00", map[string]int{}, evidence.ErrBinary},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := evidence.FindSecrets(strings.NewReader(tc.text))
			if !errors.Is(err, tc.err) || !maps.Equal(got, tc.want) {
				t.Errorf("%v, %v; want %v, %v", got, err, tc.want, tc.err)
			}
		})
	}
}
