package drill

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Scenario is a drill as it is written down. docs/drill.md describes the file.
type Scenario struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Name       string `yaml:"name"`
	Title      string `yaml:"title"`
	// Teaches is one line about what is to be learnt.
	Teaches string `yaml:"teaches"`
	// Briefing is what the person on call is told.
	Briefing string `yaml:"briefing"`
	// Runbook is the one that fits, with the parameters to give it.
	Runbook string            `yaml:"runbook"`
	Params  map[string]string `yaml:"params"`

	Cluster Setup `yaml:"cluster"`
	// Compromised are the pods that the attacker has at the beginning.
	Compromised []PodChoice `yaml:"compromised"`
	// Attack is what the attacker does, and what else happens.
	Attack []Move `yaml:"attack"`
	// Controllers put back what is changed.
	Controllers []Controller `yaml:"controllers"`
	// Inside is what is found by running commands in containers.
	Inside []Inside `yaml:"inside"`
	// Key is by what it is scored.
	Key Key `yaml:"key"`
	// Play is how it is played well.
	Play Play `yaml:"play"`
}

// Setup is what makes the cluster differ from the plain todo-app.
type Setup struct {
	// Kinds are custom resources that are served: Application, Kustomization,
	// HelmRelease, ScaledObject.
	Kinds []string `yaml:"kinds"`
	// Objects are created after the todo-app's.
	Objects string `yaml:"objects"`
	// Edits change the todo-app's.
	Edits []Edit `yaml:"edits"`
}

// Edit merges something into an object.
type Edit struct {
	Object Object         `yaml:"object"`
	Merge  map[string]any `yaml:"merge"`
}

// Object is an object as NAMESPACE/KIND/NAME, or KIND/NAME.
type Object struct{ Namespace, Kind, Name string }

// PodChoice chooses pods by their labels.
type PodChoice struct {
	Namespace string            `yaml:"namespace"`
	Labels    map[string]string `yaml:"labels"`
	// Nth is which of them, by age; 0 is the oldest.
	Nth int `yaml:"nth"`
}

// Move is something that the attacker does, once or again and again, while its
// conditions hold.
type Move struct {
	Name string `yaml:"name"`
	// At is when, from the alert with which the drill begins; negative: before.
	At Span `yaml:"at"`
	// Every repeats it, Times bounds that (0: as long as the drill lasts).
	Every Span `yaml:"every"`
	Times int  `yaml:"times"`
	// By is who does it: pods (every compromised pod that runs), pod (the first
	// of them), outside (from elsewhere), or app (the pods that App chooses).
	By  string    `yaml:"by"`
	App PodChoice `yaml:"app"`
	If  Condition `yaml:"if"`

	// What it leaves.
	Log   []string `yaml:"log"`
	Alert *Alert   `yaml:"alert"`
	Audit *Audit   `yaml:"audit"`
	Event *Event   `yaml:"event"`
	// Blocked is logged where the network does not let it through.
	Blocked []string `yaml:"blocked"`
	// Exfiltrate is how many KiB leave with it.
	Exfiltrate int `yaml:"exfiltrate"`
	// Spread compromises one more pod, of those that If.Reaches found; Infect
	// one from outside.
	Spread bool    `yaml:"spread"`
	Infect *Infect `yaml:"infect"`
	// Create makes an object.
	Create string `yaml:"create"`
	// Say tells the spectator, and afterwards the player, what it was; Fails
	// that it came to nothing, once.
	Say   string `yaml:"say"`
	Fails string `yaml:"fails"`
}

// Condition holds if all of it that is said holds.
type Condition struct {
	// Reaches: the pod gets through, by the effective policies of both sides.
	Reaches *Peer `yaml:"reaches"`
	// After: a move of this name has succeeded.
	After string `yaml:"after"`
	// CutOff: no compromised pod that runs gets out, or in, any more.
	CutOff bool `yaml:"cutOff"`
	// Secret, as NAMESPACE/NAME, has a value that it had when the drill began.
	Secret string `yaml:"secret"`
	// Account: the token that was stolen from it still may do something.
	Account *Use `yaml:"account"`
	// Exists: the object is there.
	Exists Object `yaml:"exists"`
	// Runs: a pod of this image runs that is not compromised.
	Runs string `yaml:"runs"`
}

// Peer is who is reached: an address outside, or pods.
type Peer struct {
	Host   string            `yaml:"host"`
	Labels map[string]string `yaml:"labels"`
	// Namespace of the pods; "": that of the pod that asks.
	Namespace string `yaml:"namespace"`
	Port      int32  `yaml:"port"`
	Protocol  string `yaml:"protocol"`
}

// Use is what a service account is used for.
type Use struct {
	Account  string `yaml:"account"` // NAMESPACE/NAME
	Verb     string `yaml:"verb"`
	Group    string `yaml:"group"`
	Resource string `yaml:"resource"`
	// Namespace in which; "": that of the account.
	Namespace string `yaml:"namespace"`
	Name      string `yaml:"name"`
}

