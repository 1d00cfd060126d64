package recover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"irctl/internal/cluster"
	"irctl/internal/cluster/netpol"
	"irctl/internal/evidence"
	"irctl/internal/record"
	"irctl/internal/steps"
	"irctl/internal/steps/contain"
)

// Check is one point of the checklist, and why it was answered so.
type Check = record.RecoveryCheck

// Result is how a check came out.
type Result = record.Result

// The results. A check that could not be made is not one that passed.
const (
	Passed   Result = "passed"
	Failed   Result = "failed"
	NotKnown Result = "unknown"
)

// Expected is what the new pods are held against.
type Expected struct {
	Indicators Indicators
	// SameImage: somebody has decided that the suspects' image may run.
	SameImage bool
	Incident  string
	// ServerVersion tells of an enforcer that is inside the server.
	ServerVersion string
}

// Examine makes all checks on the pods of a workload that has rolled out.
func Examine(ctx context.Context, scene *steps.Scene, w *Workload, r Rollout, want Expected) []Check {
	if len(r.Pods) == 0 {
		return []Check{{Code: "pods", Result: NotKnown, Text: "there is no pod to look at: " + r.Text}}
	}
	x := &examination{scene: scene, client: scene.Client, w: w, pods: r.Pods, want: want, namespace: w.Namespace}
	checks := []func(context.Context) []Check{
		one(x.ready), one(x.nonRoot), one(x.privileged), one(x.escalation), one(x.capabilities), one(x.readOnlyRoot),
		one(x.digest), one(x.suspectImage), one(x.quarantine), x.policies, x.endpoints, x.logs,
	}
	found := make([][]Check, len(checks))
	cluster.Parallel(len(checks), func(i int) { found[i] = checks[i](ctx) })
	return slices.Concat(found...)
}

func one(f func() Check) func(context.Context) []Check {
	return func(context.Context) []Check { return []Check{f()} }
}

// ForPeople is what of the checklist no program can tell.
var ForPeople = []string{"audit logging is enabled", "monitoring alerts are configured",
	"backups are encrypted, and can be restored", "the incident response plan was reviewed",
	"the service does what its users need"}

type examination struct {
	scene     *steps.Scene
	client    *cluster.Client
	w         *Workload
	pods      []corev1.Pod
	want      Expected
	namespace string
}

// mostListed is how many of several are named.
const mostListed = 5

// listed are the offenders, a few of them by name.
func listed(list []string) string {
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) > mostListed {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:mostListed], ", "), len(list)-mostListed)
	}
	return strings.Join(list, ", ")
}

// container is one of a pod, with what its pod says of security.
type container struct {
	pod      *corev1.Pod
	name     string
	security *corev1.SecurityContext
	status   *corev1.ContainerStatus
}

// where names the container; all pods of a workload have the same ones.
func (c container) where() string { return c.name }

func (x *examination) containers() []container {
	var list []container
	for i := range x.pods {
		p := &x.pods[i]
		statuses := map[string]*corev1.ContainerStatus{}
		for _, of := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses,
			p.Status.EphemeralContainerStatuses} {
			for n := range of {
				statuses[of[n].Name] = &of[n]
			}
		}
		add := func(name string, s *corev1.SecurityContext) {
			if s == nil {
				s = &corev1.SecurityContext{}
			}
			status := statuses[name]
			if status == nil {
				status = &corev1.ContainerStatus{}
			}
			list = append(list, container{p, name, s, status})
		}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			add(c.Name, c.SecurityContext)
		}
		for _, c := range p.Spec.EphemeralContainers {
			add(c.Name, c.SecurityContext)
		}
	}
	return list
}

// judge puts together what was found of the containers.
func judge(code string, failed, unknown []string, passes, fails, unknowns string) Check {
	switch {
	case len(failed) > 0:
		return Check{Code: code, Result: Failed, Text: fails + ": " + listed(failed)}
	case len(unknown) > 0:
		return Check{Code: code, Result: NotKnown, Text: unknowns + ": " + listed(unknown)}
	}
	return Check{Code: code, Result: Passed, Text: passes}
}

