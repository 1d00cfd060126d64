package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"irctl/internal/engine"
	"irctl/internal/evidence"
	"irctl/internal/plural"
	"irctl/internal/sanitize"
	"irctl/internal/userfile"
)

func (a *App) evidenceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "evidence", Short: "Verify, read and hand over evidence bundles", RunE: needsSubcommand,
		Long: `Verify, read and hand over evidence bundles. All of it can be done without irctl
too, with gpg, tar and sha256sum: docs/evidence-format.md says how.`}
	cmd.AddCommand(a.evidenceVerify(), a.evidenceList(), a.evidenceCat(), a.evidenceExtract(), a.evidenceCustody(),
		a.evidenceTimestamp(), a.evidenceClean())
	return cmd
}

// oneBundle is the argument of most commands here, with n more.
func bundleAnd(more ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		names := append([]string{"BUNDLE"}, more...)
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return usagef("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// passphrase of a key file: from a descriptor if one was named, else the agent
// asks for it. A flag would show it to everybody on this machine.
func passphrase(fd int) evidence.Passphrase {
	if fd < 0 {
		return evidence.AskAgent
	}
	return evidence.ReadPassphrase(os.NewFile(uintptr(fd), "passphrase"))
}

const passphraseFlag = "passphrase-fd"

func passphraseFlags(cmd *cobra.Command, fd *int) {
	cmd.Flags().IntVar(fd, passphraseFlag, -1,
		"file descriptor to read the key file's passphrase from (default: the GnuPG agent asks)")
}

// opening is how a bundle is opened.
type opening struct {
	key string
	fd  int
}

func (o *opening) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.key, "key", "", "private key file that opens the bundle (default: the GnuPG keyring)")
	passphraseFlags(cmd, &o.fd)
}

func (o *opening) load(ctx context.Context) (evidence.Key, error) {
	if o.key == "" {
		return evidence.Key{}, nil
	}
	return evidence.LoadKey(ctx, o.key, passphrase(o.fd))
}

// reading opens a bundle and does something with it.
func (a *App) reading(c *cobra.Command, o *opening, bundle string, do func(*evidence.Reader) error) error {
	key, err := o.load(c.Context())
	if err != nil {
		return err
	}
	r, err := evidence.OpenFile(c.Context(), bundle, key)
	if err != nil {
		return err
	}
	return errors.Join(do(r), r.Close())
}

type verifyOptions struct {
	opening
	content     bool
	signers     []string
	authorities string
}

func (a *App) evidenceVerify() *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{Use: "verify BUNDLE", Short: "Check that a bundle is what was sealed, and who vouches for it",
		Args: bundleAnd(),
		Long: `Check a bundle and what lies beside it: its digest against the receipt, the
receipt's signature and time stamp, the custody chain. Where its incident is on this
machine, all of that is compared with what the journal says. With --content, or --key,
it is opened, and every file in it is compared with the manifests.

Exit codes: 0 nothing is wrong; 1 something is, or could not be told.`,
		Example: `  irctl evidence verify investigation-20261124t143000.000z.tar.gz.gpg
  irctl evidence verify CASE.tar.gz.gpg --content --signer responder@example.org`,
		RunE: func(c *cobra.Command, args []string) error { return a.runVerify(c, o, args[0]) },
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.content, "content", false, "open the bundle and check what is in it too")
	f.StringSliceVar(&o.signers, "signer", nil, "who may have signed: a public key file, or a key of the GnuPG "+
		"keyring (default: the configured signer, and whoever is in the keyring)")
	f.StringVar(&o.authorities, "tsa-ca", "", "file of certificates (PEM) of time-stamping authorities to trust")
	return cmd
}

// maxAuthorities bounds the file of certificates.
const maxAuthorities = 4 << 20

func (a *App) runVerify(c *cobra.Command, o *verifyOptions, bundle string) error {
	var opts evidence.VerifyOptions
	var err error
	if opts.Signers, err = a.trusted(c.Context(), o.signers); err != nil {
		return err
	}
	if o.content || o.key != "" {
		key, err := o.load(c.Context())
		if err != nil {
			return err
		}
		opts.Key = &key
	}
	if o.authorities != "" {
		pem, err := userfile.ReadPiped(c.Context(), o.authorities, maxAuthorities)
		if err != nil {
			return fmt.Errorf("reading the authorities: %w", err)
		}
		opts.Authorities = x509.NewCertPool()
		if !opts.Authorities.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--tsa-ca %s: it holds no certificate", o.authorities)
		}
	}
	v, err := a.verify(c.Context(), bundle, opts)
	if err != nil {
		return err
	}
	if err := a.printVerification(&v); err != nil {
		return err
	}
	if !v.OK() {
		return exitError{code: ExitError}
	}
	return nil
}

// trusted are the keys that may have signed: those that are named, or else the
// configured signer's own, whose file need not be in a keyring, and whoever is in it.
func (a *App) trusted(ctx context.Context, named []string) (evidence.PublicKeys, error) {
	if len(named) > 0 {
		return evidence.LoadPublicKeys(ctx, named)
	}
	c, err := a.configuration()
	if err != nil || c.Signer == "" {
		return evidence.PublicKeys{}, err
	}
	own, err := evidence.KeyOfSigner(ctx, string(c.Signer))
	if err != nil { // it is not needed for what others have signed
		return evidence.PublicKeys{}, nil
	}
	return own, nil
}