// Infect is how a pod is compromised from outside.
type Infect struct {
	PodChoice `yaml:",inline"`
	// Via are the pods through which the attacker comes, at Port; none: directly.
	Via  map[string]string `yaml:"via"`
	Port int32             `yaml:"port"`
}

// Alert is one of Falco's.
type Alert struct {
	Rule     string            `yaml:"rule"`
	Priority string            `yaml:"priority"`
	Output   string            `yaml:"output"`
	Fields   map[string]string `yaml:"fields"`
	Tags     []string          `yaml:"tags"`
}

// Audit is a line of the API server's audit log.
type Audit struct {
	User      string `yaml:"user"`
	Verb      string `yaml:"verb"`
	Group     string `yaml:"group"`
	Resource  string `yaml:"resource"` // with its subresource: pods/exec
	Namespace string `yaml:"namespace"`
	Name      string `yaml:"name"`
	IP        string `yaml:"ip"`
	Agent     string `yaml:"agent"`
	Code      int32  `yaml:"code"`
}

// Event is told of the pod, by a component of the cluster.
type Event struct {
	Component string `yaml:"component"`
	Type      string `yaml:"type"`
	Reason    string `yaml:"reason"`
	Message   string `yaml:"message"`
}

// Controller puts an object back into its desired form, unless it is suspended.
type Controller struct {
	// Object is the custom resource by which it works.
	Object Object `yaml:"object"`
	// SuspendedBy is the field that stops it, with the value that does; "absent"
	// means that it works only while the field is there.
	SuspendedBy []string `yaml:"suspendedBy"`
	Value       any      `yaml:"value"`
	Every       Span     `yaml:"every"`
	Desired     []Edit   `yaml:"desired"`
}

// Key is by what a drill is scored.
type Key struct {
	// ContainWithin is how long containing may take for all its points.
	ContainWithin Span `yaml:"containWithin"`
	// Contained is what must be so, besides every compromised pod being cut off:
	// secrets and accounts by which the attacker works from outside.
	Contained Worthless `yaml:"contained"`
	// Secrets, as NAMESPACE/NAME, are to be rotated, Accounts to lose what was
	// stolen of them.
	Secrets  []string `yaml:"secrets"`
	Accounts []Use    `yaml:"accounts"`
	// Images must not be deployed any more when it ends, Objects not be there.
	Images  []string `yaml:"images"`
	Objects []Object `yaml:"objects"`
	// MayGoDown are the workloads that may be taken down; all others are innocent.
	MayGoDown []Object `yaml:"mayGoDown"`
	// Better is what a better response would have been, by item of the score;
	// what is said here comes instead of what irctl says by itself.
	Better map[string]string `yaml:"better"`
}

// Worthless names what the attacker must not be able to use any more.
type Worthless struct {
	Secrets  []string `yaml:"secrets"`
	Accounts []Use    `yaml:"accounts"`
}

// Play is how a scenario is played well: the answers to what its runbook asks,
// and what is done before answering.
type Play struct {
	// Params of the runbook, besides those that a person is given at the start.
	Params map[string]string `yaml:"params"`
	// Before is done before the runbook.
	Before []string        `yaml:"before"`
	Steps  map[string]Turn `yaml:"steps"`
	// After is done when the runbook is through.
	After []string `yaml:"after"`
}

// Turn is the answer to one step.
type Turn struct {
	Answer string `yaml:"answer"`
	Note   string `yaml:"note"`
	// Do are commands: irctl …, kubectl …, wait DURATION.
	Do []string `yaml:"do"`
	// Takes is how long a person takes for it.
	Takes Span `yaml:"takes"`
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
func Find(ref string) (*Scenario, error) {
	if !strings.ContainsAny(ref, "/.") {
		file := "scenarios/" + ref + ".yaml"
		text, err := builtIn.ReadFile(file)
		if err != nil {
			return nil, unknown(ref)
		}
		return Parse(path.Base(file), text)
	}
	f, err := os.Open(ref)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrScenario, err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
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
	return fmt.Errorf("%w: there is none called %q; there are %s, or give a file", ErrScenario, name, strings.Join(files, ", "))
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
	known        = []string{"${suspect}", "${pod}", "${namespace}", "${node}", "${ip}", "${n}", "${kib}", "${target}", "${dir}", "${incident}"}
	actors       = []string{"pods", "pod", "outside", "app"}
	priorities   = []string{"Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug"}
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
			return fmt.Errorf("attack: %s: with it, moves are made more than %d times before the alert: let it begin later than %s, or less often, or give times",
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
			return fmt.Errorf("controllers: %d: object, suspendedBy, desired, and every of at least %s are needed", i+1, minEvery)
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
