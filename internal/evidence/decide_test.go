package evidence

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	corev1 "k8s.io/api/core/v1"
)

// A collection is complete where every artefact is, or is known to be absent; one
// that is cut, denied or failed makes it incomplete, and so does an end before time.
func TestWhatMakesACollectionComplete(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content  string
		cause    error
		early    string
		complete bool
	}{
		"all of it":        {"x", nil, "", true},
		"absent":           {"", fmt.Errorf("%w: it has not started", ErrAbsent), "", true},
		"cut":              {"x", ErrTruncated, "", false},
		"cut at a limit":   {"x", errLimit, "", false},
		"broken off":       {"x", errors.New("the connection broke"), "", false},
		"failed":           {"", errors.New("the node is gone"), "", false},
		"all, but too few": {"x", nil, "interrupted", false},
	} {
		bag, err := NewBag(io.Discard, "b", Meta{}, fixedClock)
		if err != nil {
			t.Fatal(err)
		}
		for n, cause := range []error{nil, c.cause, nil} {
			a, err := bag.Create("logs", "GET /log", fmt.Sprint(n))
			if err != nil {
				t.Fatal(err)
			}
			content := "x"
			if n == 1 {
				content = c.content
			}
			_, _ = a.Write([]byte(content)) // End tells
			if err := a.End(cause); err != nil {
				t.Fatal(err)
			}
		}
		summary, err := bag.Close(c.early)
		if err != nil || summary.Complete != c.complete || summary.Incomplete != c.early {
			t.Errorf("%s: %+v, %v", name, summary, err)
		}
	}
}

// Whether there was an instance before is told by either: the count of restarts,
// and the last state. Without a status nothing is taken for granted.
func TestWhatIsKnownOfAContainer(t *testing.T) {
	t.Parallel()
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for name, c := range map[string]struct {
		status                           *corev1.ContainerStatus
		restarted, running, neverStarted bool
	}{
		"no status": {nil, false, false, false},
		"runs":      {&corev1.ContainerStatus{ContainerID: "c", State: running}, false, true, false},
		"restarted": {&corev1.ContainerStatus{ContainerID: "c", State: running, RestartCount: 1}, true,
			true, false},
		"restarted, not counted": {&corev1.ContainerStatus{ContainerID: "c", State: running,
			LastTerminationState: ended}, true, true, false},
		"waits":                    {&corev1.ContainerStatus{}, false, false, true},
		"waits to start again":     {&corev1.ContainerStatus{RestartCount: 2}, true, false, false},
		"ended without an ID":      {&corev1.ContainerStatus{State: ended}, false, false, false},
		"ended":                    {&corev1.ContainerStatus{ContainerID: "c", State: ended}, false, false, false},
		"runs, and has no ID yet":  {&corev1.ContainerStatus{State: running}, false, true, false},
		"made, and not yet begun":  {&corev1.ContainerStatus{ContainerID: "c"}, false, false, false},
		"waits after its last end": {&corev1.ContainerStatus{LastTerminationState: ended}, true, false, true},
	} {
		got := newContainer("c", "i", c.status)
		if got.restarted != c.restarted || got.running != c.running || got.neverStarted != c.neverStarted {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What a receipt says of the content is held against the content, where that can
// be opened.
func TestContentIsHeldAgainstItsReceipt(t *testing.T) {
	path, key := sealed(t, nil)
	text, err := os.ReadFile(receiptPath(path))
	if err != nil {
		t.Fatal(err)
	}
	if p := problemsOf(t, path, VerifyOptions{Key: &key}); len(p) > 0 {
		t.Fatalf("%q", p)
	}
	for field, want := range map[string]string{`"manifestSha256": "`: "manifest-sha256.txt: its SHA-256",
		`"tagManifestSha256": "`: "tagmanifest-sha256.txt: its SHA-256",
		`"timeline": {`:          "its last entry is number 2"} {
		bundle := copyBundle(t, path)
		at := bytes.Index(text, []byte(field))
		if at < 0 {
			t.Fatalf("the receipt has no %s: %s", field, text)
		}
		forged := bytes.Clone(text)
		at += len(field)
		if strings.HasSuffix(field, "{") {
			at += bytes.Index(forged[at:], []byte(`"sha256": "`)) + len(`"sha256": "`)
		}
		forged[at] = map[bool]byte{true: '1', false: '0'}[forged[at] == '0']
		if err := os.WriteFile(receiptPath(bundle), forged, 0o600); err != nil {
			t.Fatal(err)
		}
		if p := problemsOf(t, bundle, VerifyOptions{Key: &key}); len(p) != 1 || !strings.Contains(p[0], want) {
			t.Errorf("%s: %q", field, p)
		}
	}
}

// A time stamp must answer the question that was asked, and be made while its
// authority's certificate was valid: whether that is so now does not matter.
func TestWhichTimeStampCounts(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		at     time.Time
		answer func(*timestamp.Timestamp)
		usage  int // of the extended key usage; 8: time stamping
		asked  string
		held   string // "": it counts
	}{
		"as asked": {now, nil, 8, "", ""},
		"of another question": {now, func(ts *timestamp.Timestamp) { ts.Nonce = big.NewInt(7) }, 8,
			"to another question", ""},
		"of none": {now, func(ts *timestamp.Timestamp) { ts.Nonce = nil }, 8,
			"to another question", ""},
		"of another receipt": {now,
			func(ts *timestamp.Timestamp) { ts.HashedMessage = bytes.Repeat([]byte{1}, 32) }, 8, "for another receipt",
			""},
		"before its certificate":             {now.Add(-2 * time.Hour), nil, 8, "", "not one of those that were given"},
		"with a certificate of another kind": {now, nil, 1, "", "not one of those that were given"},
	} {
		bundle, _ := sealed(t, nil)
		url, root := stamping(t, c.usage, func(ts *timestamp.Timestamp) {
			if ts.Time = c.at; c.answer != nil {
				c.answer(ts)
			}
		})
		_, err := Timestamp(t.Context(), bundle, url)
		if (err == nil) != (c.asked == "") || err != nil && (!errors.Is(err, ErrTimestamp) ||
			!strings.Contains(err.Error(), c.asked)) {
			t.Errorf("%s: asking: %v", name, err)
			continue
		}
		if _, statErr := os.Stat(bundle + TimestampSuffix); (statErr == nil) != (err == nil) {
			t.Errorf("%s: it is kept: %v", name, statErr == nil)
		}
		if err != nil {
			continue
		}
		trusted := x509.NewCertPool()
		trusted.AddCert(root)
		p := problemsOf(t, bundle, VerifyOptions{Authorities: trusted})
		if (len(p) == 0) != (c.held == "") || len(p) > 0 && !strings.Contains(p[0], c.held) {
			t.Errorf("%s: %q", name, p)
		}
	}
}

// stamping is a time-stamping authority whose answers are edited.
func stamping(t *testing.T, usage int, edit func(*timestamp.Timestamp)) (url string, root *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, usage}})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Time"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
			Value: value}},
		BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what it lacks fails the parser
		req, err := timestamp.ParseRequest(body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		ts := timestamp.Timestamp{HashAlgorithm: req.HashAlgorithm, HashedMessage: req.HashedMessage, Nonce: req.Nonce,
			Policy: asn1.ObjectIdentifier{1, 2, 3}, AddTSACertificate: true}
		edit(&ts)
		answer, err := ts.CreateResponseWithOpts(root, key, crypto.SHA256)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL, root
}
