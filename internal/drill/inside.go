package drill

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/drill/box"
	"irctl/internal/drill/sim"
)

// Inside is what the containers of an image look like to who runs commands in
// them, or a part of that: all that apply to a container are put together.
type Inside struct {
	Image       string           `yaml:"image" doc:"Of which containers: the name, without tag and digest."`
	Compromised bool             `yaml:"compromised,omitempty" doc:"Only in pods that the attacker has."`
	Bare        bool             `yaml:"bare,omitempty" doc:"It has neither a shell nor any other command."`
	UID         int64            `yaml:"uid,omitempty" doc:"The user of the image, if the pod says none."`
	Users       map[string]int64 `yaml:"users,omitempty"`
	Processes   []Process        `yaml:"processes,omitempty"`
	Connections []Connection     `yaml:"connections,omitempty"`
	Files       []File           `yaml:"files,omitempty"`
	Mounts      []Mount          `yaml:"mounts,omitempty"`
}

// Process runs in a container. Number 1 listens on the container's ports.
type Process struct {
	PID     int    `yaml:"pid"`
	Parent  int    `yaml:"parent,omitempty"`
	UID     *int64 `yaml:"uid,omitempty" doc:"Absent: the container's user."`
	Command string `yaml:"command"`
	Exe     string `yaml:"exe,omitempty" doc:"Absent: the first word of the command."`
	CPU     int    `yaml:"cpu,omitempty" doc:"Percent of one."`
	At      *Span  `yaml:"at,omitempty" doc:"Since when, as of a move; absent: since the pod started."`
}

// Connection is one of a process. It stands while the policies let it through.
type Connection struct {
	PID int   `yaml:"pid"`
	To  Peer  `yaml:"to"`
	At  *Span `yaml:"at,omitempty"`
}

// File is in a container.
type File struct {
	Path    string `yaml:"path"`
	Content string `yaml:"content,omitempty"`
	Size    int64  `yaml:"size,omitempty" doc:"That of a binary, in bytes, instead of a content."`
	Link    string `yaml:"link,omitempty"`
	Mode    Mode   `yaml:"mode,omitempty" doc:"Absent: 0644, with a size 0755."`
	UID     int64  `yaml:"uid,omitempty"`
	Deleted bool   `yaml:"deleted,omitempty" doc:"It can be read as the /proc/PID/exe of a process only."`
	At      *Span  `yaml:"at,omitempty" doc:"Absent: it is of the image."`
}

// Mount is a file system that is mounted.
type Mount struct {
	Path   string `yaml:"path"`
	Type   string `yaml:"type"`
	Source string `yaml:"source"`
}

// Mode is a file's, in octal: '0600'.
type Mode string

func (m Mode) bits() (fs.FileMode, error) {
	n, err := strconv.ParseUint(string(m), 8, 32)
	if err != nil || n > 0o7777 {
		return 0, fmt.Errorf("mode %q: use an octal number, such as '0600'", string(m))
	}
	mode := fs.FileMode(n & 0o777)
	if n&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	return mode, nil
}

// Bounds of what is inside.
const (
	maxInside = 100      // entries, and of each kind in one
	maxBinary = 64 << 20 // bytes
)

// todoApp is what the containers of the todo-app look like.
//
//go:embed inside.yaml
var todoApp []byte

// insides is what is said of a scenario's containers, the todo-app's first.
func (s *Scenario) insides() ([]Inside, error) {
	var all []Inside
	d := yaml.NewDecoder(bytes.NewReader(todoApp))
	d.KnownFields(true)
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("the containers of the todo-app: %w", err)
	}
	return append(all, s.Inside...), nil
}

func (i *Inside) check() error {
	switch {
	case i.Image == "" || strings.ContainsAny(path.Base(i.Image), ":@"):
		return fmt.Errorf("image %q: a name without tag and digest is needed", i.Image)
	case max(len(i.Processes), len(i.Connections), len(i.Files), len(i.Mounts), len(i.Users)) > maxInside:
		return fmt.Errorf("more than %d of a kind", maxInside)
	}
	pids := []int{1}
	for n, p := range i.Processes {
		if p.PID < 1 || p.Parent < 0 || p.CPU < 0 || strings.TrimSpace(p.Command) == "" ||
			p.Exe != "" && !path.IsAbs(p.Exe) {
			return fmt.Errorf("processes: %d: a pid of at least 1 and a command are needed, and of exe the whole path",
				n+1)
		}
		if n > 0 && slices.Contains(pids[1:], p.PID) {
			return fmt.Errorf("processes: the pid %d is there twice", p.PID)
		}
		if pids = append(pids, p.PID); placeholder(p.Command) != "" {
			return fmt.Errorf("processes: %s is unknown; there are %s", placeholder(p.Command),
				strings.Join(known, " "))
		}
	}
	for n, c := range i.Connections {
		if !slices.Contains(pids, c.PID) {
			return fmt.Errorf("connections: %d: there is no process %d", n+1, c.PID)
		}
		if err := c.To.check(); err != nil {
			return fmt.Errorf("connections: %d: to %w", n+1, err)
		}
	}
	for _, f := range i.Files {
		if err := f.check(); err != nil {
			return fmt.Errorf("files: %q: %w", f.Path, err)
		}
	}
	for n, m := range i.Mounts {
		if !path.IsAbs(m.Path) || m.Type == "" || m.Source == "" {
			return fmt.Errorf("mounts: %d: path, type and source are needed", n+1)
		}
	}
	return nil
}

