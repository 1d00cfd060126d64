package runbook

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
)

// Type is what a parameter, an input or a result can be. All but three are
// texts, told apart by what is allowed in them: a name that an attacker chose
// cannot be more than a name.
type Type string

// The types.
const (
	String   Type = "string"   // one line
	Text     Type = "text"     // several lines, for people
	Integer  Type = "integer"  //
	Boolean  Type = "boolean"  //
	Duration Type = "duration" // 90s, 10m
	Name     Type = "name"     // of a Kubernetes object: a DNS name
	Object   Type = "object"   // NAMESPACE/NAME
	Pod      Type = "pod"      // NAMESPACE/NAME of a pod
	Workload Type = "workload" // NAMESPACE/TYPE/NAME, such as shop/deployment/web
	Image    Type = "image"    // reference of a container image
	Path     Type = "path"     // absolute, without .. and .
	CIDR     Type = "cidr"     // an address range
	Key      Type = "key"      // of a label, or NAME=VALUE pairs of it
	Argument Type = "argument" // of a command: one line; see Domain.element
)

// Types are those that a parameter can have.
var Types = []Type{String, Text, Integer, Boolean, Duration, Name, Object, Pod, Workload, Image, Path, CIDR}

const (
	// maxText bounds one text, and maxList the elements of a list.
	maxText = 16 << 10
	maxList = 256
)

// Domain is a type with what limits it further.
type Domain struct {
	Type    Type     `json:"type"`
	List    bool     `json:"list,omitempty"`
	Choices []string `json:"choices,omitempty"`

	pattern *regexp.Regexp
}

// String names it for people.
func (d Domain) String() string {
	name := string(d.Type)
	if len(d.Choices) > 0 {
		name = strings.Join(d.Choices, ", ")
	}
	if d.List {
		return "list of " + name
	}
	return name
}

// Of is the domain of a type.
func Of(t Type) Domain { return Domain{Type: t} }

// ListOf is the domain of lists of a type.
func ListOf(t Type) Domain { return Domain{Type: t, List: true} }

// OneOf is a text that can only be one of these.
func OneOf(choices ...string) Domain { return Domain{Type: String, Choices: choices} }

// Zero is the value of what was not given.
func (d Domain) Zero() any {
	switch {
	case d.List && d.Type == Integer:
		return []int64{}
	case d.List:
		return []string{}
	case d.Type == Integer:
		return int64(0)
	case d.Type == Boolean:
		return false
	case d.Type == Duration:
		return time.Duration(0)
	}
	return ""
}

// Convert makes the value of what was decoded from YAML or JSON, or came out
// of an expression. The values are string, int64, bool, time.Duration,
// []string and []int64.
func (d Domain) Convert(v any) (any, error) {
	if !d.List {
		return d.scalar(v)
	}
	elements, err := elementsOf(v)
	if err != nil {
		return nil, err
	}
	if len(elements) > maxList {
		return nil, fmt.Errorf("a list of %d elements, at most %d", len(elements), maxList)
	}
	texts, numbers := []string{}, []int64{}
	for _, e := range elements {
		e, err := d.scalar(e)
		if err != nil {
			return nil, err
		}
		switch e := e.(type) {
		case string:
			texts = append(texts, e)
		case int64:
			numbers = append(numbers, e)
		default:
			return nil, fmt.Errorf("a list cannot hold %T", e)
		}
	}
	if d.Type == Integer {
		return numbers, nil
	}
	return texts, nil
}

func elementsOf(v any) ([]any, error) {
	var out []any
	switch v := v.(type) {
	case []any:
		return v, nil
	case []string:
		for _, e := range v {
			out = append(out, e)
		}
	case []int64:
		for _, e := range v {
			out = append(out, e)
		}
	case nil:
	default:
		return nil, errors.New("a list is expected here")
	}
	return out, nil
}

func (d Domain) scalar(v any) (any, error) {
	switch d.Type {
	case Integer:
		return toInteger(v)
	case Boolean:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, errors.New("true or false is expected here")
	case Duration:
		return toDuration(v)
	}
	s, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("a text is expected here, not %v; put it in quotes", v)
	}
	return s, d.check(s)
}

func toInteger(v any) (int64, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), nil
		}
	case float64: // of JSON
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), nil
		}
	}
	return 0, errors.New("a whole number is expected here")
}

func toDuration(v any) (time.Duration, error) {
	switch v := v.(type) {
	case time.Duration:
		return v, nil
	case string:
		if d, err := time.ParseDuration(v); err == nil && d >= 0 {
			return d, nil
		}
	}
	return 0, errors.New("a duration is expected here, such as 90s or 10m")
}

