// Package runbook owns the format of runbooks: what a team agrees on before
// the incident, as data. It loads them strictly, says what is wrong with the
// line and the column, and evaluates their conditions and substitutions. What
// a step can do it does not know: it is given a [Signature] of each operation,
// against which steps are checked; package engine carries them out.
//
// A runbook is trusted: it is the team's own. What fills it is not: parameters
// are what somebody pastes from an alert, and results come from a cluster
// under attack. So an expression yields a value of a known type, a value is
// checked against the type that an input declares, and nothing is ever parsed
// again: a substituted value cannot become a second argument, an option, a
// path out of a folder, or an expression.
package runbook

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Runbook is one that was loaded and found sound. The tags are the format: the
// JSON Schema is made of them.
type Runbook struct {
	APIVersion string      `yaml:"apiVersion" json:"apiVersion" doc:"The version of this format." enum:"irctl/v1"`
	Kind       string      `yaml:"kind" json:"kind" doc:"What the document is." enum:"Runbook"`
	Name       string      `yaml:"name" json:"name" doc:"How the runbook is called on the command line; in a folder of runbooks also the file's name without .yaml." pattern:"^[a-z][a-z0-9-]{0,62}$"`
	Version    string      `yaml:"version" json:"version" doc:"The runbook's own version, for people." pattern:"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$"`
	Title      string      `yaml:"title" json:"title" doc:"One line." pattern:"^[^\\n]{1,200}$"`
	Summary    string      `yaml:"summary,omitempty" json:"summary,omitempty" doc:"When to use it, and what it takes for granted."`
	Severity   string      `yaml:"severity,omitempty" json:"severity,omitempty" doc:"Severity of an incident that this runbook opens." enum:"sev1,sev2,sev3,sev4"`
	Contacts   []Contact   `yaml:"contacts,omitempty" json:"contacts,omitempty" doc:"Whom to call. A contact of the same role in irctl.yaml says how."`
	Parameters []Parameter `yaml:"parameters,omitempty" json:"parameters,omitempty" doc:"What has to be known before it begins."`
	Phases     []Phase     `yaml:"phases" json:"phases" doc:"The phases, in the order of an incident; each at most once."`

	// Source is where it came from: a path, or "built-in".
	Source string `yaml:"-" json:"source"`
	// SHA256 of the file, in hex.
	SHA256 string `yaml:"-" json:"sha256"`
	// Dir is the folder of the file, in which a command with a slash in its
	// name is looked for; "" if it is built in.
	Dir string `yaml:"-" json:"-"`

	exprs *environment
}

// Contact is somebody to call, known by the role.
type Contact struct {
	Role  string `yaml:"role" json:"role" doc:"The role, as irctl.yaml has it." pattern:"^[^\\n]{1,100}$"`
	For   string `yaml:"for,omitempty" json:"for,omitempty" doc:"What to call them for."`
	Name  string `yaml:"name,omitempty" json:"name,omitempty" doc:"Who it is."`
	Email string `yaml:"email,omitempty" json:"email,omitempty" doc:"An e-mail address."`
	Phone string `yaml:"phone,omitempty" json:"phone,omitempty" doc:"A telephone number."`
	Chat  string `yaml:"chat,omitempty" json:"chat,omitempty" doc:"A chat or a channel."`
}

