package cli

import (
	"fmt"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/config"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
)

// configuration is the file of --config, or that in its usual place, if there
// is one.
func (a *App) configuration() (config.Config, error) {
	if a.config != "" {
		return config.Load(a.config)
	}
	return config.LoadDefault(a.Getenv)
}

func (a *App) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "View and validate the configuration file", RunE: needsSubcommand}
	cmd.AddCommand(
		&cobra.Command{Use: "view", Short: "Show the configuration as irctl understands it", Args: noArgs,
			RunE: func(*cobra.Command, []string) error { return a.configView() }},
		&cobra.Command{Use: "validate", Short: "Check the file, and that its keys can be used", Args: noArgs,
			RunE: func(c *cobra.Command, _ []string) error { return a.configValidate(c) }},
	)
	return cmd
}

func (a *App) configPath() (string, error) {
	if a.config != "" {
		return a.config, nil
	}
	return config.DefaultPath(a.Getenv)
}

func (a *App) configView() error {
	c, err := a.configuration()
	if err != nil {
		return err
	}
	if done, err := a.printObject(c); done || err != nil {
		return err
	}
	rows := [][]string{}
	optional := func(name, value string) {
		if value != "" && value != "0" && value != "0s" {
			rows = append(rows, []string{name, value})
		}
	}
	for _, r := range c.Refs() {
		optional("recipient", r)
	}
	optional("signer", string(c.Signer))
	optional("timestamp", string(c.Timestamp))
	for _, p := range c.Contacts {
		optional("contact", fmt.Sprintf("%s  %s  %s %s %s", p.Name, p.Role, p.Email, p.Phone, p.Chat))
	}
	optional("bundles in", string(c.Defaults.Bundle))
	optional("debug image", c.Defaults.DebugImage)
	optional("max log bytes", fmt.Sprint(c.Limits.LogBytes))
	optional("max bundle bytes", fmt.Sprint(c.Limits.BundleBytes))
	optional("time", time.Duration(c.Limits.Time).String())
	optional("stall", time.Duration(c.Limits.Stall).String())
	optional("concurrency", fmt.Sprint(c.Limits.Concurrency))
	if len(rows) == 0 {
		path, err := a.configPath()
		if err != nil {
			return err
		}
		fmt.Fprintf(a.Err, "nothing is configured (%s)\n", path)
		return nil
	}
	return table(a.Out, rows)
}

// configValidate also tries the keys, since that is what fails in an incident.
func (a *App) configValidate(c *cobra.Command) error {
	path, err := a.configPath()
	if err != nil {
		return err
	}
	parsed, err := config.Load(path)
	if err != nil {
		return err
	}
	if reflect.ValueOf(parsed).IsZero() {
		return fmt.Errorf("%w whether %s is as it should be: there is nothing in it", engine.ErrUndetermined, path)
	}
	ctx, cancel := a.context(c)
	defer cancel()
	if _, err := evidence.LoadRecipients(ctx, parsed.Refs()); err != nil {
		return err
	}
	if parsed.Signer != "" {
		if _, err := evidence.LoadSigner(ctx, string(parsed.Signer), evidence.AskAgent); err != nil {
			return err
		}
	}
	valid := map[string]any{"path": path, "recipients": len(parsed.Recipients), "contacts": len(parsed.Contacts)}
	if done, err := a.printObject(valid); done || err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "%s is valid: %s, %s\n", sanitize.Line(path),
		plural.Count(len(parsed.Recipients), "recipient"), plural.Count(len(parsed.Contacts), "contact"))
	return err
}
