package rotate

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"irctl/internal/cluster"
	"irctl/internal/drill/sim"
)

// clusterUnderTest is a simulated cluster with a namespace and a client.
type clusterUnderTest struct {
	*sim.Cluster
	client  *cluster.Client
	digests Digests
	server  *sim.Server
}

const ns = "todo-app"

func newCluster(t *testing.T, faults func(sim.Request) sim.Fault) *clusterUnderTest {
	t.Helper()
	c, err := sim.New(sim.Options{Kinds: []sim.Kind{
		{Group: "external-secrets.io", Version: "v1", Resource: "externalsecrets", Kind: "ExternalSecret"},
		{Group: "cert-manager.io", Version: "v1", Resource: "certificates", Kind: "Certificate"}}})
	if err == nil {
		err = c.Apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + ns + "}\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	server := c.Server(faults)
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	client, err := cluster.New(&rest.Config{Host: listener.URL})
	if err != nil {
		t.Fatal(err)
	}
	return &clusterUnderTest{c, client, NewDigests(NewKey()), server}
}

func (w *clusterUnderTest) secret(t *testing.T, name string, data map[string]string) {
	t.Helper()
	var lines strings.Builder
	for k, v := range data {
		fmt.Fprintf(&lines, "  %s: %s\n", k, base64.StdEncoding.EncodeToString([]byte(v)))
	}
	if err := w.Apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ndata:\n%s", name,
		ns, lines.String())); err != nil {
		t.Fatal(err)
	}
}

func (w *clusterUnderTest) live(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	s, err := w.client.Kube.CoreV1().Secrets(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *clusterUnderTest) value(t *testing.T, name, key string) string {
	t.Helper()
	return string(w.live(t, name).Data[key])
}

func (w *clusterUnderTest) secrets(t *testing.T, name string, sources map[string]Source) *Secrets {
	return NewSecrets(w.client, w.digests, nil, Commander{Incident: "inc-1"},
		SecretPlan{Live: w.live(t, name), Sources: sources})
}

// TestValuesAreNotPrinted by any verb or encoding.
func TestValuesAreNotPrinted(t *testing.T) {
	v := NewValue([]byte("hunter22"))
	s := Source{Kind: Supplied, Value: v}
	text, err := json.Marshal(map[string]any{"a": v, "b": s})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{fmt.Sprint(v), fmt.Sprintf("%v %+v %#v %s %q %x %X %d", v, v, v, v, v, v, v, v),
		fmt.Sprintf("%v %+v %#v", s, s, &s), string(text)} {
		if strings.Contains(got, "hunter") || strings.Contains(got, "68756e74") || strings.Contains(got, "104 117") {
			t.Errorf("printed: %s", got)
		}
	}
	for _, form := range []string{"hunter22", base64.StdEncoding.EncodeToString([]byte("hunter22"))} {
		if got := scrub(errors.New("denied: "+form+" is weak"), v).Error(); strings.Contains(got, form) {
			t.Errorf("an error tells: %s", got)
		}
	}
	cause := errors.New("nothing secret")
	if !errors.Is(scrub(cause, v), cause) {
		t.Error("an error without secrets was changed")
	}
}

func TestGenerate(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		for _, k := range []Kind{Random, Password} {
			v, _, err := generate(k)
			if err != nil || len(v.Reveal()) < 32 || seen[string(v.Reveal())] {
				t.Errorf("%s: %d bytes, twice: %v, %v", k, len(v.Reveal()), seen[string(v.Reveal())], err)
			}
			seen[string(v.Reveal())] = true
		}
	}
	for _, k := range []Kind{RSA, ECDSA, Ed25519} {
		private, public, err := generate(k)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(private.Reveal())
		if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Errorf("%s: %v", k, err)
		}
		block, _ = pem.Decode(public.Reveal())
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	if _, _, err := generate(Supplied); err == nil {
		t.Error("what only a third party can issue was generated")
	}
	for value, issued := range map[string]bool{"gsk_abc": true, "AKIA123": true, "plain": false, "": false} {
		if (Issuer("k", []byte(value)) != "") != issued {
			t.Errorf("issuer of %q: %q", value, Issuer("k", []byte(value)))
		}
	}
}

