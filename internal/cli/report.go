package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/casefile"
	"irctl/internal/cluster"
	"irctl/internal/engine"
	"irctl/internal/incident"
	"irctl/internal/report"
)

// reports are the formats of a report.
var reports = []string{"markdown", "html", "json"}

type reportOptions struct {
	incident string
	format   string
	file     string
	force    bool
	offline  bool
}

func (a *App) report() *cobra.Command {
	o := &reportOptions{}
	cmd := &cobra.Command{
		Use:   "report [INCIDENT]",
		Short: "Write the post-mortem of an incident: Markdown, HTML or JSON",
		Long: `Write the post-mortem of an incident from its record and its timeline: what happened,
how long each part of the response took, what remained exposed and for how long, what was
done with which command, the evidence, what did not go as meant, and what is left to be
filled in. Of an open incident it looks at the cluster how the containment stands now, as
irctl status does, unless --offline is given; that it could not is said in the report, and the exit code
is 5. It changes nothing.

What is not recorded is said to be not known; "irctl incident set" records severity,
impact, roles and when things happened. The HTML is one page that needs nothing else.

If the chain of the timeline is broken, the report says so at its top, is made from what
is before the break, and the exit code is 1.`,
		Example: `  irctl report
  irctl report inc-20261124-143000-k7qm --format html -f post-mortem.html`,
		Args: noArgs, ValidArgsFunction: a.completeIncidents,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.output == asJSON && !c.Flags().Changed("format") {
				o.format = asJSON
			}
			return a.runReport(c, o)
		},
	}
	takesIncident(cmd, &o.incident, onlyOpen)
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "markdown", "markdown, html or json")
	f.StringVarP(&o.file, "file", "f", "", "a new file to write to, for you alone to read (default: standard output)")
	f.BoolVar(&o.offline, "offline", false, "make it from the record alone: do not look at the cluster")
	f.BoolVar(&o.force, "force", false, "replace the file if it is there")
	a.mustComplete(cmd, "format", cobra.FixedCompletions(reports, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *App) runReport(c *cobra.Command, o *reportOptions) error {
	switch {
	case !slices.Contains(reports, o.format):
		return usagef("--format %s: use markdown, html or json", o.format)
	case a.output == asJSON && o.format != asJSON:
		return usagef("-o json does not go with --format %s", o.format)
	}
	contacts, err := a.contacts()
	if err != nil {
		return err
	}
	store, id, err := a.storeOf(c.Context(), o.incident)
	if err != nil {
		return err
	}
	in, err := report.Read(store, id)
	if err != nil {
		return err
	}
	a.tellDoubts(in.Incident)
	in.Now, in.Tool, in.Contacts = a.clock.Now(), "irctl "+versionText(), contacts
	if !o.offline {
		if err := a.lookFor(c.Context(), &in); err != nil {
			return err
		}
	}
	r := report.New(in)
	var text bytes.Buffer
	write := map[string]func(io.Writer) error{"markdown": r.Markdown, "html": r.HTML, "json": r.JSON}[o.format]
	if err := write(&text); err != nil {
		return fmt.Errorf("writing the report of incident %s: %w", id, err)
	}
	if o.format == asJSON {
		object, err := enveloped(a.kind, text.Bytes())
		if err != nil {
			return err
		}
		text.Reset()
		if err := json.Indent(&text, object, "", "  "); err != nil {
			return fmt.Errorf("writing the report of incident %s: %w", id, err)
		}
	}
	if err := a.deliver(text.Bytes(), o); err != nil {
		return fmt.Errorf("writing the report of incident %s: %w", id, err)
	}
	if r.Chain.State == report.Broken {
		return exitError{code: ExitError,
			err: fmt.Errorf(
				"the timeline of incident %s is not as it was written: %s; the report is made from what is before "+
					"that", id, r.Chain.Problems[0])}
	}
	if in.NotLooked != "" {
		return fmt.Errorf(
			"%w how the containment stands now, and the report says so: %s; --offline makes it from the record alone",
			engine.ErrUndetermined, in.NotLooked)
	}
	return nil
}

// lookFor has a report say how the containment stands now, if the cluster can be
// reached; that it cannot is said in the report, which is made all the same.
func (a *App) lookFor(ctx context.Context, in *report.Input) error {
	if in.Incident.State != incident.StateOpen || len(casefile.Of(in.Entries).Meant()) == 0 {
		return nil
	}
	looking, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	e, err := a.engine(looking, a.frontEnd(false))
	if err != nil {
		var noNamespace *cluster.NoNamespaceError
		if errors.As(err, &noNamespace) {
			return err // what was typed is wrong; the cluster is well
		}
		in.NotLooked = err.Error()
		return nil
	}
	e.LookFor(ctx, in)
	return nil
}

// connectTime bounds how long a report waits for a cluster.
const connectTime = 5 * time.Second

// contacts are those of the configuration file.
func (a *App) contacts() ([]report.Contact, error) {
	c, err := a.configuration()
	if err != nil {
		return nil, err
	}
	var list []report.Contact
	for _, k := range c.Contacts {
		list = append(list, report.Contact{Role: report.Text(k.Role), Name: report.Text(k.Name),
			Email: report.Text(k.Email),
			Phone: report.Text(k.Phone), Chat: report.Text(k.Chat)})
	}
	return list, nil
}

// deliver writes a finished report.
func (a *App) deliver(text []byte, o *reportOptions) error {
	if o.file == "" || o.file == "-" {
		_, err := a.Out.Write(text)
		return err
	}
	if o.force {
		return report.Replace(o.file, text)
	}
	err := report.Create(o.file, text)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf(
			"%w: %s is there already, perhaps with what somebody wrote; name another file, or give --force",
			engine.ErrRefused, o.file)
	}
	return err
}
