package eradicate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"irctl/internal/change"
	"irctl/internal/cluster"
	"irctl/internal/steps"
)

// StepImage deploys the patched version.
const StepImage = "image"

// Image is the patched version of a container; "" is the one whose image is of
// the same repository.
type Image struct{ Container, Ref string }

// The forms of an image: pinned to its content, or by a tag that may be moved.
var (
	pinned = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._/:-]*@sha256:[0-9a-f]{64}$`)
	tagged = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._/:-]*:[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// ErrTag: whoever may push can move a tag; a digest names the content.
var ErrTag = errors.New("an image is named by its digest, NAME@sha256:…, since whoever may push can move a tag")

// ParseImage reads [CONTAINER=]IMAGE. tags allows an image without a digest.
func ParseImage(text string, tags bool) (Image, error) {
	container, ref, ok := strings.Cut(text, "=")
	if !ok {
		container, ref = "", text
	}
	switch {
	case ok && container == "" || ref == "":
		return Image{}, fmt.Errorf("%q is not [CONTAINER=]IMAGE", text)
	case pinned.MatchString(ref), tags && tagged.MatchString(ref):
		return Image{container, ref}, nil
	case tagged.MatchString(ref):
		return Image{}, ErrTag
	}
	return Image{}, fmt.Errorf("%q names no image with a digest", ref)
}

// Rollout is a workload that gets new images.
type Rollout struct {
	*Restart
	images []Image
	ran    ran
}

// ran is what the suspects ran, in any of their containers: init containers,
// sidecars and ephemeral ones too, since any may be the way in.
type ran struct {
	refs, digests map[string]bool
	// running are the references of those containers that do not end before the others start.
	running map[string]bool
}

func ranBy(targets []*cluster.Target) ran {
	r := ran{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	add := func(ref string) {
		if ref == "" {
			return
		}
		r.refs[fullReference(ref)] = true
		if d := imageDigest(ref); d != "" {
			r.digests[d] = true
		}
	}
	for _, t := range targets {
		p := t.Pod
		for _, c := range p.Spec.Containers {
			add(c.Image)
			r.running[fullReference(c.Image)] = true
		}
		for _, c := range p.Spec.InitContainers {
			add(c.Image)
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				r.running[fullReference(c.Image)] = true
			}
		}
		for _, c := range p.Spec.EphemeralContainers {
			add(c.Image)
		}
		for _, s := range statuses(p) {
			add(s.Image)
			add(s.ImageID)
		}
		if len(p.Spec.Containers) > 0 || len(t.Owners) < 2 {
			continue
		}
		// Of a pod that is gone, what made it tells, unless that can have changed since.
		if w := workloadOf(t.Owners[0]); w != nil {
			cluster.EachContainer(w.spec(), func(part string, c map[string]any) {
				image, _ := c["image"].(string)
				add(image)
				if !cluster.EndsFirst(part, c) {
					r.running[fullReference(image)] = true
				}
			})
		}
	}
	return r
}

func statuses(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses,
		p.Status.EphemeralContainerStatuses)
}

// has: the reference names what a suspect ran, by its digest or, where it has
// none, by its name and tag.
func (r ran) has(ref string) bool {
	return r.refs[fullReference(ref)] || r.digests[imageDigest(ref)]
}

// imageDigest is the digest in a reference or in a node's name of an image; "":
// there is none.
func imageDigest(ref string) string {
	if at := strings.LastIndex(ref, "sha256:"); at >= 0 && len(ref)-at == len("sha256:")+64 {
		return ref[at:]
	}
	return ""
}

// fullReference is a reference as a node resolves it: the registry, the library
// and the tag that nobody writes.
func fullReference(ref string) string {
	name := repository(ref)
	rest := ref[len(name):]
	if rest == "" {
		rest = ":latest"
	}
	first, _, nested := strings.Cut(name, "/")
	switch {
	case !nested:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		name = "docker.io/" + name
	}
	return strings.Replace(name, "index.docker.io/", "docker.io/", 1) + rest
}

// Fresh: the pod runs the new images.
func (r *Rollout) Fresh(p *corev1.Pod) bool {
	for _, i := range r.images {
		for _, c := range append(p.Spec.Containers, p.Spec.InitContainers...) {
			if c.Name == i.Container && c.Image != i.Ref {
				return false
			}
		}
	}
	return true
}

// containersOf are the names of the workloads' containers.
func containersOf(workloads []*Workload) []string {
	var names []string
	for _, w := range workloads {
		cluster.EachContainer(w.spec(), func(_ string, c map[string]any) {
			if name, ok := c["name"].(string); ok {
				names = append(names, name)
			}
		})
	}
	return names
}

// PlanImages says what it takes to run the images in the workloads of the
// incident. Undoing it puts the version back through which the attacker came:
// it is possible, since a patch may be bad too.
//
// An image that a suspect ran is refused. left names what the workloads still
// have of the suspects' images afterwards: while any is left, the way in is open.
func PlanImages(scene *steps.Scene, radius *Radius, images []Image) (plan steps.Plan, rollouts []*Rollout,
	left []string, err error) {
	found, before := map[string]bool{}, ranBy(scene.Targets)
	for _, i := range images {
		if before.has(i.Ref) {
			return plan, nil, nil, fmt.Errorf("a suspect ran %s: to deploy it closes no way in. Name the patched image",
				i.Ref)
		}
	}
	workloads := incidentWorkloads(scene, &plan)
	for _, w := range workloads {
		next, mine := withImages(w.spec(), named(w.spec(), images, len(workloads) == 1))
		for _, i := range mine {
			found[i.Container], found[i.Ref] = true, true
		}
		if len(mine) == 0 {
			continue
		}
		for n, i := range mine {
			if slices.ContainsFunc(mine[:n], func(o Image) bool {
				return o.Container == i.Container && o.Ref != i.Ref
			}) {
				return plan, nil, nil, fmt.Errorf("container %s of %s was given two images", i.Container, w.Ref)
			}
		}
		if same := before.still(next); len(same) > 0 {
			left = append(left, fmt.Sprintf(
				"%s still has an image that the suspects ran (%s), so the way in stays open: "+
					"deploy a patched one of each with --image CONTAINER=NAME@sha256:…", w.Ref,
				strings.Join(same, ", ")))
		}
		r := &Rollout{Restart: &Restart{Workload: w}, images: mine, ran: before}
		r.Why, r.Keeps = w.stays()
		rollouts = append(rollouts, r)
		radius.imaged = append(radius.imaged, w)
		if a, needed := r.action(next); needed {
			plan.Actions = append(plan.Actions, a)
		}
	}
	for _, i := range images {
		switch {
		case len(plan.Refusals) > 0:
		case i.Container == "" && !found[i.Ref]:
			return plan, nil, nil, fmt.Errorf("which container is to run %s? Its repository is that of no container, "+
				"or of several: write CONTAINER=IMAGE", i.Ref)
		case i.Container != "" && !found[i.Container]:
			return plan, nil, nil, fmt.Errorf("no workload of the incident has a container %q%w%s", i.Container,
				silent{ErrNotFound},
				near(i.Container, containersOf(workloads)))
		}
	}
	return plan, rollouts, left, nil
}

// still are the containers of a pod's spec with an image that a suspect ran. Of
// the init containers that end first only those with the image of one that runs.
func (r ran) still(spec map[string]any) []string {
	var list []string
	cluster.EachContainer(spec, func(part string, c map[string]any) {
		name, _ := c["name"].(string)
		image, _ := c["image"].(string)
		if cluster.EndsFirst(part, c) && !r.running[fullReference(image)] {
			return
		}
		if r.has(image) {
			list = append(list, name+"="+image)
		}
	})
	return list
}

// incidentWorkloads are the tops of the suspects' chains of owners. Where that
// is of a kind whose template irctl does not know, a change below it would be
// put back.
func incidentWorkloads(scene *steps.Scene, plan *steps.Plan) []*Workload {
	chains := scene.Workloads
	for _, t := range scene.Targets {
		chains = append(chains, t.Owners)
	}
	seen := map[types.UID]bool{}
	var list []*Workload
	for _, chain := range chains {
		if len(chain) == 0 {
			continue
		}
		top := chain[len(chain)-1]
		if seen[top.UID] {
			continue
		}
		seen[top.UID] = true
		w := workloadOf(top)
		if w == nil || w.Kind == cluster.Job.Kind {
			plan.Refusals = append(plan.Refusals, steps.Refusal{Action: StepImage, Object: top.Ref.String(),
				Reason: "irctl cannot change the image of this kind: change its manifest"})
			continue
		}
		w.held = true
		list = append(list, w)
	}
	return list
}

// named are the images with the containers of a pod's spec that they are for:
// the one that has an image of the same repository or, if alone, the only one
// there is.
func named(spec map[string]any, images []Image, alone bool) []Image {
	var out []Image
	for _, i := range images {
		var same, all []string
		cluster.EachContainer(spec, func(part string, c map[string]any) {
			name, _ := c["name"].(string)
			image, _ := c["image"].(string)
			if repository(image) == repository(i.Ref) {
				same = append(same, name)
			}
			if part == "containers" {
				all = append(all, name)
			}
		})
		switch {
		case i.Container != "":
		case len(same) == 1:
			i.Container = same[0]
		case len(same) == 0 && len(all) == 1 && alone:
			i.Container = all[0]
		default:
			continue
		}
		out = append(out, i)
	}
	return out
}

// repository is an image without its digest and its tag.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if at := strings.LastIndex(image, ":"); at > strings.LastIndex(image, "/") {
		image = image[:at]
	}
	return image
}

// withImages is a copy of a pod's spec with the images that fit its containers.
func withImages(spec map[string]any, images []Image) (next map[string]any, mine []Image) {
	next = runtime.DeepCopyJSON(spec)
	cluster.EachContainer(next, func(_ string, c map[string]any) {
		for _, i := range images {
			if c["name"] == i.Container {
				c["image"] = i.Ref
				mine = append(mine, i)
			}
		}
	})
	return next, mine
}

func (r *Rollout) action(next map[string]any) (steps.Action, bool) {
	spec := r.spec()
	var fields []change.Field
	for _, part := range cluster.ContainerParts {
		path := append(append([]string{}, r.template...), "spec", part)
		fields = append(fields, change.Field{Path: path, Before: spec[part], After: next[part]})
	}
	c, needed := change.NewEdit(r.Ref, "", r.object.GetResourceVersion(), fields...)
	var words, what []string
	for _, i := range r.images {
		words = append(words, change.ShellQuote(i.Container+"="+i.Ref))
		what = append(what, i.Container+" to "+i.Ref)
	}
	return steps.Action{ID: StepImage + " " + string(r.UID), Name: StepImage, Change: c, Summary: "set the image of " +
		r.Ref.String() + ": " + strings.Join(what, ", "),
		Command: fmt.Sprintf("kubectl set image %s -n %s %s", change.ShellQuote(r.KubectlName()),
			change.ShellQuote(r.Namespace), strings.Join(words, " "))}, needed
}

// VerifyImages waits until every pod runs the new images.
func (r *Rollout) VerifyImages(ctx context.Context, client *cluster.Client, suspects map[types.UID]bool,
	tell func(string)) error {
	if err := r.Verify(ctx, client, suspects, r.Fresh, tell); err != nil {
		return err
	}
	return r.sameContent(ctx, client, suspects)
}

// sameContent is that a new pod runs, under another name, what the suspects ran.
func (r *Rollout) sameContent(ctx context.Context, client *cluster.Client, suspects map[types.UID]bool) error {
	selector, err := r.selector()
	if err != nil {
		return fmt.Errorf("%s: %w", r.Ref, err)
	}
	pods, err := client.ListPods(ctx, r.Namespace, selector)
	if err != nil {
		return err
	}
	for i := range pods {
		for _, s := range statuses(&pods[i]) {
			mine := slices.ContainsFunc(r.images, func(i Image) bool { return i.Container == s.Name })
			if d := imageDigest(s.ImageID); mine && !suspects[pods[i].UID] && r.ran.digests[d] {
				return fmt.Errorf(
					"pod %s: container %s runs %s, which a suspect ran: it is the same content under another name",
					pods[i].Name, s.Name, d)
			}
		}
	}
	return nil
}
