package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"irctl/internal/cluster"
)

func TestWait(t *testing.T) {
	gone := errors.New("it is stopped")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p",
		errors.New(`User "jane" cannot get resource "pods" in API group ""`))
	for name, c := range map[string]struct {
		answers []error // one for each question; the last for those that follow, and is a no if it is nil
		done    bool    // after the answers, the next is a yes
		asked   int     // 0: until the time was over
		want    string  // in the error; "": none
		not     string
	}{
		"a yes":            {done: true, asked: 1},
		"a no, then a yes": {answers: []error{nil}, done: true, asked: 2},
		"errors that pass, then a yes": {answers: []error{syscall.ECONNREFUSED, apierrors.NewTooManyRequests("slow", 0),
			apierrors.NewInternalError(gone), context.DeadlineExceeded}, done: true, asked: 5},
		"never": {answers: []error{nil}, want: "the pod to end: not seen in time: 50ms are over",
			not: "looked at"},
		"nobody answers": {answers: []error{syscall.ECONNREFUSED},
			want: "it could not be looked at: connection refused"},
		"a right that is missing": {answers: []error{nil, forbidden}, asked: 2, want: "cannot get resource"},
		"what is not there": {answers: []error{apierrors.NewNotFound(schema.GroupResource{Resource: "pods"},
			"p")}, asked: 1, want: "not found"},
		"a conflict": {answers: []error{apierrors.NewConflict(schema.GroupResource{}, "p", gone)}, asked: 1,
			want: "it is stopped"},
		"an invalid object": {answers: []error{apierrors.NewInvalid(schema.GroupKind{}, "p", nil)}, asked: 1,
			want: "invalid"},
		"an answer": {answers: []error{gone}, asked: 1, want: "it is stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			wait := cluster.Wait{For: "the pod to end", AtMost: 50 * time.Millisecond, First: time.Millisecond,
				Longest: 2 * time.Millisecond}
			if c.want == "" {
				wait.AtMost = time.Minute
			}
			err := wait.Until(t.Context(), func(context.Context) (bool, error) {
				asked++
				if asked > len(c.answers) && c.done {
					return true, nil
				}
				return false, c.answers[min(asked, len(c.answers))-1]
			})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %q", err, c.want)
			}
			if err != nil && c.not != "" && strings.Contains(err.Error(), c.not) {
				t.Errorf("%v", err)
			}
			if c.asked > 0 && asked != c.asked || c.asked == 0 && asked < 3 {
				t.Errorf("asked %d times", asked)
			}
			if f := cluster.FailureOf(fmt.Errorf("x: %w", err)); err != nil &&
				(f.Kind == cluster.RanOut) != (c.asked == 0) {
				t.Errorf("%v is %q", err, f)
			}
		})
	}
}

// TestAWaitThatIsCutShort: what the end of the time does to a question is no
// answer to it.
func TestAWaitThatIsCutShort(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	err := cluster.Wait{}.Until(ctx, func(context.Context) (bool, error) {
		cancel(fmt.Errorf("interrupted: %w", context.Canceled))
		return false, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "p")
	})
	if err == nil || !strings.Contains(err.Error(), "interrupted") || cluster.FailureOf(err).
		Kind != cluster.Interrupted || apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}
