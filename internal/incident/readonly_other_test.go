//go:build unix && !linux

package incident_test

import "os/exec"

func readOnlyProcess(*exec.Cmd) {}

// makeReadOnly does not stop root; the test then says that it tests nothing.
func makeReadOnly(dir string) error { return takeAwayWriting(dir) }
