// Command backend is the todo-app's API: a small program with a real database
// behind it. What it needs to know it takes from its environment, as the
// manifest of the app gives it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	logger := log.New(os.Stdout, "", log.LstdFlags|log.LUTC|log.Lmsgprefix)
	if err := run(logger, os.Args[1:]); err != nil {
		logger.Print("fatal: ", err)
		os.Exit(1)
	}
}

// run serves on all addresses until SIGTERM. It does not wait for the database:
// readiness tells of that.
func run(logger *log.Logger, addresses []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(addresses) == 0 {
		return errors.New("usage: backend ADDRESS...")
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	database, err := settings()
	if err != nil {
		return err
	}
	b := &backend{logger: logger, hostname: hostname, config: database, todos: make(chan chan answer)}
	logger.Printf("todo-backend %s", version())
	failed := make(chan error, len(addresses)+1)
	for _, address := range addresses {
		server := &http.Server{Addr: address, Handler: b.handler(), ConnContext: newConnection,
			ReadHeaderTimeout: 5 * time.Second}
		logger.Printf("listening on %s", address)
		go func() { failed <- server.ListenAndServe() }()
	}
	go func() { failed <- b.serveDatabase(ctx) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// version is that of the image.
func version() string {
	data, err := os.ReadFile("/etc/todo-backend-version")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

// settings are those of the database. Its address is that of the Service, which
// Kubernetes puts into the environment: the app's policies let nobody ask DNS.
func settings() (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig("sslmode=disable connect_timeout=3")
	if err != nil {
		return nil, err
	}
	for name, field := range map[string]*string{
		"POSTGRES_SERVICE_HOST": &config.Host,
		"POSTGRES_USER":         &config.User,
		"POSTGRES_PASSWORD":     &config.Password,
		"POSTGRES_DB":           &config.Database,
	} {
		if *field = os.Getenv(name); *field == "" {
			// Started before its Service was known: the kubelet starts it again.
			return nil, fmt.Errorf("%s is not set", name)
		}
	}
	port, err := strconv.ParseUint(os.Getenv("POSTGRES_SERVICE_PORT"), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("POSTGRES_SERVICE_PORT: %w", err)
	}
	config.Port = uint16(port)
	return config, nil
}

// A backend answers HTTP, and keeps one connection to its database.
type backend struct {
	logger   *log.Logger
	hostname string
	config   *pgx.ConnConfig
	todos    chan chan answer
	ready    atomic.Bool
	accepted atomic.Int64
}

// An answer is how many todos there are.
type answer struct {
	count int
	err   error
}

func (b *backend) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !b.ready.Load() {
			http.Error(w, "no database", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("/todos", b.counted(b.list))
	mux.HandleFunc("/", b.counted(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %s\n", b.hostname)
	}))
	return mux
}

func (b *backend) list(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	reply := make(chan answer, 1)
	select {
	case b.todos <- reply:
	case <-time.After(3 * time.Second):
		reply <- answer{err: errors.New("no connection to the database")}
	}
	got := <-reply
	status := http.StatusOK
	if got.err != nil {
		status = http.StatusServiceUnavailable
		http.Error(w, "no database", status)
	} else {
		fmt.Fprintf(w, "%d todos\n", got.count)
	}
	b.logger.Printf("%s %s %d %s", r.Method, "/todos", status, time.Since(began).Round(time.Millisecond))
}

// seen marks a connection that was counted.
type seen struct{}

// counted numbers the connections that ask for more than how the program is, as
// netbox numbers all: the kubelet's probes are not worth a line each.
func (b *backend) counted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if first, ok := r.Context().Value(seen{}).(*sync.Once); ok {
			first.Do(func() {
				b.logger.Printf("connection %d from %s to %s", b.accepted.Add(1), r.RemoteAddr,
					r.Context().Value(http.LocalAddrContextKey))
			})
		}
		next(w, r)
	}
}

func newConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, seen{}, new(sync.Once))
}

// serveDatabase connects again whenever the connection is lost.
func (b *backend) serveDatabase(ctx context.Context) error {
	for ctx.Err() == nil {
		err := b.session(ctx)
		b.ready.Store(false)
		if err != nil && ctx.Err() == nil {
			b.logger.Printf("database: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// session is one connection: it makes the table, answers, and looks now and
// then whether the database is still there.
func (b *backend) session(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, b.config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it is over
	if _, err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS todos (id bigserial PRIMARY KEY, title text NOT NULL, "+
		"made timestamptz NOT NULL DEFAULT now())"); err != nil {
		// Two backends at once: the other one made it.
		b.logger.Printf("database: %v", err)
	}
	if _, err := conn.Exec(ctx, "INSERT INTO todos (title) VALUES ($1)", "started "+b.hostname); err != nil {
		return err
	}
	b.logger.Printf("database: connected to %s:%d as %s", b.config.Host, b.config.Port, b.config.User)
	b.ready.Store(true)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case reply := <-b.todos:
			var got answer
			got.err = conn.QueryRow(ctx, "SELECT count(*) FROM todos").Scan(&got.count)
			reply <- got
			if got.err != nil {
				return got.err
			}
		case <-ticker.C:
			look, cancel := context.WithTimeout(ctx, 2*time.Second)
			err := conn.Ping(look)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}
