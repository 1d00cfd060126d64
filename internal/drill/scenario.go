package drill

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"irctl/internal/cluster"
	"irctl/internal/userfile"
)

// Scenario is a drill as it is written down. docs/drill.md describes the file.
type Scenario struct {
	APIVersion string            `yaml:"apiVersion" doc:"The version of this format." enum:"irctl/v1"`
	Kind       string            `yaml:"kind" doc:"What the document is." enum:"Scenario"`
	Name       string            `yaml:"name" doc:"How it is called: lower-case letters, digits and dashes."`
	Title      string            `yaml:"title" doc:"One line."`
	Teaches    string            `yaml:"teaches,omitempty" doc:"One line about what is to be learnt."`
	Briefing   string            `yaml:"briefing" doc:"What the person on call is told."`
	Runbook    string            `yaml:"runbook" doc:"The one that fits."`
	Params     map[string]string `yaml:"params,omitempty" doc:"The parameters to give it; '${suspect}' and '${namespace}' are the first compromised pod."`

	Cluster     Setup        `yaml:"cluster,omitempty" doc:"What makes the cluster differ from the plain todo-app."`
	Compromised []PodChoice  `yaml:"compromised,omitempty" doc:"The pods that the attacker has at the beginning."`
	Attack      []Move       `yaml:"attack" doc:"What the attacker does, and what else happens."`
	Controllers []Controller `yaml:"controllers,omitempty" doc:"What puts back what is changed."`
	Inside      []Inside     `yaml:"inside,omitempty" doc:"What is found by running commands in containers."`
	Key         Key          `yaml:"key" doc:"By what it is scored."`
	Play        Play         `yaml:"play,omitempty" doc:"How it is played well."`
}

// Setup is what makes the cluster differ from the plain todo-app.
type Setup struct {
	Kinds   []string `yaml:"kinds,omitempty" doc:"Custom resources that are served: Application, Kustomization, HelmRelease, ScaledObject."`
	Objects string   `yaml:"objects,omitempty" doc:"YAML documents, created after the todo-app's."`
	Edits   []Edit   `yaml:"edits,omitempty" doc:"Changes to the todo-app's."`
}

// Edit merges something into an object.
type Edit struct {
	Object Object         `yaml:"object" doc:"What is changed."`
	Merge  map[string]any `yaml:"merge,omitempty" doc:"What is merged into it, as a merge patch."`
}

// Object is an object as NAMESPACE/KIND/NAME, or KIND/NAME.
type Object struct{ Namespace, Kind, Name string }

// PodChoice chooses pods by their labels.
type PodChoice struct {
	Namespace string            `yaml:"namespace,omitempty" doc:"Where they are."`
	Labels    map[string]string `yaml:"labels,omitempty" doc:"By which they are chosen."`
	Nth       int               `yaml:"nth,omitempty" doc:"Which of them, by age; 0 is the oldest."`
}

// Move is something that the attacker does, once or again and again, while its
// conditions hold.
type Move struct {
	Name  string    `yaml:"name,omitempty" doc:"How other moves, and messages, call it."`
	At    Span      `yaml:"at,omitempty" doc:"When, from the alert with which the drill begins; negative: before."`
	Every Span      `yaml:"every,omitempty" doc:"Makes it again and again, so often; at least 1s."`
	Times int       `yaml:"times,omitempty" doc:"With every: how often it is made at most; absent: as long as the drill lasts."`
	By    string    `yaml:"by,omitempty" doc:"Who does it: pods (every compromised pod that runs), pod (the first of them), outside (from elsewhere), or app (the pods of app)."`
	App   PodChoice `yaml:"app,omitempty" doc:"The pods by which it is made."`
	If    Condition `yaml:"if,omitempty" doc:"The conditions under which it succeeds."`

	Log        []string `yaml:"log,omitempty" doc:"Lines in the pod's log."`
	Alert      *Alert   `yaml:"alert,omitempty" doc:"One of Falco's."`
	Audit      *Audit   `yaml:"audit,omitempty" doc:"A line of the API server's audit log."`
	Event      *Event   `yaml:"event,omitempty" doc:"One of the pod."`
	Blocked    []string `yaml:"blocked,omitempty" doc:"Logged where the network does not let it through."`
	Exfiltrate int      `yaml:"exfiltrate,omitempty" doc:"How many KiB leave with it."`
	Spread     bool     `yaml:"spread,omitempty" doc:"The pod that if.reaches found is compromised, too."`
	Infect     *Infect  `yaml:"infect,omitempty" doc:"Compromises one more pod, from outside."`
	Create     string   `yaml:"create,omitempty" doc:"A manifest of what it makes."`
	Say        string   `yaml:"say,omitempty" doc:"Tells the spectator, and afterwards the player, what it was."`
	Fails      string   `yaml:"fails,omitempty" doc:"Tells that it came to nothing, once."`
}