func (f *File) check() error {
	kinds := 0
	for _, is := range []bool{f.Content != "", f.Size != 0, f.Link != ""} {
		if is {
			kinds++
		}
	}
	switch {
	case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" || strings.HasPrefix(f.Path, "/proc/"):
		return errors.New("path must be absolute, without . and .., and not be in /proc")
	case kinds > 1:
		return errors.New("content, size and link exclude each other")
	case f.Size < 0 || f.Size > maxBinary:
		return fmt.Errorf("size must not be more than %d bytes", maxBinary)
	case placeholder(f.Content) != "":
		return fmt.Errorf("%s is unknown; there are %s", placeholder(f.Content), strings.Join(known, " "))
	}
	if f.Mode != "" {
		if _, err := f.Mode.bits(); err != nil {
			return err
		}
	}
	return nil
}

// placeholder is the first in a text that is not known; "": none.
func placeholder(text string) string {
	for _, p := range placeholders.FindAllString(text, -1) {
		if !slices.Contains(known, p) {
			return p
		}
	}
	return ""
}

// imageName is an image without tag and digest.
func imageName(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if colon := strings.LastIndex(name, ":"); colon > strings.LastIndex(name, "/") {
		name = name[:colon]
	}
	return name
}

// within is what a container looks like now.
func (w *World) within(pod *corev1.Pod, container string) *box.Box {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == container })
	if i < 0 {
		return nil // an init container has ended
	}
	l := &looker{World: w, pod: pod, container: &pod.Spec.Containers[i], hold: w.hold(pod.UID), now: w.clock.Now(),
		view: w.look()}
	return l.box()
}

// looker puts together what is inside one container.
type looker struct {
	*World
	pod       *corev1.Pod
	container *corev1.Container
	hold      *Foothold
	now       time.Time
	view      *view
	fills     *strings.Replacer
}

func (l *looker) box() *box.Box {
	_, suspect, _ := strings.Cut(l.Suspect, "/")
	l.fills = strings.NewReplacer("${suspect}", suspect, "${pod}", l.pod.Name, "${namespace}", l.pod.Namespace,
		"${node}", l.pod.Spec.NodeName, "${ip}", l.pod.Status.PodIP)
	b := &box.Box{Hostname: l.pod.Name, Env: l.Cluster.Environment(l.pod.UID, l.container.Name),
		Users: map[string]int64{}, Shell: true, Now: l.now}
	b.IP, _ = netip.ParseAddr(l.pod.Status.PodIP) // a pod that runs has one
	var parts []*Inside
	for i := range l.insides {
		in := &l.insides[i]
		if in.Image == imageName(l.container.Image) && (!in.Compromised || l.hold != nil) {
			parts = append(parts, in)
			b.UID = cmp.Or(b.UID, in.UID)
			b.Shell = b.Shell && !in.Bare
		}
	}
	for _, s := range []*int64{l.podUser(), l.containerUser()} {
		if s != nil {
			b.UID = *s
		}
	}
	for _, in := range parts {
		l.add(b, in)
	}
	if !slices.ContainsFunc(b.Processes, func(p box.Process) bool { return p.PID == 1 }) {
		command := strings.Join(slices.Concat(l.container.Command, l.container.Args), " ")
		b.Processes = append([]box.Process{{PID: 1, UID: b.UID,
			Command: cmp.Or(command, path.Base(imageName(l.container.Image))), Env: b.Env, Started: l.started()}},
			b.Processes...)
	}
	l.listen(b)
	l.token(b)
	return b
}

func (l *looker) podUser() *int64 {
	if s := l.pod.Spec.SecurityContext; s != nil {
		return s.RunAsUser
	}
	return nil
}

func (l *looker) containerUser() *int64 {
	if s := l.container.SecurityContext; s != nil {
		return s.RunAsUser
	}
	return nil
}

