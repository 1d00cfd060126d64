package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// earlier is who set what was there before an object's first apply.
const earlier = "kubectl-client-side-apply"

// schemas are those of the built-in kinds, which say what of a list is merged
// by which key. Reading them takes a while, so it is done once.
var schemas = sync.OnceValue(func() managedfields.TypeConverter {
	return applyconfigurations.NewTypeConverter(scheme.Scheme)
})

// fieldManager is the real server's, for one kind.
func (k Kind) fieldManager() (*managedfields.FieldManager, error) {
	gvk := k.gvk()
	converter := managedfields.NewDeducedTypeConverter()
	if scheme.Scheme.Recognizes(gvk) {
		converter = schemas()
	}
	return managedfields.NewDefaultFieldManager(converter, asItIs{}, asItIs{}, asItIs{}, gvk, gvk.GroupVersion(), "",
		nil)
}

// asItIs converts and defaults nothing: there is one version of every kind.
type asItIs struct{}

func (asItIs) Convert(any, any, any) error { return errors.New("no conversion is simulated") }

func (asItIs) ConvertToVersion(o runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return o, nil
}

func (asItIs) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func (asItIs) Default(runtime.Object) {}

func (asItIs) New(gvk schema.GroupVersionKind) (runtime.Object, error) { return blank(gvk), nil }

func blank(gvk schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u
}

// managerOf is who a request says it is from.
func managerOf(hr *http.Request) string {
	if name := hr.URL.Query().Get("fieldManager"); name != "" {
		return name
	}
	return "unknown"
}

// tracked notes in the managed fields of an object who changed what. It is
// done only where an apply has begun to keep them.
func (k Kind) tracked(live, next *unstructured.Unstructured, manager string, now time.Time) (*unstructured.Unstructured,
	error) {
	if len(live.GetManagedFields()) == 0 {
		return next, nil
	}
	m, err := k.fieldManager()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	o, err := m.Update(live, next, manager)
	return stamped(live, o, err, now)
}

// firstSet notes who made an object, if the request says so.
func (k Kind) firstSet(
	o *unstructured.Unstructured, manager string, now time.Time,
) (*unstructured.Unstructured, error) {
	if manager == "" {
		return o, nil
	}
	m, err := k.fieldManager()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	first, err := m.Update(blank(o.GroupVersionKind()), o.DeepCopy(), manager)
	return stamped(blank(o.GroupVersionKind()), first, err, now)
}

// stamped gives managed fields that are new the cluster's time.
func stamped(live *unstructured.Unstructured, o runtime.Object, err error, now time.Time) (*unstructured.Unstructured,
	error) {
	if err != nil {
		return nil, err
	}
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("an object is kept as %T", o))
	}
	entries := u.GetManagedFields()
	known := live.GetManagedFields()
	at := metav1.NewTime(now.UTC().Truncate(time.Second))
	for i := range entries {
		old := false
		for _, e := range known {
			old = old || reflect.DeepEqual(e, entries[i])
		}
		if !old {
			entries[i].Time = &at
		}
	}
	u.SetManagedFields(entries)
	return u, nil
}

// answerApply serves a server-side apply.
func (c *Cluster) answerApply(hr *http.Request, req Request, k Kind, body []byte) (any, error) {
	config, err := configOf(hr, k, req, body)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	live, err := c.get(k.GVR(), req.Namespace, req.Name)
	absent := apierrors.IsNotFound(err)
	switch {
	case absent:
		err = c.applicable(req, k, config)
	case err == nil:
		err = wanted(k, live, config)
	}
	if err != nil {
		return nil, err
	}
	next, err := c.merged(k, live, absent, config, managerOf(hr), hr.URL.Query().Get("force") == "true")
	if err != nil {
		return nil, err
	}
	if absent {
		o, err := c.create(k, next, req.DryRun)
		return c.written(o, err, req)
	}
	o, err := c.update(k, live, next, req.DryRun)
	return c.written(o, err, req)
}

// configOf reads what is to be applied.
func configOf(hr *http.Request, k Kind, req Request, body []byte) (*unstructured.Unstructured, error) {
	text, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
	}
	config := &unstructured.Unstructured{}
	if err := config.UnmarshalJSON(text); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	gv := schema.GroupVersion{Group: k.Group, Version: k.Version}.String()
	switch {
	case hr.URL.Query().Get("fieldManager") == "":
		return nil, apierrors.NewBadRequest(
			"PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
	case len(config.GetManagedFields()) > 0:
		return nil, apierrors.NewBadRequest("metadata.managedFields must be nil")
	case config.GetAPIVersion() != gv || config.GetKind() != k.Kind:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid object type: %s %s", config.GetAPIVersion(),
			config.GetKind()))
	case config.GetName() != req.Name:
		return nil, apierrors.NewBadRequest("the name of the object does not match the name on the URL")
	case config.GetNamespace() != "" && config.GetNamespace() != req.Namespace:
		return nil, apierrors.NewBadRequest(
			"the namespace of the provided object does not match the namespace sent on the request")
	}
	config.SetNamespace(req.Namespace)
	return config, nil
}

// applicable: the object may be made by an apply.
func (c *Cluster) applicable(req Request, k Kind, config *unstructured.Unstructured) error {
	create := req
	create.Verb = "create"
	switch {
	case c.forbidden(create):
		return c.errForbidden(create)
	case config.GetUID() != "":
		return apierrors.NewConflict(k.GVR().GroupResource(), req.Name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found",
				config.GetUID()))
	case k.Cluster:
		return nil
	}
	_, err := c.get(Namespaces, "", req.Namespace)
	return err
}

// wanted: the live object is the very one that the config names.
func wanted(k Kind, live, config *unstructured.Unstructured) error {
	if v := config.GetResourceVersion(); v != "" && v != live.GetResourceVersion() {
		return apierrors.NewConflict(k.GVR().GroupResource(), live.GetName(),
			errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	if uid := config.GetUID(); uid != "" && uid != live.GetUID() {
		return apierrors.NewConflict(k.GVR().GroupResource(), live.GetName(),
			fmt.Errorf("Precondition failed: UID in precondition: %s, UID in object meta: %s", uid, live.GetUID()))
	}
	return nil
}

// merged is the object after the apply, with who manages what.
func (c *Cluster) merged(k Kind, live *unstructured.Unstructured, absent bool, config *unstructured.Unstructured,
	manager string, force bool) (*unstructured.Unstructured, error) {
	m, err := k.fieldManager()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if absent {
		live = blank(config.GroupVersionKind())
	} else if len(live.GetManagedFields()) == 0 {
		first, err := m.Update(blank(live.GroupVersionKind()), live.DeepCopy(), earlier)
		if live, err = stamped(blank(live.GroupVersionKind()), first, err, live.GetCreationTimestamp().
			Time); err != nil {
			return nil, apierrors.NewInternalError(err)
		}
	}
	o, err := m.Apply(live, config, manager, force)
	var status apierrors.APIStatus
	if err != nil && !errors.As(err, &status) {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	next, err := stamped(live, o, err, c.opts.Now())
	if err != nil {
		return nil, err
	}
	return decoded(next)
}

// decoded has the numbers of JSON as they are elsewhere.
func decoded(u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(u.Object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	next := &unstructured.Unstructured{}
	if err := next.UnmarshalJSON(text); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return next, nil
}