// verify checks a bundle, also against the journal of its incident, if that is
// on this machine. It makes no state directory where there is none.
func (a *App) verify(ctx context.Context, bundle string, opts evidence.VerifyOptions) (engine.BundleVerification,
	error) {
	dir, err := a.stateHome()
	if err == nil {
		_, err = os.Stat(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return engine.VerifyBundle(ctx, nil, bundle, opts)
	}
	store, err := a.store()
	v, verr := engine.VerifyBundle(ctx, store, bundle, opts)
	if err != nil {
		v.Notes = append(v.Notes, "not compared with a journal: "+err.Error())
	}
	return v, verr
}

func (a *App) printVerification(v *engine.BundleVerification) error {
	if done, err := a.printNamed(v, v.Bundle); done || err != nil {
		return err
	}
	st := a.style(a.OutTerminal)
	p := func(mark, format string, args ...any) {
		fmt.Fprintf(a.Out, "%s %s\n", mark, sanitize.Line(fmt.Sprintf(format, args...)))
	}
	p(" ", "%s  %d bytes  sha256 %s", v.Bundle, v.Size, v.SHA256)
	if r := v.Receipt; r != nil && r.Drill {
		p(st.warn("!"), "it is of a DRILL, on a simulated cluster: nothing of it happened")
	}
	if r := v.Receipt; r != nil && r.SHA256 == v.SHA256 {
		p(st.good("✓"), "as the receipt of %s says", r.Created.UTC().Format(time.RFC3339))
	}
	if v.Signer != "" {
		p(st.good("✓"), "the receipt is signed by %s", v.Signer)
	}
	if v.Timestamped != nil {
		p(st.good("✓"), "the receipt was there at %s, says a time-stamping authority", v.Timestamped.UTC().
			Format(time.RFC3339))
	}
	if v.AsJournaled() {
		p(st.good("✓"), "as the journal of incident %s says", v.Incident)
	}
	for _, e := range v.Custody {
		p(" ", "custody %d: %s  %s → %s  %s", e.Seq, e.Time.UTC().Format(time.RFC3339), e.From, e.To, e.Note)
	}
	if v.Opened && v.OK() {
		p(st.good("✓"), "all %d files, %d bytes, are as the manifests say", v.Files, v.Bytes)
	}
	for _, n := range v.Notes {
		p(st.warn("!"), "%s", n)
	}
	for _, problem := range v.Problems {
		p(st.bad("✗"), "%s", problem)
	}
	return nil
}

func (a *App) evidenceList() *cobra.Command {
	o := &opening{}
	cmd := &cobra.Command{Use: "ls BUNDLE", Short: "List what is in a bundle", Args: bundleAnd(),
		RunE: func(c *cobra.Command, args []string) error {
			return a.reading(c, o, args[0], func(r *evidence.Reader) error {
				entries, readErr := evidence.List(r)
				return errors.Join(a.printEntries(entries), readErr)
			})
		}}
	o.flags(cmd)
	return cmd
}

func (a *App) printEntries(entries []evidence.Entry) error {
	names := named(entries, func(e evidence.Entry) string { return e.Path })
	if done, err := a.printNamed(map[string]any{"files": entries}, names...); done || err != nil {
		return err
	}
	for _, e := range entries {
		fmt.Fprintf(a.Out, "%12d  %s\n", e.Size, sanitize.Line(e.Path))
	}
	return nil
}

func (a *App) evidenceCat() *cobra.Command {
	o := &opening{}
	cmd := &cobra.Command{Use: "cat BUNDLE PATH", Short: "Print one file of a bundle, its parts put together",
		Args: bundleAnd("PATH"),
		Long: `Print one file of a bundle, its parts put together. On a terminal, control
characters are shown instead of sent; into a file or a pipe go the bytes as they are.
Only exit code 0 says that they are authentic.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.reading(c, o, args[0], func(r *evidence.Reader) error {
				var out = a.Out
				if a.OutTerminal {
					out = safeWriter{a.Out}
				}
				return evidence.Copy(out, r, args[1])
			})
		}}
	o.flags(cmd)
	return cmd
}

// safeWriter shows what an attacker may have written on a terminal.
type safeWriter struct{ to io.Writer }

func (w safeWriter) Write(p []byte) (int, error) {
	const step = 2048 // sanitize.Text bounds what it is given at once
	for rest := p; len(rest) > 0; {
		n := min(len(rest), step)
		if _, err := io.WriteString(w.to, sanitize.Text(string(rest[:n]))); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func (a *App) evidenceExtract() *cobra.Command {
	o := &opening{}
	cmd := &cobra.Command{Use: "extract BUNDLE DIRECTORY",
		Short: "Write a bundle's files, unencrypted, into a new directory", Args: bundleAnd("DIRECTORY"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.reading(c, o, args[0], func(r *evidence.Reader) error {
				problems, err := evidence.Extract(r, args[1])
				for _, p := range problems {
					fmt.Fprintln(a.Err, "✗", sanitize.Line(p.String()))
				}
				if err == nil && len(problems) > 0 {
					err = fmt.Errorf("%w: %s", evidence.ErrAltered, plural.Count(len(problems), "problem"))
				}
				if err == nil {
					fmt.Fprintf(a.Err, "extracted into %s; treat it as hostile, and delete it when done\n",
						sanitize.Line(args[1]))
				}
				return err
			})
		}}
	o.flags(cmd)
	return cmd
}

func (a *App) evidenceCustody() *cobra.Command {
	cmd := &cobra.Command{Use: "custody", Short: "Record and show who handed a bundle to whom", RunE: needsSubcommand}
	cmd.AddCommand(a.custodyAdd(), a.custodyList())
	return cmd
}

func (a *App) custodyAdd() *cobra.Command {
	var h evidence.HandOver
	var signer string
	var fd int
	cmd := &cobra.Command{Use: "add BUNDLE", Short: "Sign for a hand-over, after checking that the bundle is intact",
		Args: bundleAnd(),
		Example: `  irctl evidence custody add CASE.tar.gz.gpg --from "first responder" --to "forensics" --note "USB ` +
			`stick 7"`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.signer(c.Context(), signer, fd)
			if err != nil {
				return err
			}
			if s == nil {
				return usagef("who signs? give --sign-with KEY, or configure a signer")
			}
			store, err := a.quietStore() // it may have no part in it: the bundle may be of no incident
			if err != nil {
				return err
			}
			res, err := engine.HandOver(c.Context(), store, args[0], h, s, time.Now)
			if res == nil {
				return err
			}
			if res.Note != "" {
				fmt.Fprintln(a.Err, "!", sanitize.Line(res.Note))
			}
			return errors.Join(err, a.printCustody([]evidence.CustodyEntry{res.Entry}))
		}}
	f := cmd.Flags()
	f.StringVar(&h.From, "from", "", "who hands it over")
	f.StringVar(&h.To, "to", "", "who takes it")
	f.StringVar(&h.Note, "note", "", "how, where, why")
	signerFlags(cmd, &signer, &fd)
	return cmd
}

