package detect

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const goodAlert = `{"uuid":"1","output":"o","priority":"Warning","rule":"r","time":"2026-02-12T09:30:00Z",` +
	`"output_fields":{"k8s.pod.name":"p","k8s.ns.name":"n"},"source":"syscall","hostname":"h"}`

func post(l *Listener, edit func(*http.Request)) int {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:2801/", strings.NewReader(goodAlert))
	r.Header.Set("Content-Type", "application/json")
	edit(r)
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	if w.Body.Len() > 0 {
		panic("something is echoed: " + w.Body.String())
	}
	return w.Code
}

func body(text string) func(*http.Request) {
	return func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(text)) }
}

func TestWhatTheListenerTakes(t *testing.T) {
	for name, tt := range map[string]struct {
		token string
		edit  func(*http.Request)
		code  int
		taken int
	}{
		"an alert": {"", func(*http.Request) {}, 204, 1},
		"put, to any path": {"", func(r *http.Request) {
			r.Method, r.URL.Path = http.MethodPut, "/falco"
		}, 204, 1},
		"with a character set": {"", func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
		}, 204, 1},
		"several, one a line":         {"", body(goodAlert + "\n\n" + goodAlert + "\n"), 204, 2},
		"over several lines":          {"", body(strings.ReplaceAll(goodAlert, ",", ",\n")), 204, 1},
		"one of several is malformed": {"", body(goodAlert + "\n{}\n"), 400, 0},
		"get":                         {"", func(r *http.Request) { r.Method = http.MethodGet }, 405, 0},
		"a form, as a page could send it": {"", func(r *http.Request) {
			r.Header.Set("Content-Type", "text/plain")
		}, 415, 0},
		"no type":                {"", func(r *http.Request) { r.Header.Del("Content-Type") }, 415, 0},
		"a name that leads here": {"", func(r *http.Request) { r.Host = "evil.example.net:2801" }, 421, 0},
		"localhost":              {"", func(r *http.Request) { r.Host = "localhost" }, 204, 1},
		"nothing":                {"", body(""), 400, 0},
		"no JSON":                {"", body("hello"), 400, 0},
		"no alert":               {"", body(`{"rule":"r"}`), 400, 0},
		"too large":              {"", body(`{"rule":"` + strings.Repeat("x", maxBody) + `"}`), 413, 0},
		"the token": {"secret", func(r *http.Request) {
			r.Host = "ir.example.net"
			r.Header.Set("Authorization", "Bearer secret")
		}, 204, 1},
		"no token":        {"secret", func(*http.Request) {}, 401, 0},
		"the wrong token": {"secret", func(r *http.Request) { r.Header.Set("Authorization", "Bearer secre") }, 401, 0},
	} {
		t.Run(name, func(t *testing.T) {
			taken := 0
			l := &Listener{Token: tt.token, Now: time.Now, Take: func(f Finding) {
				if taken++; f.Subject.Pod != "p" || f.Score != 65 {
					t.Errorf("%+v", f)
				}
			}}
			if code := post(l, tt.edit); code != tt.code || taken != tt.taken {
				t.Errorf("%d, %d taken", code, taken)
			}
		})
	}
}

func TestTheListenerIsNotOverrun(t *testing.T) {
	at := now
	l := &Listener{Now: func() time.Time { return at }, Take: func(Finding) {}}
	burst := func() (n int) {
		for post(l, func(*http.Request) {}) == http.StatusNoContent {
			n++
		}
		return n
	}
	if n := burst(); n != alertsAtOnce {
		t.Errorf("%d at once", n)
	}
	at = at.Add(500 * time.Millisecond)
	if n := burst(); n != alertsASecond/2 {
		t.Errorf("%d in half a second", n)
	}
	at = at.Add(-time.Hour) // the clock was set back
	if n := burst(); n != 0 {
		t.Errorf("%d while no time passed", n)
	}
	if taken, refused := l.Counts(); taken != alertsAtOnce+alertsASecond/2 || refused != 3 {
		t.Errorf("%d taken, %d refused", taken, refused)
	}
}

func TestWhereTheListenerMayListen(t *testing.T) {
	for address, tt := range map[string]struct {
		token string
		want  error
	}{
		"127.0.0.1:0":  {"", nil},
		"[::1]:0":      {"", nil},
		"localhost:0":  {"", nil},
		"0.0.0.0:0":    {"", ErrOpenListener},
		":2801":        {"", ErrOpenListener},
		"10.0.0.1:80":  {"", ErrOpenListener},
		"0.0.0.0:2801": {"secret", nil},
	} {
		if err := (&Listener{Token: tt.token}).safe(address); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := (&Listener{}).safe("127.0.0.1"); err == nil {
		t.Error("an address without a port")
	}
}

// serve runs a listener until the test ends.
func serve(t *testing.T, l *Listener) (address string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() { done <- l.Serve(ctx, "127.0.0.1:0", func(a net.Addr) { ready <- a }) }()
	select {
	case a := <-ready:
		return a.String(), func() error { cancel(); return <-done }
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	cancel()
	return "", nil
}

func TestTheListenerServesAndStops(t *testing.T) {
	var mu sync.Mutex
	taken := 0
	address, stop := serve(t, &Listener{Now: time.Now, Take: func(Finding) {
		mu.Lock()
		defer mu.Unlock()
		taken++
	}})
	// More clients than there may be connections, some of which say nothing.
	for range maxConnections / 2 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	var wg sync.WaitGroup
	for range maxConnections {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := client.Post("http://"+address, "application/json", strings.NewReader(goodAlert))
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if taken != maxConnections {
		t.Errorf("%d taken", taken)
	}
}

func FuzzListener(f *testing.F) {
	for _, s := range []string{goodAlert, goodAlert + "\n" + goodAlert, "{}", ""} {
		f.Add(s, "application/json", "127.0.0.1")
	}
	f.Fuzz(func(t *testing.T, text, kind, host string) {
		l := &Listener{Now: time.Now, Take: func(finding Finding) { keep(t, finding) }}
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/", strings.NewReader(text))
		r.Header["Content-Type"], r.Host = []string{kind}, host
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		if w.Code != http.StatusNoContent && (w.Code < 400 || w.Code >= 500) || w.Body.Len() > 0 {
			t.Errorf("answered %d with %q", w.Code, w.Body)
		}
	})
}

// appendTo writes to the end of a file.
func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func alert(rule string) string { return strings.Replace(goodAlert, `"r"`, `"`+rule+`"`, 1) + "\n" }

func TestWatchFollowsListensAndStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "falco.jsonl")
	appendTo(t, path, alert("before"))
	ctx, cancel := context.WithCancel(t.Context())
	found, notices := make(chan Finding, 10), make(chan string, 10)
	done := make(chan *Result, 1)
	go func() {
		res, err := Watch(ctx, Request{Inputs: []Input{{Source: SourceFalco, Path: path}}}, Watching{Every: time.Hour,
			Listener: &Listener{Now: time.Now}, Address: "127.0.0.1:0", Found: func(f Finding) { found <- f },
			Noticed: func(s string) { notices <- s }})
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	next := func(rule string) {
		t.Helper()
		select {
		case f := <-found:
			if f.Rule != rule {
				t.Fatalf("found %q, not %q", f.Rule, rule)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q was not found", rule)
		}
	}
	next("before")
	text := alert("in two pieces")
	appendTo(t, path, text[:50])
	time.Sleep(2 * followEvery)
	appendTo(t, path, text[50:])
	next("in two pieces")
	if err := os.Rename(path, path+".1"); err != nil { // rotated
		t.Fatal(err)
	}
	appendTo(t, path+".1", alert("still to the old one"))
	next("still to the old one")
	appendTo(t, path, alert("rotated"))
	next("rotated")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * followEvery)
	appendTo(t, path, alert("emptied"))
	next("emptied")
	address := strings.TrimPrefix(<-notices, "listening for alerts of Falco on ")
	resp, err := http.Post(address, "application/json", strings.NewReader(alert("posted")))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	next("posted")
	appendTo(t, path, alert("before")) // known already
	cancel()
	select {
	case res := <-done:
		if len(res.Suspects) != 1 || len(res.Suspects[0].Findings) != 6 {
			t.Errorf("%+v", res.Suspects)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not stop")
	}
}

func TestWatchEndsWithItsInputs(t *testing.T) {
	n := 0
	res, err := Watch(t.Context(), Request{Inputs: []Input{{Source: SourceFalco, Path: "standard input",
		Reader: strings.NewReader(alert("a") + alert("b") + alert("a"))}}},
		Watching{Every: time.Hour, Found: func(Finding) { n++ }, Noticed: func(string) {}})
	if err != nil || n != 2 || len(res.Suspects) != 1 {
		t.Errorf("%d found, %v", n, err)
	}
}

func TestWatchSaysThatItCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	path := filepath.Join(t.TempDir(), "falco.jsonl")
	appendTo(t, path, alert("which is followed"))
	_, err = Watch(t.Context(), Request{Inputs: []Input{{Source: SourceFalco, Path: path}}},
		Watching{Every: time.Hour, Listener: &Listener{Now: time.Now}, Address: taken.Addr().String(),
			Found: func(Finding) {}, Noticed: func(string) {}})
	if err == nil || !strings.Contains(err.Error(), "listening for alerts") {
		t.Errorf("the error is %v", err)
	}
}