func (x *examination) ready() Check {
	var failed, restarted, unprobed []string
	for i := range x.pods {
		p := &x.pods[i]
		if !isReady(p) && p.Status.Phase != corev1.PodSucceeded {
			failed = append(failed, p.Name)
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.RestartCount > 0 {
				restarted = append(restarted, fmt.Sprintf("%s (%d times)", s.Name, s.RestartCount))
			}
		}
		for _, c := range p.Spec.Containers {
			if c.ReadinessProbe == nil {
				unprobed = append(unprobed, c.Name)
			}
		}
	}
	c := judge("ready", failed, nil, fmt.Sprintf("all %d pods are ready", len(x.pods)),
		"pods are not ready, or their probes fail", "")
	if c.Result == Passed && len(unprobed) > 0 {
		c.Text += "; without a readiness probe that says only that they run: " + listed(unprobed)
	}
	if len(restarted) > 0 {
		c.Text += "; restarted: " + listed(restarted)
	}
	return c
}

func (x *examination) nonRoot() Check {
	var failed, unknown []string
	for _, c := range x.containers() {
		pod := c.pod.Spec.SecurityContext
		if pod == nil {
			pod = &corev1.PodSecurityContext{}
		}
		user, nonRoot := c.security.RunAsUser, c.security.RunAsNonRoot
		if user == nil {
			user = pod.RunAsUser
		}
		if nonRoot == nil {
			nonRoot = pod.RunAsNonRoot
		}
		if user == nil && c.status.User != nil && c.status.User.Linux != nil {
			user = &c.status.User.Linux.UID // as the node says, of the image
		}
		switch {
		case user != nil && *user == 0:
			failed = append(failed, c.where())
		case user == nil && (nonRoot == nil || !*nonRoot):
			unknown = append(unknown, c.where())
		}
	}
	return judge("non-root", failed, unknown, "no container runs as root", "these containers run as root",
		"neither runAsNonRoot nor runAsUser is set, and the node does not say whom the image chooses, of")
}

func (x *examination) privileged() Check {
	var failed []string
	for _, c := range x.containers() {
		if set(c.security.Privileged) {
			failed = append(failed, c.where()+" is privileged")
		}
	}
	for i := range x.pods {
		for name, on := range map[string]bool{"network": x.pods[i].Spec.HostNetwork,
			"processes": x.pods[i].Spec.HostPID, "IPC": x.pods[i].Spec.HostIPC} {
			if on {
				failed = append(failed, "the pod shares the "+name+" of its node")
			}
		}
	}
	return judge("privileged", failed, nil, "no container is privileged, none shares its node's namespaces",
		"what runs is not confined", "")
}

func set(b *bool) bool { return b != nil && *b }

func (x *examination) escalation() Check {
	var failed []string
	for _, c := range x.containers() {
		if c.security.AllowPrivilegeEscalation == nil || *c.security.AllowPrivilegeEscalation {
			failed = append(failed, c.where())
		}
	}
	return judge("privilege-escalation", failed, nil, "no container may gain privileges",
		"allowPrivilegeEscalation is not false", "")
}

func (x *examination) capabilities() Check {
	var failed []string
	for _, c := range x.containers() {
		caps := c.security.Capabilities
		if caps == nil {
			caps = &corev1.Capabilities{}
		}
		if !slices.ContainsFunc(caps.Drop, func(c corev1.Capability) bool {
			return strings.EqualFold(string(c), "ALL")
		}) {
			failed = append(failed, c.where()+" does not drop ALL")
		}
		for _, added := range caps.Add {
			// The one that the restricted Pod Security Standard lets pass.
			if name := strings.TrimPrefix(strings.ToUpper(string(added)), "CAP_"); name != "NET_BIND_SERVICE" {
				failed = append(failed, c.where()+" adds "+name)
			}
		}
	}
	return judge("capabilities", failed, nil, "every container drops all capabilities", "containers keep capabilities",
		"")
}

func (x *examination) readOnlyRoot() Check {
	var unknown []string
	for _, c := range x.containers() {
		if !set(c.security.ReadOnlyRootFilesystem) {
			unknown = append(unknown, c.where())
		}
	}
	return judge("read-only-root", nil, unknown, "every root filesystem is read-only", "",
		"the root filesystem should be read-only where possible; whether it is possible is not known of")
}

