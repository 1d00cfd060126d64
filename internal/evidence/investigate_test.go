package evidence

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"irctl/internal/record"
)

// collectionOf decodes collection.json, by path.
func collectionOf(t testing.TB, files map[string][]byte) (Collection, map[string]Artefact) {
	t.Helper()
	var c Collection
	if err := json.Unmarshal(files[collectionFile], &c); err != nil {
		t.Fatal(err)
	}
	byPath := map[string]Artefact{}
	for _, a := range c.Artefacts {
		byPath[a.Path] = a
	}
	return c, byPath
}

func TestAnInvestigationCollectsAllThereIsToKnow(t *testing.T) {
	s, ref := suspect(t)
	recipient, keys := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Timeline = strings.NewReader(`{"seq":1,"prev":""}` + "\n")
	req.Scope = Scope{Live: true, Files: []string{"/etc/passwd"}}
	result, err := Investigate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	files := opened(t, result.Receipt.Path, Key{keyring: keys})
	_, artefacts := collectionOf(t, files)

	const pod = "data/pods/todo-app/backend-2-abcde/"
	for path, want := range map[string]string{
		"data/timeline.jsonl":                                `"seq":1`,
		pod + "pod.json":                                     `"managedFields"`,
		pod + "pod.yaml":                                     "managedFields:",
		pod + "logs/migrate/current.log":                     "migrated",
		pod + "logs/api/current.log":                         "hunter2hunter2",
		pod + "logs/api/previous.log":                        "crashed",
		pod + "events/core.v1.json":                          "BackOff",
		pod + "owners/01-replicaset.json":                    "rs-uid-2",
		pod + "owners/02-deployment.json":                    "deploy-uid",
		pod + "live/api/processes.txt":                       "answer of api",
		pod + "live/api/sockets.txt":                         "answer of api",
		pod + "live/api/mounts.txt":                          "answer of api",
		pod + "live/api/recent-files.txt":                    "answer of api",
		pod + "live/api/environment.txt":                     "DB_PASSWORD=correct",
		pod + "images.json":                                  "registry.example/todo@sha256:22",
		pod + "network.json":                                 `"backend (ClusterIP)"`,
		"data/namespaces/todo-app/namespace.json":            "pod-security.kubernetes.io/enforce",
		"data/namespaces/todo-app/services.json":             `"ClusterIP"`,
		"data/namespaces/todo-app/ingresses.json":            `"web"`,
		"data/serviceaccounts/todo-app/backend.json":         `"backend"`,
		"data/serviceaccounts/todo-app/backend.rights.json":  "read all secrets in todo-app",
		"data/cluster/rolebindings.json":                     `"reader"`,
		"data/configmaps/todo-app/settings.json":             "hello",
		"data/secrets/todo-app/db.json":                      `"usedByPod": true`,
		"data/secrets/todo-app/mail.json":                    `"usedByPod": false`,
		"data/storage/todo-app/data.claim.json":              `"pv-1"`,
		"data/storage/todo-app/data.volume.json":             "/srv/data",
		"data/cluster/storageclasses/fast.json":              "example.org/fast",
		"data/nodes/node-1/node.json":                        "containerd://2.4.2",
		"data/namespaces/todo-app/rollout-history.json":      "registry.example/todo:1",
		"data/namespaces/todo-app/poddisruptionbudgets.json": `"backend"`,
		"data/namespaces/todo-app/events/core.v1.json":       "Pulled",
	} {
		if !strings.Contains(string(files[path]), want) {
			t.Errorf("%s: want %q in %.300q (%+v)", path, want, files[path], artefacts[path])
		}
	}
	if bytes := files["data/cluster/roles.json"]; strings.Contains(string(bytes), "unrelated") {
		t.Error("roles that are not bound to the pod's account were collected")
	}
	if events := string(files[pod+"events/core.v1.json"]); strings.Index(events, "Started") > strings.Index(events,
		"BackOff") {
		t.Error("events are not in the order of time")
	}
	if a := artefacts[pod+"live/sidecar/shell"]; a.Status != Failed || !strings.Contains(a.Reason, "--debug-image") {
		t.Errorf("a container without a shell: %+v", a)
	}
	if a := artefacts["data/nodes/node-1/kubelet-pods.json"]; a.Status != Failed {
		t.Errorf("what the cluster does not serve: %+v", a)
	}
	checkBundle(t, result.Receipt.Path, Key{keyring: keys})
}

