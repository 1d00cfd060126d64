package rotate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Form is what a value is, where it is more than free text. What reads such a
// value parses it, so that a string of random characters in its place breaks
// the reader and destroys what it held. The zero Form is free text: a password,
// a random token, a word.
type Form struct {
	// Name says what the value is, with its article: "a PEM private key".
	Name string
	// Remedy says what gives a new value of this form.
	Remedy string
	// Credential: whoever has the value can use it, whatever the responder says
	// of it. A certificate, or a document that may hold anything, is none.
	Credential bool

	makes []Kind
}

// Free: it is free text, which a generated value may replace.
func (f Form) Free() bool { return f.Name == "" }

// Takes reports whether a value that irctl generates by this kind has the very
// form, and so may replace it.
func (f Form) Takes(k Kind) bool {
	return f.Free() || !slices.Contains(Generated, k) || slices.Contains(f.makes, k)
}

// TakesPublic reports whether the public half of a generated pair may replace it.
func (f Form) TakesPublic() bool { return f.Free() || f.Name == publicKey.Name }

// The forms. What is told apart here is told from the value alone.
var (
	pairKey = Form{Name: "a PEM private key", Credential: true, makes: []Kind{RSA, ECDSA, Ed25519},
		Remedy: "make a new pair (--generate KEY=rsa, ecdsa or ed25519 makes one) and have its public half trusted"}
	pemKey     = Form{Name: pairKey.Name, Credential: true, Remedy: newPair}
	privateKey = Form{Name: "a private key", Credential: true, Remedy: newPair}
	publicKey  = Form{Name: "a PEM public key",
		Remedy: "it goes with its private key: --generate PRIVATE=KIND:KEY makes both, --keep KEY leaves it"}
	sshPublicKey = Form{Name: "an SSH public key",
		Remedy: "give the public half of the new pair with --set-from KEY=FILE, or leave it with --keep KEY"}
	certificate = Form{Name: "a certificate",
		Remedy: "have its authority issue a new one and give it with --set-from KEY=FILE, or leave it with --keep KEY"}
	pemOther = Form{Name: "a PEM file", Credential: true, Remedy: inWhole}
	keyStore = Form{Name: "a key store", Credential: true,
		Remedy: "make a new one that holds a new key, and give it with --set-from KEY=FILE"}
	kubeconfig = Form{Name: "a kubeconfig", Credential: true,
		Remedy: "have its cluster issue a new credential, and give the new file with --set-from KEY=FILE"}
	googleAccount = Form{Name: "a Google account file", Credential: true,
		Remedy: "create a new key of the account (gcloud iam service-accounts keys create FILE), " +
			"give it with --set-from KEY=FILE, and delete the old one"}
	awsAccount = Form{Name: "an AWS credentials file", Credential: true,
		Remedy: "create a new access key (aws iam create-access-key), give the new file with --set-from KEY=FILE, " +
			"and delete the old one"}
	azureAccount = Form{Name: "an Azure account file", Credential: true,
		Remedy: "reset the credential (az ad app credential reset), and give the new file with --set-from KEY=FILE"}
	dockerConfig = Form{Name: "a Docker config", Credential: true,
		Remedy: "have the registry issue a new credential, and give the new file with --set-from KEY=FILE"}
	htpasswd = Form{Name: "an htpasswd file", Credential: true,
		Remedy: "make a new file from new passwords (htpasswd -B), and give it with --set-from KEY=FILE"}
	passwordHash = Form{Name: "a hash of a password", Credential: true,
		Remedy: "choose a new password, and give its hash with --set-from KEY=FILE"}
	webToken = Form{Name: "a signed token (JWT)", Credential: true,
		Remedy: "have its issuer make a new one, and give it with --set-from KEY=FILE"}
	address = Form{Name: "a URL",
		Remedy: "change the password where it is checked, and give the new URL with --set-from KEY=FILE; " +
			"--postgres KEY=ROLE does both for a PostgreSQL role"}
	addressWithPassword = Form{Name: "a URL with a password", Credential: true, Remedy: address.Remedy}
	connection          = Form{Name: "a connection string", Credential: true,
		Remedy: "change the password where it is checked, and give the new string with --set-from KEY=FILE"}
	jsonDocument = Form{Name: "a JSON document", Remedy: inWhole}
	yamlDocument = Form{Name: "a YAML document", Remedy: inWhole}
	xmlDocument  = Form{Name: "an XML document", Remedy: inWhole}
	settings     = Form{Name: "a file of settings", Remedy: inWhole}
	lines        = Form{Name: "a value of several lines", Remedy: inWhole}
	binary       = Form{Name: "a binary value", Remedy: inWhole}
)

