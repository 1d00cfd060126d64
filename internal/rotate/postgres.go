package rotate

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/text/secure/precis"

	"irctl/internal/change"
)

// Roles rotates the passwords of PostgreSQL roles together with the Secrets
// that hold them. The password is changed in a transaction that is committed
// once the Secrets are written: where either half fails, both are as before.
type Roles struct {
	*Secrets
	admin   *pgx.ConnConfig
	forward *Forward
	// changed is when, by the server's clock; zero: an earlier process did it.
	changed time.Time
}

// Database is where the roles are, and as whom to change them.
type Database struct {
	config *pgx.ConnConfig
	// forward is the way there through the API server; nil: it is reached directly.
	forward *Forward
}

// connectTime bounds one connection attempt.
const connectTime = 10 * time.Second

// ParseDatabase reads a connection string, a URL or keywords and values as
// libpq takes them; the PG* environment and ~/.pgpass fill what it leaves open.
func ParseDatabase(text string) (Database, error) {
	config, err := pgx.ParseConfig(strings.TrimSpace(text))
	if err != nil {
		// nor is the error
		return Database{}, errors.New(
			"the connection string of --postgres-admin is malformed; it is not shown, since it may hold a password")
	}
	config.ConnectTimeout = connectTime
	return Database{config: config}, nil
}

// Through is the database in a cluster, reached through its API server. The
// host of the connection string is then no more than the name that its
// certificate must have.
func (d Database) Through(f Forward) Database {
	if f.Port == 0 {
		f.Port = d.config.Port
	}
	d.forward = &f
	return d
}

// String names the database without the password.
func (d Database) String() string {
	if d.forward != nil {
		return fmt.Sprintf("PostgreSQL in %s as %s", d.forward, d.config.User)
	}
	return fmt.Sprintf("PostgreSQL %s:%d as %s", d.config.Host, d.config.Port, d.config.User)
}

// NewRoles makes the rotation of Secrets one of roles too.
func NewRoles(secrets *Secrets, admin Database) *Roles {
	if admin.forward == nil {
		return &Roles{Secrets: secrets, admin: admin.config}
	}
	config := admin.config.Copy()
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return admin.forward.dial(ctx, secrets.client)
	}
	// nothing to look up
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	// other hosts are the same one here
	config.Fallbacks = slices.DeleteFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		return f.Host != config.Host
	})
	return &Roles{Secrets: secrets, admin: config, forward: admin.forward}
}

// Record tells that roles go with the Secrets.
func (r *Roles) Record() Record {
	record := r.Secrets.Record()
	record.Rotator = "postgres"
	return record
}

