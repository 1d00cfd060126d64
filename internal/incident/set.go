package incident

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Setting is something that a person records of an incident: a key and what it
// is to be. An empty value takes back what was recorded.
type Setting struct{ Key, Value string }

// ErrSetting says that a setting is not one that can be made.
var ErrSetting = errors.New("cannot be set")

// SettingKeys are the keys there are, besides those of roles.
var SettingKeys = []string{"title", "severity", "commander", "impact", string(timeline.Started),
	string(timeline.Detected),
	string(timeline.Acknowledged), string(timeline.Contained), string(timeline.Eradicated), string(timeline.Recovered)}

const (
	// RolePrefix begins the key of a role: role.communications.
	RolePrefix = "role."

	// maxValue bounds a value, in bytes: an impact is a paragraph, no novel.
	maxValue = 4 << 10
	// maxRoles that an incident has.
	maxRoles = 100
	// clockSkew is how far a moment may lie in the future: clocks differ.
	clockSkew = 5 * time.Minute
)

var rolePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// ParseSetting reads KEY=VALUE.
func ParseSetting(s string) (Setting, error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return Setting{}, fmt.Errorf("%w: %.64q is not KEY=VALUE", ErrSetting, s)
	}
	return Setting{key, value}, (&Incident{}).set(Setting{key, value})
}

// get returns what is recorded under a key.
func (i *Incident) get(key string) string {
	if role, ok := strings.CutPrefix(key, RolePrefix); ok {
		return i.Roles[role]
	}
	switch key {
	case "title":
		return i.Title
	case "severity":
		return string(i.Severity)
	case "commander":
		return i.Commander
	case "impact":
		return i.Impact
	}
	if at, ok := i.Moments[timeline.Moment(key)]; ok {
		return at.Format(time.RFC3339)
	}
	return ""
}

// set records a setting. On an error nothing was changed.
func (i *Incident) set(s Setting) error {
	if len(s.Value) > maxValue || !utf8.ValidString(s.Value) {
		return fmt.Errorf("%s %w: at most %d bytes of UTF-8", s.Key, ErrSetting, maxValue)
	}
	value := printable(strings.TrimSpace(s.Value))
	if role, ok := strings.CutPrefix(s.Key, RolePrefix); ok {
		return i.setRole(role, value)
	}
	switch s.Key {
	case "title":
		i.Title = value
	case "severity":
		severity, err := ParseSeverity(value)
		if err != nil {
			return fmt.Errorf("it %w: %w", ErrSetting, err)
		}
		i.Severity = severity
	case "commander":
		i.Commander = value
	case "impact":
		i.Impact = value
	default:
		return i.setMoment(timeline.Moment(s.Key), value)
	}
	return nil
}

func (i *Incident) setRole(role, who string) error {
	switch {
	case !rolePattern.MatchString(role):
		return fmt.Errorf("role %.64q %w: a name is of a-z, 0-9 and -, such as communications", role, ErrSetting)
	case who == "":
		delete(i.Roles, role)
		return nil
	case len(i.Roles) >= maxRoles && i.Roles[role] == "":
		return fmt.Errorf("role %s %w: there are %d already", role, ErrSetting, maxRoles)
	case i.Roles == nil:
		i.Roles = map[string]string{}
	}
	i.Roles[role] = who
	return nil
}

func (i *Incident) setMoment(m timeline.Moment, when string) error {
	if !slices.Contains(timeline.Moments, m) {
		return fmt.Errorf("%.64q %w: there are %s and %sNAME", m, ErrSetting, strings.Join(SettingKeys, ", "),
			RolePrefix)
	}
	if when == "" {
		delete(i.Moments, m)
		return nil
	}
	at, err := time.Parse(time.RFC3339, when)
	if err == nil {
		_, err = at.MarshalText() // a zone of +24:00 can be read, and not be written again
	}
	if err != nil {
		return fmt.Errorf("%s %w to %.64q: say when with the zone, such as 2026-02-12T09:30:00+01:00", m, ErrSetting,
			when)
	}
	if i.Moments == nil {
		i.Moments = map[timeline.Moment]time.Time{}
	}
	i.Moments[m] = at.Truncate(time.Second)
	return nil
}

// Set records settings, each as an entry of the journal, and returns those of
// what was not so before. An error of ErrSetting means that none was made.
// Also a closed incident can be set: much of it is known only afterwards.
func (h *Handle) Set(settings ...Setting) ([]timeline.Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.incident.clone()
	var changes []record.Changed
	for _, s := range settings {
		c := record.Changed{Key: s.Key, Before: next.get(s.Key)}
		if err := next.set(s); err != nil {
			return nil, err
		}
		if at, ok := next.Moments[timeline.Moment(s.Key)]; ok && at.After(h.store.opts.Now().Add(clockSkew)) {
			return nil, fmt.Errorf("%s %w to %s: that is yet to come", s.Key, ErrSetting, at.Format(time.RFC3339))
		}
		if c.After = next.get(s.Key); c.After != c.Before {
			changes = append(changes, c)
		}
	}
	var entries []timeline.Entry
	for _, c := range changes {
		e, err := h.record(c)
		if err != nil {
			return entries, errors.Join(err, h.catchUp())
		}
		entries = append(entries, e)
	}
	return entries, h.catchUp()
}

func (h *Handle) record(c record.Changed) (timeline.Entry, error) {
	summary := c.Key + ": " + c.After
	switch {
	case c.After == "":
		summary = c.Key + ": no longer known; it was " + c.Before
	case c.Before != "":
		summary += "; it was " + c.Before
	}
	return h.Log.AppendWith(timeline.Entry{Kind: timeline.KindChanged, Summary: summary}, c)
}

// catchUp makes the file what the journal says it should be.
func (h *Handle) catchUp() error {
	next := reconciled(h.incident.ID, h.incident, nil, h.Log.Entries())
	if reflect.DeepEqual(sound(next), sound(h.incident)) {
		return nil
	}
	return h.update(func(i *Incident) { *i = sound(next) })
}