// Condition holds if all of it that is said holds.
type Condition struct {
	Reaches *Peer  `yaml:"reaches,omitempty" doc:"The pod gets through, by the effective policies of both sides."`
	After   string `yaml:"after,omitempty" doc:"A move of this name has succeeded."`
	CutOff  bool   `yaml:"cutOff,omitempty" doc:"No compromised pod that runs gets out, or in, any more."`
	Secret  string `yaml:"secret,omitempty" doc:"NAMESPACE/NAME: a value of when the drill began is there, or a pod runs that read it."`
	Account *Use   `yaml:"account,omitempty" doc:"The token that was stolen from it still may do something."`
	Exists  Object `yaml:"exists,omitempty" doc:"The object is there."`
	Runs    string `yaml:"runs,omitempty" doc:"A pod of this image runs that is not compromised."`
}

// Peer is who is reached: an address outside, or pods.
type Peer struct {
	Host      string            `yaml:"host,omitempty" doc:"An address outside."`
	Labels    map[string]string `yaml:"labels,omitempty" doc:"Those of pods."`
	Namespace string            `yaml:"namespace,omitempty" doc:"That of the pods; absent: of the pod that asks."`
	Port      int32             `yaml:"port" doc:"The port."`
	Protocol  string            `yaml:"protocol,omitempty" doc:"TCP where nothing is said."`
}

// Use is what a service account is used for.
type Use struct {
	Account   string `yaml:"account" doc:"NAMESPACE/NAME."`
	Verb      string `yaml:"verb" doc:"Such as get."`
	Group     string `yaml:"group,omitempty" doc:"The API group."`
	Resource  string `yaml:"resource" doc:"Such as secrets."`
	Namespace string `yaml:"namespace,omitempty" doc:"In which; absent: that of the account."`
	Name      string `yaml:"name,omitempty" doc:"The name of one object."`
}

// Infect is how a pod is compromised from outside.
type Infect struct {
	PodChoice `yaml:",inline"`
	Via       map[string]string `yaml:"via,omitempty" doc:"The pods through which the attacker comes, to the port; absent: directly."`
	Port      int32             `yaml:"port,omitempty"`
}

// Alert is one of Falco's.
type Alert struct {
	Rule     string            `yaml:"rule" doc:"The name of the rule."`
	Priority string            `yaml:"priority" doc:"As Falco names it."`
	Output   string            `yaml:"output,omitempty" doc:"The text, before the fields."`
	Fields   map[string]string `yaml:"fields,omitempty" doc:"Further output fields."`
	Tags     []string          `yaml:"tags,omitempty" doc:"Tags of the rule."`
}

// Audit is a line of the API server's audit log.
type Audit struct {
	User      string `yaml:"user,omitempty"`
	Verb      string `yaml:"verb,omitempty"`
	Group     string `yaml:"group,omitempty"`
	Resource  string `yaml:"resource,omitempty" doc:"With its subresource: pods/exec."`
	Namespace string `yaml:"namespace,omitempty"`
	Name      string `yaml:"name,omitempty"`
	IP        string `yaml:"ip,omitempty"`
	Agent     string `yaml:"agent,omitempty"`
	Code      int32  `yaml:"code,omitempty"`
}

// Event is told of the pod, by a component of the cluster.
type Event struct {
	Component string `yaml:"component,omitempty"`
	Type      string `yaml:"type,omitempty"`
	Reason    string `yaml:"reason,omitempty"`
	Message   string `yaml:"message,omitempty"`
}

