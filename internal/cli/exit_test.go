package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"irctl/internal/cli"
)

// TestExitCodes pins the numbers, which scripts of others depend on, and sees
// to it that each of them is shown by one of ours.
func TestExitCodes(t *testing.T) {
	want := map[string]int{"done": 0, "error": 1, "usage": 2, "not contained": 3, "refused": 4, "undetermined": 5}
	got := map[string]int{"done": cli.ExitDone, "error": cli.ExitError, "usage": cli.ExitUsage,
		"not contained": cli.ExitNotContained, "refused": cli.ExitRefused, "undetermined": cli.ExitUndetermined}
	for name, code := range want {
		if got[name] != code {
			t.Errorf("%s is %d, and must stay %d", name, got[name], code)
		}
	}
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts: ", err)
	}
	shown := map[string]bool{}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^exits (\d) irctl (\w+)`).FindAllStringSubmatch(string(text), -1) {
			shown[m[2]+" "+m[1]] = true
		}
	}
	for _, which := range strings.Split("contain 0,contain 1,contain 2,contain 3,contain 4,contain 5,detect 0,detect "+
		"1,detect 2,detect 3,detect 5,undo 0,undo 1,undo 2,undo 4,status 0,status 1,status 3,status 5,"+
		"recover 0,recover 1,recover 2,recover 3,recover 4,eradicate 0,eradicate 2,investigate 2,investigate 5,run "+
		"2,run 3,doctor 0,doctor 1,incident 0,incident 1,incident 2,timeline 0,timeline 1,timeline 2,version "+
		"0,version 2,completion 0,completion 2,options 0", ",") {
		if !shown[which] {
			t.Errorf("no script shows %s", which)
		}
	}
}
