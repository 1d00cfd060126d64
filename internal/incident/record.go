package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"irctl/internal/plural"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Doubt is something that the files of an incident do not tell, or tell otherwise
// than they should.
type Doubt struct {
	Text string
	// Weighs: because of it something may stand, or have been done, that nobody can
	// know from these files. No good verdict is drawn with it.
	Weighs bool
	// Repair: nothing is written to the incident until a person has looked and
	// repaired it.
	Repair bool

	matters []string // what is not known, each in a few words
}

// Doubts are the texts of a list of doubts.
func Doubts(list []Doubt) []string {
	var texts []string
	for _, d := range list {
		texts = append(texts, d.Text)
	}
	return texts
}

// Weighs tells whether one of the doubts does.
func Weighs(list []Doubt) bool {
	return slices.ContainsFunc(list, func(d Doubt) bool { return d.Weighs })
}

// ErrRepair refuses to go on in an incident whose files do not tell enough.
var ErrRepair = errors.New("nothing is written to this incident")

func repairFirst(id ID, text string) error {
	return fmt.Errorf("%w: incident %s: %s; irctl incident repair %s shows what of it is in the cluster, "+
		"and makes it usable again", ErrRepair, id, text, id)
}

// keyTargets is of a Changed that adds targets.
const keyTargets = "targets"

// maxTargets are how many targets one entry tells of: well below what a line may hold.
const maxTargets = 300

// told is what a journal tells of its incident.
type told struct {
	Incident
	// whole: it tells everything; else it is of an irctl that kept in the journal only
	// what it did, and the rest in incident.yaml.
	whole bool
	// changed are the keys that were set since the opening.
	changed map[string]bool
	from    []int64 // the entries that tell it
	// stopped are the suspects whose workload is known, since it was to be stopped.
	stopped map[string]bool
	// unknown is what was not known when incident.yaml was made anew, and where that is said.
	unknown []string
	since   int64
}

// tell folds a journal into the record of its incident.
func tell(id ID, entries []timeline.Entry) told {
	t := told{Incident: Incident{APIVersion: apiVersion, Kind: kind, ID: id, State: StateOpen},
		changed: map[string]bool{}, stopped: map[string]bool{}}
	for n := range entries {
		if t.entry(&entries[n]) {
			t.from = append(t.from, entries[n].Seq)
		}
	}
	return t
}

// entry takes in one entry, and tells whether it said anything.
func (t *told) entry(e *timeline.Entry) bool {
	switch e.Kind {
	case timeline.KindOpened:
		return t.opened(e)
	case timeline.KindChanged:
		c, ok := timeline.Payload[record.Changed](e)
		if !ok {
			return false
		}
		if c.Key == keyTargets {
			var more []Target
			if json.Unmarshal(c.Targets, &more) != nil {
				return false
			}
			t.Targets = merged(t.Targets, more)
			return true
		}
		t.changed[c.Key] = true
		return t.set(Setting{c.Key, c.After}) == nil // else a newer irctl has it
	case timeline.KindClosed:
		at := e.Time
		t.State, t.ClosedAt = StateClosed, &at
		return true
	case timeline.KindReopened:
		t.State, t.ClosedAt = StateOpen, nil
		return true
	case timeline.KindIntent:
		return t.intent(e)
	case timeline.KindObservation:
		if r, ok := timeline.Payload[record.Rebuilt](e); ok && len(r.Unknown) > 0 {
			t.unknown, t.since = r.Unknown, e.Seq
		}
	}
	return false
}

func (t *told) opened(e *timeline.Entry) bool {
	if o, ok := timeline.Payload[record.Opened](e); ok {
		var was Incident
		if json.Unmarshal(o.Incident, &was) == nil && was.ID == t.ID && was.validate() == nil {
			t.whole, t.Incident = true, was
			return true
		}
	}
	t.OpenedAt = e.Time.Truncate(time.Second)
	if title, ok := strings.CutPrefix(e.Summary, openedSummary+": "); ok {
		t.Title = printable(title)
	}
	for _, name := range e.Targets {
		t.name(name)
	}
	return true
}

const (
	openedSummary = "incident opened"

	// What the intents of an older journal tell of the suspects is in the steps that
	// were taken for them.
	phaseContain       = "contain"
	stepScale          = "scale"
	kindPod            = "Pod"
	annotationDetached = "irctl/detached"
)

