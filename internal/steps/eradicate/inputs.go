package eradicate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"irctl/internal/rotate"
	"irctl/internal/userfile"
)

// Inputs are the options as a person, or a runbook, writes them. No value of a
// secret is among them: those come from files.
type Inputs struct {
	Secrets []string
	All     bool
	Again   bool
	// Generate are [SECRET/]KEY=KIND[:PUBKEY]; SetFrom [SECRET/]KEY=FILE; Keep
	// and Revoked [SECRET/]KEY; Postgres [SECRET/]KEY=ROLE.
	Generate, SetFrom, Keep, Postgres, Revoked []string
	// StoreCommands are [SECRET/]KEY=["argv", …].
	StoreCommands []string
	// PostgresAdmin is the file with the administrator's connection string.
	PostgresAdmin string
	// PostgresForward is [NAMESPACE/]pod|service/NAME[:PORT], through which the
	// database is reached; Context is the namespace that it is in by default.
	PostgresForward, Context string
	// GenerateRest is Options.Rest.
	GenerateRest string
	// Images are [CONTAINER=]IMAGE; AllowTag takes those without a digest.
	Images   []string
	AllowTag bool
	// Apply are files and folders of manifests; Namespace is that of those which
	// have none, "": they are refused.
	Apply          []string
	Namespace      string
	ForceConflicts bool
	RemoveBindings bool
}

// InputError is what is wrong with one of the inputs.
type InputError struct {
	// Input is its name on the command line, without dashes.
	Input string
	// About is the part of it that is meant; never a value.
	About string
	Err   error
}

func (e *InputError) Error() string {
	if e.About == "" {
		return fmt.Sprintf("--%s: %v", e.Input, e.Err)
	}
	return fmt.Sprintf("--%s %s: %v", e.Input, e.About, e.Err)
}

func (e *InputError) Unwrap() error { return e.Err }

func inputError(input, about, format string, args ...any) error {
	return &InputError{Input: input, About: about, Err: fmt.Errorf(format, args...)}
}

// maxValue bounds a value that is read from a file; a Secret holds at most 1 MiB.
const maxValue = 1 << 20

// Options checks the inputs and reads the files that they name. stdin is what
// "-" stands for; nil: there is none. Errors are InputErrors.
func (in Inputs) Options(ctx context.Context, stdin io.Reader) (Options, error) {
	r := &inputReader{ctx: ctx, in: in, stdin: stdin, out: Options{Secrets: in.Secrets, All: in.All,
		Sources: map[string]rotate.Source{}, Revoked: in.Revoked, Again: in.Again,
		Namespace: in.Namespace, ForceConflicts: in.ForceConflicts, RemoveBindings: in.RemoveBindings}}
	if in.All && len(in.Secrets) > 0 {
		return r.out, inputError("secret", "", "give either --secret or --all-secrets")
	}
	for _, read := range []func() error{
		r.generate, r.keep, r.roles, r.images, r.values, r.commands, r.database, r.manifests,
	} {
		if err := read(); err != nil {
			return r.out, err
		}
	}
	return r.out, nil
}

type inputReader struct {
	ctx       context.Context
	in        Inputs
	stdin     io.Reader
	stdinUsed bool
	out       Options
}

func (r *inputReader) set(input, key string, s rotate.Source) error {
	if _, twice := r.out.Sources[key]; twice {
		return inputError(input, key, "the key was given already")
	}
	r.out.Sources[key] = s
	return nil
}

// cutPair splits KEY=VALUE; a key has no "=".
func cutPair(s string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(s, "=")
	return key, value, ok && key != "" && value != ""
}

func (r *inputReader) generate() error {
	if r.out.Rest = rotate.Kind(r.in.GenerateRest); r.out.Rest != "" && r.out.Rest != rotate.Random &&
		r.out.Rest != rotate.Password {
		return inputError("generate-rest", r.in.GenerateRest, "use %s or %s", rotate.Random, rotate.Password)
	}
	for _, g := range r.in.Generate {
		key, kind, ok := cutPair(g)
		kind, public, _ := strings.Cut(kind, ":")
		if !ok || !slices.Contains(rotate.Generated, rotate.Kind(kind)) {
			return inputError("generate", g, "use [SECRET/]KEY=KIND, where KIND is one of %v", rotate.Generated)
		}
		if err := r.set("generate", key, rotate.Source{Kind: rotate.Kind(kind), Public: public}); err != nil {
			return err
		}
	}
	return nil
}

func (r *inputReader) keep() error {
	for _, k := range r.in.Keep {
		if err := r.set("keep", k, rotate.Source{Kind: rotate.Keep}); err != nil {
			return err
		}
	}
	return nil
}

func (r *inputReader) roles() error {
	for _, text := range r.in.Postgres {
		key, role, ok := cutPair(text)
		if !ok {
			return inputError("postgres", text, "use [SECRET/]KEY=ROLE")
		}
		if err := r.set("postgres", key, rotate.Source{Kind: rotate.Role, Role: role}); err != nil {
			return err
		}
	}
	return nil
}