func (a *App) custodyList() *cobra.Command {
	return &cobra.Command{Use: "list BUNDLE", Short: "Show a bundle's custody chain, checked", Args: bundleAnd(),
		RunE: func(c *cobra.Command, args []string) error {
			v, err := a.verify(c.Context(), args[0], evidence.VerifyOptions{})
			if err != nil {
				return err
			}
			if err := a.printCustody(v.Custody); err != nil {
				return err
			}
			for _, p := range v.Problems {
				fmt.Fprintln(a.Err, "✗", sanitize.Line(p.String()))
			}
			if !v.OK() {
				return exitError{code: ExitError}
			}
			return nil
		}}
}

func (a *App) printCustody(entries []evidence.CustodyEntry) error {
	if done, err := a.printObject(map[string]any{"custody": entries}); done || err != nil {
		return err
	}
	rows := [][]string{{"NO", "TIME", "FROM", "TO", "NOTE", "SIGNED BY"}}
	for _, e := range entries {
		rows = append(rows, []string{fmt.Sprint(e.Seq), e.Time.UTC().Format(time.RFC3339), e.From, e.To, dash(e.Note),
			e.Signer})
	}
	return table(a.Out, rows)
}

func (a *App) evidenceTimestamp() *cobra.Command {
	var url string
	var query bool
	cmd := &cobra.Command{Use: "timestamp BUNDLE",
		Short: "Have a time-stamping authority (RFC 3161) vouch for a bundle's receipt", Args: bundleAnd(),
		RunE: func(c *cobra.Command, args []string) error {
			if (url != "") == query {
				return usagef("give either --tsa URL, or --tsa-query to write the question to a file")
			}
			ctx, cancel := a.context(c)
			defer cancel()
			text, err := evidence.Stamp(ctx, args[0], url)
			if err == nil {
				_, err = fmt.Fprintln(a.Out, sanitize.Line(text))
			}
			return err
		}}
	cmd.Flags().StringVar(&url, "tsa", "", "URL of the authority; it learns the receipt's digest and nothing else")
	cmd.Flags().BoolVar(&query, "tsa-query", false, "write the question, to be carried to an authority by other means")
	return cmd
}

func signerFlags(cmd *cobra.Command, signer *string, fd *int) {
	cmd.Flags().StringVar(signer, "sign-with", "",
		"who signs: a private key file, or a key of the GnuPG keyring (default: the configured signer)")
	passphraseFlags(cmd, fd)
}

// signer of a flag, or the configured one; nil if there is none.
func (a *App) signer(ctx context.Context, ref string, fd int) (*evidence.Signer, error) {
	if ref == "" {
		c, err := a.configuration()
		if err != nil {
			return nil, err
		}
		ref = string(c.Signer)
	}
	if ref == "" {
		return nil, nil
	}
	return evidence.LoadSigner(ctx, ref, passphrase(fd))
}
