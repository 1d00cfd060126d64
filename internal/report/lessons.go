package report

import (
	"fmt"
	"slices"
	"strings"

	"irctl/internal/incident"
	"irctl/internal/plural"
	"irctl/internal/record"
	"irctl/internal/timeline"
)

// ActionItem is something to do after the incident. Those that the record
// suggests are a beginning; who does it until when is for people to say.
type ActionItem struct {
	Text Text `json:"text"`
	How  Text `json:"how,omitempty"`
}

// maxItems bounds what is suggested; a longer list is not worked off.
const maxItems = 25

// actionItems are what the record leaves to be done.
func actionItems(r *Report) []ActionItem {
	var list []ActionItem
	if len(r.Rotations) == 0 && len(r.Incident.Targets) > 0 {
		list = append(list,
			ActionItem{Text: "Rotate every secret that a suspect could read: none is recorded as rotated."})
	}
	for _, w := range r.WayIn {
		if w.Open() {
			list = append(list, ActionItem{Text: "Close the way in: " + w.Text,
				How: "irctl eradicate --image CONTAINER=IMAGE@sha256:…"})
		}
	}
	for _, x := range byWeight(r.Exposures) {
		if x.Left() {
			list = append(list, ActionItem{Text: "Close what was still open: " + x.Text, How: x.Close})
		}
	}
	for _, p := range r.PutBack {
		list = append(list, ActionItem{Text: "Find out who put it back, and keep them from it in the next incident: " +
			p.Text})
	}
	for _, d := range r.Deviations {
		// That a verdict failed is what the exposures tell.
		if (d.Outcome == timeline.OutcomeFailed || d.Outcome == timeline.OutcomeDenied) && d.Reason != "" &&
			!r.wentOn(d) {
			list = append(list,
				ActionItem{Text: "Find out why it failed, and see that it does not in the next incident: " + d.What,
					How: d.Reason})
		}
	}
	seen := map[ActionItem]bool{}
	list = slices.DeleteFunc(list, func(i ActionItem) bool { known := seen[i]; seen[i] = true; return known })
	if more := len(list) - maxItems; more > 0 {
		list = append(list[:maxItems],
			ActionItem{Text: Text(fmt.Sprintf(
				"And %d more of that kind: see what was exposed, what was put back, and the deviations.", more))})
	}
	return list
}

// wentOn: irctl was interrupted, and the run that went on did it. Nobody has to
// look into that; into what failed by itself they do, even if it went later.
func (r *Report) wentOn(d Deviation) bool {
	return strings.HasPrefix(string(d.Reason), "interrupted") && slices.ContainsFunc(r.Actions, func(a Action) bool {
		return a.Seq > d.Seq && a.Summary == d.What &&
			(a.Outcome == Text(timeline.OutcomeDone) || a.Outcome == Text(timeline.OutcomeAlready))
	})
}

// summary is what happened, in sentences, from the most important on.
func summary(r *Report, entries []timeline.Entry) []Text {
	list := []Text{opening(r)}
	if text := detection(r); text != "" {
		list = append(list, text)
	}
	list = append(list, fate(r))
	if text := replaced(r.Rotations); text != "" {
		list = append(list, text)
	}
	if text := eradicated(entries); text != "" {
		list = append(list, text)
	}
	if text := later(r.Durations); text != "" {
		list = append(list, text)
	}
	if len(r.Actions) > 0 {
		list = append(list, changes(r.Actions))
	}
	if r.Verdict != nil {
		list = append(list, exposed(r.Exposures))
	}
	list = append(list, recovery(r, entries)...)
	if text := wayInSentence(r.WayIn); text != "" && !slices.ContainsFunc(r.Exposures, Exposure.decided) {
		list = append(list, text)
	}
	if n := len(r.PutBack); n > 0 {
		list = append(list, Text(fmt.Sprintf(
			"Somebody, perhaps a controller, put %s back while the response was under way.", plural.Count(n, "thing"))))
	}
	switch n := len(r.Evidence); n {
	case 0:
		list = append(list, "No sealed evidence is recorded.")
	default:
		list = append(list, Text(fmt.Sprintf("Evidence was sealed in %s.", plural.Count(n, "bundle"))))
	}
	if r.Incident.State == incident.StateOpen {
		at := Text("")
		if n := len(entries); n > 0 {
			at = Text("; the last entry is of " + when(entries[n-1].Time))
		}
		list = append(list, "The incident is still open"+at+".")
	}
	return list
}

