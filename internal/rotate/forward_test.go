package rotate

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"irctl/internal/cluster"
)

// kubelet answers port-forwards of one pod, as a real one does behind an API
// server that knows no WebSockets, so that the older way is tested here; the
// newer one is in test/e2e.
type kubelet struct {
	pod  string
	port int // of this machine
	// says is what it says of a connection instead of making it.
	says string
	// hangs makes it not answer at all.
	hangs chan struct{}
	asked []string // the ports
}

func (k *kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if k.hangs != nil {
		<-k.hangs
		return
	}
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/pods/"+k.pod+"/portforward") {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 2)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	})
	if conn == nil {
		return
	}
	defer conn.Close()
	byType := map[string]httpstream.Stream{}
	for range 2 {
		s := <-streams
		byType[s.Headers().Get(corev1.StreamType)] = s
		k.asked = append(k.asked, s.Headers().Get(corev1.PortHeader))
	}
	problems, data := byType[corev1.StreamTypeError], byType[corev1.StreamTypeData]
	if k.says != "" {
		_, _ = io.WriteString(problems, k.says)
		_ = problems.Close()
		_ = data.Close()
		<-conn.CloseChan()
		return
	}
	to, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(k.port)))
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(to, data)
		_ = to.Close()
	}()
	_, _ = io.Copy(data, to)
	_ = data.Close()
	_ = problems.Close()
	<-conn.CloseChan()
}

// behind is the cluster with a kubelet that takes port-forwards.
func (w *clusterUnderTest) behind(t *testing.T, k *kubelet) {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/portforward") {
			k.ServeHTTP(rw, r)
			return
		}
		w.server.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() {
		if k.hangs != nil {
			close(k.hangs)
		}
		front.CloseClientConnections()
		front.Close()
	})
	var err error
	if w.client, err = cluster.New(&rest.Config{Host: front.URL}); err != nil {
		t.Fatal(err)
	}
}

// A password is rotated in a database that only its pod can reach.
func TestPostgresThroughTheAPIServer(t *testing.T) {
	p := startPostgres(t)
	p.exec(t, "CREATE ROLE "+pgx.Identifier{hostile}.Sanitize()+" LOGIN PASSWORD '"+oldPassword+"'")
	w, _ := roleWorld(t, p, nil, nil)
	k := &kubelet{pod: "postgres-0", port: p.port}
	w.behind(t, k)
	db, err := ParseDatabase("host=nowhere.invalid port=5999 user=admin password=" + adminPassword +
		" dbname=postgres sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	forward, err := ParseForward("pod/postgres-0", ns)
	if err != nil {
		t.Fatal(err)
	}
	r := w.roles(t, p, nil)
	r = NewRoles(r.Secrets, db.Through(forward))
	rotateAll(t, r)
	if p.letsIn(t, hostile, oldPassword) || !p.letsIn(t, hostile, w.value(t, "postgres-secret", "PASSWORD")) {
		t.Error("the old password works, or the new one does not")
	}
	if len(k.asked) == 0 || k.asked[0] != "5999" {
		t.Errorf("ports that were asked for: %v; want that of the connection string", k.asked)
	}
}

// What a kubelet has to say of a port is in the error, and no password is.
func TestTheKubeletsWordIsInTheError(t *testing.T) {
	w := newCluster(t, nil)
	w.behind(t, &kubelet{pod: "postgres-0", says: "failed to connect to localhost:5432 inside namespace"})
	db, err := ParseDatabase("host=x user=admin password=hunter2-secret sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	r := NewRoles(NewSecrets(w.client, w.digests, nil, Commander{}),
		db.Through(Forward{Namespace: ns, Kind: "pod", Name: "postgres-0"}))
	_, err = r.asAdmin(t.Context())
	if err == nil || !strings.Contains(err.Error(), "inside namespace") ||
		!strings.Contains(err.Error(), "pod todo-app/postgres-0") {
		t.Errorf("%v", err)
	}
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is in the error: %v", err)
	}
}

