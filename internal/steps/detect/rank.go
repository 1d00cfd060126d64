package detect

import (
	"cmp"
	"slices"
	"time"
)

// Suspect is what several findings are about.
type Suspect struct {
	Rank int `json:"rank"`
	// Kind is pod, workload, object, serviceaccount, user, node or unknown.
	Kind     string   `json:"kind"`
	Name     string   `json:"name"` // "todo-app/backend-1"
	Severity Severity `json:"severity"`
	Score    Score    `json:"score"`
	// Subject is what all findings together say about it.
	Subject Subject `json:"subject"`
	// Incident is the one that a pod is in already, as its label says.
	Incident string `json:"incident,omitempty"`
	// Gone: the cluster has no such pod any more.
	Gone bool `json:"gone,omitempty"`
	// FirstSeen and LastSeen are of its signs of an attack.
	FirstSeen  time.Time   `json:"firstSeen,omitzero"`
	LastSeen   time.Time   `json:"lastSeen,omitzero"`
	Techniques []Technique `json:"techniques"`
	Findings   []Finding   `json:"findings"`
}

// Rank gathers findings by suspect, the worst first. A suspect's score is that
// of its worst finding, and a little more for every other kind of finding it
// has: at most so much that the next severity is out of reach. So a pod with
// all bad habits there are stays below one with a single sign of an attack.
func Rank(findings []Finding) []Suspect {
	byName := map[[2]string]*Suspect{}
	sorted := slices.SortedFunc(slices.Values(findings), compareFindings)
	for _, f := range sorted {
		kind, name := f.Subject.Suspect()
		s := byName[[2]string{kind, name}]
		if s == nil {
			s = &Suspect{Kind: kind, Name: name, Techniques: []Technique{}}
			byName[[2]string{kind, name}] = s
		}
		s.add(f)
	}
	suspects := make([]Suspect, 0, len(byName))
	for _, s := range byName {
		s.score()
		suspects = append(suspects, *s)
	}
	slices.SortFunc(suspects, func(a, b Suspect) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(len(b.Findings), len(a.Findings)),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	for i := range suspects {
		suspects[i].Rank = i + 1
	}
	return suspects
}

func (s *Suspect) add(f Finding) {
	s.Findings = append(s.Findings, f)
	if f.Technique.ID != "" && !slices.Contains(s.Techniques, f.Technique) {
		s.Techniques = append(s.Techniques, f.Technique)
	}
	s.Subject.fill(f.Subject)
	if !f.Score.Sign() {
		return // a time at which something is merely untidy says nothing
	}
	if !f.FirstSeen.IsZero() && (s.FirstSeen.IsZero() || f.FirstSeen.Before(s.FirstSeen)) {
		s.FirstSeen = f.FirstSeen
	}
	if f.LastSeen.After(s.LastSeen) {
		s.LastSeen = f.LastSeen
	}
}

// fill adds what the worse findings before did not say.
func (s *Subject) fill(from Subject) {
	for _, p := range [][2]*string{{&s.Namespace, &from.Namespace}, {&s.Pod, &from.Pod}, {&s.PodUID, &from.PodUID},
		{&s.Container, &from.Container},
		{&s.Workload, &from.Workload}, {&s.ServiceAccount, &from.ServiceAccount}, {&s.User, &from.User},
		{&s.Object, &from.Object}, {&s.Node, &from.Node}} {
		if *p[0] == "" {
			*p[0] = *p[1]
		}
	}
}

// What further kinds of findings add to the worst: a sign of an attack three
// points, anything else one.
const (
	furtherSign  Score = 3
	furtherHabit Score = 1
)

func (s *Suspect) score() {
	worst := s.Findings[0].Score // they are sorted
	seen := map[string]bool{s.Findings[0].Code + s.Findings[0].Rule: true}
	sum := worst
	for _, f := range s.Findings[1:] {
		if kind := f.Code + f.Rule; !seen[kind] {
			seen[kind] = true
			if f.Score.Sign() {
				sum += furtherSign
			} else {
				sum += furtherHabit
			}
		}
	}
	s.Score = min(sum, ceiling(worst))
	s.Severity = s.Score.Severity()
}

// ceiling is the highest score of the same severity.
func ceiling(s Score) Score {
	for _, next := range []Score{lowScore, mediumScore, highScore, criticalScore} {
		if s < next {
			return next - 1
		}
	}
	return maxScore
}

// AtLeastHigh reports whether there is a suspect of high severity, or worse.
func AtLeastHigh(suspects []Suspect) bool {
	return slices.ContainsFunc(suspects, func(s Suspect) bool { return s.Score.AtLeastHigh() })
}