// What is right for several forms.
const (
	newPair = "make a new pair in the same format, have its public half trusted, " +
		"and give the key with --set-from KEY=FILE"
	inWhole = "replace what is secret in it, and give the whole with --set-from KEY=FILE; " +
		"--keep KEY if nothing in it is secret"
)

// maxClassified bounds what is looked at: the API server takes no larger Secret.
const maxClassified = 1 << 20

// TakesPassword reports whether a value is a password, or has one in it that can
// be replaced by itself.
func (f Form) TakesPassword() bool {
	return f.Free() || f.Name == address.Name || f.Name == addressWithPassword.Name
}

// Refusal says why no generated value may replace a key's value, and what is right.
func (f Form) Refusal(key string) string {
	return "it is " + f.Name + ", which a generated value would destroy: " + strings.ReplaceAll(f.Remedy, "KEY", key)
}

// FormOf tells what a value is, also where it is cut short, has Windows line
// ends, a byte order mark or blank lines before it, or is wrapped in base64
// once more.
func FormOf(value []byte) Form {
	value = value[:min(len(value), maxClassified)]
	if f := structured(value); !f.Free() {
		return f
	}
	text := plain(value)
	if !printable(text) {
		return binary
	}
	if strings.ContainsAny(text, "\n") {
		return lines
	}
	return Form{}
}

// structured is the form of a value that shows one, as it is or in base64.
func structured(value []byte) Form {
	if f := bare(value); !f.Free() {
		return f
	}
	if inner := unwrapped(plain(value)); inner != nil {
		if f := bare(inner); !f.Free() {
			f.makes = nil // what irctl makes is not wrapped
			return f
		}
		// Random bytes that happen to be text of several lines are not to be
		// expected: a token of 16 characters holds 12 of them.
		if text := plain(inner); strings.Contains(text, "\n") && printable(text) {
			return lines
		}
	}
	return Form{}
}

// bare is the form of a value that is not wrapped.
func bare(value []byte) Form {
	if f := magic(value); !f.Free() {
		return f
	}
	text := plain(value)
	if !printable(text) {
		return Form{}
	}
	for _, recognise := range recognisers {
		if f := recognise(text); !f.Free() {
			return f
		}
	}
	return Form{}
}

// recognisers are asked in this order: a JSON document may hold PEM, and what
// precedes PEM in its file looks like YAML.
var recognisers = []func(string) Form{
	jsonForm, pemForm, keyText, yamlForm, jwtForm, hashForm, addressForm, settingsForm}

// plain is a text without a byte order mark, blank lines around it, and
// carriage returns.
func plain(value []byte) string {
	text := strings.TrimPrefix(strings.TrimSpace(string(value)), "\ufeff")
	return strings.TrimSpace(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text))
}

func printable(text string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' })
}

// magic tells binary formats by how they begin.
func magic(value []byte) Form {
	for _, m := range []string{"\xfe\xed\xfe\xed", "\xce\xce\xce\xce"} { // JKS, JCEKS
		if bytes.HasPrefix(value, []byte(m)) {
			return keyStore
		}
	}
	if bytes.HasPrefix(value, []byte("\x1f\x8b\x08")) { // gzip
		return binary
	}
	return derForm(value)
}