func (r *inputReader) images() error {
	for _, text := range r.in.Images {
		image, err := ParseImage(text, r.in.AllowTag)
		if err != nil {
			return &InputError{Input: "image", About: text, Err: err}
		}
		for _, other := range r.out.Images {
			if other.Container == image.Container &&
				(image.Container != "" || repository(other.Ref) == repository(image.Ref)) {
				return inputError("image", text, "the same container was given %s already", other.Ref)
			}
		}
		r.out.Images = append(r.out.Images, image)
	}
	return nil
}

// values reads what a third party has issued.
func (r *inputReader) values() error {
	for _, s := range r.in.SetFrom {
		key, file, ok := cutPair(s)
		if !ok {
			return inputError("set-from", "", "it needs [SECRET/]KEY=FILE")
		}
		data, err := r.value(key, file)
		if err != nil {
			return err
		}
		if err := r.set("set-from", key, rotate.Source{Kind: rotate.Supplied,
			Value: rotate.NewValue(data)}); err != nil {
			return err
		}
	}
	return nil
}

func (r *inputReader) value(key, file string) ([]byte, error) {
	switch {
	case file != "-":
		data, err := userfile.ReadPiped(r.ctx, file, maxValue)
		switch {
		case errors.Is(err, userfile.ErrTooLarge):
			return nil, inputError("set-from", key, "the value is larger than %d bytes", maxValue)
		case err != nil:
			return nil, inputError("set-from", key,
				"its second half must be a file; a value has no place on a command line: %w", withoutPath(err))
		}
		return oneValue(key, data)
	case r.stdin == nil:
		return nil, inputError("set-from", key, "there is no standard input here: name a file")
	case r.stdinUsed:
		return nil, inputError("set-from", key, "standard input can hold one value only")
	default:
		r.stdinUsed = true
	}
	data, err := io.ReadAll(io.LimitReader(r.stdin, maxValue+1))
	if err != nil {
		return nil, inputError("set-from", key, "%w", withoutPath(err))
	}
	return oneValue(key, data)
}

func oneValue(key string, data []byte) ([]byte, error) {
	text := bytes.TrimRight(data, "\r\n")
	if len(text) == 0 || len(data) > maxValue {
		return nil, inputError("set-from", key, "the value is empty or larger than %d bytes", maxValue)
	}
	if bytes.ContainsAny(text, "\r\n") || !utf8.Valid(data) {
		return data, nil // a file: its last line ends as it does, and a key store ends in any byte
	}
	return text, nil
}

// withoutPath is an error of a file without its name, in case somebody put the
// value there.
func withoutPath(err error) error {
	if p, ok := err.(*os.PathError); ok { //nolint:errorlint // only the outermost names the file
		return p.Err
	}
	return err
}

func (r *inputReader) commands() error {
	for _, c := range r.in.StoreCommands {
		key, text, ok := cutPair(c)
		var argv []string
		if !ok || json.Unmarshal([]byte(text), &argv) != nil || len(argv) == 0 || argv[0] == "" {
			return inputError("store-command", key, `use [SECRET/]KEY=["program", "argument", …]`)
		}
		s, ok := r.out.Sources[key]
		if !ok || s.Kind == rotate.Keep || s.Kind == rotate.Role {
			return inputError("store-command", key, "say with --generate or --set-from what the new value is")
		}
		s.Command = argv
		r.out.Sources[key] = s
	}
	return nil
}

func (r *inputReader) database() error {
	switch {
	case r.in.PostgresAdmin == "" && r.in.PostgresForward != "":
		return inputError("postgres-forward", "",
			"it is the way to a database: say with --postgres-admin as whom to enter it")
	case r.in.PostgresAdmin == "":
		return nil
	}
	text, err := userfile.ReadPiped(r.ctx, r.in.PostgresAdmin, maxValue)
	if err != nil {
		return inputError("postgres-admin", "", "it must be a file: %w", withoutPath(err))
	}
	db, err := rotate.ParseDatabase(string(text))
	if err != nil {
		return &InputError{Input: "postgres-admin", Err: err}
	}
	if r.in.PostgresForward != "" {
		forward, err := rotate.ParseForward(r.in.PostgresForward, r.in.Context)
		if err != nil {
			return &InputError{Input: "postgres-forward", Err: err}
		}
		db = db.Through(forward)
	}
	r.out.Database = &db
	return nil
}

func (r *inputReader) manifests() (err error) {
	if len(r.in.Apply) == 0 {
		if r.in.ForceConflicts {
			return inputError("force-conflicts", "", "it goes with --apply")
		}
		return nil
	}
	if r.out.Manifests, err = ReadManifests(r.ctx, r.in.Apply); err != nil {
		return &InputError{Input: "apply", Err: err}
	}
	return nil
}
