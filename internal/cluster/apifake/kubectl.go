package apifake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// Kubectl does what a command line of kubectl would: as much of kubectl and of the
// shell as commands that are shown to people need. What it does not know is an error.
func Kubectl(ctx context.Context, config *rest.Config, line string) error {
	words, err := shellWords(line)
	if err != nil {
		return err
	}
	k := kubectl{}
	if k.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	if k.discovery, err = discovery.NewDiscoveryClientForConfig(config); err != nil {
		return err
	}
	for _, command := range split(words, "&&") {
		stdin := ""
		pipe := split(command, "|")
		if len(pipe) == 2 && len(pipe[0]) == 3 && pipe[0][0] == "printf" && pipe[0][1] == "%s" {
			stdin, pipe = pipe[0][2], pipe[1:]
		}
		if len(pipe) != 1 || len(pipe[0]) < 2 || pipe[0][0] != "kubectl" {
			return fmt.Errorf("not a command that is known: %q", command)
		}
		if err := k.run(ctx, pipe[0][1], pipe[0][2:], stdin); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(pipe[0], " "), err)
		}
	}
	return nil
}

// shellWords takes a line apart as a shell does: single quotes, and a backslash outside of them.
func shellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun, quoted := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'':
			begun, quoted = true, !quoted
		case quoted:
			word.WriteByte(c)
		case c == '\\' && i+1 < len(line):
			i++
			begun = true
			word.WriteByte(line[i])
		case c == ' ':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		case strings.IndexByte("\"$`;<>()*?~", c) >= 0:
			return nil, fmt.Errorf("%q is not quoted in: %s", c, line)
		default:
			begun = true
			word.WriteByte(c)
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed in: %s", line)
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

func split(words []string, sep string) (parts [][]string) {
	for {
		i := slices.Index(words, sep)
		if i < 0 {
			return append(parts, words)
		}
		parts, words = append(parts, words[:i]), words[i+1:]
	}
}

type kubectl struct {
	dynamic   dynamic.Interface
	discovery discovery.DiscoveryInterface
}

// line is what the words of one command come to.
type line struct {
	flags map[string]string
	args  []string
}

// valued are the flags that take a value; of others, it stands after "=".
var valued = []string{"-n", "--namespace", "-p", "--type", "-f", "--replicas", "--subresource", "--field-manager"}

func parseLine(words []string) line {
	l := line{flags: map[string]string{}}
	for i := 0; i < len(words); i++ {
		name, value, given := strings.Cut(words[i], "=")
		switch {
		case !strings.HasPrefix(words[i], "-"):
			l.args = append(l.args, words[i])
		case given:
			l.flags[name] = value
		case slices.Contains(valued, name) && i+1 < len(words):
			i++
			l.flags[name] = words[i]
		default:
			l.flags[name] = "true"
		}
	}
	return l
}

func (k kubectl) run(ctx context.Context, verb string, words []string, stdin string) error {
	l := parseLine(words)
	if verb == "create" || verb == "apply" {
		return k.manifest(ctx, l, stdin, verb == "apply")
	}
	if verb == "cordon" || verb == "uncordon" {
		l.args = append([]string{"node"}, l.args...)
	}
	r, name, rest, err := k.object(l)
	if err != nil {
		return err
	}
	merge := func(patch map[string]any, sub ...string) error {
		data, err := json.Marshal(patch)
		if err == nil {
			_, err = r.Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{}, sub...)
		}
		return err
	}
	switch verb {
	case "delete":
		return r.Delete(ctx, name, metav1.DeleteOptions{})
	case "cordon":
		return merge(map[string]any{"spec": map[string]any{"unschedulable": true}})
	case "uncordon":
		return merge(map[string]any{"spec": map[string]any{"unschedulable": nil}})
	case "scale":
		return merge(map[string]any{"spec": map[string]any{"replicas": json.Number(l.flags["--replicas"])}}, "scale")
	case "label", "annotate":
		live, err := r.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		field, has := "labels", live.GetLabels()
		if verb == "annotate" {
			field, has = "annotations", live.GetAnnotations()
		}
		set := map[string]any{}
		for _, w := range rest {
			key, value, given := strings.Cut(w, "=")
			if !given {
				key = strings.TrimSuffix(w, "-")
				set[key] = nil
				continue
			}
			if old, ok := has[key]; ok && old != value && l.flags["--overwrite"] == "" {
				return fmt.Errorf("'%s' already has a value (%s), and --overwrite is false", key, old)
			}
			set[key] = value
		}
		return merge(map[string]any{"metadata": map[string]any{field: set}})
	case "patch":
		if l.flags["--type"] != "merge" {
			return fmt.Errorf("a patch of type %q", l.flags["--type"])
		}
		var sub []string
		if s := l.flags["--subresource"]; s != "" {
			sub = []string{s}
		}
		_, err := r.Patch(ctx, name, types.MergePatchType, []byte(l.flags["-p"]), metav1.PatchOptions{}, sub...)
		return err
	}
	return fmt.Errorf("no verb %q", verb)
}