// intent takes what an older journal tells of the cluster and of the suspects by the way.
func (t *told) intent(e *timeline.Entry) (said bool) {
	o := e.Object
	if t.whole || o == nil || e.Undoes != 0 {
		return false
	}
	if t.Cluster.UID == "" && o.Cluster != "" {
		t.Cluster.UID, said = o.Cluster, true
	}
	if e.Phase != phaseContain {
		return said
	}
	for _, name := range e.Targets {
		said = t.name(name) || said
	}
	for n := range t.Targets {
		target := &t.Targets[n]
		switch {
		case target.Namespace == o.Namespace && target.Name == o.Name && target.UID == "" && o.UID != "":
			target.APIVersion, target.Kind, target.UID, said = o.APIVersion, o.Kind, o.UID, true
			if owner, ok := detachedFrom(e); ok {
				target.Owners = []Owner{owner}
			}
		case e.Step == stepScale && slices.Contains(e.Targets, target.Namespace+"/"+target.Name) &&
			!slices.ContainsFunc(target.Owners, func(k Owner) bool { return k.UID == o.UID }):
			target.Owners = append(target.Owners,
				Owner{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID})
			t.stopped[target.UID], said = true, true
		}
	}
	return said
}

// name adds a target of which only the name is known.
func (t *told) name(name string) bool {
	namespace, name, ok := strings.Cut(name, "/")
	if !ok {
		namespace, name = "", namespace
	}
	known := slices.ContainsFunc(t.Targets, func(k Target) bool { return k.Namespace == namespace && k.Name == name })
	if name == "" || known {
		return false
	}
	t.Targets = append(t.Targets, Target{APIVersion: "v1", Kind: kindPod, Namespace: namespace, Name: name})
	return true
}

// detachedFrom is the controller that a change takes a pod from, as the annotation
// that it sets remembers it.
func detachedFrom(e *timeline.Entry) (Owner, bool) {
	change, ok := timeline.Payload[record.Change](e)
	if !ok {
		return Owner{}, false
	}
	for _, f := range change.Fields {
		var note struct {
			Controller Owner `json:"controller"`
		}
		text, isText := f.After.(string)
		if len(f.Path) > 0 && f.Path[len(f.Path)-1] == annotationDetached && isText &&
			json.Unmarshal([]byte(text), &note) == nil && note.Controller.Name != "" {
			return note.Controller, true
		}
	}
	return Owner{}, false
}

// merged adds targets that are not known yet; what is known of the owners of
// the others stays, since a detached pod no longer tells.
func merged(known, more []Target) []Target {
	for _, t := range more {
		n := slices.IndexFunc(known, func(k Target) bool { return k.UID == t.UID && (t.UID != "" || sameName(k, t)) })
		switch {
		case n < 0:
			known = append(known, t)
		case len(known[n].Owners) == 0:
			known[n].Owners = t.Owners
		}
	}
	return known
}

func sameName(a, b Target) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && (a.Kind == b.Kind || a.UID == "" || b.UID == "")
}

// reconciled is the record of an incident: what its file says, put right by its
// journal, which counts where the two differ.
func reconciled(id ID, file Incident, fileErr error, entries []timeline.Entry) Incident {
	t := tell(id, entries)
	if len(entries) == 0 {
		return file
	}
	out, differs := file, []string{}
	out.APIVersion, out.Kind, out.ID = apiVersion, kind, id
	out.State, out.ClosedAt = t.State, t.ClosedAt
	if was := file.OpenedAt; t.whole && !was.Equal(t.OpenedAt) || was.Sub(t.OpenedAt).Abs() > time.Minute {
		out.OpenedAt = t.OpenedAt
		differs = append(differs, "when it was opened")
	}
	if t.Cluster.UID != "" && t.Cluster.UID != file.Cluster.UID || t.whole && t.Cluster != file.Cluster {
		if out.Cluster.UID = t.Cluster.UID; t.whole || file.Cluster.UID != "" {
			out.Cluster = t.Cluster // an address beside another UID is that of the other
		}
		// That its UID could not be read at the opening is no contradiction.
		if t.whole || file.Cluster.UID != "" || file.Cluster == (Cluster{}) {
			differs = append(differs, "the cluster")
		}
	}
	if t.whole && t.Drill != file.Drill {
		out.Drill = t.Drill
		differs = append(differs, "whether it is a drill")
	}
	differs = append(differs, out.adoptSettings(t)...)
	var lost []string
	if out.Targets, lost = targetsOf(t, file.Targets); len(lost) > 0 {
		differs = append(differs, plural.Count(len(lost), "suspect")+" ("+shortList(lost)+")")
	}
	out.Doubts = doubts(out, t, fileErr, differs, lost)
	return out
}

