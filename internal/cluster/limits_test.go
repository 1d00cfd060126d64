package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"irctl/deploy"
	"irctl/internal/cluster"
)

const podJSON = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"n"}}`

// listening is a client of a server that answers as it likes, with limits that a
// test can wait for.
func listening(t *testing.T, limits cluster.Limits, config rest.Config, answer http.HandlerFunc) (*cluster.Client,
	*atomic.Int32) {
	t.Helper()
	var requests atomic.Int32
	ended := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "application/json")
		answer(w, r.WithContext(context.WithValue(r.Context(), endedKey{}, ended)))
	}))
	t.Cleanup(func() { close(ended); s.CloseClientConnections(); s.Close() })
	config.Host = s.URL
	c, err := cluster.NewWithin(&config, limits)
	if err != nil {
		t.Fatal(err)
	}
	return c, &requests
}

type endedKey struct{}

// forever is until the test ends, whatever the client does.
func forever(r *http.Request) { <-r.Context().Value(endedKey{}).(chan struct{}) }

func flush(w http.ResponseWriter, text string) {
	_, _ = io.WriteString(w, text)
	w.(http.Flusher).Flush()
}

// TestNothingHangs: what a server does to an answer, and what becomes of it.
func TestNothingHangs(t *testing.T) {
	limits := cluster.Limits{Read: 80 * time.Millisecond, Write: 250 * time.Millisecond, Tell: time.Hour}
	get := func(ctx context.Context, c *cluster.Client) error {
		_, err := c.Kube.CoreV1().Pods("n").Get(ctx, "p", metav1.GetOptions{})
		return err
	}
	list := func(ctx context.Context, c *cluster.Client) error {
		_, err := c.ListPods(ctx, "n", "")
		return err
	}
	patch := func(ctx context.Context, c *cluster.Client) error {
		_, err := c.Kube.CoreV1().Pods("n").Patch(ctx, "p", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
		return err
	}
	logs := func(ctx context.Context, c *cluster.Client) error {
		_, err := c.Kube.CoreV1().Pods("n").GetLogs("p", &corev1.PodLogOptions{}).DoRaw(ctx)
		return err
	}
	watch := func(ctx context.Context, c *cluster.Client) error {
		w, err := c.Kube.CoreV1().Pods("n").Watch(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		defer w.Stop()
		if _, ok := <-w.ResultChan(); !ok {
			return errors.New("the watch ended")
		}
		return nil
	}
	never := func(_ http.ResponseWriter, r *http.Request) { forever(r) }
	stalls := func(w http.ResponseWriter, r *http.Request) { flush(w, podJSON[:20]); forever(r) }
	headers := func(w http.ResponseWriter, r *http.Request) { flush(w, ""); forever(r) }
	after := func(d time.Duration, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { time.Sleep(d); flush(w, text) }
	}
	first := func(bad http.HandlerFunc) http.HandlerFunc {
		var n atomic.Int32
		return func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				bad(w, r)
				return
			}
			flush(w, podJSON)
		}
	}
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		do       func(context.Context, *cluster.Client) error
		requests int32
		want     string        // in the error; "": none
		least    time.Duration // that it took
	}{
		"a read that is never answered": {never, get, 2, "the API server was silent: nothing came for 80ms",
			160 * time.Millisecond},
		"headers, and then nothing":         {headers, get, 2, "the API server was silent", 160 * time.Millisecond},
		"an answer that stalls":             {stalls, get, 2, "the API server was silent", 160 * time.Millisecond},
		"a list that stalls":                {stalls, list, 2, "listing pods in namespace n", 160 * time.Millisecond},
		"the first attempt is not answered": {first(never), get, 2, "", 80 * time.Millisecond},
		"the first attempt stalls":          {first(stalls), get, 2, "", 80 * time.Millisecond},
		"an answer that is slow, and comes": {after(40*time.Millisecond, podJSON), get, 1, "", 40 * time.Millisecond},
		"an answer that trickles, and comes": {trickle(podJSON, 40*time.Millisecond), get, 1, "",
			200 * time.Millisecond},
		"a write that is never answered": {never, patch, 1, "nothing came for 250ms", 250 * time.Millisecond},
		"a write that stalls":            {stalls, patch, 1, "nothing came for 250ms", 250 * time.Millisecond},
		"a write whose webhook is slow":  {after(160*time.Millisecond, podJSON), patch, 1, "", 160 * time.Millisecond},
		"a log that is silent for long":  {after(200*time.Millisecond, "x"), logs, 1, "", 200 * time.Millisecond},
		"a watch that is silent for long": {after(200*time.Millisecond, `{"type":"ADDED","object":`+podJSON+`}`+"\n"),
			watch, 1, "",
			200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, requests := listening(t, limits, rest.Config{}, c.answer)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			started := time.Now()
			err := c.do(ctx, client)
			took := time.Since(started)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %q", err, c.want)
			}
			if err != nil && cluster.FailureOf(err).Kind != cluster.RanOut {
				t.Errorf("%v is %q", err, cluster.FailureOf(err))
			}
			if n := requests.Load(); n != c.requests {
				t.Errorf("%d requests; want %d", n, c.requests)
			}
			if took < c.least || took > c.least+10*time.Second {
				t.Errorf("it took %s; want %s", took, c.least)
			}
		})
	}
}

// trickle sends a text in pieces, with less in between than is waited for.
func trickle(text string, pause time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		const pieces = 6
		for i := range pieces {
			time.Sleep(pause)
			flush(w, text[i*len(text)/pieces:(i+1)*len(text)/pieces])
		}
	}
}

// TestATrickleEndsWithTheTime: a byte now and then keeps a request alive for as
// long as the caller has time, and not for ever.
func TestATrickleEndsWithTheTime(t *testing.T) {
	client, _ := listening(t, cluster.Limits{Read: time.Second, Write: time.Second, Tell: time.Hour}, rest.Config{},
		func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				flush(w, " ")
				time.Sleep(20 * time.Millisecond)
			}
		})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond,
		fmt.Errorf("--timeout of 300ms is over: %w", context.DeadlineExceeded))
	defer cancel()
	started := time.Now()
	_, err := client.Kube.CoreV1().Pods("n").Get(ctx, "p", metav1.GetOptions{})
	if err == nil || !strings.Contains(err.Error(), "--timeout of 300ms is over") ||
		time.Since(started) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(started))
	}
}

// TestASurveyEnds though a list of it trickles on: it must not hold up the cut.
func TestASurveyEnds(t *testing.T) {
	limits := cluster.Limits{Read: 300 * time.Millisecond, Write: time.Second, Tell: time.Hour}
	client, _ := listening(t, limits, rest.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/services") {
			for r.Context().Err() == nil {
				flush(w, " ")
				time.Sleep(20 * time.Millisecond)
			}
			return
		}
		flush(w, `{"kind":"List","apiVersion":"v1","items":[]}`)
	})
	started := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	gaps := client.Survey(ctx, []string{"n"})["n"].Gaps
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if !slices.ContainsFunc(gaps, func(g cluster.Gap) bool {
		return strings.Contains(g.String(), "listing services in namespace n: ") &&
			strings.Contains(g.String(), "the API server was silent: not all had come within 300ms")
	}) {
		t.Errorf("gaps: %v", gaps)
	}
}

// TestWhatIsWaitedForIsSaid while it is waited for.
func TestWhatIsWaitedForIsSaid(t *testing.T) {
	client, _ := listening(t, cluster.Limits{Read: 200 * time.Millisecond, Write: time.Second,
		Tell: 20 * time.Millisecond}, rest.Config{},
		func(_ http.ResponseWriter, r *http.Request) { forever(r) })
	var mu sync.Mutex
	var said []string
	client.OnWait(func(what string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, what)
	})
	if _, err := client.Kube.CoreV1().Pods("n").Get(t.Context(), "p", metav1.GetOptions{}); err == nil {
		t.Error("no error")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(said) != 2 || said[0] != "an answer of the API server to GET /api/v1/namespaces/n/pods/p" {
		t.Errorf("%q", said)
	}
}

// TestAListThatExpires begins anew, and nothing of it counts twice.
func TestAListThatExpires(t *testing.T) {
	page := func(next string, names ...string) string {
		var items []string
		for _, n := range names {
			items = append(items, `{"metadata":{"name":"`+n+`"}}`)
		}
		return `{"kind":"PodList","apiVersion":"v1","metadata":{"continue":"` + next + `"},"items":[` +
			strings.Join(items, ",") + `]}`
	}
	for name, c := range map[string]struct {
		expires int32 // how often
		ok      bool
	}{"never": {0, true}, "once": {1, true}, "three times": {3, true}, "always": {100, false}} {
		t.Run(name, func(t *testing.T) {
			var expired atomic.Int32
			client, _ := listening(t, cluster.DefaultLimits, rest.Config{},
				func(w http.ResponseWriter, r *http.Request) {
					switch {
					case r.URL.Query().Get("limit") == "":
						t.Error("the list is not paged")
					case r.URL.Query().Get("continue") == "":
						flush(w, page("2", "a", "b"))
					case expired.Add(1) <= c.expires:
						w.WriteHeader(http.StatusGone)
						flush(w,
							`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,`+
								`"message":"too old"}`)
					default:
						flush(w, page("", "c"))
					}
				})
			pods, err := client.ListPods(t.Context(), "n", "")
			if (err == nil) != c.ok || c.ok && len(pods) != 3 {
				t.Errorf("%d pods, %v", len(pods), err)
			}
			if err != nil && !strings.Contains(err.Error(), "began anew 3 times") {
				t.Error(err)
			}
		})
	}
}

// plugin is an exec plugin that counts its calls and gives one token after the
// other; where there is none left it fails.
func plugin(t *testing.T, tokens ...string) (*clientcmdapi.ExecConfig, func() int) {
	t.Helper()
	dir := t.TempDir()
	for i, token := range tokens {
		text := `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"` + token +
			`"}}`
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(dir, "cloud-login")
	text := "#!/bin/sh\nn=$(ls " + dir + " | grep -c called)\n: > " + dir + "/called$n\nexec cat " + dir + "/$n\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	calls := func() int {
		found, _ := filepath.Glob(filepath.Join(dir, "called*"))
		return len(found)
	}
	return &clientcmdapi.ExecConfig{APIVersion: "client.authentication.k8s.io/v1", Command: script,
		Args:            []string{"--client-secret=hidden"},
		InteractiveMode: clientcmdapi.NeverExecInteractiveMode, InstallHint: "cloud login --sso",
		Env: []clientcmdapi.ExecEnvVar{{Name: "TEST", Value: t.Name()}}}, calls
}

