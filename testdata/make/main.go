// Command make runs a built irctl through incidents on simulated clusters, and
// writes what each leaves behind: testdata/make.sh starts it.
package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"irctl/internal/change"
	"irctl/internal/drill/sim"
)

// home is the responder's home. Receipts and configuration name files in it, so it
// is the same on every machine.
const home = "/tmp/responder"

// address is fixed, since an incident records its server.
const address = "127.0.0.1:26443"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: testdata/make.sh IRCTL DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(irctl, out string) error {
	host, _ := os.Hostname()
	if u, err := user.Current(); err != nil || u.Username != "responder" || host != "responder-laptop" {
		return errors.New("the journals would name this machine and its user; start testdata/make.sh")
	}
	for _, dir := range []string{home, out} {
		if _, err := os.Lstat(dir); err == nil {
			return fmt.Errorf("%s exists already; remove it, or name another folder", dir)
		}
	}
	defer os.RemoveAll(home)
	if err := prepare(out); err != nil {
		return err
	}
	stories := []func(*story){open, interrupted, denied, deniedByWebhook, contained, byRunbook, undone,
		fromContainmentToClose}
	for _, f := range stories {
		if err := tell(irctl, out, f); err != nil {
			return err
		}
	}
	return inDrill(irctl, out)
}

// prepare makes the key, the configuration and the runbook that the incidents use.
func prepare(out string) error {
	keys, runbooks, reports := filepath.Join(out, "keys"), filepath.Join(out, "runbooks"), filepath.Join(out, "reports")
	for _, dir := range []string{home, keys, runbooks, reports} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const comment = "throw-away key, its secret half is public"
	e, err := openpgp.NewEntity("Fixture responder", comment, "responder@irctl.invalid",
		&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: func() time.Time {
			return made
		}})
	if err != nil {
		return err
	}
	var public, secret bytes.Buffer
	err = errors.Join(armored(&public, openpgp.PublicKeyType, e), armored(&secret, openpgp.PrivateKeyType, e))
	if err != nil {
		return err
	}
	runbook, err := os.ReadFile("testdata/v1/runbooks/cut-off.yaml")
	if err != nil {
		return err
	}
	for _, dir := range []string{home, keys} {
		err = errors.Join(err, write(filepath.Join(dir, "responder.asc"), public.Bytes()),
			write(filepath.Join(dir, "responder.secret.asc"), secret.Bytes()))
	}
	config := "recipients: [" + home + "/responder.asc]\nsigner: " + home + "/responder.secret.asc\n"
	return errors.Join(err, write(filepath.Join(home, "irctl.yaml"), []byte(config)),
		write(filepath.Join(home, "new.key"), []byte("gsk_a_value_that_only_its_issuer_can_make\n")),
		write(filepath.Join(home, "policy.yaml"), []byte(policy)),
		write(filepath.Join(home, "cut-off.yaml"), runbook), write(filepath.Join(runbooks, "cut-off.yaml"), runbook))
}

func armored(to *bytes.Buffer, kind string, e *openpgp.Entity) error {
	w, err := armor.Encode(to, kind, nil)
	if err != nil {
		return err
	}
	if kind == openpgp.PrivateKeyType {
		err = e.SerializePrivate(w, nil)
	} else {
		err = e.Serialize(w)
	}
	return errors.Join(err, w.Close())
}

func write(path string, text []byte) error { return os.WriteFile(path, text, 0o600) }

// story is one incident, and the cluster in which it happens.
type story struct {
	irctl, out string
	// kubeconfig, stateDir and config lead irctl there.
	kubeconfig, stateDir, config string

	cluster *sim.Cluster // nil: the drill's
	server  *httptest.Server
	fault   atomic.Pointer[func(sim.Request) sim.Fault]
	running atomic.Pointer[os.Process]

	scene Scene
	err   error // what went wrong first; nothing is done any more after that
}

