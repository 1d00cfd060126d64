package evidence

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// twoBags are an original and a shared bag in memory.
func twoBags(t *testing.T) (b bags, archives [2]*bytes.Buffer) {
	t.Helper()
	var both [2]*Bag
	for i := range both {
		archives[i] = &bytes.Buffer{}
		bag, err := NewBag(archives[i], "bag", Meta{}, fixedClock)
		if err != nil {
			t.Fatal(err)
		}
		both[i] = bag
	}
	return bags{original: both[0], shared: both[1], redactor: newRedactor()}, archives
}

// checkDigests compares what an archive says of its artefacts with what is in
// it, and returns the artefacts by their last name.
func checkDigests(t *testing.T, archive *bytes.Buffer) map[string]Artefact {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[strings.TrimPrefix(h.Name, "bag/")], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what, digest string, content []byte) {
		t.Helper()
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest {
			t.Errorf("%s: %d bytes do not have the digest", what, len(content))
		}
	}
	for line := range strings.Lines(string(files[manifestFile])) {
		digest, path, _ := strings.Cut(strings.TrimSpace(line), "  ")
		check(path, digest, files[path])
	}
	var collection Collection
	if err := json.Unmarshal(files[collectionFile], &collection); err != nil {
		t.Fatal(err)
	}
	artefacts := map[string]Artefact{}
	for _, a := range collection.Artefacts {
		whole := files[a.Path]
		for _, p := range a.Parts {
			check(p.Path, p.SHA256, files[p.Path])
			whole = append(whole, files[p.Path]...)
		}
		if a.Size != int64(len(whole)) {
			t.Errorf("%s: %d bytes instead of %d", a.Path, len(whole), a.Size)
		}
		if a.SHA256 != "" {
			check(a.Path, a.SHA256, whole)
		}
		artefacts[strings.TrimPrefix(a.Path, payloadPrefix)] = a
	}
	return artefacts
}

// The shared bag takes the original's digests up to the first secret. They must
// be right wherever that is, and whatever way the content comes and ends.
func TestDigestsOfBothBags(t *testing.T) {
	const secret = " password=hunter2hunter2 "
	random := rand.New(rand.NewPCG(5, 6))
	filler := logText(3*PartSize + 100_000)
	b, archives := twoBags(t)
	places := []int{-1, 0, 1, 4096, redactWindow - 5, redactWindow, PartSize - 100, PartSize - 9, PartSize, PartSize +
		1, 2*PartSize - 20, 2*PartSize + redactWindow, 3*PartSize - 1, len(filler) - len(secret)}
	places = append(places, random.IntN(len(filler)-len(secret)), random.IntN(len(filler)-len(secret)))
	want := 0
	for i, at := range places {
		var sizes []int // that have room for the secret there
		for _, size := range []int{PartSize - 5000, PartSize, PartSize + 1, 2 * PartSize, 3 * PartSize, len(filler)} {
			if at+len(secret) <= size {
				sizes = append(sizes, size)
			}
		}
		if testing.Short() {
			sizes = sizes[i%len(sizes):][:1]
		}
		for _, size := range sizes {
			text := slices.Clone(filler[:size])
			if at >= 0 {
				copy(text[at:], secret)
			}
			a, err := b.create("test", "test", false, []string{fmt.Sprintf("%d-%d", at, size)})
			if err != nil {
				t.Fatal(err)
			}
			want++
			for chunk := range slices.Chunk(text, []int{1000, 32 << 10, size}[want%3]) {
				if _, err := a.Write(chunk); err != nil {
					t.Fatal(err)
				}
			}
			if want%4 == 0 {
				// The original ends under the collector's hands, as when its bag is closed.
				_ = a.ArtefactWriter.End(ErrTruncated)
				_ = a.shared.End(ErrTruncated)
				continue
			}
			if err := a.End(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, bag := range []*Bag{b.original, b.shared} {
		if _, err := bag.Close(""); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(checkDigests(t, archives[0])); got != want {
		t.Errorf("%d artefacts instead of %d", got, want)
	}
	checkDigests(t, archives[1])
}

func TestBinaryContentIsWithheldFromTheSharedBag(t *testing.T) {
	b, archives := twoBags(t)
	a, err := b.create("test", "test", false, []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("password=hunter2\x00")); err != nil {
		t.Fatal(err)
	}
	if err := a.End(nil); err != nil {
		t.Fatal(err)
	}
	for _, bag := range []*Bag{b.original, b.shared} {
		if _, err := bag.Close(""); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Contains(archives[1].Bytes(), []byte("hunter2")) {
		t.Error("it is in the shared bag")
	}
	original, shared := checkDigests(t, archives[0])["x"], checkDigests(t, archives[1])["x"]
	if shared.Status != Withheld || shared.Reason == "" || shared.Redaction.OriginalSHA256 != original.SHA256 ||
		original.SHA256 == "" {
		t.Errorf("%+v", shared)
	}
}
