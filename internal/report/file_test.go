package report_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"irctl/internal/report"
)

// What a person wrote is never overwritten: the new report goes beside it. What
// irctl wrote, and nobody touched, is replaced.
func TestAReportThatWasEditedIsKept(t *testing.T) {
	for name, tc := range map[string]struct {
		before map[string]string // what is there; irctl wrote what begins with "irctl"
		want   string            // where the new one goes
		kept   []string
	}{
		"none":             {nil, "report.md", nil},
		"an untouched one": {map[string]string{"report.md": "irctl 1"}, "report.md", nil},
		"an edited one": {map[string]string{"report.md": "mine"}, "report-2.md",
			[]string{"report.md"}},
		"an edited and an untouched one": {map[string]string{"report.md": "mine", "report-2.md": "irctl 2"},
			"report-2.md", []string{"report.md"}},
		"two edited ones": {map[string]string{"report.md": "mine", "report-2.md": "hers"}, "report-3.md",
			[]string{"report.md", "report-2.md"}},
		"a link": {map[string]string{"report.md": "->"}, "report-2.md", []string{"report.md"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := func(name string) string { return filepath.Join(dir, name) }
			for file, text := range tc.before {
				err := os.WriteFile(in(file), []byte(text), 0o600)
				if text == "->" {
					err = errors.Join(os.Remove(in(file)), os.WriteFile(in("elsewhere"), []byte("irctl 1"), 0o600),
						os.Symlink("elsewhere", in(file)))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			ours := []string{report.Digest([]byte("irctl 1")), report.Digest([]byte("irctl 2"))}
			written, kept, err := report.Update(in("report.md"), []byte("irctl 3"), func(d string) bool {
				return slices.Contains(ours, d)
			})
			for i := range kept {
				kept[i] = filepath.Base(kept[i])
			}
			if err != nil || written != in(tc.want) || !slices.Equal(kept, tc.kept) {
				t.Fatalf("written to %s, kept %v: %v", written, kept, err)
			}
			want := map[string]string{tc.want: "irctl 3"}
			for file, text := range tc.before {
				if file != tc.want {
					want[file] = text
				}
			}
			if name == "a link" {
				want["report.md"], want["elsewhere"] = "irctl 1", "irctl 1"
			}
			expectFiles(t, dir, want)
		})
	}
}

// An editor saves between the look and the exchange.
func TestAReportThatIsSavedMeanwhileIsKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "report.md")
	if err := os.WriteFile(path, []byte("irctl"), 0o600); err != nil {
		t.Fatal(err)
	}
	looks := 0
	written, kept, err := report.Update(path, []byte("new"), func(d string) bool {
		if looks++; looks == 1 {
			if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
				t.Error(err)
			}
			return true
		}
		return d == report.Digest([]byte("irctl"))
	})
	if err != nil || len(kept) != 1 || filepath.Base(written) != "report-2.md" {
		t.Errorf("%s, kept %v: %v", written, kept, err)
	}
	expectFiles(t, dir, map[string]string{"report.md": "mine", "report-2.md": "new"})
}

func TestAReportIsCreatedOrReplacedAsAWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.md")
	if err := report.Create(path, []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := report.Create(path, []byte("2")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("it was written over: %v", err)
	}
	expectFiles(t, dir, map[string]string{"r.md": "1"})
	if err := report.Replace(path, []byte("3")); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, dir, map[string]string{"r.md": "3"})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// expectFiles: these are in the folder, and no others.
func expectFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want) {
		t.Errorf("%v: %v", entries, err)
	}
	for file, text := range want {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != text {
			t.Errorf("%s is %q, expected %q: %v", file, got, text, err)
		}
	}
}
