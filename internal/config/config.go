// Package config reads irctl.yaml: who can open evidence and who signs it, whom
// to call, and the defaults and limits that a team has agreed on before the
// incident. It is strict: a word it does not know is an error, with its line,
// since a setting that silently does nothing is found out at the worst time.
package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"irctl/internal/userfile"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Config is what irctl.yaml holds. The zero value is that of an empty file.
type Config struct {
	// APIVersion and Kind are as "irctl config view" prints them, so that its
	// output is a configuration; they may be left out.
	APIVersion string `json:"-" yaml:"apiVersion"`
	Kind       string `json:"-" yaml:"kind"`
	// Recipients who can open evidence: key files, or e-mail addresses or
	// fingerprints of the GnuPG keyring. A relative path is relative to the
	// folder of the configuration file.
	Recipients []Ref `json:"recipients,omitempty" yaml:"recipients"`
	// Signer of receipts: a private key file, or a key of the keyring.
	Signer Ref `json:"signer,omitempty" yaml:"signer"`
	// Timestamp is the URL of a time-stamping authority (RFC 3161).
	Timestamp URL       `json:"timestamp,omitempty" yaml:"timestamp"`
	Contacts  []Contact `json:"contacts,omitempty" yaml:"contacts"`
	Defaults  Defaults  `json:"defaults,omitzero" yaml:"defaults"`
	Limits    Limits    `json:"limits,omitzero" yaml:"limits"`
}

// Contact is somebody to call in an incident.
type Contact struct {
	Name  string `json:"name" yaml:"name"`
	Role  string `json:"role,omitempty" yaml:"role"`
	Email string `json:"email,omitempty" yaml:"email"`
	Phone string `json:"phone,omitempty" yaml:"phone"`
	Chat  string `json:"chat,omitempty" yaml:"chat"`
}

// Defaults stand for flags that were not given.
type Defaults struct {
	// Bundle is the folder in which bundles are put, instead of the incident's.
	Bundle Path `json:"bundle,omitempty" yaml:"bundle"`
	// DebugImage for containers without a shell.
	DebugImage string `json:"debugImage,omitempty" yaml:"debugImage"`
}

// Limits of a collection of evidence; zero: irctl's own.
type Limits struct {
	// LogBytes of each log, BundleBytes of everything together.
	LogBytes    Size     `json:"maxLogBytes,omitempty" yaml:"maxLogBytes"`
	BundleBytes Size     `json:"maxBundleBytes,omitempty" yaml:"maxBundleBytes"`
	Time        Duration `json:"time,omitempty" yaml:"time"`
	Stall       Duration `json:"stall,omitempty" yaml:"stall"`
	Concurrency Count    `json:"concurrency,omitempty" yaml:"concurrency"`
}

// ErrInvalid: the file is not a configuration.
var ErrInvalid = errors.New("invalid configuration")

const (
	// maxFile bounds the file, in bytes.
	maxFile = 1 << 20
	// maxRecipients and maxContacts bound the lists.
	maxRecipients = 64
	maxContacts   = 1000
)

// DefaultPath is $XDG_CONFIG_HOME/irctl/irctl.yaml, or that in ~/.config.
func DefaultPath(getenv func(string) string) (string, error) {
	// The specification asks that relative paths be ignored.
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "irctl", "irctl.yaml"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", errors.New("neither XDG_CONFIG_HOME nor HOME is set: name the configuration file with --config")
	}
	return filepath.Join(home, ".config", "irctl", "irctl.yaml"), nil
}

