package evidence

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// gnupg is a GnuPG home of its own. Other people's tools are the judges of what
// this package writes.
type gnupg struct {
	t    testing.TB
	home string
}

// newGnupg also points the gpg that the package runs to that home.
func newGnupg(t testing.TB) *gnupg {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Fatalf("these tests need GnuPG, the program that bundles are opened with: %v", err)
	}
	// Short: the agent's socket is in it, and its path has at most 107 bytes.
	home, err := os.MkdirTemp("/tmp", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	g := &gnupg{t, home}
	g.configureAgent("")
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	return g
}

// configureAgent writes the agent's options. Its keys yield to a passphrase
// soon: by default it takes a tenth of a second of hashing, and with the race
// detector that takes seconds.
func (g *gnupg) configureAgent(options string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.home, "gpg-agent.conf"), []byte("s2k-count 65536\n"+options),
		0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gnupg) run(args ...string) []byte {
	g.t.Helper()
	out, err := g.try(args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g *gnupg) try(args ...string) ([]byte, error) {
	cmd := exec.Command("gpg", append([]string{"--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback",
		"--passphrase", "", "--trust-model", "always"}, args...)...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+g.home) // whichever was made last
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, &exec.Error{Name: "gpg " + strings.Join(args, " ") + "\n" + stderr.String(), Err: err}
	}
	return stdout.Bytes(), nil
}

// key makes a key of an algorithm for signing, with a subkey for encryption if
// that has an algorithm, and returns its fingerprint.
func (g *gnupg) key(uid, sign, encrypt string, args ...string) string {
	g.t.Helper()
	g.run(append(args, "--quick-gen-key", uid, sign, "cert,sign", "1y")...)
	fprs := g.fingerprints(uid)
	fpr := fprs[len(fprs)-1]
	if encrypt != "" {
		g.run(append(args, "--quick-add-key", fpr, encrypt, "encr", "1y")...)
	}
	return fpr
}

var primaryFingerprint = regexp.MustCompile(`(?m)^pub:.*\nfpr:::::::::([0-9A-F]+):`)

func (g *gnupg) fingerprints(uid string) []string {
	g.t.Helper()
	var fprs []string
	for _, m := range primaryFingerprint.FindAllSubmatch(g.run("--with-colons", "--list-keys", uid), -1) {
		fprs = append(fprs, string(m[1]))
	}
	return fprs
}

// revoke uses the certificate that gpg makes with every key.
func (g *gnupg) revoke(fpr string) {
	g.t.Helper()
	path := filepath.Join(g.home, "openpgp-revocs.d", fpr+".rev")
	cert, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	cert = bytes.Replace(cert, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1)
	if err := os.WriteFile(path, cert, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.run("--import", path)
}

// testKey is a key that is quick to make, for tests in which gpg has no part.
func testKey(t testing.TB) (Recipient, openpgp.EntityList) {
	t.Helper()
	e, err := openpgp.NewEntity("Responder", "", "responder@example.org",
		&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519})
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	entities, err := parseKeys(public.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return Recipient{entity: entities[0]}, openpgp.EntityList{e}
}

func writeFile(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