// Scene is what is to be known of a fixture besides its files.
type Scene struct {
	About    string      `json:"about"`
	Incident string      `json:"incident"`
	Suspect  string      `json:"suspect,omitempty"` // NAMESPACE/NAME
	Other    string      `json:"other,omitempty"`   // a pod of another workload
	Time     metav1.Time `json:"time"`              // when it was left
	Commands []Command   `json:"commands"`
	// Denied are rights that the responder does not have; Webhook is what denies a write.
	Denied  []sim.Rule `json:"denied,omitempty"`
	Webhook *Webhook   `json:"webhook,omitempty"`
}

// Command is one that was run, and how it ended; -1: it was killed.
type Command struct {
	Line string `json:"line"`
	Exit int    `json:"exit"`
}

// Webhook denies every write of a resource.
type Webhook struct {
	Resource string `json:"resource"`
	Reason   string `json:"reason"`
}

// begin makes a cluster with the todo-app, which is a month old.
func begin(irctl, out string) (*story, error) {
	s := &story{irctl: irctl, out: out, kubeconfig: filepath.Join(home, "kubeconfig"),
		stateDir: filepath.Join(home, "state"), config: filepath.Join(home, "irctl.yaml")}
	var ready atomic.Bool
	now := func() time.Time {
		if ready.Load() {
			return time.Now()
		}
		return time.Now().AddDate(0, -1, 0)
	}
	var err error
	if s.cluster, err = sim.New(sim.Options{Name: "production", Now: now, Token: "fixture"}); err != nil {
		return nil, err
	}
	if err := s.cluster.Apply(sim.TodoApp); err != nil {
		return nil, err
	}
	ready.Store(true)
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	s.server = httptest.NewUnstartedServer(s.cluster.Server(func(r sim.Request) sim.Fault {
		if f := s.fault.Load(); f != nil {
			return (*f)(r)
		}
		return sim.Fault{}
	}))
	_ = s.server.Listener.Close() // the one of a port that nobody chose
	s.server.Listener = listener
	s.server.StartTLS()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	if err := write(s.kubeconfig, []byte(s.cluster.Kubeconfig(s.server.URL, string(authority)))); err != nil {
		return nil, err
	}
	s.scene.Suspect, s.scene.Other = s.pod("backend-"), s.pod("frontend-")
	return s, nil
}

func (s *story) pod(prefix string) string {
	for _, p := range s.cluster.List(sim.Pods, "todo-app") {
		if strings.HasPrefix(p.GetName(), prefix) {
			return p.GetNamespace() + "/" + p.GetName()
		}
	}
	return ""
}

func (s *story) end() error {
	if s.server != nil {
		s.cluster.Stop()
		s.server.Close()
	}
	return errors.Join(os.RemoveAll(s.stateDir), os.RemoveAll(s.kubeconfig))
}

// name is a pod's name alone.
func name(pod string) string { return pod[strings.Index(pod, "/")+1:] }

// does runs irctl, which is to end with an exit code; -1: by a signal.
func (s *story) does(exit int, args ...string) {
	if s.err != nil {
		return
	}
	line := "irctl"
	for _, a := range args {
		line += " " + change.ShellQuote(a)
	}
	fmt.Fprintln(os.Stderr, "$", line)
	text, code, err := s.command(args...)
	switch {
	case err != nil:
		s.err = fmt.Errorf("%s: %w", line, err)
	case code != exit:
		s.err = fmt.Errorf("%s: exit code %d, expected %d:\n%s", line, code, exit, text)
	}
	s.scene.Commands = append(s.scene.Commands, Command{line, code})
}

func (s *story) command(args ...string) (string, int, error) {
	c := exec.Command(s.irctl, args...)
	c.Dir = home
	c.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TZ=UTC", "GNUPGHOME=" + home + "/gnupg",
		"KUBECONFIG=" + s.kubeconfig, "IRCTL_STATE_DIR=" + s.stateDir}
	var text bytes.Buffer
	c.Stdout, c.Stderr = &text, &text
	c.Args = append(c.Args, "--config", s.config)
	if err := c.Start(); err != nil {
		return "", 0, err
	}
	s.running.Store(c.Process)
	err := c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return text.String(), exit.ExitCode(), nil
	}
	return text.String(), 0, err
}

// leave writes the state as it is now under a name.
func (s *story) leave(name, about string) {
	if s.err == nil {
		s.err = s.keep(name, about)
	}
}

