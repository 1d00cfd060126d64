package timeline_test

import (
	"path/filepath"
	"testing"

	"irctl/internal/record"
	"irctl/internal/timeline"
)

// typical is an intent as contain writes it.
var typical = timeline.Entry{Kind: timeline.KindIntent, Phase: "contain", Step: "quarantine", Action: "label",
	Object:  &timeline.Object{APIVersion: "v1", Kind: "Pod", Namespace: "todo-app", Name: "backend-688d67cddc-dxv5m"},
	Targets: []string{"todo-app/backend-688d67cddc-dxv5m"}, Summary: "label and detach the pod",
	Command: `kubectl -n todo-app label pod backend-688d67cddc-dxv5m quarantine=true app-`,
	Data:    record.Verbatim([]byte(`{"before":{"labels":{"app":"backend","pod-template-hash":"688d67cddc"}}}`))}

func BenchmarkAppend(b *testing.B) {
	l, err := timeline.Open(filepath.Join(b.TempDir(), "timeline.jsonl"), timeline.Options{Incident: incident})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		if _, err := l.Append(typical); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendParallel has 64 targets worked on per processor.
func BenchmarkAppendParallel(b *testing.B) {
	l, err := timeline.Open(filepath.Join(b.TempDir(), "timeline.jsonl"), timeline.Options{Incident: incident})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Append(typical); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	path := filepath.Join(b.TempDir(), "timeline.jsonl")
	l, err := timeline.Open(path, timeline.Options{Incident: incident})
	if err != nil {
		b.Fatal(err)
	}
	for range 1000 {
		if _, err := l.Append(typical); err != nil {
			b.Fatal(err)
		}
	}
	l.Close()
	for b.Loop() {
		if r, err := timeline.Verify(path); err != nil || !r.OK() {
			b.Fatal(r, err)
		}
	}
}