// derForm tells what is ASN.1, by the first elements of its outer sequence: a
// file that was cut keeps them. The versions are those of PFX (RFC 7292), PKCS #8
// (RFC 5958), PKCS #1 (RFC 8017) and SEC 1 (RFC 5915).
func derForm(value []byte) Form {
	body := sequence(value)
	versioned := len(body) > 3 && body[0] == 2 && body[1] == 1
	switch {
	case bytes.HasPrefix(body, []byte{2, 1, 3, 0x30}):
		return keyStore
	case versioned && body[2] <= 1 && bytes.IndexByte([]byte{0x30, 0x02, 0x04}, body[3]) >= 0:
		return privateKey
	}
	switch inner := sequence(body); {
	case bytes.HasPrefix(inner, []byte{0xa0, 3, 2, 1, 2, 2}): // version 3, and a serial number: RFC 5280
		return certificate
	case len(inner) > 0 && inner[0] == 6 && bytes.Contains(inner, encryptedBy):
		return privateKey
	case len(inner) > 0 && inner[0] == 6:
		return Form{Name: "a public key", Remedy: sshPublicKey.Remedy}
	}
	return Form{}
}

// encryptedBy begins the identifiers of the ways in which PKCS #5 encrypts keys.
var encryptedBy = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5}

// sequence is what a DER sequence holds, as far as it is there; nil: it is none.
func sequence(value []byte) []byte {
	if len(value) < 6 || value[0] != 0x30 {
		return nil
	}
	length, at := int(value[1]), 2
	if n := int(value[1] & 0x7f); value[1] > 0x80 && n <= 4 {
		length, at = 0, 2+n
		for _, b := range value[2:at] {
			length = length<<8 | int(b)
		}
	} else if value[1] == 0x80 { // of indefinite length
		length = len(value) - at
	}
	if value[1] > 0x84 {
		return nil
	}
	return value[at:min(at+length, len(value))] // it may be cut
}

// pemForm tells PEM by its armour, wherever it stands: also on one line with
// escaped line ends, within another file, or cut in the middle.
func pemForm(text string) Form {
	armoured := strings.HasPrefix(text, "-----B") || strings.Contains(text, "-----BEGIN ") ||
		strings.Contains(text, "-----END ")
	switch block, rest := pem.Decode([]byte(text)); {
	case strings.Contains(text, "---- BEGIN SSH2 "):
		return privateKey
	case !armoured:
		return Form{}
	case block == nil || len(bytes.TrimSpace(rest)) > 0 || !strings.HasPrefix(text, "-----BEGIN "):
	case block.Type == "PRIVATE KEY":
		return pairKey
	case block.Type == "PUBLIC KEY":
		return publicKey
	}
	switch {
	case strings.Contains(text, "PRIVATE KEY"):
		return pemKey
	case strings.Contains(text, " CERTIFICATE"):
		return certificate
	case strings.Contains(text, "PUBLIC KEY"):
		return sshPublicKey
	}
	return pemOther
}

var (
	sshPublic  = regexp.MustCompile(`^(ssh-(rsa|dss|ed25519)|ecdsa-sha2-\S+|sk-\S+@openssh\.com) AAAA`)
	puttyOrAge = regexp.MustCompile(`^(PuTTY-User-Key-File-|AGE-SECRET-KEY-|# created: .*\n# public key: age1)`)
)

func keyText(text string) Form {
	switch {
	case puttyOrAge.MatchString(text):
		return privateKey
	case sshPublic.MatchString(text):
		return sshPublicKey
	}
	return Form{}
}