// digest compares what runs with what was meant, and the pods with each other.
func (x *examination) digest() Check {
	meant := containerImages(x.w.template())
	byName := map[string][]string{}
	var failed, unknown []string
	for i := range x.pods {
		p := &x.pods[i]
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			if want, ok := meant[c.Name]; ok && want != c.Image {
				failed = append(failed, fmt.Sprintf("%s is %s in pod %s, not %s", c.Name, c.Image, p.Name, want))
			}
		}
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if s.ImageID == "" {
				unknown = append(unknown, s.Name+": the node of pod "+p.Name+" does not say")
				continue
			}
			byName[s.Name] = append(byName[s.Name], s.ImageID)
		}
	}
	var passed []string
	for name, ids := range byName {
		switch ids = compact(ids); {
		case len(ids) > 1:
			failed = append(failed, fmt.Sprintf("pods run different images as %s: %s", name, listed(ids)))
		case digestOf(meant[name]) == "":
			passed = append(passed, fmt.Sprintf("%s runs %s (its tag can be moved)", name, idText(ids[0])))
		case digestOf(ids[0]) == digestOf(meant[name]):
			passed = append(passed, fmt.Sprintf("%s runs %s", name, idText(ids[0])))
		case !pulled(ids[0]):
			unknown = append(unknown, name+": its node knows the image by its configuration only, "+idText(ids[0]))
		default:
			// The index of a multi-platform image and the image for one platform differ so.
			unknown = append(unknown, fmt.Sprintf("%s: its node says %s, the reference %s", name, idText(ids[0]),
				digestOf(meant[name])))
		}
	}
	return judge("image-digest", failed, unknown, listed(passed), "the images are not as expected",
		"the digests could not be compared")
}

func idText(id string) string {
	if d := digestOf(id); d != "" {
		return d
	}
	return short(id)
}

func (x *examination) suspectImage() Check {
	var failed, unknown []string
	for i := range x.pods {
		refs, digests := imagesOf(&x.pods[i])
		for _, d := range append(digests, ephemeralDigests(&x.pods[i])...) {
			if slices.Contains(x.want.Indicators.Digests, d) {
				failed = append(failed, d)
			}
		}
		for _, ref := range refs {
			if slices.Contains(x.want.Indicators.Images, ref) && digestOf(ref) != "" &&
				!slices.Contains(failed, digestOf(ref)) {
				failed = append(failed, digestOf(ref))
			}
		}
	}
	if len(x.want.Indicators.Digests) == 0 {
		unknown = append(unknown, "the digest of the suspects' image is not known")
	}
	if len(failed) == 0 && x.w.WayIn.State == Open {
		failed = append(failed, x.w.WayIn.Images...)
	}
	c := judge("suspect-image", failed, unknown, "no pod runs an image of the suspects",
		"pods run an image of the suspects", "it could not be compared")
	c.Accepted = c.Result == Failed && x.want.SameImage
	if c.Accepted {
		c.Text += "; it was decided so, and the way in is still open"
	}
	return c
}

// quarantine: a new pod that carries the labels would be cut off, or adopted by
// the incident.
func (x *examination) quarantine() Check {
	var failed []string
	for i := range x.pods {
		l := x.pods[i].Labels
		if l[contain.QuarantineLabel] == contain.QuarantineValue || l[contain.IncidentLabel] != "" {
			failed = append(failed, x.pods[i].Name)
		}
	}
	return judge("quarantine-labels", failed, nil, "no new pod carries the labels of the quarantine",
		"new pods carry the labels of the quarantine", "")
}

// policies: each pod must be governed in both directions, by something that is
// known to enforce it.
func (x *examination) policies(ctx context.Context) []Check {
	c := Check{Code: "network-policy", Result: NotKnown}
	policies, err := x.client.Policies(ctx, x.namespace)
	if err != nil {
		c.Text = err.Error()
		return []Check{c}
	}
	var failed, selecting []string
	for i := range x.pods {
		p := &x.pods[i]
		if p.Spec.HostNetwork {
			failed = append(failed, "no policy binds a pod with the network of its node")
			continue
		}
		v := netpol.Evaluate(netpol.PodOf(p), policies)
		selecting = append(selecting, v.Selecting...)
		if !v.Ingress.Isolated {
			failed = append(failed, "everybody may connect to "+p.Name)
		}
		if !v.Egress.Isolated {
			failed = append(failed, p.Name+" may connect to everything")
		}
		for _, name := range v.Unreadable {
			failed = append(failed, "policy "+name+" has a selector that cannot be read")
		}
	}
	if len(failed) > 0 {
		c.Result, c.Text = Failed, listed(failed)
		return []Check{c}
	}
	enforcers, err := contain.Enforcers(ctx, x.client, x.want.ServerVersion)
	c.Text = fmt.Sprintf("policies govern every pod in both directions (%s)", listed(selecting))
	switch {
	case len(enforcers) > 0:
		c.Result = Passed
		c.Text += ", enforced by " + listed(enforcers)
	case err != nil:
		c.Text += "; what enforces them could not be looked for: " + err.Error()
	default:
		c.Text += "; nothing that is known to enforce them was found"
	}
	return []Check{c}
}

// endpointTime is how long endpoints may take to follow the pods.
const endpointTime = 10 * time.Second