// adoptSettings makes what people have set of an incident what the journal says.
func (i *Incident) adoptSettings(t told) (differs []string) {
	*i = i.clone()
	keys := []string{"title", "severity", "commander", "impact"}
	for _, m := range timeline.Moments {
		keys = append(keys, string(m))
	}
	for role := range i.Roles {
		keys = append(keys, RolePrefix+role)
	}
	for role := range t.Roles {
		keys = append(keys, RolePrefix+role)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		is, want := i.get(key), t.get(key)
		if is == want || !t.whole && !t.changed[key] && (key != "title" || want == "") {
			continue
		}
		if i.set(Setting{key, want}) == nil && !t.changed[key] { // else a crash came between journal and file
			differs = append(differs, "the "+key)
		}
	}
	return differs
}

// targetsOf are the suspects, and those of which journal and file tell otherwise.
func targetsOf(t told, file []Target) (list []Target, differ []string) {
	if t.whole {
		if !reflect.DeepEqual(t.Targets, file) && len(t.Targets)+len(file) > 0 {
			for _, target := range slices.Concat(t.Targets, file) {
				name := target.Namespace + "/" + target.Name
				same := func(k Target) bool { return reflect.DeepEqual(k, target) }
				if !slices.Contains(differ, name) &&
					(!slices.ContainsFunc(file, same) || !slices.ContainsFunc(t.Targets, same)) {
					differ = append(differ, name)
				}
			}
		}
		return t.Targets, differ
	}
	list = slices.Clone(file)
	for _, target := range t.Targets {
		n := slices.IndexFunc(list, func(k Target) bool {
			return target.UID != "" && k.UID == target.UID || sameName(k, target) && (target.UID == "" || k.UID == "")
		})
		switch {
		case n < 0:
			list = append(list, target)
		case list[n].UID == "" && target.UID != "", len(list[n].Owners) == 0 && len(target.Owners) > 0:
			list[n].Kind, list[n].APIVersion, list[n].UID = target.Kind, target.APIVersion, target.UID
			if len(list[n].Owners) == 0 {
				list[n].Owners = target.Owners
			}
		default:
			continue
		}
		differ = append(differ, target.Namespace+"/"+target.Name)
	}
	return list, differ
}

// doubts says what was wrong with the file, where its content is from, and what of
// the incident is not known.
func doubts(i Incident, t told, fileErr error, differs, lost []string) []Doubt {
	matters, unknown := t.unknown, []string{}
	if !t.whole && i.Cluster.UID == "" && i.Cluster.Server == "" {
		matters = append(matters, "which cluster it is of")
	}
	for _, target := range i.Targets {
		switch name := target.Namespace + "/" + target.Name; {
		case target.UID == "" && target.Kind == kindPod && !t.whole:
			matters = append(matters, "which pod was "+name+" then")
		case !t.whole && target.Kind == kindPod && slices.Contains(lost, name) && t.onlyOneToTell(target):
			matters = append(matters, "the workload of "+name)
		}
	}
	if fileErr != nil && !t.whole {
		if i.Severity == "" {
			unknown = append(unknown, "its severity")
		}
		if i.Cluster.Server == "" && i.Cluster.UID != "" {
			unknown = append(unknown, "the cluster's address")
		}
	}
	text := ""
	switch entries := "the journal (" + numbered(t.from) + ")"; {
	case errors.Is(fileErr, fs.ErrNotExist):
		text = yamlFile + " is gone: what it said is taken from " + entries
	case fileErr != nil:
		text = fmt.Sprintf("%s is damaged (%v): what it said is taken from %s", yamlFile, oneLine(fileErr), entries)
	case len(differs) > 0:
		text = fmt.Sprintf("%s and the journal do not agree on %s: what counts is %s",
			yamlFile, strings.Join(differs, ", "), entries)
	case len(matters)+len(unknown) == 0:
		return nil
	case t.since > 0:
		text = fmt.Sprintf("%s was made anew (entry %d)", yamlFile, t.since)
	}
	slices.Sort(matters)
	if list := slices.Concat(slices.Compact(matters), unknown); len(list) > 0 {
		text = strings.TrimPrefix(text+"; not known: "+strings.Join(list, ", "), "; ")
	}
	return []Doubt{{Text: text, Weighs: len(matters) > 0, matters: matters}}
}

