package rotate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"irctl/internal/drill/sim"
)

// postgres is a real server on the loopback interface, which asks everyone for
// a SCRAM password and logs every statement.
type postgres struct {
	port int
	log  string
}

const adminPassword = "admin-pw-31c8"

// startPostgres needs Debian's package postgresql. Where it is missing the
// test is skipped, but in CI.
func startPostgres(t *testing.T) *postgres {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("no PostgreSQL: apt-get install postgresql")
		}
		t.Skip("no PostgreSQL: apt-get install postgresql")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "irctl-pg") // in a place that another user may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cred := unprivileged(t, dir)
	password := filepath.Join(dir, "pw")
	if err := os.WriteFile(password, []byte(adminPassword), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: cred}
		return cmd
	}
	if out, err := run("initdb", "-D", data, "-U", "admin", "--pwfile="+password, "-A", "scram-sha-256", "--no-sync").
		CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	p := &postgres{port: freePort(t), log: filepath.Join(dir, "log")}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	server := run("postgres", "-D", data, "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c",
		"unix_socket_directories="+dir,
		"-c", "log_statement=all", "-c", "fsync=off")
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT) // a fast shutdown
		_ = server.Wait()
		log.Close()
	})
	p.await(t)
	return p
}

// unprivileged is whom the server runs as: it refuses to be root.
func unprivileged(t *testing.T, dir string) *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (p *postgres) dsn(user, password string) string {
	return fmt.Sprintf(
		"host=127.0.0.1 port=%d user='%s' password='%s' dbname=postgres sslmode=disable connect_timeout=5", p.port,
		user, password)
}