func opening(r *Report) Text {
	i := r.Incident
	what := Text("without suspects on record")
	switch n := len(i.Targets); {
	case n == 1:
		what = "about " + i.Targets[0].Label()
		if w := i.Targets[0].Workload; w != "" {
			what += " of " + w
		}
	case n > 1:
		what = "about " + i.Targets[0].Label() + Text(fmt.Sprintf(" and %s more", plural.Count(n-1, "suspect")))
	}
	text := Text("The incident was opened at "+when(i.OpenedAt)+", ") + what
	if i.ClosedAt != nil {
		text += Text(", and closed at " + when(*i.ClosedAt) + ", " + took(i.ClosedAt.Sub(i.OpenedAt)) + " later")
	}
	return text + "."
}

// detection is what it was detected by, and how long after it began; empty
// where that is not known.
func detection(r *Report) Text {
	for _, m := range r.Moments {
		if m.Name != string(timeline.Detected) || m.At.IsZero() {
			continue
		}
		text := "It was detected at " + when(m.At)
		for _, d := range r.Durations {
			if d.Name == "detect" && d.Seconds != nil {
				text += ", " + d.Text() + " after the first sign"
			}
		}
		if m.Source == "" || m.said {
			return Text(text + ".")
		}
		return Text(text+": ") + m.Source + "."
	}
	return ""
}

// replaced is what became of the secrets, each counted once.
func replaced(list []Action) Text {
	now, off := map[Text]bool{}, map[Text]bool{}
	for _, a := range list {
		switch {
		case !a.went():
		case a.Step == deactivate:
			off[a.Object] = true
		default:
			now[a.Object] = true
		}
	}
	if len(now) == 0 {
		return ""
	}
	text := plural.Count(len(now), "secret") + " replaced"
	if len(off) > 0 {
		text += fmt.Sprintf("; of %d the old value is worthless", len(off))
	}
	return Text(text + ".")
}

