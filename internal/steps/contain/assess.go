package contain

import (
	"context"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"irctl/internal/cluster"
	"irctl/internal/cluster/netpol"
	"irctl/internal/record"
	"irctl/internal/steps"
)

// Assessment is the verdict on all suspects of a scene.
type Assessment = record.Assessment

// Assess waits until what was meant is observed, or the context ends, and
// judges what is open then. Progress is told what is being waited for.
func Assess(ctx context.Context, scene *steps.Scene, o Options, facts *Facts, progress func(string)) Assessment {
	ob := newObserver(scene, o)
	late := context.WithoutCancel(ctx)
	if ob.wait(ctx, progress) != nil {
		// The end may have cut the last look short: what it could not read
		// must not be taken for what is gone.
		lookCtx, cancel := ob.scene.Client.Briefly(late)
		defer cancel()
		ob.look(lookCtx)
	}
	return ob.assess(late, facts)
}

// Look judges what is so now, without waiting.
func Look(ctx context.Context, scene *steps.Scene, o Options, facts *Facts) Assessment {
	ob := newObserver(scene, o)
	ob.look(ctx)
	return ob.assess(ctx, facts)
}

// SecondLook looks again after a while and adds to the assessment what was
// put back in the meantime.
func SecondLook(ctx context.Context, scene *steps.Scene, o Options, facts *Facts, after time.Duration,
	first Assessment) Assessment {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return first
	case <-timer.C:
	}
	second := Look(ctx, scene, o, facts)
	second.PutBack = putBack(first, second)
	return second
}

func (ob *observer) assess(ctx context.Context, facts *Facts) Assessment {
	ctx, cancel := ob.scene.Client.Briefly(ctx)
	defer cancel()
	namespaces := namespacesOf(ob.scene.Targets)
	policies := make([][]networkingv1.NetworkPolicy, len(namespaces))
	errs := make([]error, len(namespaces))
	cluster.Parallel(len(namespaces)+1, func(i int) {
		if i < len(namespaces) {
			policies[i], errs[i] = ob.scene.Client.Policies(ctx, namespaces[i])
			return
		}
		ob.unseen = unseen(Opponents(ctx, ob.scene))
	})
	a := Assessment{}
	for _, t := range ob.scene.Targets {
		for i, ns := range namespaces {
			if ns == t.Pod.Namespace {
				a.Findings = append(a.Findings, ob.finding(t, policies[i], errs[i], facts))
			}
		}
	}
	a.Workloads = ob.bareWorkloads()
	total(&a)
	return a
}

// total is the verdict on all that was judged.
func total(a *Assessment) {
	a.Verdict = Worst(a.Findings)
	for _, c := range a.Workloads {
		// A workload without suspects is itself what was to be judged.
		if v := ofCheck(c); v == NotContained || c.Unknown {
			a.Verdict = Worse(a.Verdict, Worse(v, Undetermined))
		}
	}
}

// Accept takes out of the verdict the exposures that somebody took upon himself,
// as accepted tells of their code and the suspect, "namespace/pod". What was meant
// and not observed cannot be accepted.
func Accept(a *Assessment, accepted func(code, object string) *record.Accepted) {
	for i := range a.Findings {
		f := &a.Findings[i]
		for n := range f.Exposures {
			x := &f.Exposures[n]
			x.Accepted = accepted(x.Code, f.Namespace+"/"+f.Pod)
		}
		conclude(f)
	}
	total(a)
}

// Leave takes out of an assessment the checks that failed of a controller which
// somebody leaves as it is.
func Leave(a *Assessment, object string) {
	left := func(c Check) bool { return c.Object == object && !c.OK }
	for i := range a.Findings {
		a.Findings[i].Checks = slices.DeleteFunc(a.Findings[i].Checks, left)
	}
	a.Workloads = slices.DeleteFunc(a.Workloads, left)
}

func (ob *observer) finding(t *cluster.Target, policies []networkingv1.NetworkPolicy, policyErr error,
	facts *Facts) Finding {
	f := Finding{Namespace: t.Pod.Namespace, Pod: t.Pod.Name, UID: string(t.Pod.UID), Node: t.Pod.Spec.NodeName,
		Checks: ob.checks(t)}
	_, warning := toStop(t.Owners)
	if warning != nil && slices.Contains(ob.Steps, StepScale) && !ob.Isolated[t.Pod.UID] {
		// There is nothing to wait for.
		f.Checks = append(f.Checks, Check{Code: "workload", Unknown: warning.Code == unreadable, Text: warning.Text})
	}
	if w := t.Workload(); w != nil {
		f.Workload = w.Kind + "/" + w.Name
	}
	pod := ob.pods[t.Pod.UID]
	if pod == nil {
		conclude(&f)
		return f
	}
	var policy *effective
	if policyErr == nil {
		policy = &effective{netpol.Evaluate(netpol.PodOf(pod), policies),
			ob.intact(ob.scene.Incident, pod.Namespace, policies)}
		f.Policies = policy.Selecting
	} else {
		f.Checks = append(f.Checks, Check{Code: "policy", Unknown: true, Text: policyErr.Error()})
	}
	f.Exposures = exposures(ob.scene, t, pod, policy, policyErr, facts)
	for _, g := range slices.Concat(facts.Gaps, ob.around(t), ob.unseen) {
		f.Exposures = append(f.Exposures, g.exposure())
	}
	conclude(&f)
	return f
}

// bareWorkloads are the checks of workloads that no suspect belongs to.
func (ob *observer) bareWorkloads() []Check {
	var list []Check
	for _, chain := range ob.scene.Workloads {
		owners, _ := toStop(chain)
		for _, o := range owners {
			st := ob.owners[o.UID]
			if st == nil {
				continue
			}
			c := Check{Code: "workload", OK: st.down(), Unknown: st.err != nil, Text: o.Ref.String() + " is down",
				Object: o.Ref.String()}
			if !c.OK {
				c.Text = st.why()
			}
			list = append(list, c)
		}
	}
	return list
}