// Parameter is something that has to be known before the runbook begins.
type Parameter struct {
	Name     string    `yaml:"name" json:"name" doc:"How expressions call it: params.NAME." pattern:"^[a-z][a-zA-Z0-9]{0,62}$"`
	Type     Type      `yaml:"type" json:"type" doc:"What it can be." enum:"$types"`
	List     bool      `yaml:"list,omitempty" json:"list,omitempty" doc:"Several of them: --set NAME=a,b."`
	Prompt   string    `yaml:"prompt,omitempty" json:"prompt,omitempty" doc:"The question to ask for it."`
	Doc      string    `yaml:"doc,omitempty" json:"doc,omitempty" doc:"What it is for, and where to find it."`
	Required bool      `yaml:"required,omitempty" json:"required,omitempty" doc:"The runbook does not begin without it."`
	Default  yaml.Node `yaml:"default,omitempty" json:"-" doc:"Its value if it is not given."`
	Choices  []string  `yaml:"choices,omitempty" json:"choices,omitempty" doc:"The only values it can have."`
	Pattern  string    `yaml:"pattern,omitempty" json:"pattern,omitempty" doc:"A regular expression (RE2) that the whole value must match."`

	domain   Domain
	fallback any // the value of Default, or the zero value
}

// Domain is what the parameter can be.
func (p *Parameter) Domain() Domain { return p.domain }

// Phase is one phase of the incident with its steps.
type Phase struct {
	Name  PhaseName `yaml:"name" json:"name" doc:"The phase." enum:"$phases"`
	Steps []Step    `yaml:"steps" json:"steps" doc:"What is done, in this order."`
}

// PhaseName is a phase of an incident.
type PhaseName string

// The phases, in their order.
const (
	Detect      PhaseName = "detect"
	Contain     PhaseName = "contain"
	Investigate PhaseName = "investigate"
	Eradicate   PhaseName = "eradicate"
	Recover     PhaseName = "recover"
	PostMortem  PhaseName = "post-mortem"
)

// Phases are all of them.
var Phases = []PhaseName{Detect, Contain, Investigate, Eradicate, Recover, PostMortem}

// Step is one thing that is done.
type Step struct {
	Name    string               `yaml:"name" json:"name" doc:"How later conditions call it: steps.NAME; unique in the runbook." pattern:"^[a-z][a-zA-Z0-9]{0,62}$"`
	Title   string               `yaml:"title,omitempty" json:"title,omitempty" doc:"One line for people." pattern:"^[^\\n]{1,200}$"`
	Why     string               `yaml:"why,omitempty" json:"why,omitempty" doc:"Why it is done."`
	Uses    string               `yaml:"uses" json:"uses" doc:"The operation; irctl runbook operations lists them." pattern:"^[a-z][a-z0-9-]{0,62}$"`
	With    map[string]yaml.Node `yaml:"with,omitempty" json:"-" doc:"The operation's inputs. Texts may hold ${EXPRESSION}."`
	When    string               `yaml:"when,omitempty" json:"when,omitempty" doc:"A CEL expression; if it is false, the step is skipped."`
	Confirm *bool                `yaml:"confirm,omitempty" json:"confirm,omitempty" doc:"Whether a person is asked before it is done; else as the operation has it."`
	OnError OnError              `yaml:"onError,omitempty" json:"onError,omitempty" doc:"What to do if it fails, or is not done; stop is the default." enum:"stop,continue,ask"`
	Timeout string               `yaml:"timeout,omitempty" json:"timeout,omitempty" doc:"How long it may take, such as 10m; without the time for answers." pattern:"^[0-9hms.]{1,20}$"`

	phase   PhaseName
	sig     *Signature
	when    *Expression
	inputs  map[string]*input
	timeout time.Duration
}

// OnError is what happens when a step fails.
type OnError string

// The ways to go on.
const (
	Stop     OnError = "stop"
	Continue OnError = "continue"
	Ask      OnError = "ask"
)

// Phase is the one that the step belongs to.
func (s *Step) Phase() PhaseName { return s.phase }

// Label is the title, or the name where there is none.
func (s *Step) Label() string {
	if s.Title != "" {
		return s.Title
	}
	return s.Name
}

// Limit is how long the step may take; 0: as the operation has it.
func (s *Step) Limit() time.Duration { return s.timeout }

// Asks tells whether a person is asked before it is done.
func (s *Step) Asks() bool {
	if s.Confirm != nil {
		return *s.Confirm
	}
	return s.sig.Asks
}

