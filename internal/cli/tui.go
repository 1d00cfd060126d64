package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"irctl/internal/config"
	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/incident"
	"irctl/internal/tui"
)

// uiOptions are the flags of irctl itself.
type uiOptions struct {
	accessible bool
	dir        string
	pod        string
	incident   string
	drill      *staged // nil: it is no drill
}

// staged is what a drill fills in for who plays it.
type staged struct {
	runbook   string            // the one that fits
	suggested map[string]string // values for its parameters
	title     string            // of incidents
	alerts    func() []byte     // Falco's
}

// maxAlerts is how much of the alerts on standard input is read.
const maxAlerts = 64 << 20

// ui opens the terminal UI; without a terminal it is the help that is shown.
func (a *App) ui(c *cobra.Command, o *uiOptions) error {
	switch {
	case o.accessible && !a.InTerminal:
		return usagef(
			"--accessible asks, and there is no terminal to answer on; irctl run goes through a runbook without one")
	case o.accessible, a.InTerminal && a.OutTerminal && a.dumb():
		return a.runAccessible(c.Context(), o)
	case !a.OutTerminal:
		return c.Help()
	}
	t, err := a.uiRequest(o)
	if err != nil {
		return err
	}
	if !a.InTerminal {
		// What is piped in are alerts; the keys come from the terminal itself.
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return c.Help()
		}
		defer func() { _ = tty.Close() }() // only read
		t.In = tty
		if t.Alerts, err = io.ReadAll(io.LimitReader(a.In, maxAlerts)); err != nil {
			return fmt.Errorf("reading the alerts on standard input: %w", err)
		}
	}
	signals := signalsOf(c.Context())
	signals.hush()
	t.Gone = signals.hangup()
	res, err := tui.Run(c.Context(), t)
	if err != nil {
		return err
	}
	return a.leftUI(res)
}

// dumb tells a terminal that cannot be drawn on.
func (a *App) dumb() bool { return a.Getenv("TERM") == "dumb" || a.Getenv("TERM") == "" }

// leftUI says where to go on, once the screen is gone.
func (a *App) leftUI(res tui.Result) error {
	if res.Incident == "" {
		return nil
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	i, err := store.Load(res.Incident)
	if err != nil {
		return err
	}
	if i.State != incident.StateOpen {
		fmt.Fprintf(a.Err, "incident %s is closed; irctl incident reopen %s opens it again\n", i.ID, i.ID)
		return nil
	}
	fmt.Fprintf(a.Err, "incident %s is open: irctl goes on with it, irctl status %s looks at it, irctl undo --all "+
		"--incident %s puts everything back\n", i.ID, i.ID, i.ID)
	return nil
}

// uiRequest is what the UI needs of the command line and the configuration.
func (a *App) uiRequest(o *uiOptions) (tui.Options, error) {
	conf, err := a.configuration()
	if err != nil {
		return tui.Options{}, err
	}
	store, err := a.storeToWrite()
	if err != nil {
		return tui.Options{}, err
	}
	namespace, err := a.namespace()
	if err != nil {
		return tui.Options{}, err
	}
	t := tui.Options{Store: store, Library: a.library(o.dir), Namespace: namespace, Only: *a.kube.Namespace,
		Context: a.kubeContext(), Timeout: a.timeout,
		Tool: "irctl " + versionText(), NoColor: a.Getenv("NO_COLOR") != "", ASCII: !a.unicode(), Connect: a.engine}
	if t.Contacts, err = a.contacts(); err != nil {
		return t, err
	}
	if o.pod != "" {
		pod, err := parsePod("--pod", o.pod, a.givenNamespace())
		if err != nil {
			return t, err
		}
		t.Pod = cmp.Or(pod.Namespace, namespace) + "/" + pod.Name
	}
	if o.incident != "" {
		if t.Incident, err = lookUp(store, o.incident); err != nil {
			return t, err
		}
	}
	t.Signer = lockedSigner(conf)
	t.Prepare = func(ctx context.Context, req *engine.RunRequest) error {
		req.Environ = os.Environ()
		a.evidenceOf(ctx, req, conf, t.Signer)
		return nil
	}
	return t, nil
}

// lockedSigner is the configured one, whose passphrase is asked for once it is
// needed: nobody waits for that before containing. nil: there is none.
func lockedSigner(conf config.Config) *evidence.Signer {
	if conf.Signer == "" || len(conf.Refs()) == 0 {
		return nil
	}
	return evidence.LockedSigner(string(conf.Signer))
}

// evidenceOf is how a run seals evidence. Recipients who cannot be used do not
// keep anybody from containing: the suspect stays alive to be collected from.
func (a *App) evidenceOf(ctx context.Context, req *engine.RunRequest, conf config.Config, signer *evidence.Signer) {
	var err error
	if req.Evidence, err = a.sealing(ctx, nil, conf); err != nil {
		req.EvidenceNote = fmt.Sprintf("no evidence can be sealed: %v", err)
		return
	}
	if req.Evidence != nil {
		req.Evidence.Signer = signer
	}
	req.Snapshot, req.EvidenceNote = snapshotOf(req.Evidence)
}

// unicode tells whether the terminal shows more than ASCII: the locale says it,
// and the console of Linux has not the marks.
func (a *App) unicode() bool {
	if a.Getenv("TERM") == "linux" {
		return false
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := a.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
