package evidence

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
)

// sealed makes a bundle with a journal, a log of several parts and two small
// files, and returns its path and the key that opens it.
func sealed(t testing.TB, signer *Signer) (string, Key) {
	t.Helper()
	recipient, keys := testKey(t)
	path := t.TempDir() + "/case" + Extension
	writeBundle(t, path, []Recipient{recipient}, signer)
	return path, Key{keyring: keys}
}

// testLogLines of 16 bytes are in the log.
const testLogLines = 300_000

const testJournal = `{"seq":1,"prev":"x"}`

func writeBundle(t testing.TB, path string, recipients []Recipient, signer *Signer) Receipt {
	t.Helper()
	clock := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	second := `{"seq":2,"prev":"` + hexDigest([]byte(testJournal)) + `"}`
	meta := Meta{Purpose: "test", Incident: "inc-20260102-030405-abcd", Tool: Tool{Name: "irctl", Version: "test"},
		Timeline: &ChainHead{Seq: 2, SHA256: hexDigest([]byte(second))}}
	b, err := Create(path, recipients, signer, meta, clock)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"timeline.jsonl": []byte(testJournal + "\n" + second + "\n"),
		"a.log":          bytes.Repeat([]byte("a line of a log\n"), testLogLines), // three parts
		"b.txt":          []byte("b\n"),
		"Ünsafe/\x1b":    []byte("c\n"),
	} {
		if err := b.Bag().AddBytes("test", "a test", content, name); err != nil {
			t.Fatal(err)
		}
	}
	receipt, err := b.Finish(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// fileSigner signs with a key file without a passphrase.
func fileSigner(t testing.TB, g *gnupg, email string) *Signer {
	t.Helper()
	g.key("Signer <"+email+">", "ed25519", "cv25519")
	s, err := LoadSigner(t.Context(), writeFile(t, g.run("--armor", "--export-secret-keys", email)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func problemsOf(t testing.TB, path string, opts VerifyOptions) []string {
	t.Helper()
	v, err := VerifyBundle(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	var problems []string
	for _, p := range v.Problems {
		problems = append(problems, p.String())
	}
	return problems
}

func TestAnUntouchedBundleVerifies(t *testing.T) {
	g := newGnupg(t)
	signer := fileSigner(t, g, "signer@example.org")
	path, key := sealed(t, signer)
	v, err := VerifyBundle(t.Context(), path, VerifyOptions{Key: &key}) // the signer's key is in the keyring
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK() || v.Signer != signer.Fingerprint() || v.Files != 6 || v.Receipt == nil {
		t.Errorf("%+v", v)
	}
}

// Every class of byte in turn: whatever is changed is named.
func TestTamperingIsNamed(t *testing.T) {
	g := newGnupg(t)
	signer := fileSigner(t, g, "signer@example.org")
	path, key := sealed(t, signer)
	size := fileSize(t, path)
	flip := func(name string, at int64) func(t *testing.T, bundle string) {
		return func(t *testing.T, bundle string) { flipByte(t, bundle+name, at) }
	}
	edit := func(name, from, to string) func(t *testing.T, bundle string) {
		return func(t *testing.T, bundle string) { replaceIn(t, bundle+name, from, to) }
	}
	for name, tc := range map[string]struct {
		tamper func(t *testing.T, bundle string)
		want   string
	}{
		"the OpenPGP header":    {flip("", 4), "case.tar.gz.gpg: altered"},
		"the encrypted payload": {flip("", size/2), "case.tar.gz.gpg: altered"},
		"the last byte":         {flip("", size-1), "case.tar.gz.gpg: altered"},
		"the end cut off":       {func(t *testing.T, b string) { truncate(t, b, size-100) }, "100 of"},
		"something appended":    {func(t *testing.T, b string) { appendTo(t, b, "x") }, "1 bytes follow"},
		"the receipt's digest":  {edit(".json", `"sha256": "`, `"sha256": "0`), "malformed receipt"},
		"the receipt's purpose": {edit(".json", `"test"`, `"tent"`), "case.tar.gz.gpg.json.asc: bad signature"},
		"the receipt's size":    {edit(".json", `"size": `, `"size": 1`), "case.tar.gz.gpg"},
		"a field more":          {edit(".json", `"size": `, `"extra": 1, "size": `), "malformed receipt"},
		"the receipt removed":   {remove(".json"), "the receipt is missing"},
		"the signature":         {edit(".json.asc", "\n\n", "\n\nAAAA"), "case.tar.gz.gpg.json.asc: "},
		"the signature removed": {remove(".json.asc"), "the signature is missing"},
		"another's signature": {func(t *testing.T, b string) { resign(t, g, b) }, "whereas the receipt names " +
			signer.Fingerprint()},
		"all that is not signed": {func(t *testing.T, b string) { reseal(t, b) },
			"case.tar.gz.gpg.json.asc: bad signature"},
	} {
		t.Run(name, func(t *testing.T) {
			bundle := copyBundle(t, path)
			tc.tamper(t, bundle)
			for kind, opts := range map[string]VerifyOptions{"without key": {}, "with key": {Key: &key}} {
				problems := problemsOf(t, bundle, opts)
				if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, tc.want) }) {
					t.Errorf("%s: want %q in %q", kind, tc.want, problems)
				}
			}
		})
	}
}

// What only somebody who has a key could change is found with a key.
func TestADifferentContentUnderAValidSealIsNamed(t *testing.T) {
	recipient, keys := testKey(t)
	key := Key{keyring: keys}
	genuine := t.TempDir() + "/case" + Extension
	writeBundle(t, genuine, []Recipient{recipient}, nil)
	entries := unpack(t, genuine, key)
	for name, tc := range map[string]struct {
		change func([]tarEntry) []tarEntry
		want   string
	}{
		"payload": {replaceEntry("data/b.txt", "B\n"), "data/b.txt: altered"},
		"a part":  {replaceEntry("data/a.log.part00002", "x"), "data/a.log.part00002: altered"},
		"a file more": {func(e []tarEntry) []tarEntry {
			return append(e, tarEntry{"data/z", "z"})
		}, "data/z: in no manifest"},
		"a file less":  {removeEntry("data/b.txt"), "data/b.txt: missing"},
		"the manifest": {removeEntry("manifest-sha256.txt"), "manifest-sha256.txt: missing"},
		"manifest's lines": {replaceEntry("manifest-sha256.txt", "../x"),
			"manifest-sha256.txt: malformed manifest: line 1"},
		"collection.json": {replaceEntry("collection.json", "{}"), "collection.json: altered"},
		"timeline": {replaceEntry("data/timeline.jsonl", testJournal+"\n"+`{"seq":2,"prev":"0"}`+"\n"),
			"data/timeline.jsonl: the chain is broken at line 2"},
		"timeline cut": {replaceEntry("data/timeline.jsonl", testJournal+"\n"),
			"data/timeline.jsonl: its last entry is number 1"},
		"a link": {func(e []tarEntry) []tarEntry {
			return append([]tarEntry{{"@link", "/etc/passwd"}}, e...)
		}, "not a plain file"},
		"leaving the bag": {func(e []tarEntry) []tarEntry {
			return append(e, tarEntry{"../evil", "x"})
		}, "not a safe path"},
		"twice": {func(e []tarEntry) []tarEntry { return append(e, tarEntry{"data/b.txt", "b\n"}) },
			"data/b.txt is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			path := copyBundle(t, genuine) // with a receipt that is left as it was
			if err := os.WriteFile(path, seal(t, archive(t, tc.change(slices.Clone(entries))), recipient),
				0o600); err != nil {
				t.Fatal(err)
			}
			problems := problemsOf(t, path, VerifyOptions{Key: &key})
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, tc.want) }) {
				t.Errorf("want %q in %q", tc.want, problems)
			}
		})
	}
}

