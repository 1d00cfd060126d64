package rotate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"
)

// forms are values that are more than free text, by what they are.
func forms(t testing.TB) map[string][][]byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(key)
	ecPKCS8, _ := x509.MarshalPKCS8PrivateKey(ec)
	sec1, _ := x509.MarshalECPrivateKey(ec)
	public, _ := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "x"},
		NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &ec.PublicKey, ec)
	if err != nil {
		t.Fatal(err)
	}
	armour := func(label string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}) }
	oneLine := strings.ReplaceAll(string(armour("PRIVATE KEY", pkcs8)), "\n", `\n`)
	text := func(values ...string) (list [][]byte) {
		for _, v := range values {
			list = append(list, []byte(v))
		}
		return list
	}
	noise := bytes.Repeat([]byte{0x9f, 0x17, 0xc3, 0x05}, 200)
	return map[string][][]byte{
		"a PEM private key": {armour("PRIVATE KEY", pkcs8), armour("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)),
			armour("EC PRIVATE KEY", sec1), armour("OPENSSH PRIVATE KEY", noise),
			armour("ENCRYPTED PRIVATE KEY", noise), armour("PGP PRIVATE KEY BLOCK", noise), []byte(oneLine),
			append(armour("CERTIFICATE", cert), armour("PRIVATE KEY", ecPKCS8)...),
			append([]byte("Bag Attributes\n    friendlyName: x\n"), armour("PRIVATE KEY", ecPKCS8)...)},
		"a private key": append(text(
			"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: x\nPublic-Lines: 2\n",
			"AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQ",
			`{"kty":"RSA","n":"0vx7","e":"AQAB","d":"X4cT"}`),
			pkcs8, sec1, ecPKCS8, x509.MarshalPKCS1PrivateKey(key)),
		"a certificate":     {armour("CERTIFICATE", cert), cert, armour("TRUSTED CERTIFICATE", cert)},
		"a PEM public key":  {armour("PUBLIC KEY", public)},
		"a public key":      {public},
		"an SSH public key": text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@host"),
		"a key store": {
			append([]byte{0x30, 0x82, 0x03, 0x2a, 2, 1, 3, 0x30, 0x82, 0x02, 0xf0}, noise...),
			append([]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"), noise...),
			append([]byte("\xce\xce\xce\xce\x00\x00\x00\x02"), noise...)},
		"a kubeconfig": text(
			"apiVersion: v1\nkind: Config\nclusters:\n- cluster: {server: https://x:6443}\n  name: a\nusers: []\n",
			`{"apiVersion":"v1","kind":"Config","clusters":[],"users":[]}`),
		"a Google account file": text(
			`{"type": "service_account", "project_id": "p", "private_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n"}`,
			"{\n  \"type\": \"service_account\",\n  \"project_id\": \"p\"\n}"),
		"an AWS credentials file": text(
			"[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI\n",
			`{"AccessKeyId":"AKIA1","SecretAccessKey":"x"}`),
		"an Azure account file": text(`{"clientId":"1","clientSecret":"x","subscriptionId":"2","tenantId":"3"}`,
			`{"appId":"1","displayName":"d","password":"x","tenant":"3"}`),
		"a Docker config": text(`{"auths":{"registry.example.com":{"auth":"dTpw"}}}`,
			`{"https://index.docker.io/v1/":{"auth":"dTpw"}}`),
		"an htpasswd file": text("admin:$apr1$Ksd8$1PqPm0", "a:$2y$05$abcdefghijk\nb:{SHA}2jmj7l5rSw0yVb/vlWAYkK=\n",
			"admin:{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
		"a hash of a password": text("$2a$10$rEDACTEDrEDACTEDrEDACu", "{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
			"SCRAM-SHA-256$4096:c2FsdA==$a:b"),
		"a signed token (JWT)": text("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
		"a URL with a password": text("postgres://todo:hunter22@db:5432/todo", "redis://:hunter22@cache:6379/0",
			"jdbc:postgresql://db/todo?user=u&password=hunter22", "amqp://u:p@a:5672,amqp://u:p@b:5672"),
		"a URL": text("https://hooks.example.com/services/T0/B0/x", "jdbc:oracle:thin:u/p@host:1521:x",
			"data:text/plain;base64,QUJD"),
		"a connection string": text("Server=db;Database=x;User Id=u;Password=hunter22;",
			"DefaultEndpointsProtocol=https;AccountName=x;AccountKey=abcd==;EndpointSuffix=core.windows.net",
			"host=db user=u password=hunter22", "user:hunter22@tcp(db:3306)/todo", "user:hunter22@db:3306/todo",
			"db:5432:todo:u:hunter22", "machine x login u password p"),
		"a JSON document": text(`{"a": {"b": [1, 2]}}`, `[{"a": 1}]`, `["a", "b"]`, `{}`, `"{\"a\": 1}"`,
			`{'a': 1}`, `{"a": tru`),
		"a YAML document": text("a: 1\nb:\n  - c\n", "---\n- a\n", "password: hunter22"),
		"an XML document": text(`<?xml version="1.0"?><a/>`, `<settings><password>x</password></settings>`),
		"a file of settings": text("A=1\nB=2\n", "a.b=1\n# c\nd.e = 2\n", "export TOKEN=x", "DB_PASSWORD=hunter22",
			"[main]\nx\n", "a = b"),
		"a value of several lines": text("first\nsecond", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk\n0O+sMzE="),
		"a binary value": {append([]byte{0, 1, 2}, noise...), append([]byte("\x1f\x8b\x08"), noise...),
			[]byte("\xff\xfeh\x00i\x00")},
	}
}

// Every form is told from the value alone.
func TestFormIsToldFromTheValue(t *testing.T) {
	for want, values := range forms(t) {
		for _, v := range values {
			if got := FormOf(v).Name; got != want {
				t.Errorf("%.40q is %q, not %q", v, got, want)
			}
		}
	}
}

// However a form is written, no generated value may replace it: with Windows
// line ends, a byte order mark, blank lines before it, or once more in base64.
func TestFormIsToldHoweverItIsWritten(t *testing.T) {
	encode := base64.StdEncoding.EncodeToString
	for name, write := range map[string]func([]byte) []byte{
		"CRLF":            func(v []byte) []byte { return bytes.ReplaceAll(v, []byte("\n"), []byte("\r\n")) },
		"byte order mark": func(v []byte) []byte { return append([]byte("\xef\xbb\xbf"), v...) },
		"blank lines":     func(v []byte) []byte { return append([]byte("\r\n\n  \n"), v...) },
		"newline":         func(v []byte) []byte { return append(bytes.Clone(v), '\n') },
		"base64":          func(v []byte) []byte { return []byte(encode(v)) },
		"base64 in lines": func(v []byte) []byte {
			return []byte(strings.Join(chunks(encode(v), 64), "\n") + "\n")
		},
		"base64 for URLs":    func(v []byte) []byte { return []byte(base64.RawURLEncoding.EncodeToString(v)) },
		"base64 that is cut": func(v []byte) []byte { s := encode(v); return []byte(s[:len(s)-len(s)/8]) },
	} {
		for form, values := range forms(t) {
			for _, v := range values {
				short := len(v) < 12 || name == "base64 that is cut" && len(v) < 40
				if strings.HasPrefix(name, "base64") && (short || form == "a binary value") {
					continue // random bytes in base64 are what openssl rand -base64 prints
				}
				if FormOf(write(v)).Free() {
					t.Errorf("%s, %s: free text: %.60q", form, name, v)
				}
			}
		}
	}
}

func chunks(s string, n int) (list []string) {
	for len(s) > n {
		list, s = append(list, s[:n]), s[n:]
	}
	return append(list, s)
}

// A file that was cut is none the less what it was.
func TestFormIsToldWhereItIsCut(t *testing.T) {
	long := map[string]bool{"a PEM private key": true, "a certificate": true, "a key store": true, "a kubeconfig": true,
		"a Google account file": true, "an AWS credentials file": true, "an Azure account file": true,
		"a Docker config": true}
	for form, values := range forms(t) {
		for _, v := range values {
			for _, part := range [][]byte{v[:len(v)/2], v[:len(v)*3/4], v[:len(v)-1]} {
				if long[form] && FormOf(part).Free() {
					t.Errorf("%s: half of it is free text: %.60q", form, part)
				}
			}
		}
	}
	for _, v := range []string{"-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN OPENSSH PRIVATE KEY-----\n",
		"-----BEGIN RSA PRI", "-----BEGIN ", "abc=\n-----END PRIVATE KEY-----\n", `{"type": "service_acc`, `{"type"`,
		`{"auths":`, `{"private_key_id`, `ey": "x", "client_email": "y", "token_uri": "z"}`,
		"\x30\x82\x09\xd1\x02\x01\x03\x30\x82", "PuTTY-User-Key-File-2: ssh-rsa", "apiVersion: v1\nkind: Con",
		"[default]\naws_access_key_id = AK"} {
		if FormOf([]byte(v)).Free() {
			t.Errorf("free text: %q", v)
		}
	}
}

// What people and programs choose as passwords and tokens stays free text: it
// is what a rotation is for.
func TestFreeTextStaysFree(t *testing.T) {
	free := []string{"", "hunter22", "correct horse battery staple", "{x9!kQ:2\"}", "{", "}{", "[abc]", "{abc}",
		"{ABC}def", "pa:ss", "user:password", "a:b@c", "abc:", ":x", "://", "p@ss:w0rd/1", "#pass", "- dash", "<tag>",
		"a<b>c", "100%", "x=y", "abc=", "abcd==", "A=", "TOKEN=", "$ecret", "$1", "-----", "-dash-",
		"550e8400-e29b-41d4-a716-446655440000", "deadbeefdeadbeefdeadbeefdeadbeef", "0x1234abcd", "0", "00000000",
		"0P)'", "true", "12345", "\"quoted\"", "'x'", "password", "changeme", "administrator", "todo-backend",
		"todo_backend", "pässwört", "пароль", "密码密码", "a\tb", "hunter22\n", "hunter22\r\n", "\n\nhunter22",
		"\xef\xbb\xbfhunter22", "sk_live_x", "ghp_x", "eyJ", "xoxb-1-2-abc", "s3cr3t!@#$%^&*()_+|}{:?><", `\n`, `a\nb`,
		"me@example.com", "10.0.0.1:5432", "db:5432", "BEGIN", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=",
		"c29tZSB3b3Jkcw==", "aHVudGVyMjI="}
	source := mathrand.NewChaCha8([32]byte{}) // the same values at every run
	for range 1000 {
		raw := make([]byte, 8+len(free)%57)
		_, _ = source.Read(raw)
		free = append(free, hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw),
			base64.RawURLEncoding.EncodeToString(raw), letters(len(raw)), printableNoise(raw))
	}
	for _, v := range free {
		if f := FormOf([]byte(v)); !f.Free() {
			t.Errorf("%q is %q", v, f.Name)
		}
	}
	for _, k := range []Kind{Random, Password} { // what irctl makes can be replaced again
		if v, _, _ := generate(k); !FormOf(v.Reveal()).Free() {
			t.Errorf("what %s makes is %q", k, FormOf(v.Reveal()).Name)
		}
	}
}

// printableNoise is a password of every character on a keyboard but the blank.
func printableNoise(raw []byte) string {
	out := make([]byte, len(raw))
	for i, b := range raw {
		out[i] = '!' + b%('~'-'!'+1)
	}
	return string(out)
}

// A pair takes the place of a pair of the same encoding, and of nothing else.
func TestOnlyTheVeryFormIsGenerated(t *testing.T) {
	for form, values := range forms(t) {
		for n, v := range values {
			f, pair := FormOf(v), form == "a PEM private key" && n == 0
			for _, k := range Generated {
				if want := pair && k != Random && k != Password; f.Takes(k) != want {
					t.Errorf("%s %d takes %s: %v", form, n, k, !want)
				}
			}
			if !f.Takes(Supplied) || !f.Takes(Keep) {
				t.Errorf("%s: what the responder gives is refused", form)
			}
		}
	}
	wrapped := base64.StdEncoding.EncodeToString(forms(t)["a PEM private key"][0])
	if FormOf([]byte(wrapped)).Takes(RSA) {
		t.Error("PEM is put in the place of PEM in base64")
	}
}

// FuzzFormOf: it ends, whatever the value is, and says the same twice.
func FuzzFormOf(f *testing.F) {
	for _, values := range forms(f) {
		for _, v := range values {
			f.Add(v)
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		before := bytes.Clone(value)
		form := FormOf(value)
		if !bytes.Equal(before, value) || form.Name != FormOf(value).Name {
			t.Errorf("%q was changed, or is two things", value)
		}
		if !form.Free() && (form.Remedy == "" || form.Takes(Random)) {
			t.Errorf("%q is %q, and a random value may replace it or nothing is said to be right", value, form.Name)
		}
	})
}

// The last line of defence: whoever asks for it, what is not free text is not
// replaced by what irctl makes; neither is a certificate by a public half.
func TestNoGeneratedValueReplacesAForm(t *testing.T) {
	w := newCluster(t, nil)
	w.secret(t, "x", map[string]string{"neutral": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n",
		"half": "-----BEGIN CERTIFICATE-----\n", "free": "hunter22"})
	for name, sources := range map[string]map[string]Source{
		"random": {"neutral": {Kind: Random}}, "pair": {"neutral": {Kind: RSA}},
		"role":        {"neutral": {Kind: Role, Role: "todo"}},
		"public half": {"free": {Kind: Ed25519, Public: "half"}},
	} {
		if _, err := w.secrets(t, "x", sources).New(t.Context()); err == nil {
			t.Errorf("%s: it is replaced", name)
		}
	}
	if _, err := w.secrets(t, "x", map[string]Source{"free": {Kind: Random},
		"neutral": {Kind: Supplied, Value: NewValue([]byte("y"))}}).New(t.Context()); err != nil {
		t.Errorf("what the responder gives, and free text: %v", err)
	}
}