// TestCredentialsAreRenewedOnce: then it is said that they are not accepted, and
// where new ones come from.
func TestCredentialsAreRenewedOnce(t *testing.T) {
	unauthorized := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401,` +
		`"message":"Unauthorized"}`
	for name, c := range map[string]struct {
		tokens   []string // of the plugin; nil: a token that does not renew
		requests int32
		calls    int
		want     string
		hint     string
	}{
		"the first is accepted":  {[]string{"good"}, 1, 1, "", ""},
		"the second is accepted": {[]string{"old", "good"}, 2, 2, "", ""},
		"none is accepted": {[]string{"old", "older", "oldest"}, 2, 3,
			"the API server does not accept the credentials (401)",
			"cloud-login: log in again with what it belongs to (cloud login --sso)"},
		"the plugin fails": {[]string{}, 0, 1, "there are no credentials for the API server, so nothing was sent to " +
			"it: getting credentials: exec: executable",
			"log in again with what it belongs to"},
		"a token that has expired": {nil, 1, 0, "does not accept the credentials (401)",
			"the token has expired, or was revoked"},
	} {
		for verb, do := range map[string]func(*cluster.Client) error{
			"get": func(client *cluster.Client) error {
				_, err := client.Kube.CoreV1().Pods("n").Get(t.Context(), "p", metav1.GetOptions{})
				return err
			},
			"patch": func(client *cluster.Client) error {
				_, err := client.Kube.CoreV1().Pods("n").
					Patch(t.Context(), "p", types.MergePatchType, []byte(`{"x":1}`), metav1.PatchOptions{})
				return err
			},
		} {
			t.Run(name+", "+verb, func(t *testing.T) {
				config, calls := rest.Config{BearerToken: "old"}, func() int { return 0 }
				if c.tokens != nil {
					config.BearerToken = ""
					config.ExecProvider, calls = plugin(t, c.tokens...)
				}
				client, requests := listening(t, cluster.DefaultLimits, config,
					func(w http.ResponseWriter, r *http.Request) {
						if body, _ := io.ReadAll(r.Body); r.Method == http.MethodPatch && string(body) != `{"x":1}` {
							t.Errorf("the body is %q", body)
						}
						if r.Header.Get("Authorization") != "Bearer good" {
							w.WriteHeader(http.StatusUnauthorized)
							flush(w, unauthorized)
							return
						}
						flush(w, podJSON)
					})
				err := do(client)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v; want %q", err, c.want)
				}
				if n := requests.Load(); n != c.requests || calls() != c.calls {
					t.Errorf("%d requests, %d calls of the plugin; want %d and %d", n, calls(), c.requests, c.calls)
				}
				if err == nil {
					return
				}
				hint := cluster.Explain(err, deploy.RoleFor)
				if cluster.FailureOf(err).Kind != cluster.NotSignedIn || !strings.Contains(hint, c.hint) ||
					!strings.Contains(hint, "irctl timeline show says") {
					t.Errorf("%q: %s", cluster.FailureOf(err), hint)
				}
				if strings.Contains(hint+err.Error(), "hidden") {
					t.Errorf("an argument of the plugin is told: %v %s", err, hint)
				}
			})
		}
	}
}

// TestAPolicyMayAnswer401: that is no matter of credentials.
func TestAPolicyMayAnswer401(t *testing.T) {
	client, requests := listening(t, cluster.DefaultLimits, rest.Config{BearerToken: "good"},
		func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			flush(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401,
			"message":"pods \"p\" is forbidden: ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no"}`)
		})
	_, err := client.Kube.CoreV1().Pods("n").Patch(t.Context(), "p", types.MergePatchType, []byte(`{}`),
		metav1.PatchOptions{})
	if f := cluster.FailureOf(err); f.Kind != cluster.DeniedByPolicy || requests.Load() != 1 {
		t.Errorf("%v is %q after %d requests", err, f, requests.Load())
	}
}
