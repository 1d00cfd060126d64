package change

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
)

// Do makes the change. It retries what passes (conflicts, throttling, server
// errors, broken connections) until the context ends, and looks at the object
// before each further attempt, so that an attempt that was executed although
// its answer got lost is not made twice.
//
// Errors are those of the API server, wrapped with the object's name, a
// ConflictError if other field managers are in the way of an apply, or a
// DriftError if somebody else changed the same fields in the meantime.
func (c Change) Do(ctx context.Context, client dynamic.Interface) (Result, error) {
	return c.do(ctx, client, nil)
}

// DryRun asks the API server what Do would meet: admission, quota, validation
// and rights are checked, nothing is written.
func (c Change) DryRun(ctx context.Context, client dynamic.Interface) error {
	_, err := c.do(ctx, client, []string{metav1.DryRunAll})
	return err
}

func (c Change) do(ctx context.Context, client dynamic.Interface, dryRun []string) (Result, error) {
	if c.Apply != nil {
		r, err := c.apply(ctx, client, dryRun)
		return r, c.wrap("applying", err)
	}
	if c.IsCreate() {
		r, err := c.create(ctx, client, dryRun)
		return r, c.wrap("creating", err)
	}
	r, err := c.edit(ctx, client, c.Fields, c.ResourceVersion, dryRun)
	return r, c.wrap("changing", err)
}

// Undo restores what was there before. It returns a DriftError, and changes
// nothing, if the object is no longer as the change left it; a HeldError if an
// object that it would delete holds, or may hold, what others made. The guards
// look at that: a Namespace is never deleted without one.
func (c Change) Undo(ctx context.Context, client dynamic.Interface, guards ...Guard) (Result, error) {
	return c.undo(ctx, client, guards, nil)
}

// DryRunUndo asks the API server what Undo would meet, writing nothing.
func (c Change) DryRunUndo(ctx context.Context, client dynamic.Interface, guards ...Guard) error {
	_, err := c.undo(ctx, client, guards, []string{metav1.DryRunAll})
	return err
}

func (c Change) undo(ctx context.Context, client dynamic.Interface, guards []Guard, dryRun []string) (Result, error) {
	if c.IsCreate() {
		r, err := c.undoCreate(ctx, client, guards, dryRun)
		return r, c.wrap("deleting", err)
	}
	if c.Apply != nil {
		r, err := c.undoApply(ctx, client, dryRun)
		return r, c.wrap("restoring", err)
	}
	r, err := c.undoEdit(ctx, client, dryRun)
	return r, c.wrap("restoring", err)
}

func (c Change) wrap(doing string, err error) error {
	if err == nil || Refuses(err) {
		return err
	}
	return fmt.Errorf("%s %s: %w", doing, c.Object, err)
}

// Refuses reports whether an error says that a change, or its undo, is not made
// because of what others did. No repetition makes it go away.
func Refuses(err error) bool {
	var drift *DriftError
	var conflict *ConflictError
	var held *HeldError
	return errors.As(err, &drift) || errors.As(err, &conflict) || errors.As(err, &held)
}
