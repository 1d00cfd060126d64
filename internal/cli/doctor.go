package cli

import (
	"context"
	"fmt"
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
)

// diagnosis is one thing that the doctor looked at.
type diagnosis struct {
	Check string `json:"check"`
	// State is "ok", "warning" or "bad".
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
)

type doctorOptions struct {
	allNamespaces bool
	roles         bool
	recipients    []string
}

func (a *App) doctor() *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{Use: "doctor", Short: "Tell, before the incident, what would not work in it",
		Long: `Check what an incident will need: that the server can be reached, its version, the
clocks, every right that each phase needs, what enforces NetworkPolicy, where incidents
are kept, and who could open the evidence. Exit code 1 if something necessary is missing.`,
		Args: noArgs, RunE: func(c *cobra.Command, _ []string) error { return a.runDoctor(c, o) }}
	f := cmd.Flags()
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "check the rights in all namespaces rather than in one")
	f.BoolVar(&o.roles, "roles", false, "print the ClusterRoles that grant the rights, for kubectl apply -f -")
	f.StringSliceVarP(&o.recipients, "recipient", "r", nil, "who can open the evidence, as contain takes it")
	return cmd
}

func (a *App) runDoctor(c *cobra.Command, o *doctorOptions) error {
	if o.roles {
		_, err := fmt.Fprintf(a.Out, "%s---\n%s---\n%s---\n%s", deploy.Responder, deploy.Investigator, deploy.Eradicator, deploy.Recoverer)
		return err
	}
	ctx, cancel := a.context(c)
	defer cancel()
	list := append([]diagnosis{a.checkStore(), a.checkRecipients(ctx, o.recipients)}, a.checkCluster(ctx, o)...)
	sick := 0
	for _, d := range list {
		if d.State == ill {
			sick++
		}
	}
	if err := a.printDiagnoses(list); err != nil {
		return err
	}
	if sick > 0 {
		return exitError{code: ExitError, err: fmt.Errorf("not ready for an incident: %s", plural.Count(sick, "check")+" failed")}
	}
	return nil
}

