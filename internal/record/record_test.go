package record_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

// TestEarlierJournalsAreRead: no entry that an earlier version wrote carries
// anything that this one does not know.
func TestEarlierJournalsAreRead(t *testing.T) {
	t.Parallel()
	journals := 0
	for _, root := range []string{"../../testdata", "../report/testdata"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "timeline.jsonl" {
				return err
			}
			journals++
			entries, err := timeline.Read(path)
			if err != nil {
				return err
			}
			for i := range entries {
				e := &entries[i]
				payload, known, err := e.Decode()
				if err != nil || !known || (payload == nil) != e.Data.IsZero() {
					t.Errorf("%s: entry %d (%s %s %s %s): known %t, %v: %s", path, e.Seq, e.Kind, e.Phase, e.Step,
						e.Action, known, err, e.Data)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if journals < 12 {
		t.Errorf("%d journals were found", journals)
	}
}

// TestWhereAPayloadStandsTellsItsForm: of journals that do not name it.
func TestWhereAPayloadStandsTellsItsForm(t *testing.T) {
	t.Parallel()
	object := `"object":{"version":"v1","resource":"pods","kind":"Pod","name":"p"}`
	for name, c := range map[string]struct {
		at   record.Place
		data string
		want any
	}{
		"a change": {record.Place{Kind: "intent", Phase: "contain", Step: "scale"},
			"{" + object + `,"fields":[{"path":["a"],"before":1,"after":2}]}`, &record.Change{}},
		"an intent that is no change": {record.Place{Kind: "intent", Phase: "contain", Step: "scale"}, `{"file":"x"}`,
			nil},
		"a rotation": {record.Place{Kind: "intent", Phase: "eradicate", Step: "update"},
			`{"rotator":"secret"}`, &record.Rotation{}},
		"what a rotation found": {record.Place{Kind: "outcome", Phase: "eradicate", Step: "update"},
			`{"rotator":"secret"}`, &record.Rotation{}},
		"what is left of a revocation": {record.Place{Kind: "outcome", Phase: "eradicate", Step: "deactivate"},
			`{"left":["x"]}`, &record.Revocation{}},
		"a verdict on containment": {record.Place{Kind: "verdict", Phase: "contain", Step: "verify"},
			`{"verdict":"contained"}`, &record.Assessment{}},
		"one that was too large": {record.Place{Kind: "verdict", Phase: "contain"},
			`{"verdict":"contained","targets":900,"cut":true}`, &record.Assessment{}},
		"the end of a phase of a run": {record.Place{Kind: "verdict", Phase: "recover", Action: "phase-ended"},
			`{"run":{"event":"phase-ended"}}`, &record.Run{}},
		"a verdict on a recovery": {record.Place{Kind: "verdict", Phase: "recover", Step: "checks"},
			`{"verdict":"recovered"}`, &record.Recovery{}},
		"the way in": {record.Place{Kind: "observation", Phase: "recover", Step: "restore",
			Action: "way-in"}, `{"wayIn":[]}`, &record.Recovery{}},
		"what was kept": {record.Place{Kind: "observation", Phase: "recover", Step: "suspect",
			Action: "kept"}, `{"kept":[4]}`, &record.Kept{}},
		"a verdict on an eradication": {record.Place{Kind: "verdict", Phase: "eradicate", Step: "verify"},
			`{"left":[]}`, &record.Eradication{}},
		"no secret was to be rotated": {record.Place{Kind: "observation", Phase: "eradicate", Step: "verify"},
			`{"left":[]}`, &record.Eradication{}},
		"a receipt": {record.Place{Kind: "observation", Phase: "contain", Step: "snapshot"},
			`{"format":"irctl-receipt/1","sha256":"a"}`, &record.Receipt{}},
		"a receipt of a recovery": {record.Place{Kind: "observation", Phase: "recover", Step: "evidence"},
			`{"format":"irctl-receipt/1"}`, &record.Receipt{}},
		"a hand-over": {record.Place{Kind: "observation", Phase: "investigate", Step: "custody"},
			`{"format":"irctl-custody/1"}`, &record.Custody{}},
		"where evidence is written": {record.Place{Kind: "observation", Phase: "contain", Action: "elsewhere"},
			`{"folder":"/x"}`, &record.Elsewhere{}},
		"a step of a run": {record.Place{Kind: "observation", Phase: "contain", Step: "cut",
			Action: "step-begun"}, `{"run":{"event":"step-begun"}}`, &record.Run{}},
		"what speaks against a suspect": {record.Place{Kind: "observation", Phase: "detect", Action: "detect"},
			`{"suspect":{}}`, &record.Detection{}},
		"when it was detected": {record.Place{Kind: "opened", Phase: "detect"},
			`{"alertedAt":"2026-01-01T00:00:00Z"}`, &record.Detection{}},
		"what a watch begins with": {record.Place{Kind: "observation", Phase: "recover", Step: "monitor",
			Action: "begun"}, `{"continues":4}`, &record.Watch{}},
		"what a watch contains": {record.Place{Kind: "observation", Phase: "recover", Step: "monitor",
			Action: "recontain"}, `{"count":1}`, &record.Recontained{}},
		"what came of a watch": {record.Place{Kind: "observation", Phase: "recover", Step: "monitor", Action: "ended"},
			`{"from":"2026-01-01T00:00:00Z","hits":[]}`, &record.Watched{}},
		"what is set":      {record.Place{Kind: "changed"}, `{"key":"severity","after":"sev1"}`, &record.Changed{}},
		"how it is closed": {record.Place{Kind: "closed"}, `{"containment":[4]}`, &record.Closing{}},
		"a torn line":      {record.Place{Kind: "recovered"}, `{"bytes":3,"sha256":"ab","text":"x"}`, &record.Torn{}},
		"a note of others": {record.Place{Kind: "note"}, `{"x":1}`, nil},
	} {
		payload, known, err := record.Decode("", c.at, record.Verbatim([]byte(c.data)))
		if err != nil || reflect.TypeOf(payload) != reflect.TypeOf(c.want) || known != (c.want != nil) {
			t.Errorf("%s: %T, known %t, %v", name, payload, known, err)
		}
	}
}

// TestAPayloadIsReadAsItWasWritten: whatever is written names its form, and is
// read by that name wherever it stands.
func TestAPayloadIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	form, data, err := record.Encode(record.Rotation{Rotator: "secret",
		Secrets: []record.RotatedSecret{{Namespace: "a", Name: "b", UID: "u"}}})
	if err != nil || form != "rotation/1" {
		t.Fatal(form, err)
	}
	payload, known, err := record.Decode(form, record.Place{Kind: "note"}, data)
	if r, ok := payload.(*record.Rotation); !ok || !known || err != nil || r.Secrets[0].UID != "u" {
		t.Errorf("%+v, %t, %v", payload, known, err)
	}
	if _, known, err := record.Decode("rotation/99", record.Place{}, data); known || err != nil {
		t.Errorf("a newer form: known %t, %v", known, err)
	}
	if _, known, err := record.Decode("change/2", record.Place{}, data); !known || err == nil {
		t.Errorf("what is not what it says: known %t, %v", known, err)
	}
	if _, _, err := record.Encode(struct{}{}); err == nil {
		t.Error("anything is taken for a payload")
	}
	if _, _, err := record.Encode(record.Kept{Kept: make([]int64, record.Most)}); err == nil {
		t.Error("a payload that no entry can hold")
	}
}

// TestPayloadsAreDecodedHereOnly: the text of an entry's payload is opaque, and
// no other package opens it by way of its string.
func TestPayloadsAreDecodedHereOnly(t *testing.T) {
	t.Parallel()
	files := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git"):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Dir(path) == ".":
			return nil
		}
		files++
		text, err := os.ReadFile(path) //nolint:gosec // of this repository
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			// x.Data.String(), and json.Marshal(x.Data), which is the same.
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			opened := f.X
			if len(call.Args) == 1 && (f.Sel.Name == "Marshal" || f.Sel.Name == "Unmarshal") {
				opened = call.Args[0]
			} else if f.Sel.Name != "String" && f.Sel.Name != "MarshalJSON" {
				return true
			}
			if s, ok := opened.(*ast.SelectorExpr); ok && s.Sel.Name == "Data" && len(call.Args) < 2 {
				t.Errorf("%s opens the payload of an entry: timeline.Payload reads it", fset.Position(call.Pos()))
			}
			return true
		})
		return nil
	})
	if err != nil || files < 100 {
		t.Fatal(files, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("", "intent", "eradicate", "update", `{"rotator":"x","secrets":[{"keys":{"a":{}}}]}`)
	f.Add("change/2", "intent", "", "",
		`{"object":{"version":"v1","resource":"pods","name":"p"},"fields":[{"path":["a"]}]}`)
	f.Add("assessment/1", "verdict", "contain", "", `{"targets":7}`)
	f.Add("", "observation", "recover", "monitor", `[]`)
	f.Fuzz(func(t *testing.T, form, kind, phase, step, data string) {
		if !json.Valid([]byte(data)) {
			t.Skip("no line of a journal holds it")
		}
		payload, known, err := record.Decode(form, record.Place{Kind: kind, Phase: phase, Step: step},
			record.Verbatim([]byte(data)))
		if payload == nil || err != nil {
			return
		}
		if !known {
			t.Error("it is read and not known")
		}
		value := reflect.ValueOf(payload).Elem().Interface()
		again, encoded, err := record.Encode(value)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := record.Decode(again, record.Place{}, encoded); err != nil {
			t.Errorf("%s: what was read cannot be read again: %v", again, err)
		}
	})
}
