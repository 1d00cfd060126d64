package detect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// falcoAlert is an alert of Falco as json_output writes it, and as
// falcosidekick's webhook passes it on: the same fields, of which the latter
// adds a uuid.
// https://falco.org/docs/concepts/outputs/formatting/
type falcoAlert struct {
	Output   string                     `json:"output"`
	Priority string                     `json:"priority"`
	Rule     string                     `json:"rule"`
	Time     time.Time                  `json:"time"`
	Fields   map[string]json.RawMessage `json:"output_fields"`
	Source   string                     `json:"source"`
	Tags     []string                   `json:"tags"`
	Hostname string                     `json:"hostname"`
}

// falcoScores are Falco's priorities; Info is another name that its rules use.
// https://falco.org/docs/concepts/rules/basic-elements/#priority
var falcoScores = map[string]Score{
	"emergency": 97, "alert": 95, "critical": 90,
	"error": 72, "warning": 65,
	"notice": 50,
	"info":   25, "informational": 25,
	"debug": 5,
}

var errNoFalco = errors.New("it is no alert of Falco: rule or priority is missing")

// parseFalco reads one alert.
func parseFalco(line []byte) (Finding, error) {
	var a falcoAlert
	if err := json.Unmarshal(line, &a); err != nil {
		return Finding{}, fmt.Errorf("reading an alert of Falco: %w", err)
	}
	score, known := falcoScores[strings.ToLower(a.Priority)]
	if !known || a.Rule == "" {
		return Finding{}, errNoFalco
	}
	return Finding{Code: "falco", Score: score, Reason: a.reason(), Technique: techniqueOf(a.Tags),
		Subject: a.subject(), Source: SourceFalco,
		Rule: a.Rule, FirstSeen: a.Time, Count: 1, Alert: line}, nil
}

// field is a text of output_fields; "" for null and for <NA>, by which Falco
// says that there is none.
func (a *falcoAlert) field(name string) string {
	var s string
	if err := json.Unmarshal(a.Fields[name], &s); err != nil || s == "<NA>" {
		return ""
	}
	return s
}

// reason says what happened in the alert's own words, without the time and the
// priority that the output begins with.
func (a *falcoAlert) reason() string {
	var parts []string
	what := "file"
	if strings.Contains(a.field("fd.name"), "->") {
		what = "connection"
	}
	for _, p := range [][2]string{{"command", "proc.cmdline"}, {what, "fd.name"}, {"user", "user.name"},
		{"image", "container.image.repository"},
		{"user", "ka.user.name"}, {"verb", "ka.verb"}, {"resource", "ka.target.resource"}, {"name", "ka.target.name"}} {
		if v := a.field(p[1]); v != "" {
			parts = append(parts, p[0]+" "+cut(v, maxObject))
		}
	}
	if len(parts) > 0 {
		return a.Rule + ": " + strings.Join(parts, ", ")
	}
	text := a.Output
	if _, after, ok := strings.Cut(text, a.Priority+" "); ok {
		text = after
	}
	if text == "" {
		return a.Rule
	}
	return a.Rule + ": " + text
}

// subject is the pod, where Falco knows it; else the container, by whose ID
// the cluster may tell the pod; else, of the source k8s_audit, who did it; else
// the node.
func (a *falcoAlert) subject() Subject {
	s := Subject{Namespace: a.field("k8s.ns.name"), Pod: a.field("k8s.pod.name"), Container: a.field("container.name"),
		Node: a.Hostname}
	if id := a.field("container.id"); id != "host" {
		s.containerID = id
	}
	if a.Source != "k8s_audit" {
		return s
	}
	s = Subject{Namespace: a.field("ka.target.namespace"), Pod: a.field("ka.target.pod.name")}
	if s.Pod == "" && a.field("ka.target.resource") == "pods" {
		s.Pod = a.field("ka.target.name")
	}
	if user := a.field("ka.user.name"); user != "" {
		s.User = user
	}
	return s
}