func (s *story) keep(name, about string) error {
	dir := filepath.Join(s.out, "incidents", name)
	incidents, err := filepath.Glob(filepath.Join(s.stateDir, "incidents", "inc-*"))
	if err != nil || len(incidents) != 1 {
		return fmt.Errorf("%s: there are %d incidents, not one: %w", name, len(incidents), err)
	}
	s.scene.About, s.scene.Incident, s.scene.Time = about, filepath.Base(incidents[0]), metav1.NewTime(time.Now().UTC())
	scene, err := yaml.Marshal(s.scene)
	if err != nil {
		return err
	}
	objects, err := s.objects()
	if err != nil {
		return err
	}
	kubeconfig, err := s.anonymous()
	if err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(dir, "state", "incidents", s.scene.Incident),
		os.DirFS(incidents[0])); err != nil {
		return err
	}
	return errors.Join(write(filepath.Join(dir, "scene.yaml"), scene),
		write(filepath.Join(dir, "cluster.jsonl"), objects),
		write(filepath.Join(dir, "kubeconfig"), kubeconfig))
}

// objects are all that the cluster serves, as it serves them.
func (s *story) objects() ([]byte, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return nil, err
	}
	lists, err := discovery.NewDiscoveryClientForConfigOrDie(config).ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	client := dynamic.NewForConfigOrDie(config)
	var all bytes.Buffer
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") || gv.Group == "events.k8s.io" { // the latter shows those of v1
				continue
			}
			found, err := client.Resource(gv.WithResource(r.Name)).List(context.Background(), metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			for _, o := range found.Items {
				text, err := o.MarshalJSON()
				if err != nil {
					return nil, err
				}
				all.Write(text)
			}
		}
	}
	return all.Bytes(), nil
}

// anonymous is the kubeconfig for a server that has yet to be named.
func (s *story) anonymous() ([]byte, error) {
	config, err := clientcmd.LoadFromFile(s.kubeconfig)
	if err != nil {
		return nil, err
	}
	for _, c := range config.Clusters {
		c.Server, c.CertificateAuthorityData, c.LocationOfOrigin = "SERVER", nil, ""
	}
	for _, a := range config.AuthInfos {
		a.Token = "fixture"
	}
	return clientcmd.Write(*config)
}

func (s *story) faults(f func(sim.Request) sim.Fault) { s.fault.Store(&f) }

func (s *story) contain(exit int) {
	s.does(exit, "contain", "--pod", name(s.scene.Suspect), "-n", "todo-app",
		"--title", title, "--severity", "sev2", "--yes")
}

// tell begins a story, and ends it whatever happens in it.
func tell(irctl, out string, f func(*story)) error {
	s, err := begin(irctl, out)
	if err != nil {
		return err
	}
	f(s)
	return errors.Join(s.err, s.end())
}

func open(s *story) {
	s.does(0, "incident", "open", "--title", title, "--severity", "sev2")
	s.leave("open", "Opened by hand; nothing is contained, and no pod is named.")
}

func interrupted(s *story) {
	s.faults(func(r sim.Request) sim.Fault {
		if r.Writes() && r.Resource == "pods" {
			return sim.Fault{Before: func() { _ = s.running.Load().Kill() }, Break: true}
		}
		return sim.Fault{}
	})
	s.contain(-1)
	s.fault.Store(nil)
	s.leave("interrupted",
		"Killed half-way through contain: the policy is made, and the detachment is an intent without an outcome.")
}

func denied(s *story) {
	s.scene.Denied = []sim.Rule{{Verb: "patch", Resource: "pods"}}
	s.cluster.Deny(s.scene.Denied[0])
	s.contain(1)
	s.leave("denied", "The responder may not patch pods: the policy is made, and selects nothing.")
}

func deniedByWebhook(s *story) {
	s.scene.Webhook = &Webhook{"deployments/scale", "change freeze"}
	s.faults(func(r sim.Request) sim.Fault {
		if r.Writes() && r.Resource == s.scene.Webhook.Resource {
			return sim.Fault{Error: sim.Denied("policy.example.com", s.scene.Webhook.Reason)}
		}
		return sim.Fault{}
	})
	s.contain(1)
	s.leave("denied-by-webhook", "An admission webhook denies the scaling: the pod is cut off, its workload runs on.")
}

