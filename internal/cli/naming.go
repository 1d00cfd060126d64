package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"irctl/internal/cluster"
	"irctl/internal/incident"
)

// incidentPrefix is before an incident's ID where -o name prints it.
const incidentPrefix = "incident/"

// incidentFlag is the flag by which an incident is named; see takesIncident.
const incidentFlag = "incident"

// onlyOpen is the usage of that flag in most commands.
const onlyOpen = "the incident (default: the only open one)"

// takesIncident has a command take an incident in both ways: by the flag
// --incident, and as an argument. Where the command's own arguments are of another
// kind, such as TYPE/NAME, the argument is incident/ID, as -o name prints it, or a
// whole ID. The command sees the other arguments.
func takesIncident(cmd *cobra.Command, to *string, usage string) {
	if cmd.InheritedFlags().Lookup(incidentFlag) == nil {
		cmd.Flags().StringVar(to, incidentFlag, "", usage)
	}
	check, run := cmd.Args, cmd.RunE
	split := incidentAmong
	switch {
	case strings.Contains(cmd.Use, "[INCIDENT]"):
		split = incidentFirst
	case strings.Contains(cmd.Use, "TEXT"):
		split = incidentBefore
	}
	if split := strings.Contains(cmd.Use, "[INCIDENT]"); split && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = func(c *cobra.Command, args []string, toComplete string) ([]cobra.Completion,
			cobra.ShellCompDirective) {
			if complete, known := c.GetFlagCompletionFunc(incidentFlag); known {
				return complete(c, args, toComplete)
			}
			return nil, noFiles
		}
	} else if split {
		_ = cmd.RegisterFlagCompletionFunc(incidentFlag, cmd.ValidArgsFunction) // the flag exists
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		named, rest := split(args)
		flag := strings.TrimPrefix(*to, incidentPrefix)
		if named != "" && flag != "" && !strings.HasPrefix(named, flag) && !strings.HasPrefix(flag, named) {
			return usagef("two incidents are named, %s and --incident %s: give one of them", named, flag)
		}
		if *to = flag; len(named) > len(flag) {
			*to = named
		}
		if check == nil {
			return nil
		}
		return check(c, rest)
	}
	cmd.RunE = func(c *cobra.Command, args []string) error {
		_, rest := split(args)
		return run(c, rest)
	}
}

// incidentFirst: the first argument is the incident, if it is no KEY=VALUE.
func incidentFirst(args []string) (named string, rest []string) {
	if len(args) == 0 || strings.Contains(args[0], "=") {
		return incidentAmong(args)
	}
	return strings.TrimPrefix(args[0], incidentPrefix), args[1:]
}

// incidentAmong: one of the arguments may be the incident.
func incidentAmong(args []string) (named string, rest []string) {
	for i, arg := range args {
		id, prefixed := strings.CutPrefix(arg, incidentPrefix)
		if _, err := incident.ParseID(id); err == nil || prefixed && id != "" {
			return id, slices.Concat(args[:i], args[i+1:])
		}
	}
	return "", args
}

// incidentBefore: what comes first may be the incident, with its prefix, since
// the arguments are a text, which may name incidents itself.
func incidentBefore(args []string) (named string, rest []string) {
	if len(args) > 1 && strings.HasPrefix(args[0], incidentPrefix) {
		return incidentFirst(args)
	}
	return "", args
}

// lookUp is the incident of an ID, or of a prefix that only one has. Of one that
// does not exist the near ones are named.
func lookUp(store *incident.Store, prefix string) (incident.ID, error) {
	id, err := store.Find(prefix)
	if !errors.Is(err, incident.ErrNotFound) {
		return id, err
	}
	var known []string
	list, _ := store.List(context.Background()) // of a damaged one there is no hint
	for _, i := range list {
		known = append(known, string(i.ID))
	}
	return id, fmt.Errorf("%w%s", err, didYouMean(prefix, known))
}

// knowIncident says of an incident that is named, and is not there, that it is not,
// before a cluster is asked. What keeps it from being looked up is said by whoever
// uses it.
func (a *App) knowIncident(prefix string) error {
	store, err := a.quietStore()
	if prefix == "" || err != nil {
		return nil
	}
	if _, err = lookUp(store, prefix); errors.Is(err, incident.ErrNotFound) || errors.Is(err, incident.ErrAmbiguous) {
		return err
	}
	return nil
}

// toJoin is the incident that is named, whose record can be read; "": none is named.
func toJoin(store *incident.Store, prefix string) (incident.ID, error) {
	if prefix == "" {
		return "", nil
	}
	id, err := lookUp(store, prefix)
	if err == nil {
		_, _, err = recorded(store, id)
	}
	return id, err
}

// didYouMean names what is near to a name that does not exist.
func didYouMean(name string, known []string) string {
	if near := cluster.Near(name, known); len(near) > 0 {
		return "; did you mean " + strings.Join(near, ", ") + "?"
	}
	return ""
}

// checkKubeconfigNames looks whether the context, the cluster and the user that
// are named are in the kubeconfig: also for a command that talks to no cluster, or
// has no need to today.
func (a *App) checkKubeconfigNames() error {
	named := map[string]*string{"context": a.kube.Context, "cluster": a.kube.ClusterName, "user": a.kube.AuthInfoName}
	raw, err := a.kube.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil // whoever connects says what is wrong with it
	}
	known := map[string][]string{"context": slices.Sorted(maps.Keys(raw.Contexts)),
		"cluster": slices.Sorted(maps.Keys(raw.Clusters)),
		"user":    slices.Sorted(maps.Keys(raw.AuthInfos))}
	for _, what := range slices.Sorted(maps.Keys(named)) {
		if name := named[what]; name != nil && *name != "" && !slices.Contains(known[what], *name) {
			return fmt.Errorf("--%s %s: the kubeconfig has no such %s%s", what, *name, what,
				didYouMean(*name, known[what]))
		}
	}
	return nil
}
