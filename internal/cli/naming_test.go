package cli_test

import (
	"fmt"
	"strings"
	"testing"

	"irctl/internal/cli"
)

// Every command that takes an incident takes it in both ways, and not two.
func TestAnIncidentIsNamedInOneWayEverywhere(t *testing.T) {
	d := newDesk(t, load(t)["contained"])
	// What a command needs before it looks at the incident.
	words := map[string]string{
		"irctl run": "compromised-pod", "irctl incident set": "severity=sev1", "irctl timeline note": "seen",
		"irctl contain":     "pod/x",
		"irctl investigate": "pod/x", "irctl": "", "irctl accept": "token --reason why",
	}
	taking := 0
	for _, c := range everyCommand() {
		path := c.CommandPath()
		_ = c.InheritedFlags() // which come with the parents
		if c.Flags().Lookup("incident") == nil && c.InheritedFlags().Lookup("incident") == nil ||
			c.HasSubCommands() && path != "irctl" {
			if strings.Contains(c.Use, "INCIDENT") {
				t.Errorf("%s takes an incident as an argument alone", path)
			}
			continue
		}
		taking++
		line := strings.TrimSpace(strings.TrimPrefix(path, "irctl"))
		two := fmt.Sprintf("%s incident/INCIDENT %s --incident inc-20260102-150405-abcd", line, words[path])
		if code, _, errs := d.irctl(strings.TrimSpace(two)); code != cli.ExitUsage ||
			!strings.Contains(errs, "two incidents are named") {
			t.Errorf("irctl %s: exit code %d: %s", two, code, errs)
		}
		if path == "irctl" {
			continue // needs a terminal
		}
		// The same one twice is none too many; nor is one that does not exist taken for anything else.
		for _, named := range []string{"incident/inc-20260102-150405-abcd", "--incident inc-20260102-150405-abcd",
			"--incident incident/inc-20260102-150405-abcd",
			"incident/inc-20260102-150405-abcd --incident inc-20260102"} {
			one := strings.TrimSpace(fmt.Sprintf("%s %s %s", line, named, words[path]))
			if code, _, errs := d.irctl(one); code != 1 ||
				!strings.Contains(errs, `no such incident: "inc-20260102-150405-abcd"`) {
				t.Errorf("irctl %s: exit code %d: %s", one, code, errs)
			}
		}
	}
	if taking < 18 {
		t.Errorf("only %d commands take an incident", taking)
	}
}

func TestTimelineNoteMayNameAnIncidentInItsText(t *testing.T) {
	d := newDesk(t, load(t)["contained"])
	code, out, errs := d.irctl("timeline note inc-20260102-150405-abcd is the same attacker")
	if code != 0 || !strings.Contains(out, "inc-20260102-150405-abcd is the same attacker") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}

// What -o name prints is taken by the commands that take such a thing.
func TestWhatNamePrintsIsTaken(t *testing.T) {
	state := load(t)["exposed"]
	name := func(line string) string {
		t.Helper()
		code, out, errs := newDesk(t, state).irctl(line + " -o name")
		if code != 0 && code != 3 || out == "" {
			t.Fatalf("irctl %s: exit code %d: %s%s", line, code, out, errs)
		}
		first, _, _ := strings.Cut(out, "\n")
		return first
	}
	incident, book, secret := name("incident list"), name("runbook list --runbook-dir HOME/runbooks"),
		name("eradicate --plan")
	scenario := name("drill list")
	suspect := state.Scene.Suspect
	_, pod, _ := strings.Cut(suspect, "/")
	for _, line := range []string{
		"status " + incident, "report " + incident, "timeline show " + incident, "undo --all --dry-run " + incident,
		"incident show --incident " + incident,
		"runbook show " + book + " --runbook-dir HOME/runbooks", "runbook lint " + book +
			" --runbook-dir HOME/runbooks",
		"runbook graph " + book + " --runbook-dir HOME/runbooks",
		"run runbook/cut-off --runbook-dir HOME/runbooks --dry-run --set pod=pod/" + suspect,
		"contain pod/" + suspect + " --dry-run", "contain --pod " + suspect + " --dry-run", "contain --pod pod/" +
			suspect + " --dry-run",
		"contain --pod pod/" + pod + " -n todo-app --dry-run", "contain pod/" + pod + " -n todo-app --dry-run",
		"contain --pod " + suspect + " -n todo-app --dry-run", "contain deployment/todo-app/backend --dry-run",
		"contain workload/todo-app/Deployment/backend --dry-run", "contain pod/" + suspect + " " + incident +
			" --dry-run",
		"investigate pod/" + suspect + " --dry-run", "investigate --pod " + suspect + " --dry-run",
		"eradicate --dry-run --generate-rest random --keep GROQ_API_KEY --secret " + secret,
	} {
		if code, out, errs := newDesk(t, state).irctl(line); code != 0 && code != 3 {
			t.Errorf("irctl %s: exit code %d: %s%s", line, code, out, errs)
		}
	}
	if code, _, errs := newDesk(t, state).irctl("drill --auto --speed 0 --scenario " +
		scenario); !strings.Contains(errs, "--speed") {
		t.Errorf("%s: exit code %d: %s", scenario, code, errs) // the name was taken, and nothing played
	}
}

