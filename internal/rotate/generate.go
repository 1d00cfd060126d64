package rotate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
)

// Kind is how the new value of a key comes about.
type Kind string

// The kinds. The first five are generated.
const (
	Random   Kind = "random"   // 32 random bytes in base64, as openssl rand -base64 32 prints them
	Password Kind = "password" // 32 letters and digits, which no shell and no URL changes
	RSA      Kind = "rsa"      // a key pair of 3072 bits, PKCS #8 in PEM
	ECDSA    Kind = "ecdsa"    // the same on the curve P-256
	Ed25519  Kind = "ed25519"
	Supplied Kind = "supplied" // given by the responder: only a third party can issue it
	Role     Kind = "role"     // the password of a PostgreSQL role
	Keep     Kind = "keep"     // it is no secret
)

// Generated are the kinds that irctl can make by itself.
var Generated = []Kind{Random, Password, RSA, ECDSA, Ed25519}

// Source is where the new value of one key of a Secret comes from.
type Source struct {
	Kind Kind
	// Public is the key of the Secret that takes the public half of a pair; "": none does.
	Public string
	// Value is the supplied one.
	Value Value
	// Role is the name of the PostgreSQL role.
	Role string
	// Command, if not empty, is the team's own, which stores the new value
	// where it really lives: an argument vector, never a shell.
	Command []string
}

// generate makes a value, and the public half of a pair.
func generate(k Kind) (value, public Value, err error) {
	switch k {
	case Random:
		raw := make([]byte, 32)
		_, _ = rand.Read(raw) // never fails
		return NewValue([]byte(base64.StdEncoding.EncodeToString(raw))), Value{}, nil
	case Password:
		return NewValue([]byte(letters(32))), Value{}, nil
	case RSA, ECDSA, Ed25519:
		return keyPair(k)
	}
	return Value{}, Value{}, fmt.Errorf("nothing can generate %q: use %s", k, kindList())
}

func kindList() string {
	names := make([]string, len(Generated))
	for i, k := range Generated {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

// letters draws evenly: bytes beyond the last whole multiple are left out.
func letters(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	const even = 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	var b [1]byte
	for len(out) < n {
		_, _ = rand.Read(b[:]) // never fails
		if int(b[0]) < even {
			out = append(out, alphabet[int(b[0])%len(alphabet)])
		}
	}
	return string(out)
}

func keyPair(k Kind) (value, public Value, err error) {
	var key crypto.Signer
	switch k {
	case RSA:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case ECDSA:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		return Value{}, Value{}, fmt.Errorf("generating a %s key: %w", k, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Value{}, Value{}, fmt.Errorf("encoding a %s key: %w", k, err)
	}
	half, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Value{}, Value{}, fmt.Errorf("encoding a %s key: %w", k, err)
	}
	return NewValue(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		NewValue(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: half})), nil
}

// issuers are how credentials begin that only their issuer can make. A value
// that irctl makes up would merely break what uses it.
var issuers = []struct{ prefix, who string }{
	{"gsk_", "Groq"}, {"sk-", "OpenAI or Anthropic"}, {"sk_live_", "Stripe"}, {"rk_live_", "Stripe"},
	{"whsec_", "Stripe"},
	{"AKIA", "AWS"}, {"ASIA", "AWS"}, {"ghp_", "GitHub"}, {"gho_", "GitHub"}, {"ghu_", "GitHub"}, {"ghs_", "GitHub"},
	{"github_pat_", "GitHub"},
	{"glpat-", "GitLab"}, {"xoxb-", "Slack"}, {"xoxp-", "Slack"}, {"xoxa-", "Slack"}, {"xapp-", "Slack"},
	{"AIza", "Google"}, {"ya29.", "Google"},
	{"SG.", "SendGrid"}, {"npm_", "npm"}, {"pypi-", "PyPI"}, {"dop_v1_", "DigitalOcean"}, {"hf_", "Hugging Face"},
	{"hvs.", "Vault"},
	{"-----BEGIN CERTIFICATE", "a certificate authority"},
}

// Issuer names who alone can issue such a value; "": nobody is known to.
func Issuer(key string, value []byte) string {
	for _, i := range issuers {
		if bytes.HasPrefix(bytes.TrimSpace(value), []byte(i.prefix)) {
			return i.who
		}
	}
	if slices.Contains([]string{".dockerconfigjson", ".dockercfg"}, key) {
		return "the container registry"
	}
	if key == "tls.crt" || key == "ca.crt" {
		return "a certificate authority"
	}
	return ""
}
