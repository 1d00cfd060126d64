package record

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
)

// form reads the payloads of one name and version.
type form struct {
	typ  reflect.Type
	read func(Data) (any, error)
}

// formOf is the form of a struct. valid says what a payload must have to be one;
// nil: any object is.
func formOf[T any](valid func(*T) bool) form {
	return form{reflect.TypeFor[T](), func(d Data) (any, error) {
		payload := new(T)
		if err := json.Unmarshal(d.text, payload); err != nil {
			return nil, err
		}
		if valid != nil && !valid(payload) {
			return nil, errIncomplete
		}
		return payload, nil
	}}
}

var errIncomplete = errors.New("what it must have is missing")

// forms are all that this version reads.
var forms = map[string]form{
	"acceptance/1":  formOf(func(a *Acceptance) bool { return a.Code != "" }),
	"assessment/1":  formOf[Assessment](nil),
	"change/1":      formOf((*Change).valid),
	"change/2":      formOf((*Change).valid),
	"changed/1":     formOf(func(c *Changed) bool { return c.Key != "" }),
	"closing/1":     formOf[Closing](nil),
	"custody/1":     formOf(func(c *Custody) bool { return strings.HasPrefix(c.Format, "irctl-custody/") }),
	"detection/1":   formOf[Detection](nil),
	"elsewhere/1":   formOf(func(e *Elsewhere) bool { return e.Folder != "" }),
	"eradication/1": formOf[Eradication](nil),
	"kept/1":        formOf[Kept](nil),
	"opened/1":      formOf(func(o *Opened) bool { return len(o.Incident) > 0 }),
	"rebuilt/1":     formOf[Rebuilt](nil),
	"receipt/1":     formOf(func(r *Receipt) bool { return strings.HasPrefix(r.Format, "irctl-receipt/") }),
	"recontained/1": formOf[Recontained](nil),
	"recovery/1":    formOf[Recovery](nil),
	"request/1":     formOf(func(r *Request) bool { return r.Command != "" }),
	"revocation/1":  formOf[Revocation](nil),
	"rotation/1":    formOf(func(r *Rotation) bool { return r.Rotator != "" }),
	"run/1":         formOf(func(r *Run) bool { return r.Event.Event != "" }),
	"trace/1":       formOf(func(t *Trace) bool { return t.Kind != "" && t.Pod != "" }),
	"torn/1":        formOf(func(t *Torn) bool { return t.SHA256 != "" }),
	"watch/1":       formOf[Watch](nil),
	"watched/1":     formOf(func(w *Watched) bool { return !w.From.IsZero() }),
}

// current are the forms that this version writes, by their structs.
var current = map[reflect.Type]string{
	reflect.TypeFor[Acceptance]():  "acceptance/1",
	reflect.TypeFor[Assessment]():  "assessment/1",
	reflect.TypeFor[Change]():      "change/2",
	reflect.TypeFor[Changed]():     "changed/1",
	reflect.TypeFor[Closing]():     "closing/1",
	reflect.TypeFor[Custody]():     "custody/1",
	reflect.TypeFor[Detection]():   "detection/1",
	reflect.TypeFor[Elsewhere]():   "elsewhere/1",
	reflect.TypeFor[Eradication](): "eradication/1",
	reflect.TypeFor[Kept]():        "kept/1",
	reflect.TypeFor[Opened]():      "opened/1",
	reflect.TypeFor[Rebuilt]():     "rebuilt/1",
	reflect.TypeFor[Receipt]():     "receipt/1",
	reflect.TypeFor[Recontained](): "recontained/1",
	reflect.TypeFor[Recovery]():    "recovery/1",
	reflect.TypeFor[Request]():     "request/1",
	reflect.TypeFor[Revocation]():  "revocation/1",
	reflect.TypeFor[Rotation]():    "rotation/1",
	reflect.TypeFor[Run]():         "run/1",
	reflect.TypeFor[Torn]():        "torn/1",
	reflect.TypeFor[Trace]():       "trace/1",
	reflect.TypeFor[Watch]():       "watch/1",
	reflect.TypeFor[Watched]():     "watched/1",
}

// earlier tells the forms in journals that do not name them, by where an entry
// stands; an empty part is any. Of several the first whose payload is one counts.
var earlier = []struct {
	at   Place
	form string
}{
	{Place{Kind: "changed"}, "changed/1"},
	{Place{Kind: "closed"}, "closing/1"},
	{Place{Kind: "observation"}, "run/1"},
	{Place{Kind: "verdict"}, "run/1"}, // the end of a phase
	{Place{Kind: "observation"}, "receipt/1"},
	{Place{Kind: "observation"}, "custody/1"},
	{Place{Kind: "observation", Phase: "detect", Action: "detect"}, "detection/1"},
	{Place{Kind: "observation", Action: "elsewhere"}, "elsewhere/1"},
	{Place{Kind: "observation", Phase: "recover", Action: "way-in"}, "recovery/1"},
	{Place{Kind: "observation", Phase: "recover", Action: "kept"}, "kept/1"},
	{Place{Kind: "observation", Phase: "recover", Step: "monitor", Action: "begun"}, "watch/1"},
	{Place{Kind: "observation", Phase: "recover", Step: "monitor", Action: "baseline"}, "watch/1"},
	{Place{Kind: "observation", Phase: "recover", Step: "monitor", Action: "exposed"}, "watch/1"},
	{Place{Kind: "observation", Phase: "recover", Step: "monitor", Action: "recontain"}, "recontained/1"},
	{Place{Kind: "observation", Phase: "recover", Step: "monitor", Action: "recontain-declined"}, "recontained/1"},
	{Place{Kind: "observation", Phase: "recover", Step: "monitor", Action: "recontain-limit"}, "recontained/1"},
	{Place{Kind: "observation", Phase: "recover", Step: "monitor"}, "watched/1"},
	{Place{Kind: "observation", Phase: "eradicate"}, "eradication/1"},
	{Place{Kind: "observation", Phase: "detect"}, "detection/1"},
	{Place{Kind: "verdict", Phase: "contain"}, "assessment/1"},
	{Place{Kind: "verdict", Phase: "eradicate"}, "eradication/1"},
	{Place{Kind: "verdict", Phase: "recover"}, "recovery/1"},
	{Place{Kind: "intent", Phase: "eradicate", Step: "update"}, "rotation/1"},
	{Place{Kind: "outcome", Phase: "eradicate", Step: "update"}, "rotation/1"},
	{Place{Kind: "outcome", Phase: "eradicate"}, "revocation/1"},
	{Place{Kind: "intent"}, "change/1"},
	{Place{Kind: "recovered"}, "torn/1"},
	{Place{Phase: "detect"}, "detection/1"},
}
