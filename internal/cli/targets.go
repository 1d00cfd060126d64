package cli

import (
	"context"
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
}

// validate finds what is wrong with the words before a cluster is asked.
func (r targetRequest) validate() error {
	switch {
	case len(r.pods) == 0 && r.selector == "" && len(r.args) == 0 && !r.all:
		return usagef("which suspects? give --pod NAME, -l SELECTOR or TYPE/NAME")
	case r.allNamespaces && r.selector == "":
		return usagef("-A goes with -l SELECTOR")
	}
	if _, err := labels.Parse(r.selector); err != nil {
		return usagef("-l %s: %v", r.selector, err)
	}
	_, err := splitRefs(r.args)
	return err
}

// suspects finds them.
func (a *App) suspects(ctx context.Context, e *engine.Engine, r targetRequest) (*engine.Suspects, error) {
	namespace, err := a.namespace()
	if err != nil {
		return nil, err
	}
	refs, err := splitRefs(r.args)
	if err != nil {
		return nil, err
	}
	q := engine.SuspectQuery{Namespace: namespace, Selector: r.selector, AllNamespaces: r.allNamespaces, All: r.all}
	for _, name := range r.pods {
		q.Pods = append(q.Pods, namespace+"/"+name)
	}
	for _, ref := range refs {
		q.Workloads = append(q.Workloads, engine.Named{Type: ref[0], Name: ref[1]})
	}
	return e.Suspects(ctx, q)
}

// splitRefs takes TYPE/NAME …, or TYPE NAME …, as kubectl does.
func splitRefs(args []string) ([][2]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	var refs [][2]string
	if !strings.Contains(args[0], "/") {
		if len(args) < 2 {
			return nil, usagef("%q is not TYPE/NAME, such as deployment/backend; for a pod: --pod %s", args[0], args[0])
		}
		for _, name := range args[1:] {
			if strings.Contains(name, "/") {
				return nil, usagef("give either TYPE/NAME … or TYPE NAME …, not both")
			}
			refs = append(refs, [2]string{args[0], name})
		}
		return refs, nil
	}
	for _, arg := range args {
		kind, name, ok := strings.Cut(arg, "/")
		if !ok || kind == "" || name == "" || strings.Contains(name, "/") {
			return nil, usagef("%q is not TYPE/NAME, such as deployment/backend", arg)
		}
		refs = append(refs, [2]string{kind, name})
	}
	return refs, nil
}
