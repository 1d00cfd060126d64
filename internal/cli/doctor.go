package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"irctl/deploy"
	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
	"irctl/internal/steps/eradicate"
)

// diagnosis is one thing that the doctor looked at.
type diagnosis struct {
	Check string `json:"check"`
	// State is "ok", "warning" or "bad"; "unknown": it could not be looked at.
	State string `json:"state"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`

	// short names it among many of its kind.
	short string
}

const (
	healthy = "ok"
	warning = "warning"
	ill     = "bad"
	unknown = "unknown"
)

type doctorOptions struct {
	allNamespaces bool
	roles         bool
	recipients    []string
	apply         []string
}

func (a *App) doctor() *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{Use: "doctor", Short: "Tell, before the incident, what would not work in it",
		Long: `Check what an incident will need: that the server can be reached, its version, the
clocks, every right that each phase needs, what enforces NetworkPolicy, where incidents
are kept, and who could open the evidence. What irctl eradicate --apply needs depends on
the manifests: give the same --apply here. Exit code 1 if something necessary is missing,
5 if something necessary could not be looked at.`,
		Args: noArgs, RunE: func(c *cobra.Command, _ []string) error { return a.runDoctor(c, o) }}
	f := cmd.Flags()
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "check the rights in all namespaces rather than in one")
	f.BoolVar(&o.roles, "roles", false, "print the ClusterRoles that grant the rights, for kubectl apply -f -")
	f.StringSliceVar(&o.apply, "apply", nil,
		"a file or folder of manifests: check the rights to apply them, as irctl eradicate --apply does")
	f.StringSliceVarP(&o.recipients, "recipient", "r", nil, "who can open the evidence, as contain takes it")
	return cmd
}

func (a *App) runDoctor(c *cobra.Command, o *doctorOptions) error {
	if o.roles {
		if a.output != asTable && a.output != asYAML {
			return usagef("-o %s does not go with --roles, which prints YAML for kubectl apply -f -", a.output)
		}
		_, err := fmt.Fprint(a.Out, strings.Join(deploy.ClusterRoles, "---\n"))
		return err
	}
	manifests, err := eradicate.ReadManifests(c.Context(), o.apply)
	if err != nil {
		return usagef("--apply: %w", err)
	}
	ctx, cancel := a.context(c)
	defer cancel()
	list := append([]diagnosis{a.checkStore(), a.checkRecipients(ctx, o.recipients)},
		a.checkCluster(ctx, o, manifests)...)
	sick, unseen := 0, 0
	for _, d := range list {
		switch d.State {
		case ill:
			sick++
		case unknown:
			unseen++
		}
	}
	if err := a.printDiagnoses(list); err != nil {
		return err
	}
	if sick > 0 {
		return exitError{code: ExitError, err: fmt.Errorf("not ready for an incident: %s", plural.Count(sick, "check")+
			" failed")}
	}
	if unseen > 0 {
		return fmt.Errorf("%w whether all is ready for an incident: %s not be made", engine.ErrUndetermined,
			plural.Count(unseen, "check")+" could")
	}
	return nil
}

func (a *App) printDiagnoses(list []diagnosis) error {
	if done, err := a.printObject(map[string]any{"checks": list}); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	for _, d := range a.gathered(list) {
		sign := map[string]string{healthy: st.good("✓"), warning: st.warn("!"), ill: st.bad("✗"),
			unknown: st.warn("?")}[d.State]
		fmt.Fprintf(a.Out, "%s %s: %s\n", sign, d.Check, sanitize.Line(d.Text))
		if d.Fix != "" {
			fmt.Fprintf(a.Out, "    %s %s\n", st.dim("→"), sanitize.Line(d.Fix))
		}
	}
	return nil
}

// gathered joins many of one kind into one line, unless -v: nobody who has no
// rights at all wants to read fifty times that one is missing.
func (a *App) gathered(list []diagnosis) []diagnosis {
	const many = 3
	type kind struct{ check, state, fix string }
	alike := map[kind][]string{}
	for _, d := range list {
		if d.short != "" {
			k := kind{d.Check, d.State, d.Fix}
			alike[k] = append(alike[k], d.short)
		}
	}
	var out []diagnosis
	for _, d := range list {
		k := kind{d.Check, d.State, d.Fix}
		switch names := alike[k]; {
		case d.short == "" || a.verbose || len(names) <= many:
			out = append(out, d)
		case names[0] == d.short:
			d.Text = fmt.Sprintf("%d rights are missing (-v says what for): %s", len(names), strings.Join(names, ", "))
			out = append(out, d)
		}
	}
	return out
}

