package runbook

import (
	"fmt"
	"maps"
	"slices"
)

// Editable are the inputs of the step that a person may change before it is
// done: all but programs with their arguments, and texts to be read.
func (s *Step) Editable() []Field {
	return slices.DeleteFunc(slices.Clone(s.sig.Inputs), func(f Field) bool {
		return f.Type == Argument || f.Type == Text
	})
}

// ParseInput reads an input that a person typed. What is left out of a
// reference is filled up with the namespace.
func (s *Step) ParseInput(name, text, namespace string) (any, error) {
	i := slices.IndexFunc(s.Editable(), func(f Field) bool { return f.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("%s has no input %.60q that can be changed here", s.Uses, name)
	}
	f := s.Editable()[i]
	v, err := f.Parse(text, namespace)
	if err == nil && f.Required && empty(v) {
		err = fmt.Errorf("it is required")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// Edited are the inputs with those that a person changed, if the operation can
// be used with them.
func (s *Step) Edited(in Inputs, changed map[string]any) (Inputs, error) {
	if len(changed) == 0 {
		return in, nil
	}
	all := maps.Clone(in)
	maps.Copy(all, changed)
	if s.sig.Check != nil {
		if name, problem := s.sig.Check(Literals(all)); problem != "" {
			return nil, fmt.Errorf("%s: %s", name, problem)
		}
	}
	return all, nil
}

// Recorded are the inputs that a person changed, out of a journal. What does not
// fit any more is left out.
func (s *Step) Recorded(plain map[string]any, names []string) map[string]any {
	all := map[string]any{}
	for _, f := range s.Editable() {
		if v, ok := plain[f.Name]; ok && slices.Contains(names, f.Name) {
			if v, err := f.Convert(v); err == nil {
				all[f.Name] = v
			}
		}
	}
	return all
}