func contained(s *story) {
	s.scene.Suspect, s.scene.Other = s.pod("mcp-server-"), s.pod("backend-")
	s.contain(0)
	s.leave("contained", "Contained without exposures: the suspect has no token of a service account.")
}

func byRunbook(s *story) {
	s.does(3, "run", "cut-off.yaml", "--set", "pod="+s.scene.Suspect, "--yes")
	s.leave("run", "By the runbook cut-off, unattended: what only a person can do is left.")
}

func undone(s *story) {
	s.contain(3)
	s.does(0, "undo", "--all", "--yes")
	s.leave("undone", "Contained, and all of it undone.")
}

const (
	title   = "The backend talks to a mining pool"
	patched = "registry.example.com/todo-backend" +
		"@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: no-metadata-service, namespace: todo-app}
spec:
  podSelector: {matchLabels: {app: backend}}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}}]}]
`
)

// fromContainmentToClose is one incident, of which four states are kept.
func fromContainmentToClose(s *story) {
	s.contain(3)
	s.leave("exposed", "Contained with exposures: the suspect's token works from anywhere. A snapshot is sealed.")
	s.does(0, "incident", "set", "commander=incident-commander@example.com", "impact=Users could not save todos.")
	s.does(0, "investigate", "--pod", name(s.scene.Suspect), "-n", "todo-app", "--yes")
	s.does(0, "eradicate", "--image", "backend="+patched, "--apply", "policy.yaml", "--all-secrets",
		"--generate", "SECRET_KEY=random", "--set-from", "GROQ_API_KEY=new.key", "--revoked", "GROQ_API_KEY", "--yes")
	s.leave("rotated",
		"Evidence is sealed and signed, the patched image and a policy are deployed, every secret is replaced.")
	s.does(3, "recover", "--yes")
	s.leave("recovered", "Rotated and recovered: the workload runs the patched image; the suspect is kept, cut off.")
	s.does(0, "timeline", "note", "The issuer confirmed that the old key is revoked.")
	s.does(0, "incident", "close", "--note", "The workload is back in service.")
	s.leave("closed", "Recovered and closed; the quarantine of the suspect still stands.")
	for _, f := range [][2]string{{"markdown", "md"}, {"html", "html"}, {"json", "json"}} {
		s.does(0, "report", s.scene.Incident, "--format", f[0], "-f", "report."+f[1])
		if s.err == nil {
			s.err = os.Rename(filepath.Join(home, "report."+f[1]), filepath.Join(s.out, "reports", "closed."+f[1]))
		}
	}
}

// inDrill is an incident of irctl drill serve. That has its own port and key.
func inDrill(irctl, out string) error {
	dir := filepath.Join(home, "drill")
	s := &story{irctl: irctl, out: out, kubeconfig: filepath.Join(dir, "kubeconfig"),
		stateDir: filepath.Join(dir, "state"), config: filepath.Join(dir, "config", "irctl", "irctl.yaml")}
	c := exec.Command(irctl, "drill", "serve", "--dir", dir)
	c.Env = []string{"HOME=" + home}
	ready, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	if _, err = ready.Read(make([]byte, 1)); err == nil { // it prints what to export once it serves
		err = s.drilled()
	}
	_ = c.Process.Signal(os.Interrupt)
	_ = c.Wait() // with its score
	return errors.Join(err, s.end())
}

func (s *story) drilled() error {
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return err
	}
	pods := dynamic.NewForConfigOrDie(config).Resource(sim.Pods).Namespace("todo-app")
	for app, to := range map[string]*string{"backend": &s.scene.Suspect, "frontend": &s.scene.Other} {
		found, err := pods.List(context.Background(), metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil || len(found.Items) == 0 {
			return errors.Join(errors.New("the drill has no pod of "+app), err)
		}
		*to = "todo-app/" + found.Items[0].GetName()
	}
	s.contain(3)
	s.leave("drill", "Contained in a drill, irctl drill serve: its files are marked DRILL.")
	return s.err
}