// onlyOneToTell: what is known of a target's owners is from the journal alone, and it
// does not come as far as the workload.
func (t *told) onlyOneToTell(target Target) bool {
	same := func(k Target) bool { return reflect.DeepEqual(k, target) }
	return !t.stopped[target.UID] && slices.ContainsFunc(t.Targets, same)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func numbered(seqs []int64) string {
	const most = 8
	var texts []string
	for _, s := range seqs[:min(len(seqs), most)] {
		texts = append(texts, fmt.Sprint(s))
	}
	text := strings.Join(texts, ", ")
	if len(seqs) > most {
		text += fmt.Sprintf(" and %d more", len(seqs)-most)
	}
	if len(seqs) == 1 {
		return "entry " + text
	}
	return "entries " + text
}

func shortList(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// read reads an incident from its directory; what is wrong with one of the files is
// no error, if the other tells what the incident is. id "": whichever it is.
func read(dir string, id ID) (Incident, error) {
	f, fileErr := loadFile(dir, id)
	path := filepath.Join(dir, timelineFile)
	lost := timeline.HeadLost(path) // before the journal: a writer at work goes the other way
	entries, err := timeline.Read(path)
	if id == "" {
		id = f.ID
	}
	if id == "" && len(entries) > 0 {
		id = ID(entries[0].Incident)
	}
	var journal []Doubt
	switch {
	case err != nil:
		journal = append(journal, Doubt{Text: "the journal is not as it was written: " + oneLine(err), Weighs: true})
	case lost != "":
		journal = append(journal, headLost(lost))
	case len(entries) == 0:
		journal = append(journal, Doubt{Text: "the journal has no entry", Weighs: true})
	}
	if len(entries) > 0 && entries[0].Incident != string(id) {
		text := fmt.Sprintf("the journal is that of incident %q", entries[0].Incident)
		journal = append(journal, Doubt{Text: text, Weighs: true})
		entries = nil
	}
	if _, idErr := ParseID(string(id)); idErr != nil || len(entries) == 0 && fileErr != nil {
		cause := errors.Join(named(yamlFile, fileErr), err, idErr)
		return Incident{}, &DamagedError{ID: ID(filepath.Base(dir)), Dir: dir, Cause: cause}
	}
	i := reconciled(id, f, fileErr, entries)
	i.Doubts = append(journal, i.Doubts...)
	return i, nil
}

func headLost(why string) Doubt {
	return Doubt{Weighs: true, Repair: true,
		Text: fmt.Sprintf("the head of its journal is lost (%s): whether entries are missing cannot be told", why)}
}

func named(file string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", file, err)
}

// DamagedError is an incident of which neither file tells what it is.
type DamagedError struct {
	ID    ID // by the name of its directory
	Dir   string
	Cause error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrDamaged, e.Dir, oneLine(e.Cause))
}

// Unwrap makes it ErrDamaged.
func (e *DamagedError) Unwrap() []error { return []error{ErrDamaged, e.Cause} }

// loadFile reads incident.yaml. Of one that is damaged it returns what can be taken
// from it: the journal may not hold everything.
func loadFile(dir string, id ID) (Incident, error) {
	text, err := readFile(filepath.Join(dir, yamlFile), maxYAML)
	if err != nil {
		return Incident{}, err
	}
	i, err := decode(text)
	if id != "" && i.ID != "" && i.ID != id {
		return Incident{}, fmt.Errorf("%w: it is that of %s", ErrInvalid, i.ID)
	}
	if err != nil {
		return i.salvaged(), err
	}
	return i, nil
}

// salvaged is what of a damaged record can be kept.
func (i Incident) salvaged() Incident {
	s := Incident{ID: i.ID, Title: i.Title, Commander: i.Commander, Impact: i.Impact, OpenedAt: i.OpenedAt,
		Cluster: i.Cluster, Drill: i.Drill}
	if _, err := ParseSeverity(string(i.Severity)); err == nil {
		s.Severity = i.Severity
	}
	for _, t := range i.Targets {
		if t.Kind != "" && t.Name != "" {
			s.Targets = append(s.Targets, t)
		}
	}
	for role, who := range i.Roles {
		_ = s.setRole(role, who) // a name that is none is lost
	}
	for m, at := range i.Moments {
		_ = s.setMoment(m, at.Format(time.RFC3339)) // likewise
	}
	return s.printable()
}