// How documents begin, and what is left of them where they were cut.
var (
	jsonHead = regexp.MustCompile(`^(\{\s*("([^"\\]|\\.)*"|'[^']*')\s*(:|$)|\{\s*"[A-Za-z_][\w.-]*$|` +
		`\[\s*\{\s*["}]|\[\s*"([^"\\]|\\.)*"\s*[,\]])`)
	jsonPair = regexp.MustCompile(`"[A-Za-z_][\w.-]*"\s*:\s*["{\[\dtfn-]`)
	yamlPair = regexp.MustCompile(`(?m)^\s*(- )?["']?[A-Za-z_.][\w./-]*["']?:([ \t]+\S|[ \t]*\n)`)
	xmlHead  = regexp.MustCompile(`^<(\?xml\s|!DOCTYPE\s|[A-Za-z][\w:.-]*[\s/>])`)
)

func jsonForm(text string) Form {
	var quoted string
	switch {
	case text == "":
	case strings.ContainsAny(text[:1], "{[") && json.Valid([]byte(text)), jsonHead.MatchString(text),
		len(jsonPair.FindAllStringIndex(text, 2)) == 2:
		return content(text, jsonDocument)
	case text[0] == '"' && json.Unmarshal([]byte(text), &quoted) == nil:
		if inner := plain([]byte(quoted)); !strings.HasPrefix(inner, `"`) { // a document within a string
			return jsonForm(inner)
		}
	}
	return Form{}
}

func yamlForm(text string) Form {
	several := strings.Contains(text, "\n")
	switch {
	case xmlHead.MatchString(text) && (text[1] == '?' || strings.Contains(text, "</") || strings.Contains(text, "/>")):
		return xmlDocument
	case strings.HasPrefix(text, "---\n"), yamlPair.MatchString(text) && (several || !strings.Contains(text, "://")):
		return content(text, yamlDocument)
	}
	return Form{}
}

// contents are how the documents of known kinds are told: all the words of one
// line are in them, in JSON as in YAML.
var contents = []struct {
	form Form
	all  []string
}{
	{googleAccount, []string{"service_account", "private_key"}},
	{googleAccount, []string{"client_email", "private_key"}},
	{googleAccount, []string{"service_account", "project_id"}},
	{googleAccount, []string{"authorized_user", "refresh_token"}},
	{googleAccount, []string{"external_account", "credential_source"}},
	{dockerConfig, []string{"auths"}},
	{dockerConfig, []string{"credHelpers"}},
	{dockerConfig, []string{"index.docker.io"}},
	{kubeconfig, []string{"current-context"}},
	{kubeconfig, []string{"clusters", "certificate-authority-data"}},
	{kubeconfig, []string{"clusters", "users"}},
	{kubeconfig, []string{"kind", "Config", "apiVersion"}},
	{awsAccount, []string{"AccessKeyId"}},
	{awsAccount, []string{"aws_access_key_id"}},
	{awsAccount, []string{"aws_secret_access_key"}},
	{azureAccount, []string{"clientSecret", "tenantId"}},
	{azureAccount, []string{"aadClientSecret"}},
	{azureAccount, []string{"appId", "tenant"}},
	{azureAccount, []string{"subscriptionId", "tenantId"}},
	{privateKey, []string{`"kty"`, `"d"`}},
}

func content(text string, otherwise Form) Form {
	for _, c := range contents {
		if !slices.ContainsFunc(c.all, func(word string) bool { return !strings.Contains(text, word) }) {
			return c.form
		}
	}
	return otherwise
}

// jwtForm tells a JSON Web Token by its header.
func jwtForm(text string) Form {
	head, _, ok := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	if ok && err == nil && bytes.HasPrefix(raw, []byte(`{"`)) && bytes.Contains(raw, []byte(`"alg"`)) {
		return webToken
	}
	return Form{}
}

// The hashes of crypt(5), of LDAP (RFC 2307) and of SCRAM.
const hash = `(\$(apr1|1|2[abxy]|5|6|7|y|argon2(id|i|d)|scrypt|pbkdf2[\w-]*)\$|` +
	`\{(S?SHA(-?\d+)?|S?MD5|CRYPT|BLF-CRYPT|ARGON2\w*|PBKDF2[\w-]*|PLAIN|CLEARTEXT)\}|SCRAM-SHA-\d+\$)\S`

