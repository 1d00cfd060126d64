package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// serve answers every request with "hello from <hostname>" and numbers the
// connections it accepted on standard output.
func serve(addresses []string) error {
	if len(addresses) == 0 {
		return fmt.Errorf("serve: no address\n%s", usage)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	logger := log.New(os.Stdout, "", log.LstdFlags|log.LUTC|log.Lmsgprefix)
	var accepted atomic.Int64
	failed := make(chan error, len(addresses))
	for _, address := range addresses {
		server := &http.Server{
			Addr: address,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "hello from %s\n", hostname)
			}),
			ConnState: func(conn net.Conn, state http.ConnState) {
				if state == http.StateNew {
					logger.Printf("connection %d from %s to %s", accepted.Add(1), conn.RemoteAddr(), conn.LocalAddr())
				}
			},
		}
		logger.Printf("listening on %s", address)
		go func() { failed <- server.ListenAndServe() }()
	}
	go func() {
		awaitStop()
		failed <- nil
	}()
	return <-failed
}

// dial makes one request on a new connection and prints the answer.
func dial(args []string) error {
	address, timeout, err := target(args, time.Second)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	if strings.HasSuffix(address, ":"+postgresPort) {
		return askPostgres(address, timeout)
	}
	client := &http.Client{Timeout: timeout}
	return get(client, address, os.Stdout)
}

// postgresPort is where no HTTP is spoken.
const postgresPort = "5432"

// askPostgres asks a PostgreSQL whether it speaks TLS: S or N, it is one.
func askPostgres(address string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the answer is all that counts
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' && answer[0] != 'N' {
		return fmt.Errorf("%s answered %q, which no PostgreSQL does", address, answer)
	}
	fmt.Println("hello from PostgreSQL")
	return nil
}

// hold makes a request every interval on one kept-alive connection. It ends
// when a request gets no answer, which is what cutting the connection does.
func hold(args []string) error {
	address, interval, err := target(args, 100*time.Millisecond)
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	var connections atomic.Int64
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if connections.Add(1) > 1 {
				return nil, fmt.Errorf("the first connection to %s is gone", address)
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
	client := &http.Client{Timeout: 2 * time.Second, Transport: transport}
	for n := 1; ; n++ {
		if err := get(client, address, io.Discard); err != nil {
			return fmt.Errorf("hold: after %d answers: %w", n-1, err)
		}
		fmt.Println("alive", n)
		time.Sleep(interval)
	}
}

func get(client *http.Client, address string, out io.Writer) error {
	// the client has a time limit
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	// A peer under test may send anything: take a line, not a flood.
	if _, err := io.Copy(out, io.LimitReader(response.Body, 4096)); err != nil {
		return err
	}
	return nil
}

// target reads HOST:PORT and an optional duration.
func target(args []string, duration time.Duration) (string, time.Duration, error) {
	if len(args) == 0 || !strings.Contains(args[0], ":") {
		return "", 0, fmt.Errorf("want HOST:PORT\n%s", usage)
	}
	if len(args) > 1 {
		parsed, err := time.ParseDuration(args[1])
		if err != nil {
			return "", 0, err
		}
		duration = parsed
	}
	return args[0], duration, nil
}