func (a *App) checkStore() diagnosis {
	store, err := a.storeToWrite() // it looks, and makes nothing
	if err != nil {
		return diagnosis{Check: "state directory", State: ill, Text: err.Error(),
			Fix: "set IRCTL_STATE_DIR to a directory of your own that can be written"}
	}
	return diagnosis{Check: "state directory", State: healthy, Text: store.Dir()}
}

func (a *App) checkRecipients(ctx context.Context, refs []string) diagnosis {
	var s *engine.Sealing
	conf, err := a.configuration()
	if err == nil {
		s, err = a.sealing(ctx, refs, conf)
	}
	_, note := snapshotOf(s)
	switch {
	case err != nil:
		return diagnosis{Check: "recipients", State: ill, Text: err.Error(),
			Fix: "name keys that can be used, in the configuration file or with -r"}
	case s == nil:
		return diagnosis{Check: "recipients", State: warning, Text: note}
	}
	return diagnosis{Check: "recipients", State: healthy, Text: note}
}

func (a *App) checkCluster(ctx context.Context, o *doctorOptions, manifests []eradicate.Manifest) []diagnosis {
	client, err := a.client()
	if err != nil {
		return []diagnosis{{Check: "server", State: ill, Text: err.Error()}}
	}
	id, err := client.Identify(ctx)
	if err != nil {
		return []diagnosis{{Check: "server", State: ill, Text: err.Error(), Fix: explain(err)}}
	}
	list := []diagnosis{
		{Check: "server", State: healthy, Text: fmt.Sprintf("%s, version %s, cluster %s", id.Server, dash(id.Version),
			dash(id.ClusterUID))},
		identityCheck(id), clockCheck(client),
	}
	namespace := ""
	if !o.allNamespaces {
		if namespace, err = a.namespace(); err != nil {
			return append(list, diagnosis{Check: "rights", State: ill, Text: err.Error()})
		}
		// Rights are granted in namespaces that do not exist, too.
		if err := client.CheckNamespace(ctx, namespace); err != nil {
			return append(list, diagnosis{Check: "namespace", State: ill, Text: err.Error()})
		}
	}
	list = append(list, rightsChecks(ctx, client, namespace)...)
	if len(manifests) > 0 {
		list = append(list, applyChecks(ctx, client, manifests, a.givenNamespace())...)
	}
	return append(list, enforcementCheck(ctx, client, id.Version))
}

func identityCheck(id cluster.Identity) diagnosis {
	if id.User == "" {
		return diagnosis{Check: "identity", State: warning, Text: "the server does not say who we are " +
			"(SelfSubjectReview, since Kubernetes 1.28); the timeline will name the local user only"}
	}
	return diagnosis{Check: "identity", State: healthy,
		Text: fmt.Sprintf("%s, of %s", id.User, dash(strings.Join(id.Groups, ", ")))}
}

// maxSkew is from when on the times in a timeline mislead.
const maxSkew = 5 * time.Second

func clockCheck(client *cluster.Client) diagnosis {
	offset, known := client.ClockOffset()
	switch {
	case !known:
		return diagnosis{Check: "clock", State: warning, Text: "the server's answers carry no time"}
	case offset.Abs() > maxSkew:
		return diagnosis{Check: "clock", State: warning,
			Text: fmt.Sprintf(
				"the server's clock is %s off from this machine's: the timeline and the cluster's events will not "+
					"agree", offset.Round(time.Second)), Fix: "synchronise the clocks (NTP)"}
	}
	return diagnosis{Check: "clock", State: healthy, Text: "this machine and the server agree to within " +
		max(offset.Abs(), time.Second).Round(time.Second).String()}
}

