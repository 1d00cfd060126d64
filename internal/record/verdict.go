package record

import (
	"encoding/json"
	"time"
)

// Verdict is whether a suspect is cut off; package contain has the words.
type Verdict string

// The verdicts. Package contain says what each rests on.
const (
	Contained    Verdict = "contained"
	Exposed      Verdict = "contained with exposures"
	NotContained Verdict = "not contained"
	Undetermined Verdict = "could not tell"
)

// Severity is how much an exposure weighs in the verdict.
type Severity string

// Assessment is the verdict on the containment of all suspects.
type Assessment struct {
	Verdict  Verdict  `json:"verdict"`
	Findings Findings `json:"targets"`
	// PutBack is what a second look found undone by somebody else.
	PutBack []string `json:"putBack,omitempty"`
	// Workloads are those that were to be taken down and are not, though they
	// have no suspect among the targets.
	Workloads []Check `json:"workloads,omitempty"`
	// Cut: there was more than an entry holds, and Findings are left out.
	Cut bool `json:"cut,omitempty"`
}

// Findings are the verdicts on suspects. Where they were cut, journals of irctl
// 1 have their number instead, which is read as none.
type Findings []Finding

// UnmarshalJSON takes a number for none.
func (f *Findings) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] != '[' {
		*f = nil
		return nil
	}
	return json.Unmarshal(text, (*[]Finding)(f))
}

// Finding is the verdict on one suspect with its grounds.
type Finding struct {
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	UID       string     `json:"uid"`
	Node      string     `json:"node,omitempty"`
	Workload  string     `json:"workload,omitempty"`
	Verdict   Verdict    `json:"verdict"`
	Checks    []Check    `json:"checks"`
	Exposures []Exposure `json:"exposures,omitempty"`
	// Policies are the NetworkPolicies that select the pod now.
	Policies []string `json:"policies,omitempty"`
}

// Check is something that was meant, and whether it was observed.
type Check struct {
	// Code is stable, for scripts: "labels", "released", "endpoints", "workload", "siblings", "policy".
	Code string `json:"code"`
	OK   bool   `json:"ok"`
	// Unknown: it could not be looked at, so it is neither so nor not so.
	Unknown bool   `json:"unknown,omitempty"`
	Text    string `json:"text"`
	// Object is the controller that it is about; "": the suspect.
	Object string `json:"-"`
}

// Exposure is a way in or out that remains, and what would close it.
type Exposure struct {
	// Code is stable, for scripts.
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	// Close is what would close it.
	Close string `json:"close,omitempty"`
	// Accepted: somebody took it upon himself, and it weighs no more.
	Accepted *Accepted `json:"accepted,omitempty"`
}

// Accepted is who took a finding upon himself, when and why.
type Accepted struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// String is that in a few words.
func (a Accepted) String() string {
	return "accepted by " + a.By + " at " + a.At.UTC().Format(time.RFC3339) + ": " + a.Reason
}

// Eradication is what an eradication leaves open.
type Eradication struct {
	Kept      []string `json:"kept"`
	Left      []string `json:"left"`
	Unrotated []string `json:"unrotated"`
	KeptKeys  []string `json:"keptKeys"`
	Unknown   []string `json:"unknown"`
}

// Recovery is the verdict on a recovery, or, before it, whether the way in is
// closed and by what the attacker's return would be known.
type Recovery struct {
	Verdict    string              `json:"verdict,omitempty"`
	WayIn      []WayIn             `json:"wayIn"`
	SameImage  bool                `json:"sameImage,omitempty"`
	Indicators *Indicators         `json:"indicators,omitempty"`
	Workloads  []RecoveredWorkload `json:"workloads,omitempty"`
	// Cut: there was more than an entry holds, and Workloads are left out.
	Cut bool `json:"cut,omitempty"`
}

// RecoveredWorkload is what came of one.
type RecoveredWorkload struct {
	Object string `json:"object"`
	WayIn  WayIn  `json:"wayIn"`
	// Rollout says how far it came, OK that all its pods are ready.
	OK      bool            `json:"ok"`
	Rollout string          `json:"rollout"`
	Checks  []RecoveryCheck `json:"checks"`
}

