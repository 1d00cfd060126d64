package cli

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"irctl/internal/engine"
)

// targetRequest is how a responder names suspects.
type targetRequest struct {
	pods          []string
	selector      string
	allNamespaces bool
	all           bool // pods of the namespace
	args          []string
	includeNew    bool // what matches now and did not when the same was asked for
}

// podHelp is the usage of a flag that takes a suspect.
const podHelp = "the suspect pod, as NAME or NAMESPACE/NAME; may be repeated"

// any: something is named.
func (r targetRequest) any() bool {
	return len(r.pods) > 0 || r.selector != "" || len(r.args) > 0 || r.all
}

// query finds what is wrong with the words before a cluster is asked. given is the
// namespace of -n, or "".
func (r targetRequest) query(given string) (engine.SuspectQuery, error) {
	q := engine.SuspectQuery{Selector: r.selector, AllNamespaces: r.allNamespaces, All: r.all}
	switch {
	case !r.any():
		return q, usagef("which suspects? give --pod NAME, -l SELECTOR or TYPE/NAME")
	case r.allNamespaces && r.selector == "":
		return q, usagef("-A goes with -l SELECTOR")
	case r.allNamespaces && given != "":
		return q, usagef("give either -A or -n")
	}
	if _, err := labels.Parse(r.selector); err != nil {
		return q, usagef("-l %s: %v", r.selector, err)
	}
	for _, text := range r.pods {
		pod, err := parsePod("--pod", text, given)
		if err != nil {
			return q, err
		}
		q.Pods = append(q.Pods, strings.TrimPrefix(pod.Namespace+"/"+pod.Name, "/"))
	}
	var err error
	q.Workloads, err = parseRefs(r.args, given)
	return q, err
}

// suspects finds them.
func (a *App) suspects(ctx context.Context, e *engine.Engine, r targetRequest) (*engine.Suspects, error) {
	q, err := a.query(r)
	if err != nil {
		return nil, err
	}
	return e.Suspects(ctx, q)
}

// query is what the words name, in the namespace that holds.
func (a *App) query(r targetRequest) (q engine.SuspectQuery, err error) {
	if q, err = r.query(a.givenNamespace()); err != nil {
		return q, err
	}
	q.Namespace, err = a.namespace()
	q.IncludeNew = r.includeNew
	return q, err
}

// podTypes are the spellings of kubectl for the type pod.
var podTypes = []string{"pod", "pods", "po"}

// parsePod reads NAME, NAMESPACE/NAME, or either after pod/, as -o name prints it.
func parsePod(flag, text, given string) (engine.Named, error) {
	parts := strings.Split(text, "/")
	if len(parts) > 1 && slices.Contains(podTypes, strings.ToLower(parts[0])) {
		parts = parts[1:]
	}
	if len(parts) > 2 || slices.Contains(parts, "") {
		return engine.Named{}, usagef("%s %q: give NAME or NAMESPACE/NAME", flag, text)
	}
	return inNamespace("pod", parts, text, given)
}

// inNamespace is an object of a type, by [NAMESPACE/]NAME in its parts. Two namespaces
// that are given for it must be the same.
func inNamespace(kind string, parts []string, text, given string) (engine.Named, error) {
	n := engine.Named{Type: kind, Name: parts[len(parts)-1]}
	if len(parts) > 1 {
		n.Namespace = parts[0]
	}
	if n.Namespace != "" && given != "" && n.Namespace != given {
		return n, usagef("%s is in namespace %s, and -n says %s: leave one of them out", text, n.Namespace, given)
	}
	n.Namespace = cmp.Or(n.Namespace, given)
	return n, nil
}

// parseRefs reads TYPE/NAME …, or TYPE NAME …, as kubectl does, and what -o name
// of detect prints: TYPE/NAMESPACE/NAME, and workload/NAMESPACE/TYPE/NAME.
func parseRefs(args []string, given string) ([]engine.Named, error) {
	if len(args) == 0 {
		return nil, nil
	}
	var refs []engine.Named
	if !strings.Contains(args[0], "/") {
		if len(args) < 2 {
			return nil, usagef("%q is not TYPE/NAME, such as deployment/backend; for a pod: --pod %s", args[0], args[0])
		}
		for _, name := range args[1:] {
			if strings.Contains(name, "/") {
				return nil, usagef("give either TYPE/NAME … or TYPE NAME …, not both")
			}
			refs = append(refs, engine.Named{Type: args[0], Name: name, Namespace: given})
		}
		return refs, nil
	}
	for _, arg := range args {
		parts := strings.Split(arg, "/")
		if parts[0] == "workload" && len(parts) == 4 {
			parts = []string{parts[2], parts[1], parts[3]}
		}
		if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
			return nil, usagef("%q is not TYPE/NAME, such as deployment/backend, nor TYPE/NAMESPACE/NAME", arg)
		}
		ref, err := inNamespace(parts[0], parts[1:], arg, given)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}
