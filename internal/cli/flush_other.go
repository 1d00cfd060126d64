//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package cli

// flushTerminal does nothing here: what was typed ahead cannot be told from the rest.
func flushTerminal(int) error { return nil }
