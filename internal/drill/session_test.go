package drill_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"irctl/internal/drill"
)

// BenchmarkStart is from the scenario until the world stands, as who plays a
// drill waits for it.
func BenchmarkStart(b *testing.B) {
	all, err := drill.BuiltIn()
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range all {
		b.Run(s.Name, func(b *testing.B) {
			dir := b.TempDir()
			for n := 0; b.Loop(); n++ {
				session, err := drill.Start(b.Context(), filepath.Join(dir, strconv.Itoa(n)), s,
					drill.WorldOptions{Startup: 5 * time.Second})
				if err != nil {
					b.Fatal(err)
				}
				if err := session.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBuiltIn is how long the scenarios that ship take to be read.
func BenchmarkBuiltIn(b *testing.B) {
	for b.Loop() {
		if _, err := drill.BuiltIn(); err != nil {
			b.Fatal(err)
		}
	}
}

// A folder in which somebody keeps a file of that name is none for a drill.
func TestADrillWritesOverNothing(t *testing.T) {
	dir := t.TempDir()
	theirs := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(theirs, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := drill.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	session, err := drill.Start(t.Context(), dir, all[0], drill.WorldOptions{})
	if err == nil {
		t.Error("the drill began", session.Close())
	}
	if text, err := os.ReadFile(theirs); err != nil || string(text) != "mine" {
		t.Errorf("%q %v", text, err)
	}
}
