package sim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
)

// asJSON is a request's body in JSON: typed clients send protobuf.
func asJSON(body []byte) []byte {
	if !bytes.HasPrefix(body, []byte("k8s\x00")) {
		return body
	}
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return body // whoever reads it will say what is wrong
	}
	text, err := json.Marshal(o)
	if err != nil {
		return body
	}
	return text
}

func base64Text(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (c *Cluster) answerList(hr *http.Request, req Request, k Kind) (any, error) {
	q := hr.URL.Query()
	sel, err := labels.Parse(q.Get("labelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	field, err := fields.ParseSelector(q.Get("fieldSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Get("continue"))
	if err != nil {
		return nil, apierrors.NewResourceExpired("the provided continue parameter is not valid")
	}
	limit, _ := strconv.Atoi(q.Get("limit")) // absent or malformed: no limit
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := &unstructured.UnstructuredList{Object: map[string]any{}}
	list.SetAPIVersion(metav1.GroupVersion{Group: k.Group, Version: k.Version}.String())
	list.SetKind(k.Kind + "List")
	list.SetResourceVersion(fmt.Sprint(c.version))
	for _, o := range c.list(k.GVR(), req.Namespace) {
		key := o.GetNamespace() + "/" + o.GetName()
		if key <= string(after) && len(after) > 0 || !sel.Matches(labels.Set(o.GetLabels())) ||
			!field.Matches(fieldsOf(&o)) {
			continue
		}
		if limit > 0 && len(list.Items) == limit {
			last := list.Items[limit-1]
			list.SetContinue(base64.RawURLEncoding.EncodeToString([]byte(last.GetNamespace() + "/" + last.GetName())))
			break
		}
		list.Items = append(list.Items, o)
	}
	return list, nil
}

// fieldsOf are the fields that lists are selected by here.
func fieldsOf(o *unstructured.Unstructured) fields.Set {
	set := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	for _, ref := range []string{"involvedObject", "regarding"} {
		named, _, _ := unstructured.NestedStringMap(o.Object, ref)
		for k, v := range named {
			set[ref+"."+k] = v
		}
	}
	for field, path := range selectable {
		if v, found, _ := unstructured.NestedString(o.Object, path...); found {
			set[field] = v
		}
	}
	return set
}

// selectable are further fields by which the real server selects pods, Secrets and events.
var selectable = map[string][]string{"status.phase": {"status", "phase"}, "spec.nodeName": {"spec", "nodeName"},
	"type": {"type"}, "reason": {"reason"}}

func (c *Cluster) answerCreate(hr *http.Request, req Request, k Kind, body []byte) (any, error) {
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(body); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if ns := o.GetNamespace(); ns != "" && ns != req.Namespace {
		return nil, apierrors.NewBadRequest(
			"the namespace of the provided object does not match the namespace sent on the request")
	}
	o.SetNamespace(req.Namespace)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !k.Cluster {
		if _, err := c.get(Namespaces, "", req.Namespace); err != nil {
			return nil, err
		}
	}
	o, err := k.firstSet(o, hr.URL.Query().Get("fieldManager"), c.opts.Now())
	if err != nil {
		return nil, err
	}
	created, err := c.create(k, o, req.DryRun)
	return c.written(created, err, req)
}

// written lets the controllers react. What is answered is the object as the
// request left it, before they did.
func (c *Cluster) written(o *unstructured.Unstructured, err error, req Request) (any, error) {
	if err == nil && !req.DryRun {
		err = c.settle(req.Namespace)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (c *Cluster) answerPatch(hr *http.Request, req Request, k Kind, body []byte) (any, error) {
	if hr.Header.Get("Content-Type") == string(types.ApplyYAMLPatchType) {
		return c.answerApply(hr, req, k, body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	live, err := c.get(k.GVR(), req.Namespace, req.Name)
	if err != nil {
		return nil, err
	}
	next, err := patched(hr, k, live, body)
	if err == nil {
		next, err = k.tracked(live, next, managerOf(hr), c.opts.Now())
	}
	if err != nil {
		return nil, err
	}
	o, err := c.update(k, live, next, req.DryRun)
	return c.written(o, err, req)
}

// answerUpdate replaces an object as a whole.
func (c *Cluster) answerUpdate(hr *http.Request, req Request, k Kind, body []byte) (any, error) {
	next := &unstructured.Unstructured{}
	if err := next.UnmarshalJSON(body); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	live, err := c.get(k.GVR(), req.Namespace, req.Name)
	if err != nil {
		return nil, err
	}
	if next.GetNamespace() != req.Namespace || next.GetName() != req.Name {
		return nil, apierrors.NewBadRequest(
			"the name or the namespace of the provided object does not match the request")
	}
	if next.GetResourceVersion() == "" {
		next.SetResourceVersion(live.GetResourceVersion())
	}
	if next.GetUID() == "" {
		next.SetUID(live.GetUID())
	}
	if err = sameObject(k, live, next); err == nil {
		next, err = k.tracked(live, next, managerOf(hr), c.opts.Now())
	}
	if err != nil {
		return nil, err
	}
	o, err := c.update(k, live, next, req.DryRun)
	return c.written(o, err, req)
}

// patched applies a merge patch, a strategic one or a JSON patch, and holds the patch to the version and the
// UID that it names, in the order of the real server: 409, then 422.
func patched(hr *http.Request, k Kind, live *unstructured.Unstructured, body []byte) (*unstructured.Unstructured,
	error) {
	before, err := json.Marshal(live.Object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	after, err := applyPatch(types.PatchType(hr.Header.Get("Content-Type")), k, before, body)
	if err != nil {
		return nil, err
	}
	next := &unstructured.Unstructured{}
	if err := next.UnmarshalJSON(after); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if err := sameObject(k, live, next); err != nil {
		return nil, err
	}
	return next, nil
}

// sameObject holds a write to the version and the UID that it names.
func sameObject(k Kind, live, next *unstructured.Unstructured) error {
	if next.GetResourceVersion() != live.GetResourceVersion() {
		return apierrors.NewConflict(k.GVR().GroupResource(), live.GetName(),
			fmt.Errorf("the object has been modified; please apply your changes to the latest version and try again"))
	}
	if next.GetUID() != live.GetUID() {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
			Code:   http.StatusUnprocessableEntity,
			Reason: metav1.StatusReasonInvalid,
			Message: fmt.Sprintf("%s %q is invalid: metadata.uid: Invalid value: %q: field is immutable", k.Kind,
				live.GetName(), next.GetUID())}}
	}
	return nil
}

func applyPatch(kind types.PatchType, k Kind, before, body []byte) (after []byte, err error) {
	gvk := k.gvk()
	switch {
	case kind == types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, body)
	case kind == types.JSONPatchType:
		var patch jsonpatch.Patch
		if patch, err = jsonpatch.DecodePatch(body); err == nil {
			after, err = patch.Apply(before)
		}
	case kind == types.StrategicMergePatchType && scheme.Scheme.Recognizes(gvk):
		var typed runtime.Object
		if typed, err = scheme.Scheme.New(gvk); err == nil {
			after, err = strategicpatch.StrategicMergePatch(before, body, typed)
		}
	default:
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
			Code:    http.StatusUnsupportedMediaType,
			Reason:  metav1.StatusReasonUnsupportedMediaType,
			Message: fmt.Sprintf("a patch of type %s to a %s is not simulated", kind, k.Kind)}}
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return after, nil
}

// answerScale serves the scale subresource as what it is on the real server:
// an object of its own with the name, UID and version of the other.
func (c *Cluster) answerScale(hr *http.Request, req Request, k Kind, body []byte) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	live, err := c.get(k.GVR(), req.Namespace, req.Name)
	if err != nil {
		return nil, err
	}
	scale, err := scaleOf(live)
	if err != nil || req.Verb == "get" {
		return scale, err
	}
	if req.Verb != "patch" {
		return nil, apierrors.NewMethodNotSupported(k.GVR().GroupResource(), req.Verb)
	}
	next, err := patched(hr, k, scale, body)
	if err != nil {
		return nil, err
	}
	replicas, _, err := unstructured.NestedInt64(next.Object, "spec", "replicas") // absent: 0, as of the type
	if err != nil || replicas < 0 {
		return nil, apierrors.NewBadRequest("spec.replicas must be a number that is not negative")
	}
	changed := live.DeepCopy()
	_ = unstructured.SetNestedField(changed.Object, replicas, "spec", "replicas") // spec is an object
	o, err := c.update(k, live, changed, req.DryRun)
	if err != nil {
		return nil, err
	}
	answer, err := scaleOf(o)
	return c.written(answer, err, req)
}

func scaleOf(o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	replicas, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	current, _, _ := unstructured.NestedInt64(o.Object, "status", "replicas")
	selector, err := selectorOf(o)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	s := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{Kind: "Scale", APIVersion: "autoscaling/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
			ResourceVersion: o.GetResourceVersion(), CreationTimestamp: o.GetCreationTimestamp()},
		Spec:   autoscalingv1.ScaleSpec{Replicas: int32(replicas)},
		Status: autoscalingv1.ScaleStatus{Replicas: int32(current), Selector: selector.String()},
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s)
	return &unstructured.Unstructured{Object: m}, err
}

func (c *Cluster) answerDelete(req Request, k Kind, body []byte) (any, error) {
	var options metav1.DeleteOptions
	if len(body) > 0 {
		if err := json.Unmarshal(body, &options); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	live, err := c.get(k.GVR(), req.Namespace, req.Name)
	if err != nil {
		return nil, err
	}
	if p := options.Preconditions; p != nil {
		if err := precondition(k, live, p); err != nil {
			return nil, err
		}
	}
	if !req.DryRun {
		if o := options.PropagationPolicy; o != nil && *o == metav1.DeletePropagationOrphan {
			if err := c.disown(req.Namespace, live.GetUID()); err != nil {
				return nil, err
			}
		}
		if err := c.remove(k.GVR(), req.Namespace, req.Name); err != nil {
			return nil, err
		}
		if err := c.settle(req.Namespace); err != nil {
			return nil, err
		}
	}
	return metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: req.Name, Group: k.Group, Kind: k.Resource, UID: live.GetUID()}}, nil
}

func precondition(k Kind, live *unstructured.Unstructured, p *metav1.Preconditions) error {
	if p.UID != nil && *p.UID != live.GetUID() {
		return apierrors.NewConflict(k.GVR().GroupResource(), live.GetName(),
			fmt.Errorf("Precondition failed: UID in precondition: %s, UID in object meta: %s", *p.UID, live.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != live.GetResourceVersion() {
		return apierrors.NewConflict(k.GVR().GroupResource(), live.GetName(),
			fmt.Errorf("Precondition failed: ResourceVersion in precondition: %s, ResourceVersion in object meta: %s",
				*p.ResourceVersion, live.GetResourceVersion()))
	}
	return nil
}
