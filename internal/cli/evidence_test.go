package cli_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// gnupgHome has one key without a passphrase, for everything.
func gnupgHome(t *testing.T) string {
	t.Helper()
	// Short: the agent's socket is in it, and its path has at most 107 bytes.
	home, err := os.MkdirTemp("/tmp", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	cmd := exec.Command("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "Responder <responder@example.org>",
		"rsa2048", "default", "1y")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("these tests need GnuPG, the program that bundles are opened with: %v\n%s", err, out)
	}
	fpr, err := exec.Command("gpg", "--batch", "--with-colons", "--list-keys", "responder@example.org").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(fpr), "fpr:::::::::")
	primary, _, _ := strings.Cut(rest, ":")
	if out, err := exec.Command("gpg", "--batch", "--passphrase", "", "--quick-add-key", primary, "rsa2048", "encr",
		"1y").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return home
}
