package report

import (
	"maps"
	"slices"
	"strings"
	"time"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

// WayIn is whether the weakness by which a workload was entered is closed, as
// far as the record tells: whether it has another image than the suspects.
type WayIn struct {
	Workload Text `json:"workload"`
	// State is "open" or "closed". What nobody has recorded to be closed is open.
	State string    `json:"state"`
	Text  Text      `json:"text"`
	Seq   int64     `json:"seq,omitempty"` // of the entry that tells; 0: none does
	At    time.Time `json:"at,omitzero"`
}

// The states of a way in.
const (
	wayInOpen   = "open"
	wayInClosed = "closed"
)

// Open: nothing says that it is closed.
func (w WayIn) Open() bool { return w.State == wayInOpen }

// patches are the steps of the eradication that can give a workload an image.
var patches = []string{"image", "apply"}

// waysIn are those of the workloads that were contained. It does not matter by
// which command: a containment without a patched image leaves the way in open.
func waysIn(r *Report, entries []timeline.Entry) []WayIn {
	contains := func(e timeline.Entry) bool { return e.Kind == timeline.KindIntent && e.Phase == "contain" }
	if !slices.ContainsFunc(entries, contains) {
		return nil
	}
	var list []WayIn
	for _, t := range r.Incident.Targets {
		workload := t.top()
		if workload == "" || slices.ContainsFunc(list, func(w WayIn) bool { return w.Workload == workload }) {
			continue
		}
		w := WayIn{Workload: workload, State: wayInOpen, Text: workload +
			": no patched image is recorded; the way in is still open"}
		had, has := map[string]string{}, map[string]string{}
		for _, a := range timeline.Actions(entries) {
			if slices.Contains(patches, a.Intent.Step) && objectOf(a.Intent.Object) == workload && patchesImage(a) {
				w = patchedBy(workload, a)
				track(a, had, has)
			}
		}
		if same := unchanged(had, has); !w.Open() && len(same) > 0 {
			w.State, w.Text = wayInOpen, w.Text+
				Text("; not so "+strings.Join(same, ", ")+", so the way in is still open")
		}
		if said, ok := recovered(workload, entries); ok && said.Seq > w.Seq {
			w = said
		}
		list = append(list, w)
	}
	return list
}

// top is the workload that would run the suspect's image again, as objects are
// named; "": nothing would.
func (t Target) top() Text {
	if t.Workload == "" {
		if t.Kind == "Pod" {
			return ""
		}
		return t.Label()
	}
	kind, name := cut(t.Workload, " ")
	return kind + " " + t.Namespace + "/" + name
}

// fieldsOf are the fields that an action set; of one that set none, nil.
func fieldsOf(a timeline.Action) []record.Field {
	if c, ok := timeline.Payload[record.Change](&a.Intent); ok {
		return c.Fields
	}
	return nil
}

// patchesImage: the action is recorded to have been done, and changes an image.
func patchesImage(a timeline.Action) bool {
	if a.Outcome == nil || a.Outcome.Outcome != timeline.OutcomeDone && a.Outcome.Outcome != timeline.OutcomeAlready {
		return false
	}
	for _, f := range fieldsOf(a) {
		last := ""
		if n := len(f.Path); n > 0 {
			last = f.Path[n-1]
		}
		if (last == "containers" || last == "initContainers") && !slices.Equal(images(f.Before), images(f.After)) {
			return true
		}
	}
	return false
}

// track notes which image each container had before the first change, and has
// after this one.
func track(a timeline.Action, had, has map[string]string) {
	for _, f := range fieldsOf(a) {
		if len(f.Path) == 0 {
			continue
		}
		part, after := f.Path[len(f.Path)-1], f.After
		if a.Undo == timeline.Undone {
			after = f.Before
		}
		for _, list := range []struct {
			value any
			into  map[string]string
			keep  bool
		}{{f.Before, had, true}, {after, has, false}} {
			for _, image := range images(list.value) {
				name, ref, _ := strings.Cut(image, "=")
				if _, known := list.into[part+" "+name]; !known || !list.keep {
					list.into[part+" "+name] = ref
				}
			}
		}
	}
}

// unchanged are the containers that still have the image of before; of the init
// containers only those with the image of one that runs. Where no change was about
// the containers that run, all of them are.
func unchanged(had, has map[string]string) []string {
	var same []string
	running, runs := false, map[string]bool{}
	for key, ref := range had {
		if strings.HasPrefix(key, "containers ") {
			runs[ref] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(had)) {
		part, name, _ := strings.Cut(key, " ")
		running = running || part == "containers"
		if part != "containers" && !runs[had[key]] {
			continue
		}
		if had[key] == has[key] {
			same = append(same, name)
		}
	}
	if !running && len(had) > 0 {
		same = append(same, "the containers that run")
	}
	return same
}

// images are those of a list of containers, CONTAINER=IMAGE.
func images(containers any) []string {
	list, _ := containers.([]any)
	var out []string
	for _, one := range list {
		c, _ := one.(map[string]any)
		name, _ := c["name"].(string)
		image, _ := c["image"].(string)
		out = append(out, name+"="+image)
	}
	return out
}

func patchedBy(workload Text, a timeline.Action) WayIn {
	if a.Undo == timeline.Undone {
		return WayIn{Workload: workload, State: wayInOpen, Seq: a.UndoIntent.Seq, At: a.UndoIntent.Time,
			Text: workload + ": the patched image was taken back; the way in is open again"}
	}
	return WayIn{Workload: workload, State: wayInClosed, Seq: a.Outcome.Seq, At: a.Outcome.Time, Text: workload + ": " +
		Text(a.Intent.Summary)}
}

// recovered is what the last recovery found of a workload.
func recovered(workload Text, entries []timeline.Entry) (w WayIn, ok bool) {
	for _, e := range slices.Backward(entries) {
		rec, ok := timeline.Payload[record.Recovery](&e)
		if !ok || e.Action != "way-in" {
			continue
		}
		for _, found := range rec.WayIn {
			if Text(found.Workload) != workload {
				continue
			}
			w = WayIn{Workload: workload, State: wayInClosed, Text: Text(found.Text), Seq: e.Seq, At: e.Time}
			if found.State != wayInClosed {
				w.State, w.Text = wayInOpen, Text(found.Text)+"; the way in is still open"
				if rec.SameImage {
					w.Text = Text(found.Text) +
						", and went back into service so, as was decided; the way in is still open"
				}
			}
			return w, true
		}
	}
	return WayIn{}, false
}

// wayInSentence is for the summary; "": nothing is to be said.
func wayInSentence(list []WayIn) Text {
	var open []string
	for _, w := range list {
		if w.Open() {
			open = append(open, string(w.Workload))
		}
	}
	switch {
	case len(list) == 0:
		return ""
	case len(open) == 0:
		return "The way in is closed, as far as the record tells: the workloads have another image."
	}
	return Text("The way in is still open: no patched image of " + strings.Join(open, ", ") + " is in place.")
}
