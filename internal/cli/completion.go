package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/cluster"
	"irctl/internal/incident"
)

func (a *App) completion(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "completion (bash|zsh|fish|powershell)", Short: "Print a shell completion script",
		Long:      "Print a shell completion script. For bash:\n\n  source <(irctl completion bash)",
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("for which shell? bash, zsh, fish or powershell")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Out)
			}
			return usagef("no completion for %q: use bash, zsh, fish or powershell", args[0])
		}}
}

// completionTime bounds what a press of the tab key may wait for.
const completionTime = 2 * time.Second

const noFiles = cobra.ShellCompDirectiveNoFileComp

// mustComplete registers a completion; that the flag does not exist is a bug.
func (a *App) mustComplete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// fromCluster asks the cluster for names; whatever goes wrong, there are none.
func (a *App) fromCluster(c *cobra.Command, list func(ctx context.Context, client *cluster.Client,
	namespace string) ([]string, error)) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTime)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return nil, noFiles
	}
	ns, err := a.namespace()
	if err != nil {
		return nil, noFiles
	}
	names, err := list(ctx, client, ns)
	if err != nil {
		return nil, noFiles
	}
	return names, noFiles
}

func (a *App) completePods(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.fromCluster(c, func(ctx context.Context, client *cluster.Client, namespace string) ([]string, error) {
		return client.Names(ctx, cluster.Pod, namespace)
	})
}

func (a *App) completeNamespaces(c *cobra.Command, _ []string, _ string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	return a.fromCluster(c, func(ctx context.Context, client *cluster.Client, _ string) ([]string, error) {
		return client.Names(ctx, cluster.NamespaceRef, "")
	})
}

// completeWorkloads completes TYPE/NAME.
func (a *App) completeWorkloads(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.fromCluster(c, func(ctx context.Context, client *cluster.Client, namespace string) ([]string, error) {
		var names []string
		for _, kind := range []cluster.Ref{cluster.Deployment, cluster.StatefulSet, cluster.DaemonSet, cluster.CronJob,
			cluster.Job} {
			found, err := client.Names(ctx, kind, namespace)
			if err != nil {
				return names, err
			}
			for _, name := range found {
				names = append(names, kind.Named(namespace, name, "").KubectlName())
			}
		}
		return names, nil
	})
}

func (a *App) completeIncidents(c *cobra.Command, args []string, _ string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	return a.incidentNames(c, func(incident.Incident) bool { return true })
}

func (a *App) completeOpenIncidents(c *cobra.Command, args []string, _ string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	return a.incidentNames(c, func(i incident.Incident) bool { return i.State == incident.StateOpen })
}

func (a *App) completeClosedIncidents(c *cobra.Command, args []string, _ string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	return a.incidentNames(c, func(i incident.Incident) bool { return i.State == incident.StateClosed })
}

func (a *App) incidentNames(c *cobra.Command, want func(incident.Incident) bool) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	store, err := a.quietStore() // a warning would stand in the middle of the command line
	if err != nil {
		return nil, noFiles
	}
	var names []cobra.Completion
	list, _ := store.List(c.Context()) // a damaged incident cannot be completed
	for _, i := range list {
		if want(i) {
			names = append(names, cobra.CompletionWithDesc(string(i.ID), string(i.State)+" "+targetNames(i)))
		}
	}
	return names, noFiles
}
