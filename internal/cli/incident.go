package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/record"
	"irctl/internal/sanitize"
	"irctl/internal/timeline"
)

func (a *App) incidentCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "incident", Short: "Open, list, show, describe, close, reopen and repair incidents",
		RunE: needsSubcommand}
	cmd.AddCommand(a.incidentOpen(), a.incidentList(), a.incidentShow(), a.incidentSet(), a.incidentClose(),
		a.incidentReopen(), a.incidentRepair())
	return cmd
}

// needsSubcommand: a group of commands does nothing by itself.
func needsSubcommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command %q for %q", args[0], c.CommandPath())
	}
	return c.Help()
}

func (a *App) incidentOpen() *cobra.Command {
	var title, severity, commander string
	cmd := &cobra.Command{Use: "open", Short: "Open an incident", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			sev, err := incident.ParseSeverity(severity)
			if err != nil {
				return usageError{err}
			}
			ctx, cancel := a.context(c)
			defer cancel()
			e, err := a.engineToWrite(ctx, a.frontEnd(false))
			if err != nil {
				return err
			}
			id := e.Identity()
			signalsOf(ctx).changing("")
			h, err := e.Store.Create(ctx, incident.New{Title: title, Severity: sev, Commander: commander,
				Actor:   e.Actor(),
				Cluster: incident.Cluster{Server: id.Server, UID: id.ClusterUID, Context: a.kubeContext()}})
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }() // it is on disk already
			return a.printIncident(h.Incident(), nil)
		}}
	f := cmd.Flags()
	f.StringVar(&title, "title", "", "what it is about")
	f.StringVar(&severity, "severity", "", "sev1 (worst) to sev4")
	f.StringVar(&commander, "commander", "", "who leads the response")
	return cmd
}

func (a *App) incidentList() *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "list", Short: "List open incidents, or all", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			list, errs := store.List(c.Context())
			shown := []incident.Incident{}
			for _, i := range list {
				if all || i.State == incident.StateOpen {
					shown = append(shown, i)
				}
			}
			if err := a.printIncidents(shown, brokenOf(list, errs)); err != nil {
				return err
			}
			for _, i := range list {
				if a.tellDoubts(i); incident.Weighs(i.Doubts) {
					errs = append(errs,
						fmt.Errorf("incident %s is broken: what is listed of it is not all that there was", i.ID))
				}
			}
			return a.listErrors(errs)
		}}
	cmd.Flags().BoolVar(&all, "all", false, "closed ones too")
	return cmd
}

// listErrors reports incidents that could not be read, after the others.
func (a *App) listErrors(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	for _, err := range errs[1:] {
		fmt.Fprintln(a.Err, "error:", sanitize.Line(err.Error()))
	}
	return errs[0]
}

// broken is an incident of which not everything can be told. One without its record
// is in no other list.
type broken struct {
	ID  incident.ID `json:"id,omitempty"`
	Why []string    `json:"why"`
}

func brokenOf(list []incident.Incident, errs []error) []broken {
	all := []broken{}
	for _, i := range list {
		if len(i.Doubts) > 0 {
			all = append(all, broken{i.ID, incident.Doubts(i.Doubts)})
		}
	}
	for _, err := range errs {
		b := broken{Why: []string{err.Error()}}
		var damaged *incident.DamagedError
		if errors.As(err, &damaged) {
			b.ID = damaged.ID
		}
		all = append(all, b)
	}
	return all
}

