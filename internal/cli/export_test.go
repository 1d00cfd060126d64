package cli

import (
	"context"

	"github.com/spf13/cobra"

	"irctl/internal/drill"
)

// MainAt is Main at another time.
func MainAt(ctx context.Context, clock drill.Clock, args []string, streams Streams, getenv func(string) string) int {
	return (&App{Streams: streams, Getenv: getenv, clock: clock}).main(ctx, args)
}

// Commands are all there are, as the root of their tree.
func Commands() *cobra.Command { return (&App{clock: drill.RealClock{}}).root() }
