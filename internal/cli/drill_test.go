package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"irctl/internal/drill"
)

// drillApp is a command line whose clock stands still until a drill lets time
// pass, so that one of an hour takes a second, and the same course every time.
func drillApp(t *testing.T) (*App, *bytes.Buffer) {
	t.Helper()
	out := &bytes.Buffer{}
	state := filepath.Join(t.TempDir(), "irctl")
	env := map[string]string{"IRCTL_STATE_DIR": state, "HOME": state, "NO_COLOR": "1"}
	return &App{Streams: Streams{In: strings.NewReader(""), Out: out, Err: io.Discard}, Getenv: func(k string) string {
		return env[k]
	},
		clock: drill.NewManualClock(time.Now().Truncate(time.Second))}, out
}

func autoPlay(t *testing.T, scenario string) drill.Score {
	t.Helper()
	a, out := drillApp(t)
	root := a.root()
	root.SetArgs([]string{"drill", "--auto", "--scenario", scenario, "-o", "json"})
	if err := root.ExecuteContext(t.Context()); err != nil && !errors.As(err, new(exitError)) {
		t.Fatal(err)
	}
	var s drill.Score
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

// TestDrillsPlayedWell: every scenario's own play has the full score, and takes
// the same course every time.
func TestDrillsPlayedWell(t *testing.T) {
	t.Parallel()
	all, err := drill.BuiltIn()
	if err != nil || len(all) < 5 {
		t.Fatalf("%d scenarios: %v", len(all), err)
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			first, second := autoPlay(t, s.Name), autoPlay(t, s.Name)
			if first.Points != first.Of || first.Of != 100 {
				t.Errorf("%d of %d points: %s", first.Points, first.Of, mustJSON(t, first.Items))
			}
			if !reflect.DeepEqual(first.Deeds, second.Deeds) || !reflect.DeepEqual(first.Items, second.Items) {
				t.Errorf("it went differently the second time: %s\n%s", mustJSON(t, first), mustJSON(t, second))
			}
		})
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// play plays a scenario with commands of its own.
func play(t *testing.T, scenario string, commands ...string) drill.Score {
	t.Helper()
	score, _ := played(t, scenario, commands...)
	return score
}

// played is play, with the directory that is left.
func played(t *testing.T, scenario string, commands ...string) (drill.Score, string) {
	t.Helper()
	a, _ := drillApp(t)
	s, err := drill.Find(t.Context(), scenario)
	if err != nil {
		t.Fatal(err)
	}
	session, err := drill.Start(t.Context(), filepath.Join(t.TempDir(), "drill"), s, drill.WorldOptions{Clock: a.clock})
	if err != nil {
		t.Fatal(err)
	}
	hands := &drill.Hands{World: session.World, Dir: session.Dir, Incident: func() string {
		return session.Incident(t.Context())
	},
		Irctl: func(ctx context.Context, args []string) error { return a.inDrill(ctx, session, nil, args) }}
	if err := hands.Do(t.Context(), commands); err != nil {
		t.Fatal(err)
	}
	score, err := session.Score()
	if err := errors.Join(err, session.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(session.Dir, "score.json")); err != nil {
		t.Error(err)
	}
	return score, session.Dir
}

// TestDrillEvidenceIsComplete: what runs in a container, and its files, are
// collected as on a real cluster, also of one without a shell; and nothing that
// irctl asks for by default is missing.
func TestDrillEvidenceIsComplete(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ scenario, flags, artefact, contains string }{
		{"crypto-miner", "--live --file /tmp/.x", "live/backend/processes.txt", "/tmp/.x/kthreadd -c /tmp/.x/c.json"},
		{"crypto-miner", "--live --file /tmp/.x", "live/backend/recent-files.txt", "/tmp/.x/i.sh"},
		{"gitops", "--live --file /proc/44/exe", "live/backend/sockets.txt", "198.51.100.23:443"},
		{"malicious-image", "--live --file /app/node_modules --debug-image busybox:1.37", "live/mcp-server/sockets.txt",
			"192.0.2.55:443"},
	} {
		t.Run(tc.scenario+" "+tc.artefact, func(t *testing.T) {
			t.Parallel()
			_, dir := played(t, tc.scenario, "irctl investigate --pod ${suspect} -n ${namespace} --yes "+tc.flags)
			receipts, err := filepath.Glob(filepath.Join(dir, "state", "incidents", "*", "*.gpg.json"))
			if err != nil || len(receipts) != 1 {
				t.Fatalf("%v: %v", receipts, err)
			}
			text, err := os.ReadFile(receipts[0])
			if err != nil {
				t.Fatal(err)
			}
			var receipt struct{ Complete bool }
			if err := json.Unmarshal(text, &receipt); err != nil || !receipt.Complete {
				t.Errorf("%v: %s", err, text)
			}
			bundle, key := strings.TrimSuffix(receipts[0], ".json"), filepath.Join(dir, "responder.secret.asc")
			listed := irctlOut(t, "evidence", "ls", bundle, "--key", key)
			i := strings.Index(listed, tc.artefact)
			if i < 0 {
				t.Fatalf("no %s in\n%s", tc.artefact, listed)
			}
			name := listed[strings.LastIndex(listed[:i], " ")+1 : i+len(tc.artefact)]
			if got := irctlOut(t, "evidence", "cat", bundle, name, "--key", key); !strings.Contains(got, tc.contains) {
				t.Errorf("%s does not say %s:\n%s", name, tc.contains, got)
			}
		})
	}
}