// Controller puts an object back into its desired form, unless it is suspended.
type Controller struct {
	Object      Object   `yaml:"object" doc:"The custom resource by which it works."`
	SuspendedBy []string `yaml:"suspendedBy" doc:"The field that stops it, with the value that does; a value of 'absent' means that it works only while the field is there."`
	Value       any      `yaml:"value" doc:"The value of the field that stops it."`
	Every       Span     `yaml:"every" doc:"How often it looks, at least 1s."`
	Desired     []Edit   `yaml:"desired" doc:"What it makes of them."`
}

// Key is by what a drill is scored.
type Key struct {
	ContainWithin Span              `yaml:"containWithin" doc:"How long containing may take for all its points."`
	Contained     Worthless         `yaml:"contained,omitempty" doc:"What must be so, besides every compromised pod being cut off: secrets and accounts by which the attacker works from outside."`
	Secrets       []string          `yaml:"secrets,omitempty" doc:"NAMESPACE/NAME: to be rotated."`
	Accounts      []Use             `yaml:"accounts,omitempty" doc:"Accounts that are to lose what was stolen of them."`
	Images        []string          `yaml:"images,omitempty" doc:"Images that must not be deployed any more when it ends."`
	Objects       []Object          `yaml:"objects,omitempty" doc:"Objects that must not be there when it ends."`
	MayGoDown     []Object          `yaml:"mayGoDown,omitempty" doc:"The workloads that may be taken down; all others are innocent."`
	Better        map[string]string `yaml:"better,omitempty" doc:"What a better response would have been, by item of the score; what is said here comes instead of what irctl says by itself."`
}

// Worthless names what the attacker must not be able to use any more.
type Worthless struct {
	Secrets  []string `yaml:"secrets,omitempty" doc:"As NAMESPACE/NAME."`
	Accounts []Use    `yaml:"accounts,omitempty" doc:"Stolen tokens that must not do this any more."`
}

// Play is how a scenario is played well: the answers to what its runbook asks,
// and what is done before answering.
type Play struct {
	Params map[string]string `yaml:"params,omitempty" doc:"Params of the runbook, besides those that a person is given at the start."`
	Before []string          `yaml:"before,omitempty" doc:"Done before the runbook."`
	Steps  map[string]Turn   `yaml:"steps,omitempty" doc:"The answers, by the runbook's steps."`
	After  []string          `yaml:"after,omitempty" doc:"Done when the runbook is through."`
}

// Turn is the answer to one step.
type Turn struct {
	Answer string   `yaml:"answer,omitempty" doc:"What is chosen; absent: done."`
	Note   string   `yaml:"note,omitempty" doc:"What is noted."`
	Do     []string `yaml:"do,omitempty" doc:"Commands: irctl …, kubectl …, wait DURATION."`
	Takes  Span     `yaml:"takes,omitempty" doc:"How long a person takes for it."`
}

// Span is a duration such as 90s or -5m.
type Span time.Duration

// UnmarshalYAML reads the text form.
func (s *Span) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is no duration, such as 90s or 5m", n.Line, n.Value)
	}
	if d.Abs() > maxSpan {
		return fmt.Errorf("line %d: %s is more than %s", n.Line, d, maxSpan)
	}
	*s = Span(d)
	return nil
}

// UnmarshalYAML reads NAMESPACE/KIND/NAME.
func (o *Object) UnmarshalYAML(n *yaml.Node) error {
	parts := strings.Split(n.Value, "/")
	if len(parts) == 2 {
		parts = append([]string{""}, parts...)
	}
	if n.Kind != yaml.ScalarNode || len(parts) != 3 || parts[1] == "" || parts[2] == "" {
		return fmt.Errorf("line %d: %q is no object: use NAMESPACE/KIND/NAME, or KIND/NAME", n.Line, n.Value)
	}
	*o = Object{parts[0], parts[1], parts[2]}
	return nil
}

func (o Object) String() string { return strings.TrimPrefix(o.Namespace+"/"+o.Kind+"/"+o.Name, "/") }

// Bounds of a file.
const (
	maxFile  = 1 << 20
	maxMoves = 200
	// Before the alert; they are all made while a person waits for the drill to begin.
	maxPast  = 2000
	maxSpan  = 7 * 24 * time.Hour
	minEvery = time.Second
)

// ErrScenario says that a scenario cannot be used.
var ErrScenario = errors.New("the scenario cannot be used")