func (a *App) printIncidents(list []incident.Incident, damaged []broken) error {
	names := named(list, func(i incident.Incident) string { return "incident/" + string(i.ID) })
	object := map[string]any{"incidents": list}
	if len(damaged) > 0 {
		object["broken"] = damaged
	}
	if done, err := a.printNamed(object, names...); done || err != nil {
		return err
	}
	listed := func(id incident.ID) bool {
		return slices.ContainsFunc(list, func(i incident.Incident) bool { return i.ID == id })
	}
	alone := slices.DeleteFunc(slices.Clone(damaged), func(b broken) bool { return b.ID == "" || listed(b.ID) })
	if len(list)+len(alone) == 0 {
		fmt.Fprintln(a.Err, "no open incidents (--all shows closed ones)")
		return nil
	}
	rows := [][]string{{"INCIDENT", "STATE", "SEVERITY", "OPENED", "TARGETS", "CLUSTER", "TITLE"}}
	for _, i := range list {
		where := i.Cluster.Context
		if where == "" {
			where = i.Cluster.Server
		}
		state := string(i.State)
		if incident.Weighs(i.Doubts) {
			state = "broken"
		}
		rows = append(rows, []string{string(i.ID), state, dash(string(i.Severity)),
			i.OpenedAt.UTC().Format(time.RFC3339), targetNames(i), dash(where), i.Title})
	}
	for _, b := range alone {
		rows = append(rows, []string{string(b.ID), "broken", "-", "-", "-", "-", b.Why[0]})
	}
	return table(a.Out, rows)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func targetNames(i incident.Incident) string {
	switch len(i.Targets) {
	case 0:
		return "-"
	case 1:
		return i.Targets[0].Namespace + "/" + i.Targets[0].Name
	}
	return fmt.Sprintf("%s/%s +%d", i.Targets[0].Namespace, i.Targets[0].Name, len(i.Targets)-1)
}

func (a *App) incidentShow() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{Use: "show [INCIDENT]", Short: "Show an incident", Args: noArgs,
		ValidArgsFunction: a.completeIncidents,
		RunE: func(c *cobra.Command, _ []string) error {
			store, id, err := a.storeOf(c.Context(), prefix)
			if err != nil {
				return err
			}
			i, entries, err := recorded(store, id)
			if err != nil {
				return err
			}
			a.tellDoubts(i)
			return a.printIncident(i, entries)
		}}
	takesIncident(cmd, &prefix, onlyOpen)
	return cmd
}

func atMostOneArg(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("unexpected argument %q", args[1])
	}
	return nil
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (a *App) printIncident(i incident.Incident, entries []timeline.Entry) error {
	return a.printIncidentWith(i, entries, nil)
}

// printIncidentWith adds keys to the JSON form.
func (a *App) printIncidentWith(i incident.Incident, entries []timeline.Entry, more map[string]any) error {
	metrics := timeline.MetricsOf(entries)
	object := map[string]any{"incident": i, "metrics": metrics}
	left := engine.LeftStanding(entries)
	if left != nil {
		object["leftStanding"] = left
	}
	maps.Copy(object, more)
	if done, err := a.printNamed(object, "incident/"+string(i.ID)); done || err != nil {
		return err
	}
	rows := [][]string{{"incident", string(i.ID)}, {"state", string(i.State)}}
	optional := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	optional("title", i.Title)
	optional("severity", string(i.Severity))
	optional("commander", i.Commander)
	optional("impact", i.Impact)
	for _, role := range slices.Sorted(maps.Keys(i.Roles)) {
		rows = append(rows, []string{incident.RolePrefix + role, i.Roles[role]})
	}
	for _, m := range timeline.Moments {
		if at, ok := i.Moments[m]; ok {
			rows = append(rows, []string{string(m), at.Format(time.RFC3339)})
		}
	}
	rows = append(rows, []string{"opened", i.OpenedAt.UTC().Format(time.RFC3339)})
	if i.ClosedAt != nil {
		rows = append(rows, []string{"closed", i.ClosedAt.UTC().Format(time.RFC3339)})
	}
	if left != nil {
		rows = append(rows, []string{"left standing", sanitize.Line(left.String())})
	}
	optional("context", i.Cluster.Context)
	optional("server", i.Cluster.Server)
	for _, t := range i.Targets {
		chain := ""
		for _, o := range t.Owners {
			chain += " < " + o.Kind + "/" + o.Name
		}
		rows = append(rows, []string{"target", t.Kind + " " + t.Namespace + "/" + t.Name + chain})
	}
	if d, ok := metrics.TimeToContain(); ok {
		rows = append(rows, []string{"contained after", d.Round(time.Second).String()})
	}
	return table(a.Out, rows)
}

