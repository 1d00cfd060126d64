package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

// Score is how a drill was played. Its JSON form is documented and stable.
type Score struct {
	APIVersion string `json:"apiVersion"` // irctl/v1
	Kind       string `json:"kind"`       // DrillScore

	Drill    bool   `json:"drill"` // always true: it was none
	Scenario string `json:"scenario"`
	Title    string `json:"title"`
	Points   int    `json:"points"`
	Of       int    `json:"of"`
	Items    []Item `json:"items"`
	// Seconds of the drill's time.
	ElapsedSeconds int64 `json:"elapsedSeconds"`
	// TimeToContainSeconds is null where it was not contained.
	TimeToContainSeconds *int64 `json:"timeToContainSeconds"`
	// LeakedKiB left the cluster after the alert, or before.
	LeakedKiB int     `json:"leakedKiB"`
	Speed     float64 `json:"speed"`
	// Deeds are what the attacker did.
	Deeds []Deed `json:"deeds"`
}

// Item is one thing that is scored.
type Item struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Points int    `json:"points"`
	Of     int    `json:"of"`
	// Why points were given, or lost.
	Why []string `json:"why"`
	// Better is what would have been a better response; empty with all points.
	Better []string `json:"better,omitempty"`
}

// The items of a score.
const (
	ItemContain   = "contain"
	ItemEvidence  = "evidence"
	ItemSecrets   = "secrets"
	ItemExposure  = "exposure"
	ItemInnocent  = "innocent"
	ItemReinfect  = "reinfection"
	pointsContain = 25
	pointsOthers  = 15
)

var items = []string{ItemContain, ItemEvidence, ItemSecrets, ItemExposure, ItemInnocent, ItemReinfect}

// Score computes the score as of now: from what happened to the cluster, and
// from the journals of the incidents that were opened in the drill.
func (w *World) Score(journals ...[]timeline.Entry) Score {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, now := w.look(), w.clock.Now()
	s := Score{APIVersion: "irctl/v1", Kind: "DrillScore", Drill: true, Scenario: w.Scenario.Name,
		Title:          w.Scenario.Title,
		ElapsedSeconds: int64(w.since(now).Seconds()), LeakedKiB: w.leaked, Speed: w.speed,
		Deeds: slices.Clone(w.deeds)}
	if s.Deeds == nil {
		s.Deeds = []Deed{}
	}
	for i := range s.Deeds {
		s.Deeds[i].AtSeconds = s.Deeds[i].At.Seconds()
	}
	if !w.contained.IsZero() {
		n := int64(w.since(w.contained).Round(time.Second).Seconds())
		s.TimeToContainSeconds = &n
	}
	s.Items = []Item{w.scoreContain(), w.scoreEvidence(sealings(journals)), w.scoreSecrets(v), w.scoreExposure(v),
		w.scoreInnocent(), w.scoreReinfection()}
	for i := range s.Items {
		item := &s.Items[i]
		if item.Points == item.Of {
			item.Better = nil
		} else if text := w.Scenario.Key.Better[item.Name]; text != "" {
			item.Better = strings.Split(strings.TrimSpace(w.fill(text)), "\n")
		}
		s.Points += item.Points
		s.Of += item.Of
	}
	return s
}

// fill replaces the suspect in a text for people.
func (w *World) fill(text string) string {
	namespace, name, _ := strings.Cut(w.Suspect, "/")
	return strings.NewReplacer("${suspect}", name, "${namespace}", namespace).Replace(text)
}

func (w *World) scoreContain() Item {
	par := time.Duration(w.Scenario.Key.ContainWithin)
	i := Item{Name: ItemContain, Title: "time to contain", Of: pointsContain,
		Better: []string{w.fill("irctl contain --pod ${suspect} -n ${namespace}")}}
	if w.contained.IsZero() {
		i.Why = []string{"the attacker was never cut off, or not to the end"}
		return i
	}
	took := w.since(w.contained)
	i.Why = []string{fmt.Sprintf("cut off %s after the alert; %s is good", short(took), short(par))}
	// Half of the points for three times as long, none for five times.
	switch {
	case took <= par:
		i.Points = i.Of
	case took < 5*par:
		i.Points = int(float64(i.Of) * (1 - float64(took-par)/float64(4*par)))
	}
	return i
}

// sealing is evidence that was sealed.
type sealing struct {
	at      time.Time
	targets []string
}