func (p *postgres) await(t *testing.T) {
	for range 300 {
		if conn, err := pgx.Connect(t.Context(), p.dsn("admin", adminPassword)); err == nil {
			conn.Close(t.Context())
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(p.log)
	t.Fatalf("PostgreSQL does not start: %s", text)
}

func (p *postgres) exec(t *testing.T, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.dsn("admin", adminPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func (p *postgres) letsIn(t *testing.T, user, password string) bool {
	t.Helper()
	config, err := pgx.ParseConfig(p.dsn("admin", adminPassword))
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Password = user, password
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err == nil {
		conn.Close(t.Context())
	}
	return err == nil
}

func (p *postgres) database(t *testing.T) Database {
	t.Helper()
	db, err := ParseDatabase(p.dsn("admin", adminPassword))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// hostile is a role whose name would be an injection, were it not quoted.
const hostile = `to"do'; DROP ROLE admin; --`

const oldPassword = "old-pw-9a1f"

// roleWorld has the password of a role in two Secrets: as it is, and in a URL.
func roleWorld(t *testing.T, p *postgres, faults func(sim.Request) sim.Fault, prior *Record) (*clusterUnderTest,
	*Roles) {
	t.Helper()
	w := newCluster(t, faults)
	w.secret(t, "postgres-secret", map[string]string{"PASSWORD": oldPassword})
	w.secret(t, "backend-secret", map[string]string{"URL": "postgresql://todo:" + oldPassword +
		"@db:5432/todo?sslmode=require#x"})
	return w, w.roles(t, p, prior)
}

func (w *clusterUnderTest) roles(t *testing.T, p *postgres, prior *Record) *Roles {
	plan := func(name, key string) SecretPlan {
		return SecretPlan{Live: w.live(t, name), Sources: map[string]Source{key: {Kind: Role, Role: hostile}}}
	}
	s := NewSecrets(w.client, w.digests, prior, Commander{}, plan("postgres-secret", "PASSWORD"),
		plan("backend-secret", "URL"))
	return NewRoles(s, p.database(t))
}

func TestPostgres(t *testing.T) {
	p := startPostgres(t)
	create := "CREATE ROLE " + pgx.Identifier{hostile}.Sanitize() + " LOGIN PASSWORD '" + oldPassword + "'"
	reset := "ALTER ROLE " + pgx.Identifier{hostile}.Sanitize() + " PASSWORD '" + oldPassword + "'"
	p.exec(t, create)

	t.Run("rotates", func(t *testing.T) {
		w, r := roleWorld(t, p, nil, nil)
		session, err := pgx.Connect(t.Context(), "host=127.0.0.1 port="+strconv.Itoa(p.port)+
			" dbname=postgres sslmode=disable password="+oldPassword+
			` user='to"do\'; DROP ROLE admin; --'`)
		if err != nil {
			t.Fatal(err)
		}
		record := rotateAll(t, r)
		password := w.value(t, "postgres-secret", "PASSWORD")
		if want := "postgresql://todo:" + password +
			"@db:5432/todo?sslmode=require#x"; w.value(t, "backend-secret", "URL") != want {
			t.Errorf("the URL is %q", w.value(t, "backend-secret", "URL"))
		}
		if p.letsIn(t, hostile, oldPassword) || !p.letsIn(t, hostile, password) {
			t.Error("the old password works, or the new one does not")
		}
		if err := session.Ping(t.Context()); err == nil {
			t.Error("a session that was opened with the old password goes on")
		}
		text, _ := os.ReadFile(p.log)
		if bytes.Contains(text, []byte(password)) {
			t.Error("the server's statement log has the password")
		}
		// A process that was killed before it could say so finds it done.
		again := w.roles(t, p, &record)
		rotateAll(t, again)
		if w.value(t, "postgres-secret", "PASSWORD") != password || !p.letsIn(t, hostile, password) {
			t.Error("what was done already was done again")
		}
	})

	t.Run("an interrupted commit is made good", func(t *testing.T) {
		p.exec(t, reset)
		w, r := roleWorld(t, p, nil, nil)
		must(t, r.New)
		record := r.Record()
		must(t, r.Secrets.Update) // and the process dies before the commit
		rotateAll(t, w.roles(t, p, &record))
		if p.letsIn(t, hostile, oldPassword) || !p.letsIn(t, hostile, w.value(t, "postgres-secret", "PASSWORD")) {
			t.Error("the role and the Secret do not agree")
		}
	})

	t.Run("the second Secret fails", func(t *testing.T) {
		p.exec(t, reset)
		w, r := roleWorld(t, p, func(q sim.Request) sim.Fault {
			if q.Verb == "patch" && q.Name == "backend-secret" {
				return sim.Fault{Error: sim.Denied("policy.example.com", "no")}
			}
			return sim.Fault{}
		}, nil)
		must(t, r.New)
		if _, err := r.Update(t.Context()); err == nil || strings.Contains(err.Error(), oldPassword) {
			t.Errorf("%v", err)
		}
		if !p.letsIn(t, hostile, oldPassword) || w.value(t, "postgres-secret", "PASSWORD") != oldPassword ||
			!strings.Contains(w.value(t, "backend-secret", "URL"), oldPassword) {
			t.Error("half of it was done")
		}
	})

	t.Run("the role fails", func(t *testing.T) {
		w, r := roleWorld(t, p, nil, nil)
		r.admin.User, r.admin.Password = hostile, oldPassword
		p.exec(t, reset+" NOLOGIN")
		must(t, r.New)
		_, err := r.Update(t.Context())
		if err == nil || strings.Contains(err.Error(), oldPassword) {
			t.Errorf("%v", err)
		}
		if w.value(t, "postgres-secret", "PASSWORD") != oldPassword {
			t.Error("the Secret was changed all the same")
		}
	})

	t.Run("the commit is refused", func(t *testing.T) {
		p.exec(t, reset+" LOGIN")
		w, r := roleWorld(t, p, nil, nil)
		must(t, r.New)
		must(t, r.Secrets.Update)
		if _, err := r.settle(t.Context(), errors.New("committing: connection lost")); err == nil {
			t.Error("a commit that was not made is taken for one that was")
		}
		if w.value(t, "postgres-secret", "PASSWORD") != oldPassword ||
			!strings.Contains(w.value(t, "backend-secret", "URL"), oldPassword) {
			t.Error("the Secrets were not put back")
		}
	})
}

func must(t *testing.T, call func(context.Context) (Outcome, error)) Outcome {
	t.Helper()
	out, err := call(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rotateAll goes through all steps but the restart.
func rotateAll(t *testing.T, r Rotator) Record {
	t.Helper()
	must(t, r.New)
	must(t, r.Store)
	record := r.Record()
	must(t, r.Update)
	must(t, r.Deactivate)
	return record
}

func TestPasswordsInURLs(t *testing.T) {
	for _, c := range []struct{ value, password, after string }{
		{"plain", "plain", "NEW"},
		{"postgres://u:p@h/d", "p", "postgres://u:NEW@h/d"},
		{"postgresql+asyncpg://u:p%40x@h:1/d?a=b@c", "p@x", "postgresql+asyncpg://u:NEW@h:1/d?a=b@c"},
		{"postgres://u@h/d", "", ""},
		{"host=h password=p", "", ""},
	} {
		got, err := passwordIn([]byte(c.value))
		if string(got) != c.password || (err == nil) != (c.password != "") {
			t.Errorf("%s: %q %v", c.value, got, err)
		}
		if err == nil && string(withPassword([]byte(c.value), []byte("NEW"))) != c.after {
			t.Errorf("%s: %s", c.value, withPassword([]byte(c.value), []byte("NEW")))
		}
	}
}