// later is how long the phases after containment took.
func later(list []Duration) Text {
	var parts []string
	for _, d := range list {
		if (d.Name == "eradicate" || d.Name == "recover") && d.Seconds != nil {
			parts = append(parts, d.To+" "+d.Text()+" after it was "+d.From)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return Text("It was " + strings.Join(parts, ", and ") + ".")
}

// fate is whether it is contained, and how fast that was.
func fate(r *Report) Text {
	if r.Verdict == nil {
		return "No verdict on containment is recorded."
	}
	v := r.Verdict
	at := Text(when(v.Time))
	var text Text
	switch {
	case v.Looked:
		text = "The verdict on containment, of a look at the cluster at " + at + ": " + v.Words() + "."
	case v.Last != "":
		text = "The last verdict on containment, of " + at + ": " + v.Last + ". But " + Text(v.Since) + ": " +
			v.Words() + "."
	case v.Seq == 0:
		text = "No verdict on containment is recorded: " + v.Words() + "."
	default:
		text = "The last verdict on containment, of " + at + ": " + v.Words() + "."
	}
	if n := len(r.Verdict.Unsettled); n > 0 {
		text += Text(" Meant and not done, " + plural.Count(n, "change") + ": ")
		for i, u := range r.Verdict.Unsettled[:min(n, 3)] {
			if i > 0 {
				text += "; "
			}
			text += u
		}
		text += "."
	}
	for _, d := range r.Durations {
		if d.Name != "contain" || d.Seconds == nil {
			continue
		}
		if now := record.Verdict(v.Verdict); now == record.Contained || now == record.Exposed {
			text += Text(" It took " + d.Text() + " from the moment it was " + d.From + ".")
		} else {
			text += Text(" It had been contained " + d.Text() + " after it was " + d.From + ".")
		}
	}
	return text
}

// recovery is the last verdict on it, and, before all else, that the way in is
// open, if it is.
func recovery(r *Report, entries []timeline.Entry) []Text {
	var list []Text
	for _, x := range r.Exposures {
		if x.decided() {
			list = append(list, Text("The way in is still open since "+when(x.FirstSeen)+": ")+x.Target+
				" was put back on the suspects' image, as was decided.")
		}
	}
	for _, e := range slices.Backward(entries) {
		if w, ok := timeline.Payload[record.Watched](&e); ok && len(w.Hits) > 0 {
			list = append(list,
				Text(fmt.Sprintf("The watch that ended at %s saw %s of the attacker's return, such as: ",
					when(e.Time), plural.Count(len(w.Hits), "sign")))+Text(w.Hits[0].Text)+".")
		}
		verdict, ok := timeline.Payload[record.Recovery](&e)
		if ok && e.Kind == timeline.KindVerdict && verdict.Verdict != "" {
			return append(list, "The last verdict on the recovery, of "+Text(when(e.Time))+": "+Text(verdict.Verdict)+
				".")
		}
	}
	return list
}

// eradicated is what stands against the eradication: the last verdict that says that
// not all is done. That a runbook's steps are done takes none back.
func eradicated(entries []timeline.Entry) Text {
	for _, e := range slices.Backward(entries) {
		if e.Kind != timeline.KindVerdict || e.Phase != eradicate {
			continue
		}
		if e.Outcome == timeline.OutcomeFailed {
			return Text("The last verdict on the eradication, of "+when(e.Time)+": ") + Text(e.Summary) + "."
		}
		if _, run := timeline.Payload[record.Run](&e); !run {
			return ""
		}
	}
	return ""
}

func changes(actions []Action) Text {
	n := map[timeline.Outcome]int{}
	undone, standing := 0, 0
	actions = filter(actions, Action.changes)
	for _, a := range actions {
		n[timeline.Outcome(a.Outcome)]++
		if a.Undo != nil && a.Undo.State == timeline.Undone {
			undone++
		}
		if a.Standing {
			standing++
		}
	}
	text := fmt.Sprintf("%s to the cluster: %d made", plural.Count(len(actions), "change"), n[timeline.OutcomeDone])
	for _, o := range []timeline.Outcome{timeline.OutcomeAlready, timeline.OutcomeFailed, timeline.OutcomeDenied,
		timeline.OutcomeRefused, timeline.OutcomeSkipped, timeline.OutcomeUnknown} {
		if n[o] > 0 {
			text += fmt.Sprintf(", %d %s", n[o], o)
		}
	}
	return Text(fmt.Sprintf("%s; %d undone since, %d still standing.", text, undone, standing))
}

func exposed(list []Exposure) Text {
	total, left, borne := 0, 0, ""
	accepted := 0
	for _, x := range list {
		if !x.Weighs() {
			continue
		}
		total++
		switch {
		case x.Left():
			left++
		case x.Open():
			accepted++
		}
	}
	if accepted > 0 {
		borne = fmt.Sprintf(" Of %d somebody accepted that.", accepted)
	}
	switch {
	case total == 0:
		return "The verdicts name nothing that was open after the containment."
	case left == 0:
		return Text(fmt.Sprintf("The verdicts name %s still open, or not as meant, after the containment; none of "+
			"them when last looked at.%s", plural.Count(total, "thing"), borne))
	}
	return Text(fmt.Sprintf("The verdicts name %s still open, or not as meant, after the containment; %d of them "+
		"also when last looked at.%s", plural.Count(total, "thing"), left, borne))
}

// Checklist is a list of things to tick off.
type Checklist struct {
	Title string   `json:"title"`
	Items []string `json:"items"`
}

// checklists are those of the security best practices that irctl's procedure
// comes from.
var checklists = []Checklist{
	{"Eradication, recovery and post-mortem", []string{"All secrets rotated", "Patched version deployed",
		"Security policies updated",
		"Clean version deployed", "Functionality verified", "Monitored for re-infection", "Incident documented",
		"Preventive controls implemented"}},
	{"Pre-deployment", []string{"All images scanned for vulnerabilities", "No critical/high vulnerabilities present",
		"Secrets rotated within policy",
		"Network policies defined and tested", "Pod security contexts configured", "Resource limits set",
		"RBAC policies reviewed", "TLS certificates valid"}},
	{"Post-deployment", []string{"All pods running as non-root", "Network policies enforced",
		"Secrets not exposed in logs", "Audit logging enabled",
		"Monitoring alerts configured", "Backup encryption verified", "Incident response plan reviewed"}},
}

// lessons are the questions that only people can answer.
var lessons = []struct{ Title, Hint string }{
	{"What went well", "What helped, and should stay as it is?"},
	{"What went badly", "What cost time, or made it worse?"},
	{"Where we were lucky", "What could have gone wrong, and did not by chance?"},
}
