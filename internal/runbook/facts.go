package runbook

import (
	"fmt"
	"slices"
	"strings"
)

// Parse reads a value of the parameter that was given on the command line.
func (p *Parameter) Parse(text, namespace string) (any, error) {
	v, err := p.domain.Parse(text, namespace)
	if err == nil && p.Required && empty(v) {
		err = fmt.Errorf("it is required")
	}
	if err != nil {
		return nil, fmt.Errorf("parameter %s: %w", p.Name, err)
	}
	return v, nil
}

// Fallback is its default, or the zero value.
func (p *Parameter) Fallback() any { return p.fallback }

// Question is the prompt, or one made of the name.
func (p *Parameter) Question() string {
	if p.Prompt != "" {
		return p.Prompt
	}
	return p.Name + "?"
}

// ErrParameter: a parameter that was given is not one of the runbook's, or
// cannot have that value.
var ErrParameter = fmt.Errorf("wrong parameter")

// Given reads the parameters of the command line.
func (r *Runbook) Given(texts map[string]string, namespace string) (map[string]any, error) {
	values := map[string]any{}
	for _, name := range keys(texts) {
		p := r.Parameter(name)
		if p == nil {
			known := names(r.Parameters, func(p Parameter) string { return p.Name })
			fix := didYouMean(name, known)
			if fix == "" {
				fix = "it has " + strings.Join(known, ", ")
			}
			return nil, fmt.Errorf("%w: %s has no parameter %.60q; %s", ErrParameter, r.Name, name, fix)
		}
		v, err := p.Parse(texts[name], namespace)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrParameter, err)
		}
		values[name] = v
	}
	return values, nil
}

// Missing are the required parameters without a value.
func (r *Runbook) Missing(values map[string]any) []*Parameter {
	var missing []*Parameter
	for i := range r.Parameters {
		if p := &r.Parameters[i]; p.Required && values[p.Name] == nil {
			missing = append(missing, p)
		}
	}
	return missing
}

// Ambient is what expressions can read besides parameters and results.
type Ambient struct {
	Incident, Severity string
	Unattended         bool
}

// Facts are what expressions read before the first step: every step was
// skipped so far.
func (r *Runbook) Facts(params map[string]any, a Ambient) Facts {
	f := Facts{"incident.id": a.Incident, "incident.severity": a.Severity, "run.unattended": a.Unattended,
		runLeft: int64(0)}
	for i := range r.Parameters {
		p := &r.Parameters[i]
		v := params[p.Name]
		if v == nil {
			v = p.fallback
		}
		f.set(variable{"params." + p.Name, p.domain}, v)
	}
	for _, s := range r.Steps() {
		for _, v := range s.variables() {
			f.set(v, v.domain.Zero())
		}
		f["steps."+s.Name+".outcome"] = "skipped"
	}
	return f
}

// Leave makes known how much is left to a person.
func (f Facts) Leave(n int) { f[runLeft] = int64(n) }

// Record makes what came of a step known to later conditions. Results that the
// operation does not declare, or that are not as it declares them, are left out.
func (f Facts) Record(s *Step, outcome string, results map[string]any) {
	prefix := "steps." + s.Name + "."
	if slices.Contains(Outcomes, outcome) {
		f[prefix+"outcome"] = outcome
	}
	f[prefix+"done"] = outcome == "done"
	for _, result := range s.sig.Results {
		d := Domain{Type: result.Type, List: result.List} // what a person answered may be none of the choices
		if v, ok := results[result.Name]; ok {
			if v, err := d.Convert(v); err == nil {
				f.set(variable{prefix + result.Name, d}, v)
			}
		}
	}
}