func TestSecretValuesStayInTheClusterUnlessAskedFor(t *testing.T) {
	s, ref := suspect(t)
	recipient, keys := testKey(t)
	collect := func(scope Scope) map[string][]byte {
		req := s.request(t, []Recipient{recipient}, ref)
		req.Scope = scope
		result, err := Investigate(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return opened(t, result.Receipt.Path, Key{keyring: keys})
	}
	for path, content := range collect(Scope{}) {
		for _, value := range []string{"value-of-db", "dmFsdWUtb2YtZGI", "value-of-mail"} {
			if strings.Contains(string(content), value) {
				t.Errorf("%s holds the value of a Secret", path)
			}
		}
	}
	files := collect(Scope{SecretValues: true})
	if !strings.Contains(string(files["data/secrets/todo-app/db.values.json"]), "dmFsdWUtb2YtZGI=") {
		t.Error("the values that were asked for are not there")
	}
	var described secretOf
	if err := json.Unmarshal(files["data/secrets/todo-app/db.json"], &described); err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(files["data/secrets/hmac.key"])))
	if err != nil || len(key) != 32 {
		t.Fatalf("key %x: %v", key, err)
	}
	r := &redactor{key: [32]byte(key)} // the same construction
	if got := described.Keys[0]; got.Key != "password" || got.Size != 11 ||
		got.HMAC != r.digest([]byte("value-of-db")) {
		t.Errorf("the digest cannot be checked with the key in the bundle: %+v", got)
	}
}

func TestWhatIsForbiddenCostsItself(t *testing.T) {
	s, ref := suspect(t)
	s.forbidden = []string{"/api/v1/namespaces/todo-app/secrets", "/api/v1/nodes",
		"/api/v1/namespaces/todo-app/pods/backend-2-abcde/exec", "/apis/rbac.authorization.k8s.io/v1/rolebindings"}
	recipient, keys := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Scope = Scope{Live: true}
	result, err := Investigate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if result.Receipt.Complete {
		t.Error("it says that it is complete")
	}
	files := opened(t, result.Receipt.Path, Key{keyring: keys})
	_, artefacts := collectionOf(t, files)
	for path, want := range map[string]Status{
		"data/secrets/todo-app/db.json":                          Forbidden,
		"data/pods/todo-app/backend-2-abcde/live/api/mounts.txt": Forbidden,
		"data/nodes/node-1/node.json":                            Forbidden,
		"data/cluster/rolebindings.json":                         Forbidden,
		"data/namespaces/todo-app/rolebindings.json":             Complete,
		"data/pods/todo-app/backend-2-abcde/pod.json":            Complete,
		"data/serviceaccounts/todo-app/backend.json":             Complete,
	} {
		if artefacts[path].Status != want {
			t.Errorf("%s: %s (%s), want %s", path, artefacts[path].Status, artefacts[path].Reason, want)
		}
	}
	checkBundle(t, result.Receipt.Path, Key{keyring: keys})
}

func TestOfALongLogTheBeginningAndTheEndAreKept(t *testing.T) {
	s, ref := suspect(t)
	var log strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&log, "line %07d of a log that goes on and on\n", i)
	}
	s.logs["backend-2-abcde/api"] = text(log.String())
	recipient, keys := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Limits.LogBytes = 3 << 20
	receipt, err := Snapshot(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	files := opened(t, receipt.Path, Key{keyring: keys})
	_, artefacts := collectionOf(t, files)
	const path = "data/pods/todo-app/backend-2-abcde/logs/api/current.log"
	head, end := artefacts[path], artefacts[path+tailSuffix]
	if head.Status != Truncated || head.Size != 3<<20 || !strings.Contains(head.Reason, "limit") {
		t.Errorf("beginning: %+v", head)
	}
	if end.Status != Truncated || end.Size == 0 || end.Size > tailBytes ||
		!strings.HasSuffix(string(files[path+tailSuffix]), "line 0199999 of a log that goes on and on\n") {
		t.Errorf("end: %+v", end)
	}
}

