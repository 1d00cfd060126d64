package cluster

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pageSize is how many objects are asked for at once, so that an answer begins
// soon, and ends.
const pageSize = 500

// restarts bounds how often a list begins anew because it took so long that the
// server no longer knows where it was (410). It keeps that for five minutes.
const restarts = 3

// Pages reads a list to its end and calls page for every page of it, in order. A
// list that expires half-way begins anew, and nothing of it is handed on twice.
func Pages[L metav1.ListInterface](
	ctx context.Context, list func(context.Context, metav1.ListOptions) (L, error), opts metav1.ListOptions,
	page func(L),
) error {
	opts.Limit, opts.Continue = pageSize, ""
	var pages []L
	for again := 0; ; {
		l, err := list(ctx, opts)
		switch {
		case opts.Continue != "" && (apierrors.IsResourceExpired(err) || apierrors.IsGone(err)):
			if again++; again > restarts {
				return fmt.Errorf("it took so long that it began anew %d times: %w", restarts, err)
			}
			pages, opts.Continue = nil, ""
			continue
		case err != nil:
			return err
		}
		pages = append(pages, l)
		if opts.Continue = l.GetContinue(); opts.Continue == "" {
			break
		}
	}
	for _, l := range pages {
		page(l)
	}
	return nil
}