func (a *App) printDiagnoses(list []diagnosis) error {
	if done, err := a.printObject(map[string]any{"checks": list}); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	for _, d := range a.gathered(list) {
		sign := map[string]string{healthy: st.good("✓"), warning: st.warn("!"), ill: st.bad("✗")}[d.State]
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
	type kind struct{ check, state string }
	alike := map[kind][]string{}
	for _, d := range list {
		if d.short != "" {
			k := kind{d.Check, d.State}
			alike[k] = append(alike[k], d.short)
		}
	}
	var out []diagnosis
	for _, d := range list {
		k := kind{d.Check, d.State}
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
	store, err := a.store()
	if err != nil {
		return diagnosis{Check: "state directory", State: ill, Text: err.Error(), Fix: "set IRCTL_STATE_DIR to a directory of your own that can be written"}
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
		return diagnosis{Check: "recipients", State: ill, Text: err.Error(), Fix: "name keys that can be used, in the configuration file or with -r"}
	case s == nil:
		return diagnosis{Check: "recipients", State: warning, Text: note}
	}
	return diagnosis{Check: "recipients", State: healthy, Text: note}
}

func (a *App) checkCluster(ctx context.Context, o *doctorOptions) []diagnosis {
	client, err := a.client()
	if err != nil {
		return []diagnosis{{Check: "server", State: ill, Text: err.Error()}}
	}
	id, err := client.Identify(ctx)
	if err != nil {
		return []diagnosis{{Check: "server", State: ill, Text: err.Error(), Fix: cluster.Explain(err)}}
	}
	list := []diagnosis{
		{Check: "server", State: healthy, Text: fmt.Sprintf("%s, version %s, cluster %s", id.Server, dash(id.Version), dash(id.ClusterUID))},
		identityCheck(id), clockCheck(client),
	}
	namespace := ""
	if !o.allNamespaces {
		if namespace, err = a.namespace(); err != nil {
			return append(list, diagnosis{Check: "rights", State: ill, Text: err.Error()})
		}
	}
	list = append(list, rightsChecks(ctx, client, namespace)...)
	return append(list, enforcementCheck(ctx, client, id.Version))
}

func identityCheck(id cluster.Identity) diagnosis {
	if id.User == "" {
		return diagnosis{Check: "identity", State: warning, Text: "the server does not say who we are (SelfSubjectReview, since Kubernetes 1.28); the timeline will name the local user only"}
	}
	return diagnosis{Check: "identity", State: healthy, Text: fmt.Sprintf("%s, of %s", id.User, dash(strings.Join(id.Groups, ", ")))}
}

// maxSkew is from when on the times in a timeline mislead.
const maxSkew = 5 * time.Second

func clockCheck(client *cluster.Client) diagnosis {
	offset, known := client.ClockOffset()
	switch {
	case !known:
		return diagnosis{Check: "clock", State: warning, Text: "the server's answers carry no time"}
	case offset.Abs() > maxSkew:
		return diagnosis{Check: "clock", State: warning, Text: fmt.Sprintf("the server's clock is %s off from this machine's: the timeline and the cluster's events will not agree", offset.Round(time.Second)), Fix: "synchronise the clocks (NTP)"}
	}
	return diagnosis{Check: "clock", State: healthy, Text: "this machine and the server agree to within " + max(offset.Abs(), time.Second).Round(time.Second).String()}
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
		d := diagnosis{Check: "right to " + r.Phase, State: ill, Text: fmt.Sprintf("may not %s %s in %s, needed to: %s", r.Verb, qualified(r), where, r.For),
			Fix: "bind the ClusterRole " + roleOf(r.Phase) + " (irctl doctor --roles prints it)", short: r.Verb + " " + qualified(r)}
		if r.Phase == steps.PhaseEradicate {
			d.Fix = "bind the ClusterRole irctl-eradicator to who may see the secrets, once there is need (irctl doctor --roles prints it)"
		}
		if r.Phase == steps.PhaseRecover && r.Verb == "delete" && r.Resource == "pods" {
			d.Fix = "bind the ClusterRole irctl-recoverer once a suspect is to be deleted (irctl doctor --roles prints it)"
		}
		if r.ClusterWide {
			d.Text = fmt.Sprintf("may not %s %s cluster-wide, needed to: %s", r.Verb, qualified(r), r.For)
		}
		if r.Optional {
			d.State = warning
		}
		if answers[i].Err != nil {
			d.Text = answers[i].Err.Error()
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
			list = append(list, diagnosis{Check: "right to " + p, State: healthy, Text: fmt.Sprintf("all %d rights in %s", total, where)})
		}
	}
	return list
}

// roleOf is the ClusterRole that grants what a phase needs.
func roleOf(phase string) string {
	switch phase {
	case steps.PhaseContain, steps.PhaseRecover:
		return "irctl-responder"
	case steps.PhaseEradicate:
		return "irctl-eradicator"
	}
	return "irctl-investigator"
}

func qualified(r steps.Right) string {
	if r.Group == "" {
		return r.Resource
	}
	return r.Resource + "." + r.Group
}

func enforcementCheck(ctx context.Context, client *cluster.Client, version string) diagnosis {
	enforcers, err := contain.Enforcers(ctx, client, version)
	switch {
	case err != nil:
		return diagnosis{Check: "policy enforcement", State: warning, Text: "unknown: " + err.Error()}
	case len(enforcers) == 0:
		return diagnosis{Check: "policy enforcement", State: warning, Text: "nothing was recognised that enforces NetworkPolicy: a quarantine may be without effect",
			Fix: "find out from your network plugin's documentation, and try it: a pod under a deny-all policy must not be reachable"}
	}
	return diagnosis{Check: "policy enforcement", State: healthy, Text: strings.Join(enforcers, ", ")}
}