// sealings finds the receipts in journals.
func sealings(journals [][]timeline.Entry) []sealing {
	var all []sealing
	for _, entries := range journals {
		for _, e := range entries {
			if r, ok := timeline.Payload[record.Receipt](&e); ok && r.SHA256 != "" {
				all = append(all, sealing{e.Time, e.Targets})
			}
		}
	}
	return all
}

func (w *World) scoreEvidence(sealed []sealing) Item {
	i := Item{Name: ItemEvidence, Title: "evidence kept", Of: pointsOthers, Better: []string{
		w.fill("irctl contain --pod ${suspect} -n ${namespace} -r KEY   # a snapshot before the first change; the " +
			"pod lives on, detached"),
		w.fill("irctl investigate --pod ${suspect} -n ${namespace} -r KEY"),
		"only then restart, scale down or delete anything"}}
	if len(w.holds) == 0 {
		i.Points, i.Why = i.Of, []string{"no pod was compromised"}
		return i
	}
	kept, total := 0, 0
	for _, f := range w.holds {
		if f.Again {
			continue // it is counted as a re-infection
		}
		total++
		lost, how := w.lost(f)
		first := slices.IndexFunc(sealed, func(s sealing) bool {
			return slices.Contains(s.targets, f.Key()) && (lost.IsZero() || s.at.Before(lost))
		})
		switch {
		case first >= 0:
			kept++
			i.Why = append(i.Why, fmt.Sprintf("%s: sealed %s after the alert", f.Key(),
				short(w.since(sealed[first].at))))
		case !lost.IsZero():
			i.Why = append(i.Why, fmt.Sprintf("%s: %s %s after the alert, before its evidence was sealed; its "+
				"processes, and its logs with them, are gone", f.Key(), how, short(w.since(lost))))
		default:
			i.Why = append(i.Why, f.Key()+": its evidence was never sealed")
		}
	}
	if i.Points = i.Of; total > 0 {
		i.Points = i.Of * kept / total
	}
	return i
}

// lost is when a pod's evidence was destroyed, and how.
func (w *World) lost(f *Foothold) (time.Time, string) {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	gone, restarted := w.record.gone[f.UID], w.record.restarts[f.UID]
	if !restarted.IsZero() && (gone.IsZero() || restarted.Before(gone)) {
		return restarted, "restarted"
	}
	return gone, "deleted"
}

func (w *World) scoreSecrets(v *view) Item {
	k := w.Scenario.Key
	i := Item{Name: ItemSecrets, Title: "secrets rotated", Of: pointsOthers,
		Better: []string{"irctl eradicate --plan   # every secret that the suspects could read",
			"irctl eradicate --all-secrets"}}
	missed := 0
	for _, s := range k.Secrets {
		if !w.secretWorks(v, s) {
			i.Why = append(i.Why, "Secret "+s+": rotated, and nothing runs with the old value")
			continue
		}
		missed++
		if sameValue(w.before.secrets[s], secretData(w.Cluster, s)) {
			i.Why = append(i.Why, "Secret "+s+": the attacker's value still opens what it did")
		} else {
			i.Why = append(i.Why, "Secret "+s+": rotated, but pods go on with the old value: restart them")
		}
	}
	for _, u := range k.Accounts {
		if !w.accountWorks(&u) {
			i.Why = append(i.Why, "ServiceAccount "+u.Account+": the stolen token is worth nothing any more")
			continue
		}
		missed++
		i.Why = append(i.Why, fmt.Sprintf("ServiceAccount %s: the stolen token still may %s %s", u.Account, u.Verb,
			u.Resource))
	}
	total := len(k.Secrets) + len(k.Accounts)
	if total == 0 {
		i.Points, i.Why = i.Of, []string{"the attacker could read none"}
		return i
	}
	i.Points = i.Of * (total - missed) / total
	return i
}