// Handling is OnError with its default.
func (s *Step) Handling() OnError {
	if s.OnError == "" {
		return Stop
	}
	return s.OnError
}

// Condition is its when; nil: there is none.
func (s *Step) Condition() *Expression { return s.when }

// Signature is that of the operation it uses.
func (s *Step) Signature() *Signature { return s.sig }

// Steps are the steps of all phases, in order.
func (r *Runbook) Steps() []*Step {
	var all []*Step
	for i := range r.Phases {
		for j := range r.Phases[i].Steps {
			all = append(all, &r.Phases[i].Steps[j])
		}
	}
	return all
}

// Step is the one of that name; nil: there is none.
func (r *Runbook) Step(name string) *Step {
	for i := range r.Phases {
		for j := range r.Phases[i].Steps {
			if s := &r.Phases[i].Steps[j]; s.Name == name {
				return s
			}
		}
	}
	return nil
}

// Parameter is the one of that name; nil: there is none.
func (r *Runbook) Parameter(name string) *Parameter {
	i := slices.IndexFunc(r.Parameters, func(p Parameter) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Parameters[i]
}

// Signature is what an operation takes and what it tells afterwards. Lint, the
// schema and the documentation are made of it.
type Signature struct {
	Name string `json:"name"`
	Doc  string `json:"doc"`
	// Asks: a person is asked before it is done, unless the step says otherwise.
	Asks bool `json:"asks"`
	// Last: nothing can come after it.
	Last    bool     `json:"last,omitempty"`
	Inputs  []Field  `json:"inputs"`
	Results []Result `json:"results"`
	// Check tells what is wrong with inputs that are each right; nil: nothing can be.
	Check func(Literals) (input, problem string) `json:"-"`
}

// Field is an input of an operation.
type Field struct {
	Name     string `json:"name"`
	Domain   `json:"domain"`
	Required bool   `json:"required,omitempty"`
	Doc      string `json:"doc"`
	// Secret: its value may hold a secret, and the journal keeps only that it was given.
	Secret bool `json:"secret,omitempty"`
}

// Result is something that later conditions can read: steps.STEP.NAME.
type Result struct {
	Name   string `json:"name"`
	Domain `json:"domain"`
	Doc    string `json:"doc"`
	// ChoicesOf names the input in which its possible values are listed.
	ChoicesOf string `json:"choicesOf,omitempty"`
}

// Literals are the inputs of a step that do not depend on expressions.
type Literals map[string]any

// Given tells whether the step sets an input, by whatever means.
func (l Literals) Given(name string) bool { _, ok := l[name]; return ok }

// Text is a literal text; "" if it is none.
func (l Literals) Text(name string) string { s, _ := l[name].(string); return s }

// Texts is a literal list of texts.
func (l Literals) Texts(name string) []string { s, _ := l[name].([]string); return s }

func (s *Signature) field(name string) *Field {
	i := slices.IndexFunc(s.Inputs, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Inputs[i]
}

func names[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = name(v)
	}
	return out
}

// Problem is something that is wrong with a runbook.
type Problem struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Text   string `json:"text"`
	// Fix is what would help.
	Fix string `json:"fix,omitempty"`
	// Warning: it can be run nonetheless.
	Warning bool `json:"warning,omitempty"`
}

// String is FILE:LINE:COLUMN: what is wrong; what helps.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	fmt.Fprintf(&b, "%d:%d: ", p.Line, p.Column)
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Text)
	if p.Fix != "" {
		b.WriteString("; " + p.Fix)
	}
	return b.String()
}

// ErrInvalid: a file is no sound runbook.
var ErrInvalid = errors.New("invalid runbook")

// InvalidError says what keeps a runbook from being run.
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	const most = 5
	var lines []string
	for _, p := range e.Problems {
		if !p.Warning {
			lines = append(lines, p.String())
		}
	}
	if n := len(lines); n > most {
		lines = append(lines[:most], fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(lines, "\n")
}

// Is makes it an ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }
