package drill

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"irctl/internal/change"
	"irctl/internal/incident"
	"irctl/internal/timeline"
)

// Session is a world that irctl, and kubectl, can work on: an API server on
// the loopback interface, and a directory with what else is needed.
type Session struct {
	World *World
	// Dir holds everything of the drill. It is left behind.
	Dir string

	server         *http.Server
	url, authority string
	done           chan struct{}
	failed         chan error
	cancel         context.CancelFunc

	mu    sync.Mutex
	wrote [2]int // of alerts and audit log
}

// Files of a session's directory, and what the player needs of them.
func (s *Session) file(name ...string) string {
	return filepath.Join(append([]string{s.Dir}, name...)...)
}

// Kubeconfig is the path of the kubeconfig that leads to the cluster.
func (s *Session) Kubeconfig() string { return s.file("kubeconfig") }

// ConfigHome is what XDG_CONFIG_HOME is to be; Config is the file in it.
func (s *Session) ConfigHome() string { return s.file("config") }

// Config is irctl's configuration: the drill's key opens and signs evidence.
func (s *Session) Config() string { return s.file("config", "irctl", "irctl.yaml") }

// StateDir keeps the drill's incidents, apart from real ones.
func (s *Session) StateDir() string { return s.file("state") }

// AlertsFile holds Falco's alerts, AuditFile the API server's audit log. Both
// grow while the drill lasts.
func (s *Session) AlertsFile() string { return s.file("alerts.jsonl") }

// AuditFile is the API server's audit log.
func (s *Session) AuditFile() string { return s.file("audit.jsonl") }

// Environment is a file for the shell that leads irctl and kubectl to the drill.
func (s *Session) Environment() string { return s.file("env") }

// Exports is what is in it.
func (s *Session) Exports() string {
	var b strings.Builder
	for _, kv := range [][2]string{{"KUBECONFIG", s.Kubeconfig()}, {"IRCTL_STATE_DIR", s.StateDir()},
		{"XDG_CONFIG_HOME", s.ConfigHome()}} {
		fmt.Fprintf(&b, "export %s=%s\n", kv[0], change.ShellQuote(kv[1]))
	}
	return b.String()
}

// SecretKey is the secret half of the key that opens the drill's evidence.
func (s *Session) SecretKey() string { return s.file("responder.secret.asc") }

// PublicKey is the other half.
func (s *Session) PublicKey() string { return s.file("responder.asc") }

// DirFor is a new directory for a drill, below irctl's state directory.
func DirFor(state, scenario string, now time.Time) string {
	return filepath.Join(state, "drill", scenario+"-"+now.UTC().Format("20060102-150405.000"))
}

// Start begins a drill in a directory, which it makes.
func Start(ctx context.Context, dir string, s *Scenario, o WorldOptions) (*Session, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{dir, filepath.Join(dir, "config"), filepath.Join(dir, "config", "irctl")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("making the drill's directory: %w", err)
		}
	}
	var token [16]byte
	if _, err := rand.Read(token[:]); err != nil {
		return nil, err
	}
	o.Token = hex.EncodeToString(token[:])
	world, err := NewWorld(s, o)
	if err != nil {
		return nil, err
	}
	session := &Session{World: world, Dir: dir, done: make(chan struct{}), failed: make(chan error, 1)}
	certificate, authority, err := certificate()
	if err != nil {
		return nil, fmt.Errorf("making a certificate for the simulated cluster: %w", err)
	}
	// Loopback only: a drill needs no network, and nobody else's.
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serving the simulated cluster on this machine: %w", err)
	}
	session.url, session.authority = "https://"+listener.Addr().String(), authority
	session.server = &http.Server{Handler: world.Cluster.Server(nil), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate},
			MinVersion: tls.VersionTLS12}}
	if err := session.write(); err != nil {
		_ = listener.Close() // the drill does not take place
		return nil, err
	}
	go func() { _ = session.server.ServeTLS(listener, "", "") }() // it ends with Close
	ctx, session.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if c, ok := world.clock.(*ManualClock); ok {
		c.OnPass(func() { _ = session.turn() }) // the tests read what it writes
		close(session.done)
		return session, nil
	}
	go func() {
		defer close(session.done)
		if err := session.run(ctx); err != nil {
			session.failed <- err
		}
	}()
	return session, nil
}

// Refresh lets the world see what was done to it at this moment.
func (s *Session) Refresh() error { return s.turn() }

func (s *Session) run(ctx context.Context) error {
	const pause = 50 * time.Millisecond
	for s.World.clock.Sleep(ctx, pause) == nil {
		if err := s.turn(); err != nil {
			return err
		}
	}
	return nil
}

// turn lets the world turn, and writes what it tells.
func (s *Session) turn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.World.Tick(); err != nil {
		return err
	}
	for i, l := range []struct {
		file string
		text []byte
	}{{s.AlertsFile(), s.World.Alerts()}, {s.AuditFile(), s.World.Audit()}} {
		if err := appendFile(l.file, l.text[min(s.wrote[i], len(l.text)):]); err != nil {
			return err
		}
		s.wrote[i] = len(l.text)
	}
	return nil
}

func appendFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if len(text) > 0 {
		_, err = f.Write(text)
	}
	return errors.Join(err, f.Close())
}

// write makes the files that irctl needs.
func (s *Session) write() error {
	if err := s.keys(); err != nil {
		return err
	}
	config := fmt.Sprintf("# Of a DRILL. The key's secret half is %s.\nrecipients: [%s]\nsigner: %s\n",
		filepath.Base(s.SecretKey()), quoted(s.PublicKey()), quoted(s.SecretKey()))
	kubeconfig, err := Mark{s.World.Scenario.Name, s.World.speed}.mark(s.World.Cluster.Kubeconfig(s.url, s.authority))
	if err != nil {
		return err
	}
	files := map[string]string{
		s.Kubeconfig():          string(kubeconfig),
		s.Config():              config,
		s.Environment():         s.Exports(),
		s.file("briefing.txt"):  "DRILL: " + s.World.Scenario.Title + "\n\n" + s.World.Briefing() + "\n",
		s.file("new-value.txt"): randomText() + "\n", // what a vendor would issue
	}
	for path, text := range files {
		if err := writeNew(path, []byte(text)); err != nil {
			return fmt.Errorf("making the drill's files: %w", err)
		}
	}
	return s.turn()
}

// writeNew writes a file that is not there: a person may have given a folder in
// which they keep a kubeconfig of their own.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func randomText() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	return "drill-" + hex.EncodeToString(b[:])
}

func quoted(s string) string {
	text, _ := json.Marshal(s) // a string can be encoded; JSON is YAML
	return string(text)
}

// keys makes the key that opens what the drill seals.
func (s *Session) keys() error {
	made := time.Now().Add(-time.Hour) // so that no clock takes it for one of the future
	e, err := openpgp.NewEntity("DRILL responder", "throw-away key", "drill@irctl.invalid",
		&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: func() time.Time {
			return made
		}})
	if err != nil {
		return fmt.Errorf("making the drill's key: %w", err)
	}
	for _, half := range []struct{ path, kind string }{{s.SecretKey(), openpgp.PrivateKeyType},
		{s.PublicKey(), openpgp.PublicKeyType}} {
		if err := writeKey(half.path, half.kind, e); err != nil {
			return fmt.Errorf("making the drill's key: %w", err)
		}
	}
	return nil
}

func writeKey(path, kind string, e *openpgp.Entity) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w, err := armor.Encode(f, kind, nil)
	if err == nil {
		if kind == openpgp.PrivateKeyType {
			err = e.SerializePrivate(w, nil)
		} else {
			err = e.Serialize(w)
		}
		err = errors.Join(err, w.Close())
	}
	return errors.Join(err, f.Close())
}

// Score is the score as of now, by the journals of the drill's incidents. It
// is also written into the drill's directory.
func (s *Session) Score() (Score, error) {
	if err := s.turn(); err != nil {
		return Score{}, err
	}
	journals, err := s.journals()
	if err != nil {
		return Score{}, err
	}
	score := s.World.Score(journals...)
	text, err := json.MarshalIndent(score, "", "  ")
	if err == nil {
		err = os.WriteFile(s.file("score.json"), append(text, '\n'), 0o600)
	}
	return score, err
}

func (s *Session) journals() ([][]timeline.Entry, error) {
	files, err := filepath.Glob(s.file("state", "incidents", "inc-*", "timeline.jsonl"))
	if err != nil {
		return nil, err
	}
	var all [][]timeline.Entry
	for _, f := range files {
		entries, err := timeline.Read(f)
		if err != nil {
			return nil, fmt.Errorf("reading the drill's journal: %w", err)
		}
		all = append(all, entries)
	}
	return all, nil
}

// Incident is the ID of the incident that was opened last; "": none was.
func (s *Session) Incident(ctx context.Context) string {
	store, err := incident.NewStore(s.StateDir(), incident.Options{})
	if err != nil {
		return ""
	}
	last := incident.Incident{}
	open, _ := store.FindOpen(ctx, func(incident.Incident) bool { return true })
	for _, i := range open {
		if i.OpenedAt.After(last.OpenedAt) {
			last = i
		}
	}
	return string(last.ID)
}

// Close ends the drill. Its directory is left.
func (s *Session) Close() error {
	s.cancel()
	s.World.Cluster.Stop()
	<-s.done
	var err error
	select {
	case err = <-s.failed:
	default:
	}
	return errors.Join(err, s.server.Close())
}

// Failed tells of an error that ends the drill before its time.
func (s *Session) Failed() <-chan error { return s.failed }
