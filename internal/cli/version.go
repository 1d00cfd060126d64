package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is set by the build: -ldflags "-X irctl/internal/cli.Version=v1.2.3".
// Empty, it is what the Go toolchain recorded.
var Version string

func versionText() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func (a *App) version() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": versionText(), "go": runtime.Version(), "platform": runtime.GOOS + "/" +
				runtime.GOARCH}
			if done, err := a.printObject(v); done || err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.Out, "irctl %s %s %s\n", v["version"], v["go"], v["platform"])
			return err
		}}
}