// RecoveryCheck is one line of the checklist of a recovery.
type RecoveryCheck struct {
	// Code is stable, for scripts; docs/recover.md lists them.
	Code   string `json:"code"`
	Result Result `json:"result"`
	Text   string `json:"text"`
	// Accepted: it failed, as somebody had decided.
	Accepted bool `json:"accepted,omitempty"`
}

// Result is how a check came out: passed, failed or unknown.
type Result string

// WayIn is whether a workload still runs what the attacker came in by.
type WayIn struct {
	Workload string     `json:"workload"`
	State    WayInState `json:"state"`
	Text     string     `json:"text"`
	// Images are the containers and what they would run, CONTAINER=IMAGE.
	Images []string `json:"images,omitempty"`
}

// WayInState is closed, open or unknown.
type WayInState string

// Indicators are by what the attacker's return would be known.
type Indicators struct {
	// Digests are those of the suspects' images, as the nodes resolved them;
	// Images are their references.
	Digests []string     `json:"digests,omitempty"`
	Images  []string     `json:"images,omitempty"`
	Pods    []SuspectPod `json:"pods,omitempty"`
}

// SuspectPod is a suspect by its name.
type SuspectPod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// Kept is what of the containment a recovery leaves, since that was decided.
type Kept struct {
	Kept []int64 `json:"kept"` // intents whose changes stay
}

// Watch is what a watch begins with.
type Watch struct {
	// Baseline is what ran then; Continues the entry that has it instead.
	Baseline  *Baseline `json:"baseline,omitempty"`
	Continues int64     `json:"continues,omitempty"`
	// Exposed are pods of which it was said that they are no signs.
	Exposed []Hit `json:"exposed,omitempty"`
}

// Baseline is what ran when a watch began, by the pods' UIDs.
type Baseline struct {
	// At is when the pods were listed: by the API server's clock, or, if it did
	// not tell the time, by that of the machine; Clock says which.
	At    time.Time `json:"at"`
	Clock string    `json:"clock"`
	// All: the pods of all namespaces could be listed; else of Namespaces only.
	All        bool     `json:"all,omitempty"`
	Namespaces []string `json:"namespaces,omitempty"`
	// Digests are the images that Exposed is about.
	Digests []string `json:"digests,omitempty"`
	// Exposed are the pods that ran one of Digests, or may have.
	Exposed []string `json:"exposed,omitempty"`
	// Others are the pods that did not.
	Others []string `json:"others,omitempty"`
	// Untold are pods of namespaces that could be listed only later.
	Untold []string `json:"untold,omitempty"`
	// Cut: there were more pods than an entry of the journal holds.
	Cut bool `json:"cut,omitempty"`
}

// Hit is a sign of the attacker's return.
type Hit struct {
	// Code is stable, for scripts: image, name, released, reverted, detected, alert.
	Code      string `json:"code"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	UID       string `json:"uid,omitempty"`
	Object    string `json:"object,omitempty"`
	Text      string `json:"text"`
}

// Watched is what came of a watch.
type Watched struct {
	Incident string    `json:"incident"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Looks    int       `json:"looks"`
	Hits     []Hit     `json:"hits"`
	Gaps     []string  `json:"gaps,omitempty"`
	// Interrupted: it was ended before its time.
	Interrupted  bool   `json:"interrupted,omitempty"`
	Undetermined string `json:"undetermined,omitempty"`
	Failure      string `json:"failure,omitempty"`
}

// Recontained is what a watch contained by itself.
type Recontained struct {
	Pods []RecontainedPod `json:"pods,omitempty"`
	// Count is how many containments it counts as.
	Count int `json:"count,omitempty"`
	// Declined is the entry that the answer no took back.
	Declined int64 `json:"declined,omitempty"`
}

// RecontainedPod is one of them.
type RecontainedPod struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	UID       string `json:"uid"`
	// Foreign: it is neither a suspect nor a pod of the incident's workloads.
	Foreign bool `json:"foreign,omitempty"`
	// Isolated: it has a controller that is not the incident's.
	Isolated bool `json:"isolated,omitempty"`
}
