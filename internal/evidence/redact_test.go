package evidence

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// redact gives a text in pieces of a size through the redaction.
func redact(t testing.TB, text string, piece int, options ...func(*redaction)) (string, map[string]int, []replacement) {
	t.Helper()
	var out bytes.Buffer
	bag, err := NewBag(&out, "bag", Meta{}, fixedClock)
	if err != nil {
		t.Fatal(err)
	}
	a, err := bag.Create("test", "test", "x")
	if err != nil {
		t.Fatal(err)
	}
	r := newRedactor()
	x := r.begin("data/x", a)
	for _, option := range options {
		option(x)
	}
	for chunk := range slices.Chunk([]byte(text), piece) {
		if _, err := x.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.flush(); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for _, chunk := range a.chunks {
		got = append(got, chunk...)
	}
	return string(got), x.counts, r.replaced
}

func TestRedaction(t *testing.T) {
	const pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----"
	for name, tc := range map[string]struct{ text, want string }{
		"key=value":  {"user=bob password=hunter2 done\n", "user=bob password=[redacted] done\n"},
		"key: value": {"db_password: hunter2\nport: 1\n", "db_password: [redacted]\nport: 1\n"},
		"environment": {"AWS_SECRET_ACCESS_KEY=abc/def+1\nPATH=/bin\n",
			"AWS_SECRET_ACCESS_KEY=[redacted]\nPATH=/bin\n"},
		"JSON":             {`{"apiKey":"a,b \"c\" d","n":1}`, `{"apiKey":"[redacted]","n":1}`},
		"JSON with spaces": {`{"token" : "abc"}`, `{"token" : "[redacted]"}`},
		"JSON in a string": {`"msg":"{\"password\":\"hunter2\",\"a\":1}"`,
			`"msg":"{\"password\":\"[redacted]\",\"a\":1}"`},
		"env var in JSON": {`{"name":"DB_PASSWORD","value":"hunter2"},{"name":"PORT","value":"80"}`,
			`{"name":"DB_PASSWORD","value":"[redacted]"},{"name":"PORT","value":"80"}`},
		"env var in YAML": {"- name: DB_PASSWORD\n  value: hunter2\n- name: PORT\n  value: 80\n",
			"- name: DB_PASSWORD\n  value: [redacted]\n- name: PORT\n  value: 80\n"},
		"flag":                 {"mysqld --password hunter2 --port 1\n", "mysqld --password [redacted] --port 1\n"},
		"flag with =":          {"mysqld --password=hunter2 --port=1\n", "mysqld --password=[redacted] --port=1\n"},
		"URL":                  {"postgres://bob:hunter2@db:5432/x\n", "postgres://bob:[redacted]@db:5432/x\n"},
		"URL without password": {"https://example.org:8080/a@b\n", "https://example.org:8080/a@b\n"},
		"bearer":               {"sent Bearer abcdefgh.ijkl\n", "sent Bearer [redacted]\n"},
		"authorization header": {"Authorization: Basic Ym9iOmh1bnRlcjI=\nHost: x\n",
			"Authorization: [redacted]\nHost: x\n"},
		"cookie":       {"Cookie: a=1; b=2\r\nHost: x\r\n", "Cookie: [redacted]\r\nHost: x\r\n"},
		"JWT":          {"got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl end", "got [redacted] end"},
		"AWS key id":   {"id AKIAIOSFODNN7EXAMPLE.", "id [redacted]"},
		"GitHub token": {"x ghp_0123456789abcdefghijABCDEFGHIJ012345 y", "x [redacted] y"},
		"GitLab token": {"x glpat-0123456789abcdefghij y", "x [redacted] y"},
		"Slack token":  {"xoxb-123456789012-abcdef", "[redacted]"},
		"private key":  {"a\n" + pem + "\nb\n", "a\n[redacted]-----END RSA PRIVATE KEY-----\nb\n"},
		"private key in JSON": {`{"k":"` + strings.ReplaceAll(pem, "\n", `\n`) + `"}`,
			`{"k":"[redacted]-----END RSA PRIVATE KEY-----"}`},
		"names are no secrets": {
			`{"secretName":"db","serviceAccountName":"x","tokenExpirationSeconds":3600,"passwordFile":"/run/x"}`,
			`{"secretName":"db","serviceAccountName":"x","tokenExpirationSeconds":3600,"passwordFile":"/run/x"}`},
		"nested": {`{"secret":{"secretName":"db"},"token":null}`,
			`{"secret":{"secretName":"db"},"token":null}`},
		"a usual line": {"2026-01-02T03:04:05Z INFO GET /api/v1/todos status=200 key=value cache: miss\n",
			"2026-01-02T03:04:05Z INFO GET /api/v1/todos status=200 key=value cache: miss\n"},
		"certificate": {"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
			"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----"},
		"at the end": {"token=", "token="},
	} {
		t.Run(name, func(t *testing.T) {
			got, counts, replaced := redact(t, tc.text, 1<<20)
			if got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
			if n := strings.Count(tc.want, mark); n != len(replaced) || n > 0 && len(counts) == 0 {
				t.Errorf("%d replaced, reported %v %v", n, counts, replaced)
			}
		})
	}
}

// Wherever the content is cut on its way, the result is the same.
func TestRedactionDoesNotDependOnHowItArrives(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	lines := []string{"password=hunter2hunter2 ", `"token":"` + strings.Repeat("z", 300) + `",`,
		"plain words of a log ", "Bearer abcdefghijklmnop ",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl ", "-----BEGIN PRIVATE KEY-----\n" +
			strings.Repeat("abcd\n", 100) + "-----END PRIVATE KEY-----\n", "\n"}
	for text.Len() < 1<<20 {
		text.WriteString(lines[r.IntN(len(lines))])
	}
	want, counts, _ := redact(t, text.String(), 1<<21)
	for _, secret := range []string{"hunter2", "zzz", "abcdefghij", "eyJ", "abcd\nabcd"} {
		if strings.Contains(want, secret) {
			t.Errorf("%q is still there", secret)
		}
	}
	for _, piece := range []int{1 << 10, 4096, 65_536, 100_003} {
		got, gotCounts, _ := redact(t, text.String(), piece)
		if got != want || !maps.Equal(counts, gotCounts) {
			t.Errorf("in pieces of %d: %d bytes instead of %d, %v instead of %v", piece, len(got), len(want), gotCounts,
				counts)
		}
	}
}

func TestASecretLongerThanTheWindowIsReplacedToItsEnd(t *testing.T) {
	for name, text := range map[string]string{
		"quoted": `{"password":"` + strings.Repeat("s3cr3t", 200_000) + `","next":"plain"}`,
		"private key": "-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("s3cr3t\n", 200_000) +
			"-----END PRIVATE KEY-----\nplain\n",
		"line": "token=" + strings.Repeat("s3cr3t", 200_000) + "\nplain\n",
	} {
		got, _, _ := redact(t, text, 32<<10)
		if strings.Contains(got, "s3cr3t") || !strings.Contains(got, "plain") {
			t.Errorf("%s: %d bytes: %.80q…%.80q", name, len(got), got, got[max(0, len(got)-80):])
		}
	}
}

func TestTheSharedBundle(t *testing.T) {
	s, ref := suspect(t)
	recipient, keys := testKey(t)
	key := Key{keyring: keys}
	req := s.request(t, []Recipient{recipient}, ref)
	shared := t.TempDir() + "/shared" + Extension
	req.Scope = Scope{Shared: shared, SecretValues: true, Live: true, Files: []string{"/etc/shadow"}}
	result, err := Investigate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	checkBundle(t, result.Receipt.Path, key)
	checkBundle(t, shared, key)
	original, redacted := opened(t, result.Receipt.Path, key), opened(t, shared, key)
	for path, content := range redacted {
		for _, secret := range []string{"hunter2", "correct-horse", "dmFsdWUtb2YtZGI", "the tar of"} {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
	}
	const pod = "data/pods/todo-app/backend-2-abcde/"
	_, before := collectionOf(t, original)
	collection, after := collectionOf(t, redacted)
	if collection.RedactedFrom != "bundle" || result.Shared == nil || result.Shared.Redacted != "bundle" {
		t.Errorf("it does not say of what it is a part: %q", collection.RedactedFrom)
	}
	for path, a := range before {
		if r := after[path].Redaction; path != "data/redaction.key" && (r == nil || r.OriginalSHA256 != a.SHA256) {
			t.Errorf("%s: the original's digest is not kept: %+v", path, r)
		}
	}
	for _, path := range []string{"data/secrets/hmac.key", "data/secrets/todo-app/db.values.json",
		pod + "files/api/etcxshadow.tar~" + fileHash("etc/shadow.tar")} {
		if after[path].Status != Withheld || redacted[path] != nil {
			t.Errorf("%s is %s", path, after[path].Status)
		}
	}
	if n := after[pod+"logs/api/current.log"].Redaction.Replaced["sensitive-key"]; n != 1 {
		t.Errorf("%d replaced in the log", n)
	}
	checkReport(t, original, redacted)
}

// checkReport: whoever has the original can tell what was replaced.
func checkReport(t *testing.T, original, redacted map[string][]byte) {
	t.Helper()
	var report struct{ Replaced []replacement }
	if err := json.Unmarshal(redacted["data/redactions.json"], &report); err != nil {
		t.Fatal(err)
	}
	r := &redactor{}
	if _, err := hexDecode(r.key[:], strings.TrimSpace(string(original["data/redaction.key"]))); err != nil {
		t.Fatal(err)
	}
	for _, x := range report.Replaced {
		value := original[x.Path][x.Offset : x.Offset+int64(x.Length)]
		if r.digest(value) != x.HMAC {
			t.Errorf("%+v is not %q", x, value)
		}
	}
	if len(report.Replaced) < 4 {
		t.Errorf("the report has %d entries", len(report.Replaced))
	}
}

func FuzzRedaction(f *testing.F) {
	f.Add("password=x", 3)
	f.Add("-----BEGIN PRIVATE KEY-----", 1)
	f.Add(`"token":"\"`, 2)
	f.Fuzz(func(t *testing.T, text string, piece int) {
		if piece < 1 || strings.ContainsRune(text, 0) {
			return
		}
		whole, _, _ := redact(t, text, len(text)+1)
		pieces, _, _ := redact(t, text, piece)
		if whole != pieces {
			t.Errorf("%q in pieces of %d: %q, whole: %q", text, piece, pieces, whole)
		}
	})
}

// What is passed over holds nothing that a look at every byte would find.
func TestPassingOverFindsAll(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	pieces := redactionPieces()
	for range 300 {
		var text strings.Builder
		size := 1 + random.IntN(4<<10)
		if random.IntN(10) == 0 {
			size = 200 << 10 // over several windows
		}
		for text.Len() < size {
			piece := pieces[random.IntN(len(pieces))]
			switch random.IntN(8) {
			case 0:
				piece = strings.Repeat(piece, random.IntN(100))
			case 1:
				piece = strings.ToUpper(piece)
			case 2:
				piece = piece[:random.IntN(len(piece)+1)]
			}
			text.WriteString(piece)
		}
		comparePassingOver(t, text.String(), 1+random.IntN(100<<10))
	}
}

// redactionPieces are what matches, what nearly does, and what is between.
func redactionPieces() []string {
	pieces := []string{"=", ":", ": ", " ", "  ", "\t", "\n", "\r\n", "\"", "'", `\"`, "\\", "-", "--", "_", ".", ",",
		"{", "}", "name", `"name":`, "name: ", "value", `"value":"`, "value: ", "x", "hunter2", "0123456789abcdef0123",
		"plain words of a log ", "2026-01-02T03:04:05Z ", "status=200 ", "Bearer ", "basic ", "-----BEGIN ",
		"PRIVATE KEY-----", "-----END ", "://", "://u:p@h/", "https://example.org/", "eyJ", "AKIA", "ASIA", "xoxb-",
		"xox", "glpat-", "@", strings.Repeat(" ", 200)}
	return append(pieces, needles...)
}

func comparePassingOver(t *testing.T, text string, piece int) {
	t.Helper()
	all := func(r *redaction) { r.exhaustive = true }
	got, counts, report := redact(t, text, piece)
	want, wantCounts, wantReport := redact(t, text, piece, all)
	if got != want || !maps.Equal(counts, wantCounts) || len(report) != len(wantReport) {
		t.Fatalf("%q in pieces of %d:\ngot  %q\nwant %q", text, piece, got, want)
	}
}

func FuzzPassingOver(f *testing.F) {
	f.Add("a name: DB_PASSWORD value: x", 7)
	f.Add("xeyJ0123456789abcdef0123", 100)
	f.Fuzz(func(t *testing.T, text string, piece int) {
		if piece > 0 {
			comparePassingOver(t, text, piece)
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	text := logText(16 << 20)
	r := newRedactor()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		bag, err := NewBag(discardWriter{}, "bag", Meta{}, fixedClock)
		if err != nil {
			b.Fatal(err)
		}
		a, err := bag.Create("test", "test", "x")
		if err != nil {
			b.Fatal(err)
		}
		x := r.begin("data/x", a)
		for chunk := range slices.Chunk(text, 32<<10) {
			_, _ = x.Write(chunk)
		}
		_ = x.flush()
	}
}

type discardWriter struct{}

func (discardWriter) Write(p []byte) (int, error) { return len(p), nil }