// A pod of a stateful set comes back under its name.
func TestAPodThatIsReplacedMeanwhileIsTold(t *testing.T) {
	s, ref := suspect(t)
	log := s.logs["backend-2-abcde/api"]
	s.logs["backend-2-abcde/api"] = func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		path := objectPath(podsResource, ref.Namespace, ref.Name)
		s.objects[path] = bytes.ReplaceAll(s.objects[path], []byte(`"pod-uid"`), []byte(`"another-uid"`))
		s.mu.Unlock()
		log(w, r)
	}
	recipient, keys := testKey(t)
	result, err := Investigate(t.Context(), s.request(t, []Recipient{recipient}, ref))
	if err != nil || result.Receipt.Complete {
		t.Fatalf("%v, %+v", err, result.Receipt.Summary)
	}
	_, artefacts := collectionOf(t, opened(t, result.Receipt.Path, Key{keyring: keys}))
	if a := artefacts["data/pods/todo-app/backend-2-abcde/replaced"]; a.Status != Failed ||
		!strings.Contains(a.Reason, "another-uid") {
		t.Errorf("%+v", a)
	}
}

func TestALogThatNeverEndsIsCutAtItsLimit(t *testing.T) {
	s, ref := suspect(t)
	s.logs["backend-2-abcde/api"] = func(w http.ResponseWriter, r *http.Request) {
		line := []byte(strings.Repeat("x", 1<<20)) // and never a new line
		for r.Context().Err() == nil {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}
	recipient, keys := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Limits.LogBytes = 9 << 20
	receipt, err := Snapshot(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	files := opened(t, receipt.Path, Key{keyring: keys})
	_, artefacts := collectionOf(t, files)
	a := artefacts["data/pods/todo-app/backend-2-abcde/logs/api/current.log"]
	if a.Status != Truncated || a.Size != 9<<20 || len(a.Parts) != 5 {
		t.Errorf("%s, %d bytes in %d parts", a.Status, a.Size, len(a.Parts))
	}
	checkBundle(t, receipt.Path, Key{keyring: keys})
}

func TestAStalledOrBrokenLogCostsItself(t *testing.T) {
	s, ref := suspect(t)
	s.logs["backend-2-abcde/api"] = func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("so far\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	s.logs["backend-2-abcde/api/previous"] = func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("before the pod died\n"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // the connection breaks
	}
	recipient, keys := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Limits.Stall = 200 * time.Millisecond
	receipt, err := Snapshot(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	files := opened(t, receipt.Path, Key{keyring: keys})
	_, artefacts := collectionOf(t, files)
	const logs = "data/pods/todo-app/backend-2-abcde/logs/"
	for path, want := range map[string]string{"api/current.log": ErrStalled.Error(), "api/previous.log": "EOF"} {
		if a := artefacts[logs+path]; a.Status != Truncated || a.Size == 0 || !strings.Contains(a.Reason, want) {
			t.Errorf("%s: %+v", path, a)
		}
	}
	if artefacts[logs+"migrate/current.log"].Status != Complete {
		t.Error("the other logs suffered")
	}
}

func TestCtrlCSealsWhatThereIs(t *testing.T) {
	s, ref := suspect(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	s.logs["backend-2-abcde/api"] = func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("so far\n"))
		_ = http.NewResponseController(w).Flush()
		time.AfterFunc(100*time.Millisecond, func() { cancel(interrupted) })
		<-r.Context().Done()
	}
	recipient, keys := testKey(t)
	result, err := Investigate(ctx, s.request(t, []Recipient{recipient}, ref))
	if !errors.Is(err, interrupted) || result.Receipt.Path == "" {
		t.Fatalf("error %v, receipt %+v", err, result.Receipt)
	}
	if result.Receipt.Complete || !strings.Contains(result.Receipt.Incomplete, "interrupted") {
		t.Errorf("the receipt does not say so: %+v", result.Receipt.Summary)
	}
	checkBundle(t, result.Receipt.Path, Key{keyring: keys})
}

func TestTheBundleAsAWholeHasALimit(t *testing.T) {
	s, ref := suspect(t)
	s.logs["backend-2-abcde/api"] = text(strings.Repeat("a line\n", 1<<18))
	recipient, keys := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Limits.BundleBytes = 1 << 20
	receipt, err := Snapshot(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if receipt.PayloadBytes > 1<<20 || receipt.Complete {
		t.Errorf("%d bytes, complete: %v", receipt.PayloadBytes, receipt.Complete)
	}
	files := opened(t, receipt.Path, Key{keyring: keys})
	_, artefacts := collectionOf(t, files)
	if a := artefacts["data/pods/todo-app/backend-2-abcde/logs/api/current.log"]; !strings.Contains(a.Reason,
		"whole bundle") {
		t.Errorf("%+v", a)
	}
	checkBundle(t, receipt.Path, Key{keyring: keys})
}

// What was asked for by name and not got, or not understood, is said.
func TestWhatWasAskedForAndNotGotIsSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		log  string
		want string
	}{
		"events":       {`{"verb":"get"}` + "\n", ""},
		"partly":       {"no JSON\n" + `{"verb":"get"}` + "\n", ""},
		"nothing":      {"", " is empty"},
		"compressed":   {"\x1f\x8b\x08\n\n", "was understood: 1 line, none of them an event"},
		"other JSON":   {`{"rule":"r","priority":"Critical"}` + "\n", "was understood: 1 line"},
		"too long all": {strings.Repeat("x", maxAuditLine+1) + "\n", "was understood: 1 line"},
	} {
		t.Run(name, func(t *testing.T) {
			s, ref := suspect(t)
			recipient, _ := testKey(t)
			req := s.request(t, []Recipient{recipient}, ref)
			req.Scope = Scope{AuditLog: writeFile(t, []byte(tc.log)), Files: []string{"/etc/passwd"}}
			result, err := Investigate(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(result.NotUnderstood, "; ")
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("not understood: %q, expected %q", got, tc.want)
			}
			if len(result.Missing) != 0 || result.Nothing() {
				t.Errorf("missing %q, nothing %v", result.Missing, result.Nothing())
			}
		})
	}
}

func TestTheAuditLogIsReducedToWhatConcernsThePod(t *testing.T) {
	s, ref := suspect(t)
	log := writeFile(t, []byte(strings.Join([]string{
		`{"verb":"create","requestReceivedTimestamp":"2026-01-02T01:00:00Z","user":{"username":"mallory"},` +
			`"objectRef":{"resource":"pods","namespace":"todo-app","name":"backend-2-abcde","subresource":"exec"}}`,
		`{"verb":"get","requestReceivedTimestamp":"2026-01-01T01:00:00Z","user":{"username":"mallory"},` +
			`"objectRef":{"resource":"pods","namespace":"todo-app","name":"backend-2-abcde"}}`,
		`{"verb":"list","requestReceivedTimestamp":"2026-01-02T02:00:00Z",` +
			`"user":{"username":"system:serviceaccount:todo-app:backend"},"objectRef":{"resource":"secrets",` +
			`"namespace":"todo-app"}}`,
		`{"verb":"get","requestReceivedTimestamp":"2026-01-02T03:00:00Z","user":{"username":"jane"},` +
			`"objectRef":{"resource":"secrets","namespace":"todo-app","name":"db"}}`,
		`{"verb":"get","requestReceivedTimestamp":"2026-01-02T03:00:00Z","user":{"username":"jane"},` +
			`"objectRef":{"resource":"secrets","namespace":"todo-app","name":"mail"}}`,
		`no JSON`,
		strings.Repeat("x", maxAuditLine+1),
		`{"verb":"delete","requestReceivedTimestamp":"2026-01-02T04:00:00Z","user":{"username":"jane"},` +
			`"objectRef":{"resource":"pods","namespace":"todo-app","name":"backend-2-abcde"}}`,
	}, "\n")))
	recipient, keys := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Scope = Scope{AuditLog: log, Since: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	result, err := Investigate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	files := opened(t, result.Receipt.Path, Key{keyring: keys})
	var verbs []string
	for line := range strings.Lines(string(files["data/audit/audit.jsonl"])) {
		verbs = append(verbs, strings.Split(line, `"`)[3])
	}
	if want := []string{"create", "list", "get", "delete"}; !slices.Equal(verbs, want) {
		t.Errorf("kept %v, want %v", verbs, want)
	}
	var summary auditSummary
	if err := json.Unmarshal(files["data/audit/summary.json"], &summary); err != nil {
		t.Fatal(err)
	}
	if summary.Malformed != 1 || summary.TooLong != 1 || summary.Earlier != 1 || summary.Kept != 4 {
		t.Errorf("%+v", summary)
	}
}

func TestNothingIsChangedInTheClusterUnannounced(t *testing.T) {
	s, ref := suspect(t)
	recipient, keys := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Scope = Scope{Live: true, Checkpoint: true, DebugImage: "registry.example/debug"}
	result, err := Investigate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"PATCH", "PUT", "DELETE"} {
		if s.askedFor(method) {
			t.Errorf("there was a %s request", method)
		}
	}
	if s.askedFor("POST /api/v1/nodes") {
		t.Error("a checkpoint was made")
	}
	_, artefacts := collectionOf(t, opened(t, result.Receipt.Path, Key{keyring: keys}))
	if a := artefacts["data/pods/todo-app/backend-2-abcde/checkpoint/api.json"]; a.Status != Absent {
		t.Errorf("%+v", a)
	}

	var announced, ended []string
	req = s.request(t, []Recipient{recipient}, ref)
	req.Scope = Scope{Checkpoint: true}
	req.Announce = func(_ context.Context, change string, _ record.Trace) (func(error), error) {
		announced = append(announced, change)
		return func(err error) { ended = append(ended, fmt.Sprint(err)) }, nil
	}
	if _, err := Investigate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if len(announced) != 2 || len(ended) != 2 || !strings.Contains(announced[0], "checkpoint of container") {
		t.Errorf("announced %q, ended %q", announced, ended)
	}
}

func TestAPlanSaysWhatWillBeFetched(t *testing.T) {
	s, ref := suspect(t)
	recipient, _ := testKey(t)
	req := s.request(t, []Recipient{recipient}, ref)
	req.Scope = Scope{Live: true}
	plan := PlanInvestigation(t.Context(), req)
	if plan.Pods != 1 || plan.Containers != 3 || plan.Unreadable != 0 || !plan.AtMost {
		t.Errorf("%+v", plan)
	}
	requests := map[string]int{}
	for _, item := range plan.Items {
		requests[item.What] = item.Requests
	}
	if requests[logStage] != 4 {
		t.Errorf("logs of three containers and one previous instance: %v", requests)
	}
	if _, err := os.Stat(req.Path); err == nil {
		t.Error("planning wrote something")
	}
}

func TestTwoRunsHaveTheSameOrder(t *testing.T) {
	s, ref := suspect(t)
	recipient, keys := testKey(t)
	run := func() []string {
		result, err := Investigate(t.Context(), s.request(t, []Recipient{recipient}, ref))
		if err != nil {
			t.Fatal(err)
		}
		r, err := OpenFile(t.Context(), result.Receipt.Path, Key{keyring: keys})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		var order []string
		for {
			entry, err := r.Next()
			if err != nil {
				return order
			}
			order = append(order, entry.Path)
		}
	}
	if first, second := run(), run(); !slices.Equal(first, second) {
		t.Errorf("%v\n%v", first, second)
	}
}

// checkBundle verifies a bundle with its key.
func checkBundle(t testing.TB, path string, key Key) {
	t.Helper()
	v, err := VerifyBundle(t.Context(), path, VerifyOptions{Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK() || !v.Opened || v.Files == 0 {
		t.Errorf("%d files: %v", v.Files, v.Problems)
	}
}