// Update changes the roles and the Secrets, or neither.
func (r *Roles) Update(ctx context.Context) (Outcome, error) {
	conn, err := r.asAdmin(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // committed or not, by then
	tx, err := conn.Begin(ctx)
	if err != nil {
		return Outcome{}, r.failed("beginning a transaction", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // does nothing once it is committed
	if err := r.alter(ctx, tx); err != nil {
		return Outcome{}, err
	}
	out, err := r.Secrets.Update(ctx)
	if err != nil {
		return out, fmt.Errorf("%w; the roles keep their passwords", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return r.settle(ctx, r.failed("committing", err))
	}
	// Without it every session of the roles is ended later, not only the old ones.
	_ = conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&r.changed)
	out.Result = change.Done
	out.Note = strings.TrimPrefix(out.Note+"; role "+strings.Join(r.names(), ", ")+" altered", "; ")
	return out, nil
}

func (r *Roles) names() []string { return slices.Sorted(maps.Keys(r.passwords)) }

// alter sends the SCRAM verifier, computed here, so that neither the server
// nor its statement log ever sees the password.
func (r *Roles) alter(ctx context.Context, tx pgx.Tx) error {
	for _, role := range r.names() {
		verifier, err := scramVerifier(r.passwords[role].Reveal())
		if err != nil {
			return err
		}
		// Neither can be a parameter; a verifier has no quotes in it.
		sql := "ALTER ROLE " + pgx.Identifier{role}.Sanitize() + " PASSWORD '" + verifier + "'"
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return r.failed("altering role "+role, err)
		}
	}
	return nil
}

// settle finds out whether a commit whose answer got lost was made. If it was
// not, the Secrets are put back.
func (r *Roles) settle(ctx context.Context, cause error) (Outcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revertTime)
	defer cancel()
	for _, role := range r.names() {
		switch in, err := r.accepts(ctx, role, r.passwords[role]); {
		case err != nil:
			return Outcome{}, fmt.Errorf("%w; whether it was is not known, since %s cannot be reached: the Secrets "+
				"hold the new password, and the same command makes the roles agree", cause, role)
		case !in:
			return Outcome{}, errors.Join(fmt.Errorf("%w; the Secrets are put back", cause), r.revert(ctx, r.edits))
		}
	}
	return done("the commit's answer got lost, and the new password works")
}

// DryRun connects, and alters the roles in a transaction that is rolled back.
func (r *Roles) DryRun(ctx context.Context) error {
	conn, err := r.asAdmin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing was committed
	tx, err := conn.Begin(ctx)
	if err != nil {
		return r.failed("beginning a transaction", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // as is the aim
	if err := r.alter(ctx, tx); err != nil {
		return err
	}
	return r.Secrets.DryRun(ctx)
}

// Deactivate ends the sessions that were opened with the old password, which
// outlive its change, and sees that it is refused now.
func (r *Roles) Deactivate(ctx context.Context) (Outcome, error) {
	conn, err := r.asAdmin(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is left to lose
	found := "the old password is refused, the new one works"
	for _, role := range r.names() {
		trusted, err := r.check(ctx, conn, role)
		if err != nil {
			return Outcome{}, err
		}
		if trusted {
			found = "the server keeps the new password; whether it refuses the old one could not be tried, since " +
				"pg_hba.conf lets everybody in from here without one"
		}
	}
	var ended int
	err = conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE usename = ANY($1) AND pid <> pg_backend_pid() AND ($2 OR backend_start < $3)`, r.names(),
		r.changed.IsZero(), r.changed).Scan(&ended)
	if err != nil {
		return Outcome{}, r.failed("ending the sessions of "+strings.Join(r.names(), ", "), err)
	}
	out, err := r.Secrets.Deactivate(ctx)
	out.Result = change.Done
	out.Note = strings.Trim(fmt.Sprintf("%s; %d sessions ended; %s", found, ended, out.Note), "; ")
	return out, err
}

// check sees that the old password of a role is refused and the new one works.
// A server that trusts whoever comes from here, as the usual image does with
// what comes through a port-forward, lets everybody in; then what it keeps of
// the password is looked at instead.
func (r *Roles) check(ctx context.Context, conn *pgx.Conn, role string) (trusted bool, err error) {
	if old, ok := r.previous[role]; ok {
		in, err := r.accepts(ctx, role, old)
		if err != nil {
			return false, err
		}
		if in {
			if err := r.kept(ctx, conn, role); err != nil {
				return true, fmt.Errorf(
					"PostgreSQL still lets %s in with the old password: does pg_hba.conf trust this address? %w", role,
					err)
			}
			return true, nil
		}
	}
	if in, err := r.accepts(ctx, role, r.passwords[role]); err != nil || !in {
		return false, errors.Join(fmt.Errorf("PostgreSQL does not let %s in with the new password", role), err)
	}
	return false, nil
}

// kept is an error unless the server asks nobody for a password here, and keeps
// of this role the new one.
func (r *Roles) kept(ctx context.Context, conn *pgx.Conn, role string) error {
	guess, err := r.accepts(ctx, role, NewValue([]byte(cryptorand.Text())))
	if err != nil {
		return err
	}
	if !guess {
		return errors.New("it is refused others: the old password works")
	}
	var verifier string
	if err := conn.QueryRow(ctx, "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = $1", role).
		Scan(&verifier); err != nil {
		return r.failed("reading what it keeps of the password, which takes a superuser", err)
	}
	if !verifies(verifier, r.passwords[role].Reveal()) {
		return errors.New("what it keeps is not the new password")
	}
	return nil
}

// accepts reports whether the server lets a role in with a password; the error
// is that of not finding out.
func (r *Roles) accepts(ctx context.Context, role string, password Value) (bool, error) {
	config := r.admin.Copy()
	config.User, config.Password = role, string(password.Reveal())
	conn, err := r.connect(ctx, config)
	if err == nil {
		_ = conn.Close(ctx) // it was only to get in
		return true, nil
	}
	var refused *pgconn.PgError
	// invalid_password, invalid_authorization_specification
	if errors.As(err, &refused) && (refused.Code == "28P01" || refused.Code == "28000") {
		return false, nil
	}
	return false, err
}

// asAdmin connects as who may change the roles. That may be one of the roles
// itself, whose password is the new one by then.
func (r *Roles) asAdmin(ctx context.Context) (*pgx.Conn, error) {
	conn, err := r.connect(ctx, r.admin)
	var refused *pgconn.PgError
	if own, ok := r.passwords[r.admin.User]; ok && errors.As(err, &refused) {
		config := r.admin.Copy()
		config.Password = string(own.Reveal())
		return r.connect(ctx, config)
	}
	return conn, err
}

func (r *Roles) connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, r.failed("connecting to "+Database{config: config, forward: r.forward}.String(), err)
	}
	return conn, nil
}

func (r *Roles) failed(doing string, err error) error {
	return fmt.Errorf("%s: %w", doing, scrub(err, append(r.all(), NewValue([]byte(r.admin.Password)))...))
}

// iterations are PostgreSQL's own.
const iterations = 4096

// scramVerifier is what PostgreSQL keeps of a password, RFC 5802 and 7677 in
// the form of pg_authid.rolpassword.
func scramVerifier(password []byte) (string, error) {
	salt := make([]byte, 16)
	_, _ = cryptorand.Read(salt) // never fails
	return saltedVerifier(password, salt, iterations)
}

func saltedVerifier(password, salt []byte, iterations int) (string, error) {
	if prepared, err := precis.OpaqueString.Bytes(password); err == nil {
		password = prepared // otherwise the raw bytes are used, as clients do
	}
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("computing a SCRAM verifier: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]),
		encode(mac(salted, "Server Key"))), nil
}

// maxIterations bounds what a server can make this machine compute.
const maxIterations = 1_000_000

// verifies reports whether a verifier is that of a password.
func verifies(verifier string, password []byte) bool {
	rest, isSCRAM := strings.CutPrefix(verifier, "SCRAM-SHA-256$")
	head, _, _ := strings.Cut(rest, "$")
	count, encoded, _ := strings.Cut(head, ":")
	n, err := strconv.Atoi(count)
	salt, saltErr := base64.StdEncoding.DecodeString(encoded)
	if !isSCRAM || err != nil || saltErr != nil || n < 1 || n > maxIterations {
		return false
	}
	own, err := saltedVerifier(password, salt, n)
	return err == nil && hmac.Equal([]byte(own), []byte(verifier))
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	_, _ = m.Write([]byte(text)) // never fails
	return m.Sum(nil)
}

// span is where the password stands in a connection URL; ok is false where the
// value is no URL, so that all of it is the password.
func span(value string) (from, to int, isURL bool, err error) {
	scheme := strings.Index(value, "://")
	if scheme < 0 || !strings.HasPrefix(value, "postgres") {
		if strings.Contains(value, "password=") {
			return 0, 0, false, errors.New(
				"a password is replaced in a value that is the password, or a postgres:// URL; this is neither")
		}
		return 0, len(value), false, nil
	}
	from = scheme + len("://")
	end := len(value)
	if n := strings.IndexAny(value[from:], "/?#"); n >= 0 {
		end = from + n
	}
	at := strings.LastIndex(value[from:end], "@")
	colon := strings.Index(value[from:end], ":")
	if at < 0 || colon < 0 || colon > at {
		return 0, 0, true, errors.New("the URL has no password in it")
	}
	return from + colon + 1, from + at, true, nil
}

func passwordIn(value []byte) ([]byte, error) {
	from, to, isURL, err := span(string(value))
	if err != nil {
		return nil, err
	}
	if !isURL {
		return value, nil
	}
	plain, err := url.PathUnescape(string(value[from:to]))
	if err != nil {
		return nil, errors.New("the password in the URL is malformed")
	}
	return []byte(plain), nil
}

func withPassword(value, password []byte) []byte {
	from, to, isURL, err := span(string(value))
	if err != nil || !isURL {
		return password
	}
	return slices.Concat(value[:from], []byte(url.QueryEscape(string(password))), value[to:])
}
