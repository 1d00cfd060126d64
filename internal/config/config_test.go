package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bob.asc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Parse([]byte(`# our team
recipients:
- alice@example.org
- bob.asc
- keys/carol.asc
- /etc/keys/dave.asc
signer: 0123456789ABCDEF0123456789ABCDEF01234567
timestamp: https://tsa.example.org
contacts:
- {name: On call, role: lead, phone: "+1 555 0100"}
defaults:
  bundle: evidence
  debugImage: registry.example/debug
limits:
  maxLogBytes: 256Mi
  maxBundleBytes: 1000
  time: 10m
  stall: 30s
  concurrency: 4
`), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Recipients: []Ref{"alice@example.org", Ref(filepath.Join(dir, "bob.asc")),
			Ref(filepath.Join(dir, "keys/carol.asc")), "/etc/keys/dave.asc"},
		Signer:    "0123456789ABCDEF0123456789ABCDEF01234567",
		Timestamp: "https://tsa.example.org",
		Contacts:  []Contact{{Name: "On call", Role: "lead", Phone: "+1 555 0100"}},
		Defaults:  Defaults{Bundle: Path(filepath.Join(dir, "evidence")), DebugImage: "registry.example/debug"},
		Limits: Limits{LogBytes: 256 << 20, BundleBytes: 1000, Time: Duration(10 * time.Minute),
			Stall: Duration(30 * time.Second), Concurrency: 4},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesAreNamedWithTheirLine(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":          {"recipients: []\nrecipient: x\n", "line 2: field recipient is not one of Config"},
		"unknown nested field":   {"limits:\n  time: 1m\n  maxLog: 1\n", "line 3: field maxLog is not one of Limits"},
		"twice":                  {"signer: a\nsigner: b\n", "line 2"},
		"not a size":             {"limits:\n  maxLogBytes: much\n", `line 2: "much" is not a size`},
		"negative size":          {"limits:\n  maxLogBytes: -1\n", "line 2"},
		"not a duration":         {"limits:\n\n  time: 10\n", `line 3: "10" is not a duration`},
		"not a number":           {"limits:\n  concurrency: 0\n", "line 2"},
		"not a URL":              {"timestamp: tsa.example.org\n", "line 1"},
		"another scheme":         {"timestamp: file:///etc/passwd\n", "line 1"},
		"empty recipient":        {"recipients:\n- a@example.org\n- ''\n", "line 3"},
		"recipients not a list":  {"recipients: a@example.org\n", "line 1"},
		"contact without a name": {"contacts:\n- {email: a@example.org}\n", "line 2"},
		"unreachable contact":    {"contacts:\n- name: Jane\n", "line 2: Jane has neither"},
		"unknown contact field":  {"contacts:\n- name: Jane\n  fax: 1\n", "line 3: field fax"},
		"two documents":          {"signer: a\n---\nsigner: b\n", "more than one document"},
		"no YAML":                {"signer: [\n", "line"},
		"a list":                 {"- signer\n", "line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.text), t.TempDir())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestTheDefaultFileMayBeMissingTheNamedOneNot(t *testing.T) {
	dir := t.TempDir()
	getenv := func(name string) string { return map[string]string{"XDG_CONFIG_HOME": dir}[name] }
	if c, err := LoadDefault(getenv); err != nil || len(c.Recipients) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
	path, err := DefaultPath(getenv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("signer: x\nsinger: y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = LoadDefault(getenv)
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = LoadDefault(getenv); !errors.Is(err, ErrInvalid) {
		t.Errorf("an endless file: %v", err)
	}
}

func TestDefaultPath(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		want string
	}{
		"XDG":          {map[string]string{"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/irctl/irctl.yaml"},
		"relative XDG": {map[string]string{"XDG_CONFIG_HOME": "x", "HOME": "/h"}, "/h/.config/irctl/irctl.yaml"},
		"home":         {map[string]string{"HOME": "/h"}, "/h/.config/irctl/irctl.yaml"},
		"nothing":      {nil, ""},
	} {
		if got, _ := DefaultPath(func(n string) string { return tc.env[n] }); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("recipients: [a@example.org]\nlimits: {maxLogBytes: 1Mi}\n")
	f.Add("contacts: [{name: x, chat: y}]\n")
	f.Add("a: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text), "/nowhere")
		if err == nil && (c.Limits.LogBytes < 0 || c.Limits.Time < 0) {
			t.Errorf("%+v", c.Limits)
		}
	})
}