func TestADamagedBundleIsReadUpToTheDamage(t *testing.T) {
	path, key := sealed(t, nil)
	flipByte(t, path, fileSize(t, path)-200) // in the manifests, at the end
	v, err := VerifyBundle(t.Context(), path, VerifyOptions{Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	if v.Files < 4 || !slices.ContainsFunc(v.Problems, func(p Problem) bool {
		return strings.Contains(p.What, "cannot be read from here on")
	}) {
		t.Errorf("%d files, %v", v.Files, v.Problems)
	}
}

func TestWhereItDiffersIsNarrowedDown(t *testing.T) {
	recipient, _ := testKey(t)
	path := t.TempDir() + "/case" + Extension
	b, err := Create(path, []Recipient{recipient}, nil, Meta{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 3*segmentSize) // does not compress
	_, _ = rand.Read(noise)
	if err := b.Bag().AddBytes("test", "noise", noise, "noise"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	flipByte(t, path, segmentSize+12345)
	problems := problemsOf(t, path, VerifyOptions{})
	if len(problems) != 1 || !strings.Contains(problems[0], "it differs in bytes 8388608-16777215") {
		t.Errorf("%q", problems)
	}
}

func TestGnupgAndSha256sumAgree(t *testing.T) {
	g := newGnupg(t)
	g.key("Rsa <rsa@example.org>", "rsa2048", "rsa2048")
	g.key("Curve <curve@example.org>", "ed25519", "cv25519")
	recipients, err := LoadRecipients(t.Context(), []string{"rsa@example.org", "curve@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := LoadSigner(t.Context(), "rsa@example.org", nil) // gpg signs
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/case" + Extension
	writeBundle(t, path, recipients, signer)
	g.run("--verify", path+SignatureSuffix, path+receiptSuffix)
	dir := t.TempDir()
	shell(t, dir, `gpg --batch --quiet --decrypt "$1" | tar -xzf - && cd case && sha256sum --quiet --strict -c `+
		`tagmanifest-sha256.txt && sha256sum --quiet --strict -c manifest-sha256.txt && cat data/a.log.part* | wc -c`,
		path)
	// The zero key has gpg decrypt.
	checkBundle(t, path, Key{})
}

func TestPassphrases(t *testing.T) {
	g := newGnupg(t)
	g.run("--passphrase", "correct horse", "--quick-gen-key", "Locked <locked@example.org>", "ed25519", "sign", "1y")
	file := writeFile(t, g.run("--passphrase", "correct horse", "--armor", "--export-secret-keys",
		"locked@example.org"))

	if _, err := LoadSigner(t.Context(), file, ReadPassphrase(strings.NewReader("correct horse\n"))); err != nil {
		t.Error(err)
	}
	if _, err := LoadSigner(t.Context(), file, ReadPassphrase(strings.NewReader("wrong\n"))); !errors.Is(err,
		ErrKeyLocked) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err := LoadSigner(t.Context(), file, nil); !errors.Is(err, ErrKeyLocked) {
		t.Errorf("no passphrase: %v", err)
	}
	recipient, _ := testKey(t)
	for _, ref := range []string{file, "locked@example.org"} { // GnuPG's agent must not ask by itself
		s := LockedSigner(ref)
		if err := s.Unlock(t.Context(), nil); !errors.Is(err, ErrKeyLocked) || errors.Is(err, ErrPassphrase) {
			t.Errorf("%s without a passphrase: %v", ref, err)
		}
		if err := s.Unlock(t.Context(), []byte("wrong")); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s with a wrong passphrase: %v", ref, err)
		}
		unsigned := filepath.Join(t.TempDir(), "unsigned"+Extension)
		if r := writeBundle(t, unsigned, []Recipient{recipient}, s); r.Signer != "" || !s.Locked() {
			t.Errorf("%s, locked, signed as %q", ref, r.Signer)
		}
		if _, err := s.Sign(t.Context(), []byte("x")); !errors.Is(err, ErrNotSigned) || !errors.Is(err, ErrKeyLocked) {
			t.Errorf("%s, locked, signs: %v", ref, err)
		}
		if err := s.Unlock(t.Context(), []byte("correct horse")); err != nil || s.Locked() {
			t.Errorf("%s is still locked: %v", ref, err)
		}
		if err := s.Unlock(t.Context(), nil); err != nil {
			t.Errorf("%s, unlocked before: %v", ref, err)
		}
		if _, err := s.Sign(t.Context(), []byte("x")); err != nil {
			t.Error(err)
		}
	}

	pinentry := filepath.Join(t.TempDir(), "pinentry")
	script := "#!/bin/sh\necho 'OK hello'\nwhile read cmd rest; do case $cmd in GETPIN) echo 'D correct horse'; echo " +
		"OK;; BYE) echo OK; exit;; *) echo OK;; esac; done\n"
	if err := os.WriteFile(pinentry, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	g.configureAgent("pinentry-program " + pinentry + "\n")
	if err := exec.Command("gpgconf", "--homedir", g.home, "--kill", "gpg-agent").Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSigner(t.Context(), file, AskAgent); err != nil {
		t.Errorf("by the agent's pinentry: %v", err)
	}
}

func TestEvidenceIsNotLostForWantOfASignature(t *testing.T) {
	recipient, _ := testKey(t)
	path := t.TempDir() + "/case" + Extension
	_, keys := testKey(t)
	signer := &Signer{public: keys[0], sign: func(context.Context, []byte) ([]byte, error) {
		return nil, errors.New("cancelled at the pinentry")
	}}
	b, err := Create(path, []Recipient{recipient}, signer, Meta{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := b.Finish(t.Context(), "")
	if !errors.Is(err, ErrNotSigned) || receipt.Path != path || receipt.Signer != "" {
		t.Errorf("%v, %+v", err, receipt)
	}
	if problems := problemsOf(t, path, VerifyOptions{}); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
}

func TestCustodyChangesHands(t *testing.T) {
	g := newGnupg(t)
	signer := fileSigner(t, g, "signer@example.org")
	second := fileSigner(t, g, "second@example.org")
	path, _ := sealed(t, signer)
	add := func(s *Signer, from, to string) error {
		_, err := AddCustody(t.Context(), path, HandOver{From: from, To: to, Note: "USB stick 7"},
			Actor{OSUser: "jane"}, s, time.Now())
		return err
	}
	if err := errors.Join(add(signer, "responder", "forensics"), add(second, "forensics", "counsel")); err != nil {
		t.Fatal(err)
	}
	v, err := VerifyBundle(t.Context(), path, VerifyOptions{})
	if err != nil || !v.OK() || len(v.Custody) != 2 || v.Custody[1].To != "counsel" {
		t.Fatalf("%v, %+v", err, v)
	}
	g.run("--verify", path+CustodySuffix+"/0002.json.asc", path+CustodySuffix+"/0002.json")

	for name, tc := range map[string]struct {
		tamper func(bundle string)
		want   string
	}{
		"an entry edited": {func(b string) { replaceIn(t, b+CustodySuffix+"/0001.json", "forensics", "forensicz") },
			"0001.json: bad signature"},
		"which breaks": {func(b string) { replaceIn(t, b+CustodySuffix+"/0001.json", "forensics", "forensicz") },
			"0002.json: the custody chain is broken"},
		"an entry removed": {func(b string) { removeFile(t, b+CustodySuffix+"/0001.json") },
			"0002.json: does not follow on the entries before"},
		"a signature gone": {func(b string) { removeFile(t, b+CustodySuffix+"/0002.json.asc") },
			"0002.json: bad signature"},
		"the receipt": {func(b string) { replaceIn(t, b+".json", `"test"`, `"tent"`) },
			"0001.json: the custody chain is broken"},
		"the bundle": {func(b string) { flipByte(t, b, 100) },
			"0001.json: the custody chain is broken: it is about a bundle with"},
	} {
		t.Run(name, func(t *testing.T) {
			bundle := copyBundle(t, path)
			tc.tamper(bundle)
			problems := problemsOf(t, bundle, VerifyOptions{})
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, tc.want) }) {
				t.Errorf("want %q in %q", tc.want, problems)
			}
		})
	}
	t.Run("nobody signs for what is damaged", func(t *testing.T) {
		flipByte(t, path, 1000)
		if err := add(signer, "counsel", "court"); !errors.Is(err, ErrAltered) {
			t.Errorf("got %v", err)
		}
	})
}

func TestASignatureByAnUnknownKeyIsNoSuccess(t *testing.T) {
	g := newGnupg(t)
	signer := fileSigner(t, g, "signer@example.org")
	other := fileSigner(t, g, "other@example.org")
	path, _ := sealed(t, signer)
	keys, err := LoadPublicKeys(t.Context(), []string{"other@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if p := problemsOf(t, path, VerifyOptions{Signers: keys}); len(p) != 1 ||
		!strings.Contains(p[0], "none of the keys that were given") {
		t.Errorf("%q", p)
	}
	own := func(email string) VerifyOptions {
		t.Helper()
		keys, err := KeyOfSigner(t.Context(), writeFile(t, g.run("--armor", "--export-secret-keys", email)))
		if err != nil {
			t.Fatal(err)
		}
		return VerifyOptions{Signers: keys}
	}
	others, signers := own("other@example.org"), own("signer@example.org")
	if p := problemsOf(t, path, others); len(p) > 0 { // the keyring has the signer's
		t.Errorf("%q", p)
	}
	newGnupg(t) // an empty keyring
	if p := problemsOf(t, path, others); len(p) != 1 || !strings.Contains(p[0], signer.Fingerprint()) {
		t.Errorf("%q", p)
	}
	if p := problemsOf(t, path, signers); len(p) > 0 {
		t.Errorf("%q", p)
	}
	if p := problemsOf(t, path, VerifyOptions{}); len(p) != 1 || !strings.Contains(p[0], signer.Fingerprint()) {
		t.Errorf("%q", p)
	}
	if other.Fingerprint() == signer.Fingerprint() {
		t.Fatal("the same key")
	}
}

func TestTimestamps(t *testing.T) {
	path, _ := sealed(t, nil)
	authority := newAuthority(t)
	at, err := Timestamp(t.Context(), path, authority.url)
	if err != nil || time.Since(at) > time.Minute {
		t.Fatalf("%s, %v", at, err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.root)
	v, err := VerifyBundle(t.Context(), path, VerifyOptions{Authorities: trusted})
	if err != nil || !v.OK() || v.Timestamped == nil {
		t.Fatalf("%v %+v", err, v)
	}
	if p := problemsOf(t, path, VerifyOptions{Authorities: x509.NewCertPool()}); len(p) != 1 ||
		!strings.Contains(p[0], "not one of those that were given") {
		t.Errorf("another authority: %q", p)
	}
	t.Run("of another receipt", func(t *testing.T) {
		bundle := copyBundle(t, path)
		replaceIn(t, bundle+".json", `"test"`, `"tent"`)
		if p := problemsOf(t, bundle, VerifyOptions{}); len(p) != 1 || !strings.Contains(p[0], "for another receipt") {
			t.Errorf("%q", p)
		}
	})
	t.Run("every byte of it", func(t *testing.T) {
		bundle := copyBundle(t, path)
		for at := int64(0); at < fileSize(t, bundle+TimestampSuffix); at += 7 {
			flipByte(t, bundle+TimestampSuffix, at)
			_, _ = VerifyBundle(t.Context(), bundle, VerifyOptions{Authorities: trusted}) // must not panic
			flipByte(t, bundle+TimestampSuffix, at)
		}
	})
	t.Run("a query for an authority that is not reached from here", func(t *testing.T) {
		query, err := WriteTimestampQuery(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		out := shell(t, t.TempDir(), `openssl ts -query -in "$1" -text`, query)
		if !strings.Contains(out, "sha256") {
			t.Errorf("openssl reads: %s", out)
		}
	})
}

// authority is a time-stamping authority with a certificate of its own.
type authority struct {
	url  string
	root *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Time"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
			Value: usage}},
		BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		req, err := timestamp.ParseRequest(body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		ts := timestamp.Timestamp{HashAlgorithm: req.HashAlgorithm, HashedMessage: req.HashedMessage, Time: time.Now(),
			Nonce: req.Nonce, Policy: asn1.ObjectIdentifier{1, 2, 3}, AddTSACertificate: true}
		answer, err := ts.CreateResponseWithOpts(cert, key, crypto.SHA256)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(answer)
	}))
	t.Cleanup(server.Close)
	return authority{server.URL, cert}
}

func TestExtractAndCopy(t *testing.T) {
	path, key := sealed(t, nil)
	open := func() *Reader {
		r, err := OpenFile(t.Context(), path, key)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	dir := t.TempDir() + "/out"
	if problems, err := Extract(open(), dir); err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	shell(t, dir, "sha256sum --quiet --strict -c tagmanifest-sha256.txt manifest-sha256.txt", "")
	if _, err := Extract(open(), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into what is there already: %v", err)
	}
	var log bytes.Buffer
	if err := Copy(&log, open(), "data/a.log"); err != nil || log.Len() != 16*testLogLines {
		t.Errorf("%d bytes, %v", log.Len(), err)
	}
	if err := Copy(io.Discard, open(), "data/none"); !errors.Is(err, ErrNoFile) {
		t.Errorf("got %v", err)
	}
	entries, err := List(open())
	if err != nil || len(entries) != 12 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func FuzzParseReceipt(f *testing.F) {
	path, _ := sealed(f, nil)
	data, err := os.ReadFile(path + receiptSuffix)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":"irctl-receipt/1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseReceipt(data)
		if err != nil {
			return
		}
		again, err := encodeReceipt(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseReceipt(again); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	m := &manifest{}
	m.add("data/a", digest{1})
	f.Add(m.encode())
	f.Add([]byte("00  data/a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		listed, err := parseManifest(bytes.NewReader(data))
		if err != nil {
			return
		}
		again := &manifest{}
		for path, sum := range listed {
			if !isSafePath(path) || strings.Contains(path, "..") && slices.Contains(strings.Split(path, "/"), "..") {
				t.Errorf("unsafe path %q", path)
			}
			again.add(path, sum)
		}
		if _, err := parseManifest(bytes.NewReader(again.encode())); err != nil {
			t.Error(err)
		}
	})
}

func FuzzCustodyEntry(f *testing.F) {
	data, _ := json.Marshal(CustodyEntry{Format: CustodyFormat, Seq: 1})
	f.Add(data)
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = parseCustodyEntry(data) })
}

func FuzzTimestamp(f *testing.F) {
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x00})
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = parseTimestamp(data) })
}