func rightsChecks(ctx context.Context, client *cluster.Client, namespace string) []diagnosis {
	questions := make([]cluster.Access, len(steps.Rights))
	for i, r := range steps.Rights {
		questions[i] = cluster.Access{Verb: r.Verb, Group: r.Group, Resource: r.Resource, Namespace: namespace}
		if r.ClusterWide {
			questions[i].Namespace = ""
		}
	}
	answers := client.Can(ctx, questions)
	where := "namespace " + namespace
	if namespace == "" {
		where = "all namespaces"
	}
	var list []diagnosis
	have := map[string]int{}
	var phases []string
	for i, r := range steps.Rights {
		if _, seen := have[r.Phase]; !seen {
			have[r.Phase] = 0
			phases = append(phases, r.Phase)
		}
		if answers[i].Allowed {
			have[r.Phase]++
			continue
		}
		d := diagnosis{Check: "right to " + r.Phase, State: ill, Text: fmt.Sprintf("may not %s %s in %s, needed to: %s",
			r.Verb, qualified(r.Group, r.Resource), where, r.For),
			Fix: fixOf(r), short: r.Verb + " " + qualified(r.Group, r.Resource)}
		if r.ClusterWide {
			d.Text = fmt.Sprintf("may not %s %s cluster-wide, needed to: %s", r.Verb, qualified(r.Group, r.Resource),
				r.For)
		}
		if r.Optional {
			d.State = warning
		}
		if answers[i].Err != nil {
			d.State, d.Text, d.Fix, d.short = unknown, answers[i].Err.Error(), "", ""
			if r.Optional {
				d.State = warning
			}
		}
		list = append(list, d)
	}
	for _, p := range phases {
		total := 0
		for _, r := range steps.Rights {
			if r.Phase == p {
				total++
			}
		}
		if have[p] == total {
			list = append(list, diagnosis{Check: "right to " + p, State: healthy,
				Text: fmt.Sprintf("all %d rights in %s", total, where)})
		}
	}
	return list
}

// fixOf says how to come by a right.
func fixOf(r steps.Right) string {
	when := map[string]string{
		"irctl-eradicator": " to who may see the secrets, once there is need",
		"irctl-unbinder":   " once suspects are to lose their rights",
		"irctl-recoverer":  " once a suspect is to be deleted",
	}
	if r.Role() == "" {
		return "have somebody do it who holds all that the role allows, or grant bind on that role by its name, " +
			"which is not looked at here (irctl doctor --roles says how)"
	}
	return "bind the ClusterRole " + r.Role() + when[r.Role()] + " (irctl doctor --roles prints it)"
}

// applyChecks are about what the team's manifests need. No ClusterRole can
// ship for it: the kinds are the team's.
func applyChecks(ctx context.Context, client *cluster.Client, manifests []eradicate.Manifest,
	namespace string) []diagnosis {
	const check = "right to apply"
	var list []diagnosis
	questions, errs := eradicate.AccessToApply(ctx, client, manifests, namespace)
	for _, err := range errs {
		list = append(list, diagnosis{Check: check, State: ill, Text: err.Error()})
	}
	var resources []string
	for _, q := range questions {
		if name := qualified(q.Group, q.Resource); !slices.Contains(resources, name) {
			resources = append(resources, name)
		}
	}
	fix := fmt.Sprintf(
		"kubectl create clusterrole irctl-applier --verb=%s --resource=%s, and bind it once there is need",
		strings.Join(eradicate.VerbsToApply, ","), strings.Join(resources, ","))
	for i, answer := range client.Can(ctx, questions) {
		q := questions[i]
		where := "cluster-wide"
		if q.Namespace != "" {
			where = "in namespace " + q.Namespace
		}
		switch {
		case answer.Err != nil:
			list = append(list, diagnosis{Check: check, State: unknown, Text: answer.Err.Error()})
		case !answer.Allowed:
			what := q.Verb + " " + qualified(q.Group, q.Resource)
			list = append(list, diagnosis{Check: check, State: ill, Fix: fix,
				Text:  fmt.Sprintf("may not %s %s, needed to: apply the manifests, and undo it", what, where),
				short: what + " " + where})
		}
	}
	if len(list) == 0 {
		list = append(list, diagnosis{Check: check, State: healthy,
			Text: fmt.Sprintf("all %s for %s", plural.Count(len(questions), "right"),
				plural.Count(len(manifests), "manifest"))})
	}
	return list
}

func qualified(group, resource string) string {
	if group == "" {
		return resource
	}
	return resource + "." + group
}

func enforcementCheck(ctx context.Context, client *cluster.Client, version string) diagnosis {
	enforcers, err := contain.Enforcers(ctx, client, version)
	switch {
	case err != nil:
		return diagnosis{Check: "policy enforcement", State: warning, Text: "unknown: " + err.Error()}
	case len(enforcers) == 0:
		return diagnosis{Check: "policy enforcement", State: warning,
			Text: "nothing was recognised that enforces NetworkPolicy: a quarantine may be without effect",
			Fix: "find out from your network plugin's documentation, and try it: a pod under a deny-all policy must " +
				"not be reachable"}
	}
	return diagnosis{Check: "policy enforcement", State: healthy, Text: strings.Join(enforcers, ", ")}
}
