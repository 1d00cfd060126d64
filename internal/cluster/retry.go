package cluster

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
)

// retryReads repeats requests that read, or that only ask a question, when the
// server throttles, fails or drops the connection. Writes are never repeated
// here: package change does that, looking at the object in between.
//
// client-go repeats whatever is answered with Retry-After, and reads whose
// connection broke, up to ten times with a second in between. Both are hidden
// from it: reads have been repeated often enough by then, and a write may have
// been executed although the server answers that it failed.
func retryReads(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if reads(r) {
			if resp, err = repeat(next, r, resp, err); err != nil {
				err = brokenOff(err)
			}
		}
		if resp != nil && (reads(r) || resp.StatusCode != http.StatusTooManyRequests) {
			resp.Header.Del("Retry-After")
		}
		return resp, err
	})
}

// brokenOff is the error of a connection that breaks each time, in words and of
// a type by which client-go does not know it.
func brokenOff(err error) error {
	if utilnet.IsProbableEOF(err) || utilnet.IsConnectionReset(err) {
		return ErrBrokenOff
	}
	return err
}

// ErrBrokenOff is that of a read whose connection the server, or something on
// the way to it, closed each time without an answer.
var ErrBrokenOff = errors.New("the connection was closed before an answer came, several times")

// repeat repeats a request until it is answered, or failed often enough.
func repeat(next http.RoundTripper, r *http.Request, resp *http.Response, err error) (*http.Response, error) {
	backoff := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 10, Cap: time.Second}
	for attempt := 1; ; attempt++ {
		pause, again := again(r, resp, err, attempt)
		if !again {
			return resp, err
		}
		if r.Body != nil {
			if r.GetBody == nil {
				return resp, err
			}
			body, bodyErr := r.GetBody()
			if bodyErr != nil {
				return resp, err
			}
			r = r.Clone(r.Context())
			r.Body = body
		}
		if pause == 0 {
			pause = backoff.Step()
		}
		timer := time.NewTimer(pause)
		select {
		case <-r.Context().Done():
			timer.Stop()
			return resp, err
		case <-timer.C:
		}
		if resp != nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
			_ = resp.Body.Close()
		}
		resp, err = next.RoundTrip(r)
	}
}

// reads: GET, and the reviews by which one asks about oneself. What opens a
// stream to a container is a GET over WebSockets, but runs a command: it is not
// to be run twice, and its failure is the sign to try the older protocol.
func reads(r *http.Request) bool {
	switch path.Base(r.URL.Path) {
	case "exec", "attach", "portforward":
		return false
	}
	return r.Method == http.MethodGet ||
		(r.Method == http.MethodPost && (strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/") || strings.HasPrefix(r.URL.Path, "/apis/authentication.k8s.io/")))
}

// Attempts are few where the server cannot be reached at all, since a person
// waits to hear that, and more where it answers that it is busy.
const (
	attemptsUnreachable = 5
	attemptsBusy        = 8
)

func again(r *http.Request, resp *http.Response, err error, attempt int) (pause time.Duration, again bool) {
	if r.Context().Err() != nil {
		return 0, false
	}
	if err != nil {
		return 0, attempt < attemptsUnreachable && !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "x509")
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && s <= 30 {
			pause = time.Duration(s) * time.Second
		}
		return pause, attempt < attemptsBusy
	}
	return 0, false
}
