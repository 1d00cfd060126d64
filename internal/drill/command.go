package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// command is one line of a play.
type command struct {
	line string
	// wait, or irctl's arguments, or what kubectl would do.
	wait  time.Duration
	irctl []string
	do    func(w *World) error
}

// parseCommand reads irctl …, wait DURATION, or one of the few kubectl
// commands that a play needs: delete, scale, label, patch, rollout restart.
func parseCommand(line string) (command, error) {
	words, err := split(line)
	if err != nil {
		return command{}, fmt.Errorf("%s: %w", line, err)
	}
	c := command{line: line}
	switch {
	case len(words) > 1 && words[0] == "irctl":
		c.irctl = words[1:]
	case len(words) == 2 && words[0] == "wait":
		if c.wait, err = time.ParseDuration(words[1]); err != nil || c.wait < 0 || c.wait > maxSpan {
			return c, fmt.Errorf("%s: %q is no duration", line, words[1])
		}
	case len(words) > 1 && words[0] == "kubectl":
		if c.do, err = parseKubectl(words[1:]); err != nil {
			return c, fmt.Errorf("%s: %w", line, err)
		}
	default:
		return c, fmt.Errorf("%q: use irctl …, kubectl … or wait DURATION", line)
	}
	return c, nil
}

// split splits into words; single quotes keep spaces together.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted, begun := false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}

// parseKubectl reads what kubectl would be told.
func parseKubectl(words []string) (func(*World) error, error) {
	verb := words[0]
	if verb == "rollout" && len(words) > 1 && words[1] == "restart" {
		verb, words = "restart", words[1:]
	}
	var plain []string
	namespace, replicas, patch := "", int64(-1), ""
	for i := 1; i < len(words); i++ {
		w := words[i]
		switch {
		case (w == "-n" || w == "-p") && i+1 < len(words):
			i++
			if w == "-n" {
				namespace = words[i]
			} else {
				patch = words[i]
			}
		case strings.HasPrefix(w, "--replicas="):
			n, err := strconv.ParseInt(strings.TrimPrefix(w, "--replicas="), 10, 32)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%s is no number", w)
			}
			replicas = n
		case w == "--type=merge":
		case strings.HasPrefix(w, "-"):
			return nil, fmt.Errorf("the flag %s is not simulated", w)
		default:
			plain = append(plain, w)
		}
	}
	if len(plain) > 0 && strings.Contains(plain[0], "/") {
		kind, name, _ := strings.Cut(plain[0], "/")
		plain = append([]string{kind, name}, plain[1:]...)
	}
	if len(plain) < 2 {
		return nil, errors.New("which object? give KIND NAME")
	}
	o := Object{Namespace: namespace, Kind: plain[0], Name: plain[1]}
	merge := func(what map[string]any) func(*World) error {
		return func(w *World) error { return w.edit(Edit{Object: o, Merge: what}) }
	}
	switch verb {
	case "delete":
		return func(w *World) error {
			gvr, err := w.resource(o.Kind)
			if err != nil {
				return err
			}
			return w.Cluster.Delete(gvr, o.Namespace, o.Name)
		}, nil
	case "scale":
		if replicas < 0 {
			return nil, errors.New("scale needs --replicas=N")
		}
		return merge(map[string]any{"spec": map[string]any{"replicas": replicas}}), nil
	case "restart":
		return func(w *World) error {
			at := w.clock.Now().UTC().Format(time.RFC3339Nano)
			return w.edit(Edit{o,
				map[string]any{"spec": map[string]any{
					"template": map[string]any{"metadata": map[string]any{
						"annotations": map[string]any{"kubectl.kubernetes.io/restartedAt": at}}}}}})
		}, nil
	case "label":
		return func(w *World) error { return w.label(o, plain[2:]) }, nil
	case "patch":
		var what map[string]any
		if err := json.Unmarshal([]byte(patch), &what); err != nil {
			return nil, fmt.Errorf("patch needs -p with JSON: %w", err)
		}
		return merge(what), nil
	}
	return nil, fmt.Errorf("kubectl %s is not simulated; there are delete, scale, label, patch and rollout restart",
		verb)
}

func (w *World) label(o Object, changes []string) error {
	gvr, err := w.resource(o.Kind)
	if err != nil {
		return err
	}
	return w.Cluster.Edit(gvr, o.Namespace, o.Name, func(u *unstructured.Unstructured) {
		l := maps.Clone(u.GetLabels())
		if l == nil {
			l = map[string]string{}
		}
		for _, c := range changes {
			if k, v, ok := strings.Cut(c, "="); ok {
				l[k] = v
			} else {
				delete(l, strings.TrimSuffix(c, "-"))
			}
		}
		u.SetLabels(l)
	})
}

// Hands carry out the commands of a play.
type Hands struct {
	World *World
	// Dir is the drill's directory, ${dir} in commands.
	Dir string
	// Incident is the ID of the incident, ${incident} in commands.
	Incident func() string
	// Irctl runs irctl with arguments.
	Irctl func(ctx context.Context, args []string) error
	// Typed is told each command before it is done; nil: nobody is.
	Typed func(line string)
}

// Do carries out commands, one after the other.
func (h *Hands) Do(ctx context.Context, lines []string) error {
	for _, line := range lines {
		id := ""
		if h.Incident != nil {
			id = h.Incident()
		}
		namespace, name, _ := strings.Cut(h.World.Suspect, "/")
		line = strings.NewReplacer("${suspect}", name, "${namespace}", namespace, "${dir}", h.Dir, "${incident}", id).
			Replace(line)
		c, err := parseCommand(line)
		if err != nil {
			return err
		}
		if h.Typed != nil && c.wait == 0 {
			h.Typed(line)
		}
		switch {
		case c.irctl != nil && h.Irctl == nil:
			err = errors.New("nobody is here to run it")
		case c.irctl != nil:
			err = h.Irctl(ctx, c.irctl)
		case c.do != nil:
			err = c.do(h.World)
		default:
			err = h.World.Sleep(ctx, c.wait)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	return nil
}