// A server that does not answer costs no more than the time that there is.
func TestForwardIsBounded(t *testing.T) {
	w := newCluster(t, nil)
	w.behind(t, &kubelet{hangs: make(chan struct{})})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Forward{Namespace: ns, Kind: "pod", Name: "p", Port: 1}.dial(ctx, w.client)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// Of a Service, the port of a ready pod behind it.
func TestForwardToAService(t *testing.T) {
	w := newCluster(t, nil)
	if err := w.Apply(`
apiVersion: v1
kind: Service
metadata: {name: db, namespace: todo-app}
spec:
  ports: [{name: metrics, port: 9090, targetPort: 9187}, {name: pg, port: 5432, targetPort: 6432}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-x, namespace: todo-app, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: pg, port: 6432, protocol: TCP}, {name: metrics, port: 9187, protocol: TCP}]
endpoints:
- {addresses: [10.0.0.3], conditions: {ready: true}, targetRef: {kind: Pod, name: db-2, namespace: todo-app}}
- {addresses: [10.0.0.2], conditions: {ready: true}, targetRef: {kind: Pod, name: db-1, namespace: todo-app}}
- {addresses: [10.0.0.1], conditions: {ready: false}, targetRef: {kind: Pod, name: db-0, namespace: todo-app}}
`); err != nil {
		t.Fatal(err)
	}
	pod, port, err := Forward{Namespace: ns, Kind: "service", Name: "db", Port: 5432}.endpoint(t.Context(), w.client)
	if err != nil || pod != "db-1" || port != 6432 {
		t.Errorf("%s:%d, %v; want db-1:6432", pod, port, err)
	}
	for _, f := range []Forward{{Namespace: ns, Kind: "service", Name: "db", Port: 1},
		{Namespace: ns, Kind: "service", Name: "none", Port: 5432}} {
		if _, _, err := f.endpoint(t.Context(), w.client); err == nil {
			t.Errorf("%+v: found something", f)
		}
	}
}

func TestParseForward(t *testing.T) {
	for _, c := range []struct {
		text string
		want Forward
	}{
		{"pod/postgres-0", Forward{Namespace: "here", Kind: "pod", Name: "postgres-0"}},
		{"svc/db:6432", Forward{Namespace: "here", Kind: "service", Name: "db", Port: 6432}},
		{"data/Service/db", Forward{Namespace: "data", Kind: "service", Name: "db"}},
		{"postgres-0", Forward{}},
		{"deployment/db", Forward{}},
		{"pod/", Forward{}},
		{"/pod/x", Forward{}},
		{"a/b/pod/x", Forward{}},
		{"pod/x:0", Forward{}},
		{"pod/x:70000", Forward{}},
		{"pod/x:pg", Forward{}},
	} {
		got, err := ParseForward(c.text, "here")
		if got != c.want || (err == nil) != (c.want != Forward{}) {
			t.Errorf("%s: %+v, %v", c.text, got, err)
		}
	}
}

// The usual image trusts whoever comes from the pod itself, as a port-forward
// does. Then a password is not refused, so what is kept of it is looked at.
func TestPostgresThatTrustsThisAddress(t *testing.T) {
	p := startPostgres(t)
	role := pgx.Identifier{hostile}.Sanitize()
	p.exec(t, "CREATE ROLE "+role+" LOGIN PASSWORD '"+oldPassword+"'")
	hba := filepath.Join(filepath.Dir(p.log), "data", "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("host all all 127.0.0.1/32 trust\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.exec(t, "SELECT pg_reload_conf()")
	for range 100 {
		if p.letsIn(t, hostile, "anything") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	w, r := roleWorld(t, p, nil, nil)
	must(t, r.New)
	must(t, r.Update)
	out := must(t, r.Deactivate)
	if !strings.Contains(out.Note, "could not be tried") {
		t.Errorf("it is not said that a log-in proves nothing here: %s", out.Note)
	}
	// Somebody put the old one back.
	p.exec(t, "ALTER ROLE "+role+" PASSWORD '"+oldPassword+"'")
	again := w.roles(t, p, nil)
	again.passwords, again.previous = r.passwords, r.previous
	if _, err := again.Deactivate(t.Context()); err == nil {
		t.Error("the role has its old password, and that passes for refused")
	}
}