// manifest creates what standard input says; apply changes it, if it is there.
func (k kubectl) manifest(ctx context.Context, l line, stdin string, apply bool) error {
	if l.flags["-f"] != "-" || stdin == "" || l.flags["--server-side"] != "" {
		return errors.New("a manifest from standard input is what is known")
	}
	var o unstructured.Unstructured
	if err := json.Unmarshal([]byte(stdin), &o.Object); err != nil {
		return err
	}
	gvr, namespaced, err := k.resource(o.GetKind() + "." + o.GroupVersionKind().Group)
	if err != nil {
		return err
	}
	var r dynamic.ResourceInterface = k.dynamic.Resource(gvr)
	if namespaced {
		r = k.dynamic.Resource(gvr).Namespace(o.GetNamespace())
	}
	if _, err = r.Create(ctx, &o, metav1.CreateOptions{}); !apply || !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = r.Patch(ctx, o.GetName(), types.MergePatchType, []byte(stdin), metav1.PatchOptions{})
	return err
}

// object finds the object that a command is about: TYPE NAME or TYPE/NAME.
func (k kubectl) object(l line) (r dynamic.ResourceInterface, name string, rest []string, err error) {
	if len(l.args) == 0 {
		return nil, "", nil, errors.New("no object is named")
	}
	kind, name, ok := strings.Cut(l.args[0], "/")
	rest = l.args[1:]
	if !ok {
		if len(rest) == 0 {
			return nil, "", nil, errors.New("no object is named")
		}
		name, rest = rest[0], rest[1:]
	}
	gvr, namespaced, err := k.resource(kind)
	if err != nil {
		return nil, "", nil, err
	}
	if !namespaced {
		return k.dynamic.Resource(gvr), name, rest, nil
	}
	namespace := l.flags["-n"]
	if namespace == "" {
		return nil, "", nil, fmt.Errorf("%s %s has no namespace", kind, name)
	}
	return k.dynamic.Resource(gvr).Namespace(namespace), name, rest, nil
}

// resource finds a type by its plural, its kind or a short name, with or without the group.
func (k kubectl) resource(kind string) (schema.GroupVersionResource, bool, error) {
	name, group, qualified := strings.Cut(strings.ToLower(kind), ".")
	_, lists, err := k.discovery.ServerGroupsAndResources()
	if err != nil {
		return schema.GroupVersionResource{}, false, err
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return schema.GroupVersionResource{}, false, err
		}
		for _, r := range list.APIResources {
			named := r.Name == name || strings.ToLower(r.Kind) == name || slices.Contains(r.ShortNames, name)
			if named && !strings.Contains(r.Name, "/") && (!qualified || gv.Group == group) {
				return gv.WithResource(r.Name), r.Namespaced, nil
			}
		}
	}
	return schema.GroupVersionResource{}, false, fmt.Errorf("no type %q", kind)
}