func (a *App) incidentSet() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{Use: "set [INCIDENT] KEY=VALUE…",
		Short: "Record an incident's severity, impact, roles, and when things happened",
		Long: `Record what only people know of an incident; each change is an entry of its timeline.
An empty VALUE takes back what was recorded. Also a closed incident can be set.

  title, severity (sev1 to sev4), commander, impact
  role.NAME         who fills a role, and how to reach them: role.communications=…
  started           when the attack began; and when it was, if irctl cannot know:
  detected, acknowledged, contained, eradicated, recovered
                    with the zone, such as 2026-02-12T09:30:00+01:00 or $(date -Iseconds)`,
		Example: `  irctl incident set severity=sev1 commander=incident-commander@example.com
  irctl incident set inc-20261124-143000-k7qm impact="no logins for 20 minutes" started=2026-11-24T14:10:00+01:00`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("what is to be set? KEY=VALUE, such as severity=sev2")
			}
			return nil
		},
		ValidArgsFunction: a.completeSettings,
		RunE:              func(c *cobra.Command, args []string) error { return a.runIncidentSet(c, prefix, args) },
	}
	takesIncident(cmd, &prefix, onlyOpen)
	return cmd
}

func (a *App) runIncidentSet(c *cobra.Command, prefix string, list []string) error {
	var settings []incident.Setting
	for _, text := range list {
		s, err := incident.ParseSetting(text)
		if err != nil {
			return usageError{err}
		}
		settings = append(settings, s)
	}
	ctx, cancel := a.context(c)
	defer cancel()
	h, err := a.openIncident(ctx, prefix)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }() // it is on disk already
	signalsOf(ctx).changing(h.Incident().ID)
	changes, err := h.Set(settings...)
	for _, e := range changes {
		fmt.Fprintln(a.Err, sanitize.Line(e.Summary))
	}
	switch {
	case errors.Is(err, incident.ErrSetting):
		return usageError{err}
	case err != nil:
		return err
	}
	return a.printIncident(h.Incident(), h.Log.Entries())
}

func (a *App) completeSettings(c *cobra.Command, args []string, _ string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	var list []cobra.Completion
	if len(args) == 0 {
		list, _ = a.completeIncidents(c, args, "")
	}
	for _, key := range incident.SettingKeys {
		list = append(list, key+"=")
	}
	return append(list, incident.RolePrefix), noFiles | cobra.ShellCompDirectiveNoSpace
}

type closeOptions struct {
	prefix string
	engine.CloseRequest
}

func (a *App) incidentClose() *cobra.Command {
	o := &closeOptions{}
	cmd := &cobra.Command{Use: "close [INCIDENT]", Short: "Close an incident, once nothing of its containment stands",
		Long: `Close an incident. While something of its containment stands in the cluster, a
quarantine, a detached suspect, a workload at zero, a cordoned node or a suspended
controller, that is refused (exit code 4), and each is named with the command that
ends it. What eradication changed, and what recovery decided to keep, is listed and
does not matter. What somebody has put back by hand does not stand. What irctl made and
does not take away, a Secret in the place of another or an ephemeral container, is named
with who agreed to it; what carries the incident's label and is not in its timeline
hinders the closing until somebody accepts it (irctl accept stray=OBJECT).

With --leave-standing REASON it is closed all the same, also where the cluster cannot be
reached; the timeline keeps what was left, by whom and why. "irctl incident reopen" opens
it again.`,
		Example: `  irctl incident close --note "recovered, review on Friday"
  irctl incident close inc-20261124-143000-k7qm --leave-standing "the pod is kept for the police"`,
		Args: noArgs, ValidArgsFunction: a.completeOpenIncidents,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("leave-standing") && strings.TrimSpace(o.LeaveStanding) == "" {
				return usagef("--leave-standing: say why, in a few words")
			}
			return a.runIncidentClose(c, o)
		}}
	f := cmd.Flags()
	takesIncident(cmd, &o.prefix, onlyOpen)
	f.StringVar(&o.Note, "note", "", "why, for the timeline")
	f.StringVar(&o.LeaveStanding, "leave-standing", "",
		"close it although containment stands, or cannot be looked at, for this reason")
	return cmd
}

