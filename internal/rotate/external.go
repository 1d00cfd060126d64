package rotate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

const fieldManager = change.FieldManager

// External has the External Secrets Operator fetch a Secret anew from where it
// lives. irctl does not write there, unless the team's own command does: the
// new values must be there first.
// https://external-secrets.io/latest/introduction/faq/
type External struct {
	*Secrets
	source cluster.Ref // the ExternalSecret
	now    func() time.Time
}

// forceSync is the annotation of the operator's documentation: any change of
// an annotation makes it fetch.
const forceSync = "force-sync"

// NewExternal makes the Secret's rotation that of its ExternalSecret.
func NewExternal(secrets *Secrets, source cluster.Ref, now func() time.Time) *External {
	return &External{Secrets: secrets, source: source, now: now}
}

// CannotSync says why an ExternalSecret would not fetch again; "": it would.
// Since version 0.11 one that is fetched once is not fetched on demand either.
func CannotSync(es *unstructured.Unstructured) string {
	policy, _, _ := unstructured.NestedString(es.Object, "spec", "refreshPolicy")
	interval, found, _ := unstructured.NestedString(es.Object, "spec", "refreshInterval")
	immutable, _, _ := unstructured.NestedBool(es.Object, "spec", "target", "immutable")
	d, err := time.ParseDuration(interval)
	switch {
	case policy == "CreatedOnce":
		return "its spec.refreshPolicy is CreatedOnce"
	case immutable:
		return "its spec.target.immutable is true"
	case policy != "OnChange" && found && (interval == "0" || err == nil && d <= 0):
		return "its spec.refreshInterval is 0"
	}
	return ""
}

// Record holds the digests of before; what will come is known only to the source.
func (x *External) Record() Record {
	if x.prior != nil {
		return *x.prior
	}
	e := x.edits[0]
	keys := map[string]KeyDigests{}
	for _, key := range x.keys() {
		keys[key] = KeyDigests{Before: x.digests.Of(e.Live.Data[key])}
		if v, ok := e.values[key]; ok {
			keys[key] = KeyDigests{Before: keys[key].Before, After: x.digests.Of(v.Reveal())}
		}
	}
	return Record{Rotator: "external-secret", Keeper: keeper(x.source),
		Secrets: []SecretRecord{{Namespace: e.ref.Namespace, Name: e.ref.Name, UID: string(e.ref.UID), Keys: keys}}}
}

// keys are those that must change.
func (x *External) keys() []string {
	e := x.edits[0]
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(e.Live.Data)) {
		if e.Sources[key].Kind != Keep {
			keys = append(keys, key)
		}
	}
	return keys
}

// Update forces a synchronisation and waits for it.
func (x *External) Update(ctx context.Context) (Outcome, error) {
	if x.prior != nil {
		return already("an earlier run did")
	}
	before, edit, err := x.annotate(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if _, err := edit.Do(ctx, x.client.Dynamic); err != nil {
		return Outcome{}, err
	}
	err = await(ctx, x.source.String()+" to be synchronised", func(ctx context.Context) (bool, error) {
		es, err := x.get(ctx)
		if err != nil {
			return false, err
		}
		return synced(es, before)
	})
	if err != nil {
		return Outcome{}, err
	}
	return x.fetched(ctx)
}

func (x *External) get(ctx context.Context) (*unstructured.Unstructured, error) {
	es, err := x.client.Dynamic.Resource(x.source.GVR()).Namespace(x.source.Namespace).
		Get(ctx, x.source.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", x.source, err)
	}
	return es, nil
}

func (x *External) annotate(ctx context.Context) (before string, edit change.Change, err error) {
	es, err := x.get(ctx)
	if err != nil {
		return "", change.Change{}, err
	}
	before, _, _ = unstructured.NestedString(es.Object, "status", "syncedResourceVersion")
	var was any
	if v, ok := es.GetAnnotations()[forceSync]; ok {
		was = v
	}
	ref := x.source
	ref.UID = es.GetUID()
	edit, _ = change.NewEdit(ref, "", es.GetResourceVersion(),
		change.Field{Path: []string{"metadata", "annotations", forceSync},
			Before: was, After: strconv.FormatInt(x.now().UnixNano(), 10)})
	return before, edit, nil
}

// synced reads the operator's status: the version that it last fetched for has
// changed, and it was ready then.
func synced(es *unstructured.Unstructured, before string) (bool, error) {
	version, _, _ := unstructured.NestedString(es.Object, "status", "syncedResourceVersion")
	conditions, _, _ := unstructured.NestedSlice(es.Object, "status", "conditions")
	for _, raw := range conditions {
		c, _ := raw.(map[string]any)
		if c["type"] != "Ready" {
			continue
		}
		if c["status"] == "False" {
			// Its message may quote the provider, and the provider the value.
			return false, fmt.Errorf(
				"ExternalSecret %s/%s could not be synchronised (%v): kubectl describe externalsecret tells why",
				es.GetNamespace(), es.GetName(), c["reason"])
		}
		return version != before, nil
	}
	return false, nil
}

// fetched compares what came with what was before, key by key.
func (x *External) fetched(ctx context.Context) (Outcome, error) {
	ref := x.edits[0].ref
	live, err := x.client.Kube.CoreV1().Secrets(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return Outcome{}, fmt.Errorf("reading %s: %w", ref, err)
	}
	var same []string
	for _, key := range x.keys() {
		if string(live.Data[key]) == string(x.edits[0].Live.Data[key]) {
			same = append(same, key)
		}
	}
	if len(same) > 0 {
		return Outcome{}, fmt.Errorf("%s was synchronised, and the source still has the old value of %s: put a new "+
			"one there (%s), then run the same command again; --keep KEY if it is no secret",
			x.source, strings.Join(same, ", "), x.places(ctx))
	}
	out, err := done("synchronised; every key has a new value")
	out.Data = x.afterwards(live)
	return out, err
}

func (x *External) afterwards(live *corev1.Secret) Record {
	r := x.Record()
	for key, d := range r.Secrets[0].Keys {
		d.After = x.digests.Of(live.Data[key])
		r.Secrets[0].Keys[key] = d
	}
	return r
}

// places are where the values live, as the ExternalSecret names them.
func (x *External) places(ctx context.Context) string {
	es, err := x.get(ctx)
	if err != nil {
		return "see its spec.data"
	}
	store, _, _ := unstructured.NestedString(es.Object, "spec", "secretStoreRef", "name")
	var keys []string
	data, _, _ := unstructured.NestedSlice(es.Object, "spec", "data")
	for _, raw := range data {
		m, _ := raw.(map[string]any)
		if key, _, _ := unstructured.NestedString(m, "remoteRef", "key"); key != "" {
			keys = append(keys, key)
		}
	}
	return strings.TrimSpace("store " + store + " " + strings.Join(keys, ", "))
}

// DryRun asks whether the annotation may be set.
func (x *External) DryRun(ctx context.Context) error {
	if x.prior != nil {
		return nil
	}
	_, edit, err := x.annotate(ctx)
	if err != nil {
		return err
	}
	return edit.DryRun(ctx, x.client.Dynamic)
}

// Deactivate is the source's affair.
func (x *External) Deactivate(context.Context) (Outcome, error) {
	return already("the old value was replaced at the source; whether that accepts it still, only the source knows")
}
