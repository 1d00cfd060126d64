package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"irctl/deploy"
	"irctl/internal/cluster"
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
		_, err := fmt.Fprintf(a.Out, "%s---\n%s", deploy.Responder, deploy.Investigator)
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
		return exitError{code: ExitError, err: fmt.Errorf("not ready for an incident: %s", countOf(sick, "check"))}
	}
	return nil
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what + " failed"
	}
	return fmt.Sprintf("%d %ss failed", n, what)
}

func (a *App) printDiagnoses(list []diagnosis) error {
	if done, err := a.printObject(map[string]any{"checks": list}); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	for _, d := range list {
		sign := map[string]string{healthy: st.good("✓"), warning: st.warn("!"), ill: st.bad("✗")}[d.State]
		fmt.Fprintf(a.Out, "%s %s: %s\n", sign, d.Check, sanitize.Line(d.Text))
		if d.Fix != "" {
			fmt.Fprintf(a.Out, "    %s %s\n", st.dim("→"), sanitize.Line(d.Fix))
		}
	}
	return nil
}

func (a *App) checkStore() diagnosis {
	store, err := a.store()
	if err != nil {
		return diagnosis{"state directory", ill, err.Error(), "set IRCTL_STATE_DIR to a directory of your own that can be written"}
	}
	return diagnosis{"state directory", healthy, store.Dir(), ""}
}

func (a *App) checkRecipients(ctx context.Context, refs []string) diagnosis {
	take, note, err := a.snapshot(ctx, refs)
	switch {
	case err != nil:
		return diagnosis{"recipients", ill, err.Error(), "name keys that can be used, in the configuration file or with -r"}
	case take == nil:
		return diagnosis{"recipients", warning, note, ""}
	}
	return diagnosis{"recipients", healthy, note, ""}
}

func (a *App) checkCluster(ctx context.Context, o *doctorOptions) []diagnosis {
	client, err := a.client()
	if err != nil {
		return []diagnosis{{"server", ill, err.Error(), ""}}
	}
	id, err := client.Identify(ctx)
	if err != nil {
		return []diagnosis{{"server", ill, err.Error(), cluster.Explain(err)}}
	}
	list := []diagnosis{
		{"server", healthy, fmt.Sprintf("%s, version %s, cluster %s", id.Server, dash(id.Version), dash(id.ClusterUID)), ""},
		identityCheck(id), clockCheck(client),
	}
	namespace := ""
	if !o.allNamespaces {
		if namespace, err = a.namespace(); err != nil {
			return append(list, diagnosis{"rights", ill, err.Error(), ""})
		}
	}
	list = append(list, rightsChecks(ctx, client, namespace)...)
	return append(list, enforcementCheck(ctx, client, id.Version))
}

func identityCheck(id cluster.Identity) diagnosis {
	if id.User == "" {
		return diagnosis{"identity", warning, "the server does not say who we are (SelfSubjectReview, since Kubernetes 1.28); the timeline will name the local user only", ""}
	}
	return diagnosis{"identity", healthy, fmt.Sprintf("%s, of %s", id.User, dash(strings.Join(id.Groups, ", "))), ""}
}

// maxSkew is from when on the times in a timeline mislead.
const maxSkew = 5 * time.Second

func clockCheck(client *cluster.Client) diagnosis {
	offset, known := client.ClockOffset()
	switch {
	case !known:
		return diagnosis{"clock", warning, "the server's answers carry no time", ""}
	case offset.Abs() > maxSkew:
		return diagnosis{"clock", warning, fmt.Sprintf("the server's clock is %s off from this machine's: the timeline and the cluster's events will not agree", offset.Round(time.Second)), "synchronise the clocks (NTP)"}
	}
	return diagnosis{"clock", healthy, "this machine and the server agree to within " + max(offset.Abs(), time.Second).Round(time.Second).String(), ""}
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
			Fix: "bind the ClusterRole irctl-responder (irctl doctor --roles prints it)"}
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
			list = append(list, diagnosis{"right to " + p, healthy, fmt.Sprintf("all %d rights in %s", total, where), ""})
		}
	}
	return list
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
		return diagnosis{"policy enforcement", warning, "unknown: " + err.Error(), ""}
	case len(enforcers) == 0:
		return diagnosis{"policy enforcement", warning, "nothing was recognised that enforces NetworkPolicy: a quarantine may be without effect",
			"find out from your network plugin's documentation, and try it: a pod under a deny-all policy must not be reachable"}
	}
	return diagnosis{"policy enforcement", healthy, strings.Join(enforcers, ", "), ""}
}