func irctlOut(t *testing.T, args ...string) string {
	t.Helper()
	a, out := drillApp(t)
	root := a.root()
	root.SetArgs(args)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String()
}

// TestDrillsPlayedBadly: each mistake costs the points that it should, and no
// others.
func TestDrillsPlayedBadly(t *testing.T) {
	t.Parallel()
	const (
		cutOff   = "irctl contain --pod ${suspect} -n ${namespace} --yes"
		evidence = "irctl investigate --pod ${suspect} -n ${namespace} --yes"
		patched  = "irctl eradicate --image " +
			"backend=registry.example.com/todo-backend" +
			"@sha256:6f1c25c9a9f2cf0b2a4ac08ab5a4b0f8b1b1b2b0d3ba5b6c4a7a9bde1f0c3d52 --yes"
		rotated = "irctl eradicate --all-secrets --generate backend-secret/SECRET_KEY=random --set-from " +
			"backend-secret/GROQ_API_KEY=${dir}/new-value.txt --revoked backend-secret/GROQ_API_KEY --yes"
		restored = "irctl undo --step scale --yes"
	)
	for _, tc := range []struct {
		name, scenario string
		play           []string
		lost           map[string]int // points, by item
		why            map[string]string
	}{
		{"nothing is done", "crypto-miner", []string{"wait 30m"},
			map[string]int{"contain": 25, "evidence": 15, "secrets": 15, "exposure": 15, "reinfection": 10},
			map[string]string{"contain": "never cut off", "evidence": "never sealed",
				"reinfection": "reached from a compromised pod"}},
		{"too late", "crypto-miner", []string{"wait 9m50s", cutOff,
			"irctl contain -l app=mcp-server -n todo-app --yes"},
			map[string]int{"contain": 7, "secrets": 15, "exposure": 5, "reinfection": 10},
			map[string]string{"contain": "cut off 9m50s after the alert"}},
		{"as the page of kubectl commands says", "crypto-miner",
			[]string{"wait 1m", "kubectl label pod ${suspect} quarantine=true -n todo-app",
				"kubectl scale deployment backend --replicas=0 -n todo-app", "wait 2m",
				"kubectl patch secret backend-secret -n todo-app --type=merge -p " +
					"'{\"data\":{\"SECRET_KEY\":\"bmV3\",\"GROQ_API_KEY\":\"bmV3\"}}'",
				"kubectl delete rolebinding backend-rolebinding -n todo-app",
				"kubectl patch deployment backend -n todo-app -p " +
					"'{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"backend\",\"image\":" +
					"\"registry.example.com/todo-backend:1.4.3\",\"ports\":[{\"containerPort\":8000}]}]}}}}'",
				"kubectl scale deployment backend --replicas=3 -n todo-app", "wait 10m"},
			map[string]int{"evidence": 15},
			map[string]string{"evidence": "deleted 1m0s after the alert, before its evidence was sealed"}},
		{"back without patch", "crypto-miner", []string{"wait 1m", cutOff, evidence, rotated, restored, "wait 10m"},
			map[string]int{"exposure": 10, "reinfection": 10},
			map[string]string{"exposure": "is still deployed", "reinfection": "compromised again"}},
		{"back without new secrets", "crypto-miner",
			[]string{"wait 1m", cutOff, evidence, patched, restored, "wait 10m"},
			map[string]int{"secrets": 15, "exposure": 5, "reinfection": 10},
			map[string]string{"secrets": "still opens what it did"}},
		{"everything goes down", "crypto-miner",
			[]string{"wait 1m", cutOff, evidence, patched, rotated,
				"kubectl scale deployment frontend --replicas=0 -n todo-app",
				"kubectl scale statefulset postgres --replicas=0 -n todo-app", restored, "wait 10m"},
			map[string]int{"innocent": 15}, map[string]string{"innocent": "frontend: scaled down from 2 to 0"}},
		{"the wrong pod", "crypto-miner", []string{"wait 1m", cutOff, evidence, patched, rotated, restored,
			"irctl contain -l k8s-app=kube-router -n kube-system --yes", "wait 10m"},
			map[string]int{"innocent": 10},
			map[string]string{"innocent": "kube-system/DaemonSet/kube-router: kept off 2 of 2 nodes"}},
		{"a bystander is cut off", "crypto-miner", []string{"wait 1m", cutOff, evidence, patched, rotated, restored,
			"irctl contain -l app=frontend -n todo-app --yes --keep-replicas", "wait 10m"},
			map[string]int{"innocent": 10}, map[string]string{"innocent": "todo-app/frontend: its pod"}},
		{"undone too soon", "crypto-miner", []string{"wait 1m", cutOff, evidence, patched, rotated,
			"irctl undo --all --allow-evidence-loss --yes", "wait 5m"},
			map[string]int{"contain": 25, "evidence": 8, "exposure": 15, "reinfection": 10},
			map[string]string{"reinfection": "mcp-server"}},
		{"the pod is cut off, and the token forgotten", "stolen-token",
			[]string{"wait 1m", cutOff, evidence, "wait 10m"},
			map[string]int{"contain": 25, "secrets": 15, "exposure": 8},
			map[string]string{"exposure": "Pod/metrics-agent", "secrets": "still may list secrets"}},
		{"the account only", "stolen-token",
			[]string{"wait 1m", "kubectl delete rolebinding backend-rolebinding -n todo-app", cutOff, evidence,
				"irctl eradicate --secret serviceaccount/backend-sa --yes", "wait 10m"},
			map[string]int{"secrets": 10},
			map[string]string{"secrets": "postgres-secret: the attacker's value still opens"}},
		{"one pod of two", "malicious-image", []string{"wait 1m", cutOff, evidence, "wait 5m"},
			map[string]int{"evidence": 8, "secrets": 15, "exposure": 5},
			map[string]string{"evidence": "deleted 1m0s after the alert"}},
		{"a new value, and no restart", "leaked-secret", []string{"wait 2m", `kubectl patch secret backend-secret -n ` +
			`todo-app --type=merge -p '{"data":{"SECRET_KEY":"bmV3","GROQ_API_KEY":"bmV3"}}'`, "wait 10m"},
			map[string]int{"contain": 25, "secrets": 15}, map[string]string{"secrets": "restart them"}},
		{"late, and the frontend down", "leaked-secret",
			[]string{"kubectl scale deployment frontend --replicas=0 -n todo-app", "wait 16m",
				`kubectl patch secret backend-secret -n todo-app --type=merge -p ` +
					`'{"data":{"SECRET_KEY":"bmV3","GROQ_API_KEY":"bmV3"}}'`,
				"kubectl rollout restart deployment backend -n todo-app", "wait 1m"},
			map[string]int{"contain": 7, "innocent": 10}, nil},
		{"Flux is not suspended", "gitops", []string{"wait 1m", cutOff, evidence, "wait 5m", rotated, patched},
			map[string]int{"reinfection": 10}, map[string]string{"reinfection": "compromised again"}},
		{"the suspect is deleted", "gitops", []string{"wait 1m", "kubectl delete pod ${suspect} -n todo-app",
			"wait 1s"},
			map[string]int{"evidence": 15, "secrets": 15, "exposure": 8},
			map[string]string{"evidence": "deleted 1m0s after the alert"}},
	} {
		t.Run(tc.scenario+": "+tc.name, func(t *testing.T) {
			t.Parallel()
			score := play(t, tc.scenario, tc.play...)
			for _, i := range score.Items {
				if lost := i.Of - i.Points; lost != tc.lost[i.Name] {
					t.Errorf("%s: %d points lost, expected %d: %q", i.Name, lost, tc.lost[i.Name], i.Why)
				}
				if why := tc.why[i.Name]; why != "" && !strings.Contains(strings.Join(i.Why, "\n"), why) {
					t.Errorf("%s: %q, expected %q", i.Name, i.Why, why)
				}
				if (i.Points < i.Of) != (len(i.Better) > 0) {
					t.Errorf("%s: %d of %d points, and better would be %q", i.Name, i.Points, i.Of, i.Better)
				}
			}
		})
	}
}