// Load reads a file that must be there.
func Load(path string) (Config, error) {
	data, err := userfile.Read(context.Background(), path, maxFile)
	switch {
	case errors.Is(err, userfile.ErrTooLarge):
		return Config{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	case err != nil:
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	c, err := Parse(data, filepath.Dir(path))
	if err != nil {
		return Config{}, fmt.Errorf("%w: %s: %w", ErrInvalid, path, err)
	}
	return c, nil
}

// LoadDefault reads the file at DefaultPath; without one the configuration is
// empty.
func LoadDefault(getenv func(string) string) (Config, error) {
	path, err := DefaultPath(getenv)
	if err != nil {
		return Config{}, nil // nor is there a place where it could be
	}
	c, err := Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	return c, err
}

// Parse decodes a configuration whose relative paths are relative to dir.
func Parse(data []byte, dir string) (Config, error) {
	var c Config
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, plain(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("there is more than one document in it")
	}
	if c.APIVersion != "" && c.APIVersion != "irctl/v1" || c.Kind != "" && c.Kind != "Config" {
		return Config{}, fmt.Errorf("it is %q of %q; a Config of irctl/v1 is expected", c.Kind, c.APIVersion)
	}
	if len(c.Recipients) > maxRecipients || len(c.Contacts) > maxContacts {
		return Config{}, fmt.Errorf("more than %d recipients or %d contacts", maxRecipients, maxContacts)
	}
	for i, r := range c.Recipients {
		c.Recipients[i] = r.in(dir)
	}
	c.Signer = c.Signer.in(dir)
	if p := string(c.Defaults.Bundle); p != "" && !filepath.IsAbs(p) {
		c.Defaults.Bundle = Path(filepath.Join(dir, p))
	}
	return c, nil
}

// plain takes the library's own words off its errors.
func plain(err error) error {
	var typeError *yaml.TypeError
	if errors.As(err, &typeError) {
		lines := make([]string, len(typeError.Errors))
		for i, e := range typeError.Errors {
			e = strings.Replace(e, "not found in type config.", "is not one of ", 1)
			lines[i] = e
		}
		return errors.New(strings.Join(lines, "; "))
	}
	return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
}

// Refs are recipients as the evidence package takes them.
func (c Config) Refs() []string {
	refs := make([]string, len(c.Recipients))
	for i, r := range c.Recipients {
		refs[i] = string(r)
	}
	return refs
}

// Ref names an OpenPGP key.
type Ref string

// UnmarshalYAML refuses an empty one.
func (r *Ref) UnmarshalYAML(n *yaml.Node) error {
	return scalar(n, r, func(s string) error {
		if strings.TrimSpace(s) == "" {
			return errors.New("a key is named by a file, an e-mail address or a fingerprint")
		}
		return nil
	})
}

// in makes the path of a key file independent of where irctl runs. What else
// a ref can be has no slash in it, nor is it the name of a file beside the
// configuration.
func (r Ref) in(dir string) Ref {
	if r == "" || filepath.IsAbs(string(r)) {
		return r
	}
	path := filepath.Join(dir, string(r))
	if _, err := os.Stat(path); err != nil && !strings.ContainsRune(string(r), filepath.Separator) {
		return r
	}
	return Ref(path)
}

// Path of a folder.
type Path string

// URL of a server.
type URL string

// UnmarshalYAML takes http and https.
func (u *URL) UnmarshalYAML(n *yaml.Node) error {
	return scalar(n, u, func(s string) error {
		parsed, err := url.Parse(s)
		if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
			return fmt.Errorf("%q is not the URL of a server, such as https://tsa.example.org", s)
		}
		return nil
	})
}

// Size in bytes.
type Size int64

// UnmarshalYAML takes 1048576 and 1Mi alike.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	q, err := resource.ParseQuantity(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || q.Value() <= 0 {
		return fmt.Errorf("line %d: %q is not a size, such as 256Mi", n.Line, n.Value)
	}
	*s = Size(q.Value())
	return nil
}

// Duration of time.
type Duration time.Duration

// UnmarshalYAML takes 30s and 10m.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	parsed, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || parsed <= 0 {
		return fmt.Errorf("line %d: %q is not a duration, such as 10m", n.Line, n.Value)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalText gives it as it is written.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Count of things, at least one.
type Count int

// UnmarshalYAML refuses what is not positive.
func (c *Count) UnmarshalYAML(n *yaml.Node) error {
	var i int
	if err := n.Decode(&i); err != nil || i <= 0 {
		return fmt.Errorf("line %d: %q is not a positive number", n.Line, n.Value)
	}
	*c = Count(i)
	return nil
}

// UnmarshalYAML refuses a contact without a name or without a way to reach it.
func (c *Contact) UnmarshalYAML(n *yaml.Node) error {
	known := map[string]*string{"name": &c.Name, "role": &c.Role, "email": &c.Email, "phone": &c.Phone, "chat": &c.Chat}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: a contact has name, role, email, phone and chat", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field := known[key.Value]
		if field == nil {
			return fmt.Errorf("line %d: field %s is not one of Contact", key.Line, key.Value)
		}
		if *field != "" {
			return fmt.Errorf("line %d: field %s is there twice", key.Line, key.Value)
		}
		if err := value.Decode(field); err != nil {
			return plain(err)
		}
	}
	switch {
	case c.Name == "":
		return fmt.Errorf("line %d: a contact without a name", n.Line)
	case c.Email == "" && c.Phone == "" && c.Chat == "":
		return fmt.Errorf("line %d: %s has neither email, phone nor chat", n.Line, c.Name)
	}
	return nil
}

// scalar decodes a text and checks it.
func scalar[T ~string](n *yaml.Node, to *T, check func(string) error) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: a text is expected here", n.Line)
	}
	if err := check(n.Value); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*to = T(n.Value)
	return nil
}