func (l *looker) started() time.Time {
	if l.pod.Status.StartTime != nil {
		return l.pod.Status.StartTime.Time
	}
	return l.pod.CreationTimestamp.Time
}

// moment is when something came about, and whether it has yet. In a pod that
// was compromised later it came with that.
func (l *looker) moment(at *Span, otherwise time.Time) (time.Time, bool) {
	if at == nil {
		return otherwise, true
	}
	when := l.at(time.Duration(*at))
	if l.hold != nil && l.hold.Since.After(when) && l.hold.Since.After(l.start) {
		when = l.hold.Since
	}
	return when, !when.After(l.now)
}

func (l *looker) add(b *box.Box, in *Inside) {
	for name, uid := range in.Users {
		b.Users[name] = uid
	}
	for _, p := range in.Processes {
		if at, yes := l.moment(p.At, l.started()); yes {
			uid := b.UID
			if p.UID != nil {
				uid = *p.UID
			}
			b.Processes = append(b.Processes, box.Process{PID: p.PID, Parent: p.Parent, UID: uid,
				Command: l.fills.Replace(p.Command), Exe: p.Exe, Env: b.Env, Started: at, CPU: p.CPU})
		}
	}
	for _, c := range in.Connections {
		if _, yes := l.moment(c.At, l.started()); yes {
			l.connect(b, c)
		}
	}
	for _, f := range in.Files {
		if at, yes := l.moment(f.At, time.Time{}); yes {
			b.Files = append(b.Files, f.box(at, l.fills))
		}
	}
	for _, m := range in.Mounts {
		b.Mounts = append(b.Mounts, box.Mount{Path: m.Path, Type: m.Type, Source: m.Source})
	}
}

func (f File) box(at time.Time, fills *strings.Replacer) box.File {
	mode := fs.FileMode(0o644)
	if f.Size > 0 {
		mode = 0o755
	}
	if f.Mode != "" {
		mode, _ = f.Mode.bits() // checked
	}
	return box.File{Path: f.Path, Mode: mode, UID: f.UID, Modified: at, Content: fills.Replace(f.Content), Size: f.Size,
		Link: f.Link, Deleted: f.Deleted}
}

// firstPort is of those that a kernel gives to who connects.
const firstPort = 41_022

// connect adds a connection, as far as the policies let it come about.
func (l *looker) connect(b *box.Box, c Connection) {
	protocol := corev1.Protocol(cmp.Or(c.To.Protocol, string(corev1.ProtocolTCP)))
	s := box.Socket{PID: c.PID, Local: netip.AddrPortFrom(b.IP, firstPort+uint16(len(b.Sockets))*8)}
	host, through := c.To.Host, l.view.leaves(l.pod, c.To.Host, protocol, c.To.Port)
	if host == "" {
		pods := l.view.selected(cmp.Or(c.To.Namespace, l.pod.Namespace), c.To.Labels)
		if len(pods) == 0 {
			return // there is nobody to connect to
		}
		host, through = pods[0].Status.PodIP, l.view.connects(l.pod, pods[0], protocol, c.To.Port)
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return // checked
	}
	s.Remote, s.Waits = netip.AddrPortFrom(address, uint16(c.To.Port)), !through
	b.Sockets = append(b.Sockets, s)
}

// listen adds the ports that the container says it has.
func (l *looker) listen(b *box.Box) {
	for _, p := range l.container.Ports {
		b.Sockets = append(b.Sockets, box.Socket{PID: 1,
			Local: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(p.ContainerPort))})
	}
}

// token adds that of the service account, where it is mounted.
func (l *looker) token(b *box.Box) {
	const dir = "/run/secrets/kubernetes.io/serviceaccount"
	if !slices.ContainsFunc(l.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == sim.TokenVolume }) {
		return
	}
	account := l.pod.Namespace + "/" + cmp.Or(l.pod.Spec.ServiceAccountName, "default")
	b.Mounts = append(b.Mounts, box.Mount{Path: dir, Type: "tmpfs", Source: "tmpfs", Options: "ro,relatime"})
	for name, text := range map[string]string{"namespace": l.pod.Namespace,
		"ca.crt": "-----BEGIN CERTIFICATE-----\nthe simulated cluster's\n-----END CERTIFICATE-----\n",
		"token":  fmt.Sprintf("drill.%s.%s", strings.ReplaceAll(account, "/", "."), shortUID(l.pod.UID))} {
		b.Files = append(b.Files, box.File{Path: dir + "/" + name, Mode: 0o644, Content: text, Modified: l.started()})
	}
}

func shortUID(uid types.UID) string { return strings.TrimLeft(string(uid[len(uid)-12:]), "0") }