//go:embed scenarios/*.yaml
var builtIn embed.FS

// BuiltIn are the scenarios that ship, in the order in which to play them.
func BuiltIn() ([]*Scenario, error) {
	files, err := fs.Glob(builtIn, "scenarios/*.yaml")
	if err != nil {
		return nil, err
	}
	var all []*Scenario
	for _, f := range files {
		text, err := builtIn.ReadFile(f)
		if err != nil {
			return nil, err
		}
		s, err := Parse(path.Base(f), text)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// First is the scenario that is played if none is named.
const First = "crypto-miner"

// Find loads a scenario by its name, which is also that of its file, or from a file.
func Find(ctx context.Context, ref string) (*Scenario, error) {
	if !strings.ContainsAny(ref, "/.") {
		file := "scenarios/" + ref + ".yaml"
		text, err := builtIn.ReadFile(file)
		if err != nil {
			return nil, unknown(ref)
		}
		return Parse(path.Base(file), text)
	}
	text, err := userfile.ReadPiped(ctx, ref, maxFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrScenario, err)
	}
	return Parse(ref, text)
}

func unknown(name string) error {
	files, err := fs.Glob(builtIn, "scenarios/*.yaml")
	if err != nil {
		return err
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	hint := ""
	if near := cluster.Near(name, files); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, ", ") + "?"
	}
	return fmt.Errorf("%w: there is none called %q%s; there are %s, or give a file", ErrScenario, name, hint,
		strings.Join(files, ", "))
}

// Parse reads a scenario and checks it. What it does not know is an error:
// a misspelt condition would make the attacker stronger, unnoticed.
func Parse(file string, text []byte) (*Scenario, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrScenario, file, maxFile)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var s Scenario
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrScenario, file, err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %s: it must hold one document", ErrScenario, file)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrScenario, file, err)
	}
	return &s, nil
}

var (
	namePattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	placeholders = regexp.MustCompile(`\$\{[^}]*\}`)
	known        = []string{"${suspect}", "${pod}", "${namespace}", "${node}", "${ip}", "${n}", "${kib}", "${target}",
		"${dir}", "${incident}"}
	actors     = []string{"pods", "pod", "outside", "app"}
	priorities = []string{"Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug"}
)

func (s *Scenario) check() error {
	switch {
	case s.APIVersion != "irctl/v1" || s.Kind != "Scenario":
		return fmt.Errorf("it is %q of %q; a Scenario of irctl/v1 is expected", s.Kind, s.APIVersion)
	case !namePattern.MatchString(s.Name):
		return fmt.Errorf("name %q: use lower-case letters, digits and dashes", s.Name)
	case s.Title == "" || s.Briefing == "" || s.Runbook == "":
		return errors.New("title, briefing and runbook are needed")
	case len(s.Compromised) == 0 && strings.Contains(s.Briefing, "${suspect}"):
		return errors.New("briefing: there is no ${suspect}, since compromised is empty")
	case len(s.Attack) == 0 || len(s.Attack) > maxMoves:
		return fmt.Errorf("attack needs between 1 and %d moves", maxMoves)
	case s.Key.ContainWithin <= 0:
		return errors.New("key.containWithin must be positive")
	}
	for _, k := range s.Cluster.Kinds {
		if _, ok := customKinds[k]; !ok {
			return fmt.Errorf("cluster.kinds: %q is none of those that are simulated", k)
		}
	}
	names, past := map[string]bool{}, 0
	for i := range s.Attack {
		m := &s.Attack[i]
		if err := m.check(); err != nil {
			return fmt.Errorf("attack: %s: %w", orNumber(m.Name, i), err)
		}
		names[m.Name] = true
		if past += m.past(); past > maxPast {
			return fmt.Errorf("attack: %s: with it, moves are made more than %d times before the alert: let it begin "+
				"later than %s, or less often, or give times",
				orNumber(m.Name, i), maxPast, time.Duration(m.At))
		}
	}
	for i, m := range s.Attack {
		if m.If.After != "" && !names[m.If.After] {
			return fmt.Errorf("attack: %s: there is no move %q to come after", orNumber(m.Name, i), m.If.After)
		}
	}
	for i, c := range s.Controllers {
		if c.Every < Span(minEvery) || c.Object.Name == "" || len(c.SuspendedBy) == 0 || len(c.Desired) == 0 {
			return fmt.Errorf("controllers: %d: object, suspendedBy, desired, and every of at least %s are needed", i+1,
				minEvery)
		}
	}
	if len(s.Inside) > maxInside {
		return fmt.Errorf("inside: more than %d", maxInside)
	}
	for i := range s.Inside {
		if err := s.Inside[i].check(); err != nil {
			return fmt.Errorf("inside: %s: %w", orNumber(s.Inside[i].Image, i), err)
		}
	}
	for item := range s.Key.Better {
		if !slices.Contains(items, item) {
			return fmt.Errorf("key.better: %q is no item of the score: use %s", item, strings.Join(items, ", "))
		}
	}
	return s.checkPlay()
}