// TestErrorsTellNoValue: neither what the server says of a value, nor what
// differs when somebody changed it meanwhile.
func TestErrorsTellNoValue(t *testing.T) {
	supplied := "supplied-4d2a"
	w := newCluster(t, func(q sim.Request) sim.Fault {
		if q.Verb == "patch" && q.Name == "echo" {
			return sim.Fault{Error: sim.Denied("echo.example.com", "the values old-echo-1 and "+
				base64.StdEncoding.EncodeToString([]byte(supplied))+" are bad")}
		}
		return sim.Fault{}
	})
	for _, name := range []string{"echo", "drift"} {
		w.secret(t, name, map[string]string{"K": "old-echo-1"})
		s := w.secrets(t, name, map[string]Source{"K": {Kind: Supplied, Value: NewValue([]byte(supplied))}})
		must(t, s.New)
		if name == "drift" {
			if err := w.Edit(SecretRef.GVR(), ns, name, func(o *unstructured.Unstructured) {
				o.Object["data"] = map[string]any{"K": base64.StdEncoding.EncodeToString([]byte("theirs-77"))}
			}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Update(t.Context())
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		for _, v := range []string{supplied, "old-echo-1", "theirs-77"} {
			if strings.Contains(err.Error(), v) ||
				strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte(v))) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if name == "drift" && !errors.Is(err, ErrChanged) {
			t.Errorf("%v", err)
		}
	}
	w.secret(t, "same", map[string]string{"K": "the-old-one"})
	s := w.secrets(t, "same", map[string]Source{"K": {Kind: Supplied, Value: NewValue([]byte("the-old-one"))}})
	if _, err := s.New(t.Context()); err == nil || strings.Contains(err.Error(), "the-old-one") {
		t.Errorf("the value that leaked was taken for a new one: %v", err)
	}
}

func TestSuccessorName(t *testing.T) {
	first := successorName("signing")
	if second := successorName(first); len(second) != len(first) || !strings.HasPrefix(second, "signing-r") ||
		first == second {
		t.Errorf("%s, then %s", first, second)
	}
	if long := successorName(strings.Repeat("a", 253)); len(long) != 253 {
		t.Errorf("%d characters", len(long))
	}
}

// TestCommand: the value comes on standard input and nowhere else, the words
// are no shell's, and what fails tells without the value.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "store")
	text := "#!/bin/sh\ncat > " + dir + "/stdin\nprintf '%s' \"$1\" > " + dir + "/arg\nenv > " + dir +
		"/env\nls /proc/self/fd > /dev/null\nexit ${2:-0}\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	w := newCluster(t, nil)
	w.secret(t, "s", map[string]string{"K": "old-1234"})
	s := w.secrets(t, "s", map[string]Source{"K": {Kind: Random, Command: []string{script, "$(id); 'x"}}})
	must(t, s.New)
	must(t, s.Store)
	must(t, s.Update)
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	if read("stdin") != w.value(t, "s", "K") || read("arg") != "$(id); 'x" {
		t.Errorf("stdin %v, argument %q", read("stdin") == w.value(t, "s", "K"), read("arg"))
	}
	if env := read("env"); !strings.Contains(env, "IRCTL_SECRET=s\n") || strings.Contains(env, w.value(t, "s", "K")) {
		t.Error("the environment is not as documented")
	}
	ref := SecretRef.Named(ns, "s", "")
	err := Commander{}.Run(t.Context(), []string{"/bin/sh", "-c", "cat >&2; exit 3"}, ref, "K",
		NewValue([]byte("new-5678")), []Value{NewValue([]byte("new-5678"))})
	if err == nil || strings.Contains(err.Error(), "new-5678") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%v", err)
	}
	started := time.Now()
	if err := (Commander{Time: 50 * time.Millisecond}).Run(t.Context(), []string{"sleep", "60"}, ref, "K", Value{},
		nil); err == nil || time.Since(started) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(started))
	}
}