func (a *App) runIncidentClose(c *cobra.Command, o *closeOptions) error {
	ctx, cancel := a.context(c)
	defer cancel()
	h, err := a.openIncident(ctx, o.prefix)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }() // it is on disk already
	a.tellDoubts(h.Incident())
	if i := h.Incident(); i.State == incident.StateClosed {
		fmt.Fprintf(a.Err, "incident %s is closed already, since %s\n", i.ID, i.ClosedAt.UTC().Format(time.RFC3339))
		return a.printIncident(i, h.Log.Entries())
	}
	signalsOf(ctx).changing(h.Incident().ID)
	closing, err := a.closeNow(ctx, h, o.CloseRequest)
	if closing != nil {
		a.printClosing(h.Incident().ID, closing, err == nil)
	}
	if err != nil {
		return engine.WithoutStanding(err)
	}
	return a.printIncidentWith(h.Incident(), h.Log.Entries(), map[string]any{"closing": closing})
}

// lookTime bounds the look at a cluster on which the closing does not depend.
const lookTime = 15 * time.Second

// closeNow looks at the cluster only if there is something to look for.
func (a *App) closeNow(ctx context.Context, h *incident.Handle, req engine.CloseRequest) (*engine.Closing, error) {
	stands := engine.MayStand(h.Log.Entries())
	if !stands || req.LeaveStanding != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, lookTime,
			fmt.Errorf("no answer in %s: %w", lookTime, context.DeadlineExceeded))
		defer cancel()
	}
	e, err := a.engine(ctx, a.frontEnd(false))
	var noNamespace *cluster.NoNamespaceError
	if errors.As(err, &noNamespace) {
		return nil, err // what was typed is wrong; the cluster is well
	}
	if err != nil && !stands {
		fmt.Fprintf(a.Err, "! the cluster was not looked at: %s; by the journal nothing of the containment stands\n",
			sanitize.Line(err.Error()))
		return engine.CloseUnseen(h, req, nil)
	}
	if err != nil {
		return engine.CloseUnseen(h, req, err)
	}
	return e.CloseIncident(ctx, h, req)
}

// printClosing says what is left in the cluster. closed: it was not refused.
func (a *App) printClosing(id incident.ID, c *engine.Closing, closed bool) {
	line := func(mark string, s engine.StandingChange, text string) {
		fmt.Fprintf(a.Err, "%s %s: %s\n", mark, sanitize.Line(s.Summary), sanitize.Line(text))
	}
	for _, s := range c.Containment {
		switch {
		case !closed:
			line("!", s, s.Ending(id))
		case c.Unseen != "":
			line("!", s, "it may stand")
		default:
			line("!", s, "left standing ("+s.Ending(id)+")")
		}
	}
	printDoubts(a.Err, a.style(a.ErrTerminal), c.Doubts, c.Strays)
	for _, s := range c.OnPurpose {
		line("·", s, "left on purpose"+acceptedBy(s.Accepted))
	}
	for _, m := range c.Made {
		text := m.Text
		if m.Error != "" {
			text = "whether it is there could not be read: " + m.Error
		}
		fmt.Fprintf(a.Err, "· %s: %s%s\n", sanitize.Line(m.Object), sanitize.Line(text),
			sanitize.Line(acceptedBy(m.Accepted)))
	}
	for _, s := range c.Gone {
		text := "somebody put it back"
		switch {
		case s.State == change.Missing:
			text = "the object is gone"
		case s.Uncertain:
			text = "it was begun and not done"
		}
		line("·", s, text)
	}
}

// acceptedBy says who agreed that something stays.
func acceptedBy(a *record.Accepted) string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf(" (%s, %s)", a.By, a.At.UTC().Format(time.RFC3339))
}