func (w *World) scoreExposure(v *view) Item {
	k := w.Scenario.Key
	i := Item{Name: ItemExposure, Title: "exposure left", Of: pointsOthers,
		Better: []string{"irctl status   # what is still open, and what closes it"}}
	checked, open := 0, 0
	for _, f := range w.holds {
		checked++
		if p := v.pod(f.UID); p != nil && runs(p) && !v.cutOff(p) {
			open++
			verdict := v.verdict(p)
			var by []string
			for _, o := range slices.Concat(verdict.Ingress.Open, verdict.Egress.Open) {
				if !slices.Contains(by, o.Policy) {
					by = append(by, o.Policy)
				}
			}
			if len(by) == 0 {
				by = []string{"no policy selects it"}
			}
			i.Why = append(i.Why, fmt.Sprintf("%s still gets in or out (%s)", f.Key(), strings.Join(by, ", ")))
		}
	}
	for _, image := range k.Images {
		checked++
		if where := w.deployed(image); len(where) > 0 {
			open++
			i.Why = append(i.Why, fmt.Sprintf("%s is still deployed in %s: the way in is open as soon as it runs",
				image, strings.Join(where, ", ")))
			i.Better = append(i.Better, "irctl eradicate --image CONTAINER=IMAGE@sha256:…")
		}
	}
	for _, o := range k.Objects {
		checked++
		if w.exists(o) {
			open++
			i.Why = append(i.Why, o.String()+", by which the attacker stays, is still there")
			i.Better = append(i.Better, strings.TrimSpace(
				fmt.Sprintf("kubectl delete %s %s %s", strings.ToLower(o.Kind), o.Name, namespaceFlag(o.Namespace))))
		}
	}
	if open == 0 {
		i.Why = append(i.Why, "nothing is left open")
	}
	i.Points = i.Of
	if checked > 0 {
		i.Points = i.Of * (checked - open) / checked
	}
	return i
}

func namespaceFlag(ns string) string {
	if ns == "" {
		return ""
	}
	return "-n " + ns
}

func (w *World) scoreInnocent() Item {
	i := Item{Name: ItemInnocent, Title: "innocent workloads", Of: pointsOthers, Better: []string{
		w.fill("irctl contain --pod ${suspect} -n ${namespace}   # a policy that selects this pod and no other, and " +
			"its own workload scaled down")}}
	var hurt []string
	guilty, told := w.guilty(), map[string]bool{}
	w.record.mu.Lock()
	for key, n := range w.before.replicas {
		low, seen := w.record.lowest[key]
		parts := strings.Split(key, "/")
		workload := parts[0] + "/" + parts[len(parts)-1]
		if !seen || low >= n || guilty[workload] {
			continue
		}
		told[workload] = true
		what := fmt.Sprintf("scaled down from %d to %d", n, low)
		switch kind := parts[len(parts)-2]; {
		case low < 0:
			what = "deleted"
		case kind == "DaemonSet":
			what = fmt.Sprintf("kept off %d of %d nodes", n-low, n)
		case kind == "CronJob" || kind == "Job":
			what = "suspended"
		}
		hurt = append(hurt, fmt.Sprintf("%s: %s %s after the alert", key, what, short(w.since(w.record.lowSince[key]))))
	}
	w.record.mu.Unlock()
	for workload, o := range w.taken {
		if !guilty[workload] && !told[workload] { // a workload that is down is told of once
			hurt = append(hurt, fmt.Sprintf("%s: %s %s after the alert", workload, o.What, short(w.since(o.Since))))
		}
	}
	for _, o := range w.down {
		hurt = append(hurt, fmt.Sprintf("%s: cut %s after the alert", o.What, short(w.since(o.Since))))
	}
	slices.Sort(hurt)
	i.Points = max(0, i.Of-10*len(hurt))
	i.Why = hurt
	if len(hurt) == 0 {
		i.Why = []string{"everything else went on working"}
	}
	return i
}

func (w *World) scoreReinfection() Item {
	i := Item{Name: ItemReinfect, Title: "re-infection", Of: pointsOthers,
		Better: []string{"before a workload goes back: replace its secrets, and deploy the patched image",
			"irctl eradicate --all-secrets --image CONTAINER=IMAGE@sha256:…"}}
	n := 0
	for _, f := range w.holds {
		if f.Again {
			n++
			i.Why = append(i.Why, fmt.Sprintf("%s: compromised again %s after the alert", f.Key(),
				short(w.since(f.Since))))
		} else if f.Spread {
			n++
			i.Why = append(i.Why, fmt.Sprintf("%s: reached from a compromised pod %s after the alert", f.Key(),
				short(w.since(f.Since))))
		}
	}
	i.Points = max(0, i.Of-10*n)
	if n == 0 {
		i.Why = []string{"no further pod was compromised"}
	}
	return i
}

// short is a duration as people say it.
func short(d time.Duration) string {
	if d < 0 {
		return "before"
	}
	return d.Round(time.Second).String()
}
