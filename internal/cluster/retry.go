package cluster

import (
	"bytes"
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
		if !reads(r) {
			resp, err := next.RoundTrip(r)
			if resp != nil && resp.StatusCode != http.StatusTooManyRequests {
				resp.Header.Del("Retry-After")
			}
			return resp, err
		}
		next := whole(next)
		resp, err := next.RoundTrip(r)
		if resp, err = repeat(next, r, resp, err); err != nil {
			err = brokenOff(err)
		}
		if resp != nil {
			resp.Header.Del("Retry-After")
		}
		return resp, err
	})
}

// brokenOff is the error of a connection that breaks each time, in words and of
// a type by which client-go does not know it.
func brokenOff(err error) error {
	if utilnet.IsProbableEOF(err) || utilnet.IsConnectionReset(err) || errors.Is(err, io.ErrUnexpectedEOF) {
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

// wholeAtMost bounds what of an answer is waited for before it is handed on. The
// page of a list is smaller; what is longer is handed on as it comes.
const wholeAtMost = 4 << 20

// whole waits for the answer to a read to its end, so that one that stalls half-way
// is repeated as is one that never begins.
func whole(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err != nil || streams(r) {
			return resp, err
		}
		var head bytes.Buffer
		n, err := io.Copy(&head, io.LimitReader(resp.Body, wholeAtMost))
		if err != nil {
			_ = resp.Body.Close() // it is broken
			return nil, err
		}
		rest := resp.Body
		if n < wholeAtMost {
			_ = rest.Close() // read to its end
			resp.Body = io.NopCloser(&head)
			return resp, nil
		}
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&head, rest), rest}
		return resp, nil
	})
}

// streams: the answer has no end that could be waited for, or whoever asked has
// limits of their own: watches, logs, what opens a stream to a container, and what
// goes on to a kubelet or another server, checkpoints too.
func streams(r *http.Request) bool {
	switch path.Base(r.URL.Path) {
	case "exec", "attach", "portforward", "log":
		return true
	}
	watch := r.URL.Query().Get("watch")
	return watch == "true" || watch == "1" || strings.Contains(r.URL.Path, "/proxy/") ||
		strings.HasSuffix(r.URL.Path, "/proxy")
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
		(r.Method == http.MethodPost && (strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/") ||
			strings.HasPrefix(r.URL.Path, "/apis/authentication.k8s.io/")))
}

// Attempts are few where the server cannot be reached at all, since a person
// waits to hear that, and more where it answers that it is busy. One that takes
// the request and is silent costs the most time of all.
const (
	attemptsSilent      = 2
	attemptsUnreachable = 5
	attemptsBusy        = 8
)

func again(r *http.Request, resp *http.Response, err error, attempt int) (pause time.Duration, again bool) {
	if r.Context().Err() != nil {
		return 0, false
	}
	if errors.Is(err, ErrSilent) {
		return 0, attempt < attemptsSilent
	}
	if err != nil {
		return 0, attempt < attemptsUnreachable && !errors.Is(err, context.Canceled) &&
			!strings.Contains(err.Error(), "x509")
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && s <= 30 {
			pause = time.Duration(s) * time.Second
		}
		return pause, attempt < attemptsBusy
	}
	return 0, false
}