var (
	bareHash = regexp.MustCompile(`^` + hash)
	userHash = regexp.MustCompile(`(?m)^[^:\s]+:` + hash)
)

func hashForm(text string) Form {
	switch {
	case userHash.MatchString(text):
		return htpasswd
	case bareHash.MatchString(text):
		return passwordHash
	}
	return Form{}
}

var (
	urlPart   = regexp.MustCompile(`(^|[\s=,;"'|])(jdbc:)?[A-Za-z][A-Za-z0-9+.:-]*://`)
	urlSecret = regexp.MustCompile(`://[^/\s@]*:[^/\s]+@|(?i)[?&;](password|pwd|sslpassword|token|sig|secret)=`)
	otherURL  = regexp.MustCompile(`^(jdbc:[a-z]+:\S|data:[\w/+.-]+[;,]|mailto:\S+@)`)
	driverDSN = regexp.MustCompile(`^[^\s:@/]+:\S*@((tcp|tcp6|unix)\(|[A-Za-z0-9.-]+:\d{2,5}(/\S*)?$)`)
	pgpass    = regexp.MustCompile(`(?m)^[\w.*-]+:(\d{2,5}|\*):[\w.*-]+:[\w.*-]+:\S`)
	netrc     = regexp.MustCompile(`(?m)^(machine\s+\S+|default)\s+(login|password)\s+\S`)
	pairs     = regexp.MustCompile(`(^|[;&\s])[A-Za-z]{2}[\w. ]*=[^;&=\s][^;&]*[;&\s]+[A-Za-z]{2}[\w. ]*=[^=]`)
	// known are names of which a connection string has one.
	known = regexp.MustCompile(`(?i)(user|username|uid|pwd|pass|password|host|server|database|dbname|source|account|` +
		`accountkey|accountname|endpoint|port|secret|token|sharedaccesskey|client_id)=`)
)

func addressForm(text string) Form {
	switch {
	case urlPart.MatchString(text) && strings.Contains(text, "\n"):
		return Form{} // a file that names one
	case urlPart.MatchString(text) && urlSecret.MatchString(text):
		return addressWithPassword
	case urlPart.MatchString(text), otherURL.MatchString(text):
		return address
	case driverDSN.MatchString(text), pgpass.MatchString(text), netrc.MatchString(text):
		return connection
	case !strings.Contains(text, "\n") && pairs.MatchString(text) && known.MatchString(text):
		return connection
	}
	return Form{}
}

var (
	setting = regexp.MustCompile(`(?m)^\s*(export\s+)?[A-Za-z_][\w.-]*(\s+=\s*|\s*=\s+|=)\S`)
	section = regexp.MustCompile(`(?m)^\s*\[[\w .:"/-]+\]\s*$`)
	// oneSetting is a file of one line: a name of an environment variable that is
	// no word of base64, or an assignment with blanks.
	oneSetting = regexp.MustCompile(`^((export\s+)?[A-Z][A-Z0-9]+(_[A-Z0-9]{2,})+=[^=\s]|export\s+\w+=|` +
		`[A-Za-z_][\w.-]*\s+=\s+\S|\S*:_(authToken|auth|password)=\S)`)
)

func settingsForm(text string) Form {
	several := strings.Contains(text, "\n")
	switch {
	case oneSetting.MatchString(text), several && setting.MatchString(text), several && section.MatchString(text):
		return content(text, settings)
	}
	return Form{}
}

// shortestWrapped is how long base64 must be to be looked into: in what is
// shorter hardly a form fits, and every other word is base64.
const shortestWrapped = 12

// unwrapped is what base64 holds, in either alphabet, over several lines, padded
// or not, and cut at any place; nil: it is none.
func unwrapped(text string) []byte {
	text = strings.TrimRight(strings.Join(strings.Fields(text), ""), "=")
	if len(text) < shortestWrapped {
		return nil
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	if len(text)%4 == 1 {
		text = text[:len(text)-1]
	}
	inner, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return inner
}
