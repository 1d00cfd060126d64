//go:build !unix

package engine

import "os/exec"

// ownGroup: there are no process groups here; the command itself is ended.
func ownGroup(*exec.Cmd) {}