func (s *Scenario) checkPlay() error {
	for name, turn := range s.Play.Steps {
		if turn.Takes < 0 {
			return fmt.Errorf("play: %s: takes must not be negative", name)
		}
		for _, line := range turn.Do {
			if _, err := parseCommand(line); err != nil {
				return fmt.Errorf("play: %s: %w", name, err)
			}
		}
	}
	for _, line := range slices.Concat(s.Play.Before, s.Play.After) {
		if _, err := parseCommand(line); err != nil {
			return fmt.Errorf("play: %w", err)
		}
	}
	return nil
}

// past is how often a move is made before the alert, or with it.
func (m *Move) past() int {
	switch {
	case m.At > 0:
		return 0
	case m.Every == 0:
		return 1
	}
	n := int(-m.At/m.Every) + 1
	if m.Times > 0 {
		n = min(n, m.Times)
	}
	return n
}

func orNumber(name string, i int) string {
	if name != "" {
		return name
	}
	return fmt.Sprintf("move %d", i+1)
}

func (m *Move) check() error {
	if m.By == "" {
		m.By = "pods"
	}
	switch {
	case !slices.Contains(actors, m.By):
		return fmt.Errorf("by %q: use %s", m.By, strings.Join(actors, ", "))
	case m.By == "app" && len(m.App.Labels) == 0:
		return errors.New("by app needs app.labels")
	case m.Every != 0 && m.Every < Span(minEvery):
		return fmt.Errorf("every must be at least %s", minEvery)
	case m.Times < 0 || m.Times > 0 && m.Every == 0:
		return errors.New("times goes with every")
	case m.Spread && (m.If.Reaches == nil || len(m.If.Reaches.Labels) == 0):
		return errors.New("spread needs if.reaches with labels")
	case m.By == "outside" && (m.If.Reaches != nil || len(m.Log) > 0 || m.Event != nil || m.Alert != nil):
		return errors.New("outside has no pod: neither if.reaches, log, event nor alert")
	case m.Exfiltrate < 0:
		return errors.New("exfiltrate must not be negative")
	case m.Alert != nil && !slices.Contains(priorities, m.Alert.Priority):
		return fmt.Errorf("alert.priority %q: use %s", m.Alert.Priority, strings.Join(priorities, ", "))
	case m.Alert != nil && m.Alert.Rule == "":
		return errors.New("alert.rule is needed")
	}
	if p := m.If.Reaches; p != nil {
		if err := p.check(); err != nil {
			return fmt.Errorf("if.reaches %w", err)
		}
	}
	for _, use := range []*Use{m.If.Account} {
		if use != nil && (use.Account == "" || use.Verb == "" || use.Resource == "") {
			return errors.New("if.account needs account, verb and resource")
		}
	}
	for _, text := range slices.Concat(m.Log, m.Blocked, []string{m.Say, m.Fails}) {
		if p := placeholder(text); p != "" {
			return fmt.Errorf("%s is unknown; there are %s", p, strings.Join(known, " "))
		}
	}
	return nil
}

func (p *Peer) check() error {
	if p.Port < 1 || p.Port > 65535 || (p.Host == "") == (len(p.Labels) == 0) {
		return errors.New("needs a port, and either host or labels")
	}
	if _, err := netip.ParseAddr(p.Host); p.Host != "" && err != nil {
		return fmt.Errorf("needs an address as host, not %q", p.Host)
	}
	return nil
}