var (
	dnsName   = form{regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`), 253}
	kindName  = form{regexp.MustCompile(`^[a-z]([a-z0-9.-]*[a-z0-9])?$`), 253}
	imageName = form{regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:/@-]*[A-Za-z0-9])?$`), 512}
	labelKey  = form{regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/=-]*[A-Za-z0-9])?$`), 382}
)

// form is what a name looks like. How long it may be is not in the pattern,
// where it would be hundreds of states that every start of irctl compiles.
type form struct {
	pattern *regexp.Regexp
	most    int
}

func (f form) fits(s string) bool { return len(s) <= f.most && f.pattern.MatchString(s) }

// check tells what is wrong with a text of this type.
func (d Domain) check(s string) error {
	if !utf8.ValidString(s) || len(s) > maxText {
		return fmt.Errorf("a text must be UTF-8 of at most %d bytes", maxText)
	}
	for _, r := range s {
		if unicode.IsControl(r) && !(d.Type == Text && (r == '\n' || r == '\t')) {
			return fmt.Errorf("%.60q has a control character in it", s)
		}
	}
	if len(d.Choices) > 0 && !slices.Contains(d.Choices, s) {
		return fmt.Errorf("%.60q is not one of %s", s, strings.Join(d.Choices, ", "))
	}
	if d.pattern != nil && !d.pattern.MatchString(s) {
		return fmt.Errorf("%.60q does not match %s", s, d.pattern)
	}
	if s == "" {
		return nil // it was not given
	}
	return d.Type.check(s)
}

func (t Type) check(s string) error {
	parts := strings.Split(s, "/")
	var ok bool
	var example string
	switch t {
	case Name:
		ok, example = dnsName.fits(s), "the name of an object, such as backend-0"
	case Object, Pod:
		ok, example = len(parts) == 2 && dnsName.fits(parts[0]) && dnsName.fits(parts[1]), "NAMESPACE/NAME"
	case Workload:
		ok = len(parts) == 3 && dnsName.fits(parts[0]) && kindName.fits(parts[1]) && dnsName.fits(parts[2])
		example = "NAMESPACE/TYPE/NAME, such as shop/deployment/web"
	case Image:
		ok, example = imageName.fits(s), "a container image, such as registry.example.com/web@sha256:…"
	case Path:
		ok, example = path.IsAbs(s) && path.Clean(s) == s, "an absolute path without .. in it"
	case CIDR:
		_, err := netip.ParsePrefix(s)
		ok, example = err == nil, "an address range, such as 10.1.2.0/24"
	case Key:
		ok, example = labelKey.fits(s), "the key of a label"
	default:
		return nil
	}
	if !ok {
		return fmt.Errorf("%.60q is not %s", s, example)
	}
	return nil
}

// Parse reads what was given on the command line, or typed. What is left out
// of a reference is filled up with the namespace.
func (d Domain) Parse(text, namespace string) (any, error) {
	if !d.List {
		return d.parse(text, namespace)
	}
	var list []any
	for _, e := range strings.Split(text, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		v, err := d.parse(e, namespace)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return d.Convert(list)
}

func (d Domain) parse(text, namespace string) (any, error) {
	switch d.Type {
	case Integer:
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%.60q is not a whole number", text)
		}
		return n, nil
	case Boolean:
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "true", "yes", "y":
			return true, nil
		case "false", "no", "n":
			return false, nil
		}
		return nil, fmt.Errorf("%.60q is neither true nor false", text)
	case Object, Pod, Workload:
		text = qualify(d.Type, strings.TrimSpace(text), namespace)
	}
	return d.scalar(text)
}

// qualify puts the namespace before a name, or before TYPE/NAME. A pod may be
// given as pod/…, as -o name prints it.
func qualify(t Type, text, namespace string) string {
	if kind, rest, typed := strings.Cut(text, "/"); t == Pod && typed &&
		(kind == "pod" || kind == "pods" || kind == "po") {
		text = rest
	}
	want := 1
	if t == Workload {
		want = 2
	}
	if namespace != "" && text != "" && strings.Count(text, "/") == want-1 {
		return namespace + "/" + text
	}
	return text
}

// Format is the inverse of Parse.
func Format(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ",")
	case []int64:
		return strings.Join(names(v, func(n int64) string { return strconv.FormatInt(n, 10) }), ",")
	case time.Duration: // 24h rather than 24h0m0s
		text := v.String()
		if short, whole := strings.CutSuffix(text, "m0s"); whole {
			text = short + "m"
		}
		if short, whole := strings.CutSuffix(text, "h0m"); whole {
			text = short + "h"
		}
		return text
	}
	return fmt.Sprint(v)
}

// Plain is a value as it is written in JSON.
func Plain(v any) any {
	if d, ok := v.(time.Duration); ok {
		return d.String()
	}
	return v
}

// celType is the type that expressions know it by.
func (d Domain) celType() *cel.Type {
	t := cel.StringType
	switch d.Type {
	case Integer:
		t = cel.IntType
	case Boolean:
		t = cel.BoolType
	case Duration:
		t = cel.DurationType
	}
	if d.List {
		return cel.ListType(t)
	}
	return t
}

// parts are what a reference can be taken apart into.
func (d Domain) parts() []string {
	switch {
	case d.List:
		return nil
	case d.Type == Object, d.Type == Pod:
		return []string{"namespace", "name"}
	case d.Type == Workload:
		return []string{"namespace", "type", "name"}
	}
	return nil
}

// part is one of parts of a value.
func (d Domain) part(v any, i int) string {
	s, _ := v.(string)
	if p := strings.Split(s, "/"); i < len(p) && len(p) == len(d.parts()) {
		return p[i]
	}
	return ""
}