func (a *App) incidentReopen() *cobra.Command {
	var reason, prefix string
	cmd := &cobra.Command{Use: "reopen [INCIDENT]", Short: "Open a closed incident again, to go on in it", Args: noArgs,
		Long: `Open a closed incident again. Everything works on it as before: contain, eradicate,
recover, undo, run. A runbook that had closed it goes on after that step.`,
		ValidArgsFunction: a.completeClosedIncidents,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := a.context(c)
			defer cancel()
			store, err := a.storeToWrite()
			if err != nil {
				return err
			}
			id, err := incidentToReopen(ctx, store, prefix)
			if err != nil {
				return err
			}
			h, err := store.Open(ctx, id, timeline.LocalActor())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }() // it is on disk already
			signalsOf(ctx).changing(id)
			if err := h.Reopen(reason); errors.Is(err, incident.ErrAlreadyOpen) {
				fmt.Fprintf(a.Err, "incident %s is open already\n", id)
			} else if err != nil {
				return err
			}
			return a.printIncident(h.Incident(), h.Log.Entries())
		}}
	takesIncident(cmd, &prefix, "the incident (default: the only closed one)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the timeline")
	return cmd
}

func (a *App) incidentRepair() *cobra.Command {
	var reason, prefix string
	cmd := &cobra.Command{Use: "repair [INCIDENT]", Short: "Go on in an incident whose journal has lost its head",
		Args: noArgs,
		Long: `The head of a journal (timeline.head) names its last entry. Where it is lost, say by a
power cut, nobody can tell whether entries are missing, and nothing is written to the
incident. repair looks in the cluster for what carries the incident's label, and says what
of it the journal does not know, with the command that takes it back by hand. With --reason
it then puts down in the journal what it saw, and the incident can be used again: see
first whether a copy of the directory is not the better remedy.

A journal without its beginning is not repaired.`,
		Example: `  irctl incident repair inc-20261124-143000-k7qm
  irctl incident repair inc-20261124-143000-k7qm --reason "power cut, and the cluster has nothing more"`,
		ValidArgsFunction: a.completeIncidents,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := a.context(c)
			defer cancel()
			e, err := a.engineFor(ctx, a.frontEnd(false), reason == "")
			if err != nil {
				return err
			}
			id, err := findIncident(ctx, e.Store, prefix)
			if err != nil {
				return err
			}
			signalsOf(ctx).changing(id)
			seen, err := e.Repair(ctx, id, reason)
			if seen != nil {
				printDoubts(a.Err, a.style(a.ErrTerminal), seen.Doubts, seen.Strays)
			}
			if err != nil {
				return err
			}
			if seen.Already {
				fmt.Fprintf(a.Err, "incident %s needs no repair: the head of its journal is there\n", id)
			} else {
				fmt.Fprintf(a.Err, "incident %s is repaired: its journal goes on\n", id)
			}
			i, entries, err := recorded(e.Store, id)
			if err != nil {
				return err
			}
			return a.printIncident(i, entries)
		}}
	cmd.Flags().StringVar(&reason, "reason", "",
		"why it can be gone on with, for the timeline; without it nothing is changed")
	takesIncident(cmd, &prefix, onlyOpen)
	return cmd
}

// incidentToReopen is the one named, or the only closed one.
func incidentToReopen(ctx context.Context, store *incident.Store, prefix string) (incident.ID, error) {
	if prefix != "" {
		return lookUp(store, prefix)
	}
	list, _ := store.List(ctx) // a damaged one cannot be reopened
	closed := slices.DeleteFunc(list, func(i incident.Incident) bool { return i.State != incident.StateClosed })
	switch len(closed) {
	case 0:
		return "", fmt.Errorf("%w is closed (irctl incident list --all shows all)", incident.ErrNotFound)
	case 1:
		return closed[0].ID, nil
	}
	return "", usagef("%d incidents are closed: which one? irctl incident list --all shows them; the last is %s",
		len(closed), closed[0].ID)
}

// openIncident takes the lock of an incident without talking to its cluster.
func (a *App) openIncident(ctx context.Context, prefix string) (*incident.Handle, error) {
	store, err := a.storeToWrite()
	if err != nil {
		return nil, err
	}
	id, err := findIncident(ctx, store, prefix)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, id, timeline.LocalActor())
}