// operator reacts to objects as an operator does, until the test ends.
func (w *clusterUnderTest) operator(t *testing.T, react func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
			react()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

const externalSecret = `apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: es, namespace: todo-app}
spec: {refreshInterval: 1h, secretStoreRef: {name: vault}, target: {name: s},
    data: [{secretKey: K, remoteRef: {key: todo/k}}]}
status: {syncedResourceVersion: 1-a, conditions: [{type: Ready, status: "True", reason: SecretSynced}]}
`

var externalRef = cluster.Ref{Group: "external-secrets.io", Version: "v1", Resource: "externalsecrets",
	Kind: "ExternalSecret", Namespace: ns, Name: "es"}

// externalWorld has an operator that fetches what the source has whenever the
// annotation changes.
func externalWorld(t *testing.T, source func() (string, bool)) (*clusterUnderTest, *External) {
	w := newCluster(t, nil)
	w.secret(t, "s", map[string]string{"K": "old-value-1"})
	if err := w.Apply(externalSecret); err != nil {
		t.Fatal(err)
	}
	seen := ""
	w.operator(t, func() {
		es, err := w.Get(externalRef.GVR(), ns, "es")
		if err != nil || es.GetAnnotations()[forceSync] == seen {
			return
		}
		seen = es.GetAnnotations()[forceSync]
		value, ok := source()
		_ = w.Edit(SecretRef.GVR(), ns, "s", func(o *unstructured.Unstructured) {
			o.Object["data"] = map[string]any{"K": base64.StdEncoding.EncodeToString([]byte(value))}
		})
		_ = w.Edit(externalRef.GVR(), ns, "es", func(o *unstructured.Unstructured) {
			ready := map[string]any{"type": "Ready", "status": "True", "reason": "SecretSynced"}
			if !ok {
				ready = map[string]any{"type": "Ready", "status": "False", "reason": "SecretSyncedError",
					"message": value}
			}
			o.Object["status"] = map[string]any{"syncedResourceVersion": "1-" + seen, "conditions": []any{ready}}
		})
	})
	return w, NewExternal(w.secrets(t, "s", nil), externalRef, time.Now)
}

func TestExternalSecret(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, x := externalWorld(t, func() (string, bool) { return "new-value-1", true })
	record := x.Record()
	out, err := x.Update(ctx)
	if err != nil || w.value(t, "s", "K") != "new-value-1" {
		t.Fatalf("%v", err)
	}
	if !Holds(record.Secrets[0], w.live(t, "s"), w.digests) ||
		!Holds(out.Data.(Record).Secrets[0], w.live(t, "s"), w.digests) {
		t.Error("the record does not tell that it was done")
	}
	_, x = externalWorld(t, func() (string, bool) { return "old-value-1", true })
	if _, err := x.Update(ctx); err == nil || !strings.Contains(err.Error(), "todo/k") ||
		strings.Contains(err.Error(), "old-value") {
		t.Errorf("the source did not change: %v", err)
	}
	_, x = externalWorld(t, func() (string, bool) { return "provider-said-this", false })
	if _, err := x.Update(ctx); err == nil || strings.Contains(err.Error(), "provider-said-this") ||
		!strings.Contains(err.Error(), "SecretSyncedError") {
		t.Errorf("the provider failed: %v", err)
	}
	for spec, can := range map[string]bool{`{"refreshPolicy":"CreatedOnce"}`: false, `{"refreshInterval":"0"}`: false,
		`{"refreshInterval":"0s"}`: false,
		`{"refreshInterval":"1h"}`: true, `{}`: true, `{"refreshPolicy":"OnChange","refreshInterval":"0"}`: true,
		`{"target":{"immutable":true}}`: false} {
		es := &unstructured.Unstructured{Object: map[string]any{}}
		var m map[string]any
		_ = json.Unmarshal([]byte(spec), &m)
		es.Object["spec"] = m
		if (CannotSync(es) == "") != can {
			t.Errorf("%s: %q", spec, CannotSync(es))
		}
	}
}

func TestCertificate(t *testing.T) {
	for _, rotates := range []bool{true, false} {
		w := newCluster(t, nil)
		w.secret(t, "s", map[string]string{"tls.key": "old-key", "tls.crt": "crt"})
		if err := w.Apply("apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: c, namespace: " +
			"todo-app}\nspec: {secretName: s}\nstatus: {revision: 1, conditions: " +
			"[{type: Ready, status: \"True\"}]}\n"); err != nil {
			t.Fatal(err)
		}
		ref := CertificateRef.Named(ns, "c", "")
		w.operator(t, func() {
			c, err := w.Get(ref.GVR(), ns, "c")
			if err != nil || condition(c, "Issuing") != "True" {
				return
			}
			if rotates {
				_ = w.Edit(SecretRef.GVR(), ns, "s", func(o *unstructured.Unstructured) {
					o.Object["data"].(map[string]any)["tls.key"] = base64.StdEncoding.EncodeToString([]byte("new-key"))
				})
			}
			_ = w.Edit(ref.GVR(), ns, "c", func(o *unstructured.Unstructured) {
				o.Object["status"] = map[string]any{"revision": int64(2),
					"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
			})
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		c := NewCertificate(w.client, w.digests, nil, ref, w.live(t, "s"), time.Now)
		record := c.Record()
		_, err := c.Update(ctx)
		cancel()
		if rotates && (err != nil || !Holds(record.Secrets[0], w.live(t, "s"), w.digests)) ||
			!rotates && (err == nil || !strings.Contains(err.Error(), "rotationPolicy")) {
			t.Errorf("a new key: %v: %v", rotates, err)
		}
	}
}

// TestAccountIsMadeAnew also where another process was killed in between, and
// where the controller of default accounts was faster.
func TestAccountIsMadeAnew(t *testing.T) {
	for _, state := range []string{"as before", "deleted", "made by the controller"} {
		w := newCluster(t, nil)
		if err := w.Apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: todo-app, " +
			"labels: {a: b}}\nautomountServiceAccountToken: false\nimagePullSecrets: [{name: pull}]\n"); err != nil {
			t.Fatal(err)
		}
		w.secret(t, "token", nil)
		live, err := w.client.Kube.CoreV1().ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		a, err := NewAccount(w.client, "inc-1", live, []*corev1.Secret{w.live(t, "token")}, func(string) bool {
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(a.Record())
		var record Record
		if err := json.Unmarshal(text, &record); err != nil {
			t.Fatal(err)
		}
		if state != "as before" {
			if err := w.Delete(AccountRef.GVR(), ns, "default"); err != nil {
				t.Fatal(err)
			}
		}
		if state == "made by the controller" {
			if err := w.Apply(
				"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: todo-app}\n"); err != nil {
				t.Fatal(err)
			}
		}
		again, err := ResumeAccount(w.client, record)
		if err != nil {
			t.Fatal(err)
		}
		must(t, again.Update)
		must(t, again.Deactivate)
		next, err := w.client.Kube.CoreV1().ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
		if err != nil || next.UID == live.UID || len(next.ImagePullSecrets) != 1 ||
			*next.AutomountServiceAccountToken || next.Labels["a"] != "b" {
			t.Errorf("%s: %+v %v", state, next, err)
		}
		if _, err := w.Get(SecretRef.GVR(), ns, "token"); err == nil {
			t.Errorf("%s: the legacy token is still there", state)
		}
	}
}
