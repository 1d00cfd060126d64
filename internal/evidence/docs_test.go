package evidence

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// pageScript is all the commands of docs/evidence-format.md, in order.
func pageScript(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/evidence-format.md")
	if err != nil {
		t.Fatal(err)
	}
	script := "set -euo pipefail\n"
	blocks := shellBlock.FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 8 {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	for _, b := range blocks {
		script += b[1]
	}
	return script
}

// A stranger follows the page, with stock tools alone.
func TestTheCommandsOfThePage(t *testing.T) {
	g := newGnupg(t)
	g.key("Stranger <stranger@example.org>", "rsa2048", "rsa2048")
	recipients, err := LoadRecipients(t.Context(), []string{"stranger@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	signer := fileSigner(t, g, "signer@example.org")
	path := filepath.Join(t.TempDir(), "investigation-20260102t030405.000z"+Extension)
	writeBundle(t, path, recipients, signer)
	for _, to := range []string{"forensics", "counsel"} {
		if _, err := AddCustody(t.Context(), path, HandOver{From: "somebody", To: to}, Actor{}, signer,
			time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	follow := func(bundle string) (string, error) {
		cmd := exec.Command("bash", "-c", pageScript(t))
		cmd.Dir = filepath.Dir(bundle)
		cmd.Env = append(os.Environ(), "B="+filepath.Base(bundle), "GNUPGHOME="+g.home, "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	untouched := copyBundle(t, path)
	if out, err := follow(untouched); err != nil || strings.Contains(out, "altered:") {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, tamper := range map[string]func(bundle string){
		"the bundle":          func(b string) { flipByte(t, b, fileSize(t, b)/2) },
		"the receipt":         func(b string) { replaceIn(t, b+".json", `"test"`, `"tent"`) },
		"a custody entry":     func(b string) { replaceIn(t, b+CustodySuffix+"/0001.json", "forensics", "forensicz") },
		"a custody entry cut": func(b string) { removeFile(t, b+CustodySuffix+"/0001.json") },
	} {
		bundle := copyBundle(t, path)
		tamper(bundle)
		if out, err := follow(bundle); err == nil {
			t.Errorf("%s was altered, and the page's commands did not notice:\n%s", name, out)
		}
	}
}
