package eradicate

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"irctl/internal/userfile"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Manifest is one object as a team wrote it.
type Manifest struct {
	// Source is the file it is from.
	Source string
	Object *unstructured.Unstructured
}

// Name names it where its kind is not known yet.
func (m Manifest) Name() string {
	name := m.Object.GetName()
	if ns := m.Object.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return m.Object.GetKind() + " " + name
}

// What is read of manifests is bounded.
const (
	maxManifestFile = 4 << 20
	maxManifests    = 500
	// maxConfig bounds an object: it is journaled, with what it replaces.
	maxConfig = 128 << 10
)

// ReadManifests reads files, and of folders the files whose names end in
// .yaml, .yml or .json. Its errors are about what was written.
func ReadManifests(ctx context.Context, paths []string) ([]Manifest, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path) // sorted
		if err != nil {
			return nil, err
		}
		n := len(files)
		for _, e := range entries {
			if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == n {
			return nil, fmt.Errorf("%s has no file whose name ends in .yaml, .yml or .json", path)
		}
	}
	var all []Manifest
	for _, file := range files {
		list, err := readManifestFile(ctx, file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if all = append(all, list...); len(all) > maxManifests {
			return nil, fmt.Errorf("%s: more than %d objects", file, maxManifests)
		}
	}
	return all, nil
}

func readManifestFile(ctx context.Context, path string) ([]Manifest, error) {
	data, err := userfile.Read(ctx, path, maxManifestFile)
	switch {
	case errors.Is(err, userfile.ErrTooLarge):
		return nil, fmt.Errorf("it is larger than %d bytes", maxManifestFile)
	case err != nil:
		return nil, withoutPath(err)
	}
	return ParseManifests(path, data)
}

// ParseManifests reads the documents of a file.
func ParseManifests(source string, data []byte) ([]Manifest, error) {
	var list []Manifest
	docs := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		text, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		if text = bytes.TrimSpace(text); len(text) == 0 || string(text) == "null" {
			continue // comments only
		}
		objects, err := objectsOf(text)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		for _, o := range objects {
			list = append(list, Manifest{Source: source, Object: o})
		}
		if len(list) > maxManifests {
			return nil, fmt.Errorf("more than %d objects", maxManifests)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("there is no object in it")
	}
	return list, nil
}

// objectsOf is the object of a document, or those of a List.
func objectsOf(text []byte) ([]*unstructured.Unstructured, error) {
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("it is no object: %w", err)
	}
	objects := []*unstructured.Unstructured{o}
	if o.GetKind() == "List" && o.GetAPIVersion() == "v1" {
		objects = nil
		items, _ := o.Object["items"].([]any)
		for _, raw := range items {
			m, ok := raw.(map[string]any)
			if !ok {
				return nil, errors.New("the List holds what is no object")
			}
			objects = append(objects, &unstructured.Unstructured{Object: m})
		}
	}
	for _, o := range objects {
		if err := sound(o); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// sound checks that an object can be found, and takes out what only a server
// writes: manifests are often what kubectl get has printed.
func sound(o *unstructured.Unstructured) error {
	switch {
	case o.GetAPIVersion() == "" || o.GetKind() == "":
		return errors.New("an object has no apiVersion, or no kind")
	case o.GetName() == "":
		return fmt.Errorf("a %s has no name", o.GetKind())
	case strings.HasSuffix(o.GetKind(), "List") && o.Object["items"] != nil:
		return fmt.Errorf("a %s: write its items as objects of their own", o.GetKind())
	}
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp",
		"selfLink"} {
		unstructured.RemoveNestedField(o.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(o.Object, "metadata", "annotations", corev1.LastAppliedConfigAnnotation)
	if len(o.GetAnnotations()) == 0 {
		unstructured.RemoveNestedField(o.Object, "metadata", "annotations")
	}
	delete(o.Object, "status")
	return nil
}
