package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"irctl/internal/cluster"
)

// targetRequest is how a responder names suspects.
type targetRequest struct {
	pods          []string
	selector      string
	allNamespaces bool
	args          []string
}

// validate finds what is wrong with the words before a cluster is asked.
func (r targetRequest) validate() error {
	switch {
	case len(r.pods) == 0 && r.selector == "" && len(r.args) == 0:
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

// targetSet is what was found.
type targetSet struct {
	pods      []*cluster.Target
	workloads [][]*cluster.Owner
	failures  []string
}

// targets finds the suspects. One that cannot be found among several is a
// failure of its own; the only one is an error.
func (a *App) targets(ctx context.Context, client *cluster.Client, r targetRequest) (*targetSet, error) {
	namespace, err := a.namespace()
	if err != nil {
		return nil, err
	}
	refs, err := splitRefs(r.args)
	if err != nil {
		return nil, err
	}
	set := &targetSet{}
	var errs []error
	for _, ref := range refs {
		kind, err := client.ResourceType(ctx, ref[0])
		if err != nil {
			return nil, err
		}
		if kind.Kind == cluster.Pod.Kind && kind.Group == "" {
			r.pods = append(r.pods, ref[1])
			continue
		}
		if err := set.workload(ctx, client, kind.Named(namespace, ref[1], "")); err != nil {
			errs = append(errs, err)
		}
	}
	found := make([]*cluster.Target, len(r.pods))
	podErrs := make([]error, len(r.pods))
	cluster.Parallel(len(r.pods), func(i int) { found[i], podErrs[i] = client.GetTarget(ctx, namespace, r.pods[i]) })
	for i, t := range found {
		if podErrs[i] != nil {
			errs = append(errs, podErrs[i])
			continue
		}
		set.add(t)
	}
	if r.selector != "" {
		if r.allNamespaces {
			namespace = ""
		}
		selected, err := client.SelectTargets(ctx, namespace, r.selector)
		if err != nil {
			errs = append(errs, err)
		}
		if err == nil && len(selected) == 0 {
			errs = append(errs, fmt.Errorf("no pod matches -l %s", r.selector))
		}
		for _, t := range selected {
			set.add(t)
		}
	}
	if len(set.pods) == 0 && len(set.workloads) == 0 {
		return nil, errors.Join(errs...)
	}
	for _, err := range errs {
		set.failures = append(set.failures, err.Error())
	}
	return set, nil
}

func (s *targetSet) add(t *cluster.Target) {
	for _, known := range s.pods {
		if known.Pod.UID == t.Pod.UID {
			return
		}
	}
	s.pods = append(s.pods, t)
}

// workload adds the pods of a workload, and the workload itself, which is
// taken down also if it has none now.
func (s *targetSet) workload(ctx context.Context, client *cluster.Client, ref cluster.Ref) error {
	chain, err := client.Owner(ctx, ref)
	if err != nil {
		return err
	}
	s.workloads = append(s.workloads, chain)
	pods, err := client.WorkloadTargets(ctx, chain[0].Ref)
	if err != nil {
		return err
	}
	for _, t := range pods {
		s.add(t)
	}
	return nil
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