// Two namespaces for one thing are a wrong command line, which says both.
func TestTwoNamespacesForOneThing(t *testing.T) {
	d := newDesk(t, load(t)["exposed"])
	for _, line := range []string{"contain --pod todo-app/x -n kube-system", "contain pod/todo-app/x -n kube-system",
		"investigate --pod pod/todo-app/x -n kube-system", "contain deployment/todo-app/x -n kube-system",
		"contain -l a=b -A -n kube-system"} {
		code, _, errs := d.irctl(line)
		if code != cli.ExitUsage || !strings.Contains(errs, "kube-system") && !strings.Contains(errs, "-A or -n") {
			t.Errorf("irctl %s: exit code %d: %s", line, code, errs)
		}
	}
}

// A name that somebody typed exists, or is said not to, with what is near.
func TestTypedNamesThatDoNotExist(t *testing.T) {
	state := load(t)["exposed"]
	for line, want := range map[string]string{
		"status -n todo-ap":               `no namespace "todo-ap"; did you mean todo-app?`,
		"detect -n todo-ap":               `no namespace "todo-ap"; did you mean todo-app?`,
		"undo --all --dry-run -n todo-ap": `did you mean todo-app?`,
		"contain --pod todo-ap/x --yes":   `no namespace "todo-ap"; did you mean todo-app?`,
		"contain --pod SUSPECT -n todo-app --allow-namespace todo-ap --dry-run": `--allow-namespace: there is no ` +
			`namespace "todo-ap"; did you mean todo-app?`,
		"contain --pod SUSPECT --steps quarantin --dry-run": "did you mean quarantine?",
		"recover --monitor 1s --recontain --recontain-namespace todo-ap --yes": `--recontain-namespace: there is ` +
			`no namespace "todo-ap"; did you mean todo-app?`,
		"status --context productio": "the kubeconfig has no such " +
			"context; did you mean production?",
		"incident list --cluster productio": "the kubeconfig has no such " +
			"cluster; did you mean production?",
		"timeline show --user respond":                                            "the kubeconfig has no such user",
		"drill --auto --scenario leaked-secre":                                    "did you mean leaked-secret?",
		"run compromised-po --set pod=x":                                          "did you mean compromised-pod",
		"run compromised-pod --set pdo=x":                                         "did you mean pod",
		"undo --step scal --yes":                                                  "did you mean scale?",
		"eradicate --secret backend-secre --yes":                                  "did you mean backend-secret",
		"eradicate --secret backend-secret --generate SECRET_KE=random --dry-run": "did you mean SECRET_KEY",
		"eradicate --image bakend=" + patched + " --dry-run":                      "did you mean backend?",
		"incident set severty=sev1":                                               "severity",
		"evidence cat BUNDLE manifest-sha256.tx" + key:                            "manifest-sha256.txt",
	} {
		code, _, errs := newDesk(t, state).irctl(line)
		if code != 1 && code != cli.ExitUsage || !strings.Contains(errs, want) {
			t.Errorf("irctl %s: exit code %d, without %q:\n%s", line, code, want, errs)
		}
	}
	id := state.Scene.Incident
	code, _, errs := newDesk(t, state).irctl("status " + id[:len(id)-1] + "0")
	if code != 1 || !strings.Contains(errs, "did you mean "+id+"?") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
