package eradicate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
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

// PlanImages says what it takes to run the images in the workloads of the
// incident. Undoing it puts the version back through which the attacker came:
// it is possible, since a patch may be bad too.
func PlanImages(scene *steps.Scene, radius *Radius, images []Image) (steps.Plan, []*Rollout, error) {
	var plan steps.Plan
	var rollouts []*Rollout
	found := map[string]bool{}
	workloads := incidentWorkloads(scene, &plan)
	for _, w := range workloads {
		next, mine := withImages(w.spec(), named(w.spec(), images, len(workloads) == 1))
		for _, i := range mine {
			found[i.Container], found[i.Ref] = true, true
		}
		if len(mine) == 0 {
			continue
		}
		r := &Rollout{Restart: &Restart{Workload: w}, images: mine}
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
			return plan, nil, fmt.Errorf("which container is to run %s? Its repository is that of no container, or of several: write CONTAINER=IMAGE", i.Ref)
		case i.Container != "" && !found[i.Container]:
			return plan, nil, fmt.Errorf("no workload of the incident has a container %q", i.Container)
		}
	}
	return plan, rollouts, nil
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
			plan.Refusals = append(plan.Refusals, steps.Refusal{Action: StepImage, Object: top.Ref.String(), Reason: "irctl cannot change the image of this kind: change its manifest"})
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
	return steps.Action{ID: StepImage + " " + string(r.UID), Name: StepImage, Change: c, Summary: "set the image of " + r.Ref.String() + ": " + strings.Join(what, ", "),
		Command: fmt.Sprintf("kubectl set image %s -n %s %s", change.ShellQuote(r.KubectlName()), change.ShellQuote(r.Namespace), strings.Join(words, " "))}, needed
}

// VerifyImages waits until every pod runs the new images.
func (r *Rollout) VerifyImages(ctx context.Context, client *cluster.Client, suspects map[types.UID]bool, tell func(string)) error {
	return r.Verify(ctx, client, suspects, r.Fresh, tell)
}