func (x *examination) endpoints(ctx context.Context) []Check {
	c := Check{Code: "endpoints", Result: NotKnown}
	services, err := x.services()
	if err != nil {
		c.Text = err.Error()
		return []Check{c}
	}
	if len(services) == 0 {
		c.Result, c.Text = Passed, "no Service selects the pods"
		return []Check{c}
	}
	ctx, cancel := context.WithTimeout(ctx, endpointTime)
	defer cancel()
	problem := ""
	err = cluster.Wait{}.Until(ctx, func(ctx context.Context) (bool, error) {
		slicesNow, err := x.client.Endpoints(ctx, x.namespace)
		if err != nil {
			return false, err
		}
		problem = x.unserved(services, slicesNow)
		return problem == "", nil
	})
	switch {
	case err == nil:
		c.Result, c.Text = Passed, fmt.Sprintf("every pod is a ready endpoint of %s, and no suspect is one",
			listed(services))
	case problem != "":
		c.Result, c.Text = Failed, problem
	default:
		c.Text = err.Error()
	}
	return []Check{c}
}

// services are those that select the pods.
func (x *examination) services() ([]string, error) {
	around := x.scene.Around[x.namespace]
	if around == nil {
		return nil, errors.New("the Services of the namespace could not be read")
	}
	for _, g := range around.Gaps {
		if strings.Contains(g.What, "services") {
			return nil, g.Err
		}
	}
	var names []string
	for i := range around.Services {
		s := &around.Services[i]
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(x.pods[0].Labels)) {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

func (x *examination) unserved(services []string, all []discoveryv1.EndpointSlice) string {
	suspects := x.w.suspectUIDs()
	for _, name := range services {
		ready := map[string]bool{}
		for i := range all {
			if all[i].Labels[discoveryv1.LabelServiceName] != name {
				continue
			}
			for _, e := range all[i].Endpoints {
				if e.TargetRef == nil {
					continue
				}
				if suspects[e.TargetRef.UID] {
					return fmt.Sprintf("Service %s sends to the suspect %s", name, e.TargetRef.Name)
				}
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					ready[string(e.TargetRef.UID)] = true
				}
			}
		}
		for i := range x.pods {
			if p := &x.pods[i]; !ready[string(p.UID)] && isReady(p) {
				return fmt.Sprintf("pod %s is no ready endpoint of Service %s", p.Name, name)
			}
		}
	}
	return ""
}

// Bounds of looking into logs.
const (
	maxLogPods  = 10
	maxLogBytes = 1 << 20
	logTime     = 30 * time.Second
)

// logs looks for secrets in what the new pods have written. What it finds it
// does not tell, only where and of what kind.
func (x *examination) logs(ctx context.Context) []Check {
	ctx, cancel := context.WithTimeout(ctx, logTime)
	defer cancel()
	type log struct{ pod, container string }
	var list []log
	for i := range x.pods[:min(len(x.pods), maxLogPods)] {
		p := &x.pods[i]
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			list = append(list, log{p.Name, s.Name})
		}
	}
	failed, unknown := make([]string, len(list)), make([]string, len(list))
	cluster.Parallel(len(list), func(i int) {
		l := list[i]
		counts, err := x.secrets(ctx, l.pod, l.container)
		var found []string
		for rule, n := range counts {
			found = append(found, fmt.Sprintf("%d × %s", n, rule))
		}
		switch {
		case len(found) > 0:
			failed[i] = fmt.Sprintf("container %s of pod %s: %s", l.container, l.pod, listed(found))
		case err != nil:
			unknown[i] = fmt.Sprintf("container %s of pod %s: %v", l.container, l.pod, err)
		}
	})
	empty := func(s string) bool { return s == "" }
	read := fmt.Sprintf("the first MiB of %d logs shows nothing that looks like a secret", len(list))
	if len(x.pods) > maxLogPods {
		read += fmt.Sprintf(" (of %d of %d pods)", maxLogPods, len(x.pods))
	}
	return []Check{judge("log-secrets", slices.DeleteFunc(failed, empty), slices.DeleteFunc(unknown, empty), read,
		"logs hold what looks like a secret (its value is not shown)", "logs could not be read")}
}

func (x *examination) secrets(ctx context.Context, pod, container string) (map[string]int, error) {
	limit := int64(maxLogBytes)
	stream, err := x.client.Kube.CoreV1().Pods(x.namespace).
		GetLogs(pod, &corev1.PodLogOptions{Container: container, LimitBytes: &limit}).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }() // it was only read
	return evidence.FindSecrets(io.LimitReader(stream, maxLogBytes))
}
