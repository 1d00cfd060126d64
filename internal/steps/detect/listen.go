package detect

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// The limits of the listener.
const (
	maxBody        = 1 << 20
	maxHeader      = 16 << 10
	maxConnections = 64
	alertsAtOnce   = 200 // a burst
	alertsASecond  = 100 // after that
)

// Listener takes alerts of Falco over HTTP: falcosidekick's webhook output, or
// Falco's own http_output. An alert is the body of a POST or a PUT, to any
// path; several may follow each other, one a line.
type Listener struct {
	// Take is called with every alert, concurrently.
	Take func(Finding)
	// Token, if there is one, must be presented: Authorization: Bearer TOKEN.
	Token string
	// Now is the clock of the limit.
	Now func() time.Time

	mu    sync.Mutex
	left  float64
	since time.Time

	taken, refused int64
}

// Serve listens on an address until the context ends. ready is told the
// address, which matters where the port is chosen by the system.
func (l *Listener) Serve(ctx context.Context, address string, ready func(net.Addr)) error {
	if err := l.safe(address); err != nil {
		return err
	}
	var config net.ListenConfig
	inner, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening for alerts: %w", err)
	}
	ready(inner.Addr())
	server := &http.Server{Handler: l, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:  10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, BaseContext: func(net.Listener) context.Context {
			return ctx
		}}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // whoever is in the middle of an alert sends it again
	defer stop()
	if err := server.Serve(limit(inner, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listening for alerts: %w", err)
	}
	return nil
}

// ErrOpenListener: anybody who can reach the address could invent alerts.
var ErrOpenListener = errors.New("an address that others can reach needs a token")

func (l *Listener) safe(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listening on %q: %w", address, err)
	}
	if ip, err := netip.ParseAddr(host); l.Token == "" && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("listening on %q: %w", address, ErrOpenListener)
	}
	return nil
}

// ServeHTTP takes one request. What is wrong with it is answered by the status
// alone: nothing of it is echoed.
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := l.handle(w, r)
	l.mu.Lock()
	if status == http.StatusNoContent {
		l.taken++
	} else {
		l.refused++
	}
	l.mu.Unlock()
	w.WriteHeader(status)
}

func (l *Listener) handle(w http.ResponseWriter, r *http.Request) int {
	switch {
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		w.Header().Set("Allow", "POST, PUT")
		return http.StatusMethodNotAllowed
	case l.Token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")),
		[]byte("Bearer "+l.Token)) != 1:
		return http.StatusUnauthorized
	case l.Token == "" && !local(r.Host):
		return http.StatusMisdirectedRequest
	}
	// A page in a browser on this machine cannot send this type, nor the name
	// above, without asking first; so it cannot invent alerts.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType
	}
	if !l.allow() {
		w.Header().Set("Retry-After", "1")
		return http.StatusTooManyRequests
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge
	case err != nil:
		return http.StatusBadRequest
	}
	return l.take(body)
}

// local reports a name by which only this machine itself is reached. A page
// whose name was made to lead here would send its own.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// take reads the alerts of a body, all or none.
func (l *Listener) take(body []byte) int {
	if f, err := parseFalco(body); err == nil {
		l.Take(f)
		return http.StatusNoContent
	}
	var found []Finding
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		f, err := parseFalco(line)
		if err != nil {
			return http.StatusBadRequest
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		return http.StatusBadRequest
	}
	for _, f := range found {
		l.Take(f)
	}
	return http.StatusNoContent
}

// allow takes one from a bucket that fills up steadily.
func (l *Listener) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.Now()
	if l.since.IsZero() {
		l.left = alertsAtOnce
	} else {
		l.left = min(alertsAtOnce, l.left+now.Sub(l.since).Seconds()*alertsASecond)
	}
	l.since = now
	if l.left < 1 {
		return false
	}
	l.left--
	return true
}

// Counts are how many requests were taken, and refused.
func (l *Listener) Counts() (taken, refused int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken, l.refused
}

// limit accepts so many connections at once; further ones wait their turn.
func limit(inner net.Listener, most int) net.Listener {
	return &limited{Listener: inner, free: make(chan struct{}, most), closed: make(chan struct{})}
}

type limited struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, free: l.free}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}
