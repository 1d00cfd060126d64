package record

import "encoding/json"

// Ref names one object, enough to reach it without discovery.
type Ref struct {
	// Cluster is the UID of the namespace kube-system there; "" in change/1,
	// where the entry's object has it.
	Cluster   string `json:"cluster,omitempty"`
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Resource  string `json:"resource"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

// Change is one reversible change to one object: fields that are set, or an
// object that is created. Package change makes it and undoes it.
type Change struct {
	Object Ref `json:"object"`
	// Subresource is the part of the object that is written, "scale" or "".
	Subresource string `json:"subresource,omitempty"`
	// Fields are what an edit sets; empty for a creation.
	Fields []Field `json:"fields,omitempty"`
	// Manifest is the object that a creation adds; nil for an edit.
	Manifest map[string]any `json:"manifest,omitempty"`
	// Apply makes the change by server-side apply; nil: by a patch, or a create.
	Apply *Apply `json:"apply,omitempty"`
	// ResourceVersion is the version that was read when the change was planned.
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

// Field is one field of an object, before and after; nil is "absent". Values are
// JSON values.
type Field struct {
	Path   []string `json:"path"`
	Before any      `json:"before"`
	After  any      `json:"after"`
}

// Apply is what a server-side apply has besides.
type Apply struct {
	// Config is what is applied to an object that exists; one that is created
	// has it as its Manifest.
	Config map[string]any `json:"config,omitzero"`
	// Force takes fields from other field managers.
	Force bool `json:"force,omitempty"`
	// Taken are those that it takes, one line each.
	Taken []string `json:"taken,omitzero"`
	// Owned is irctl's entry of an earlier apply in the object's managed fields;
	// nil: there was none.
	Owned map[string]any `json:"owned,omitzero"`
}

func (c *Change) valid() bool {
	if c.Object.Version == "" || c.Object.Resource == "" || c.Object.Name == "" ||
		(c.Manifest == nil) == (len(c.Fields) == 0) {
		return false
	}
	if c.Apply != nil && (c.Manifest == nil) == (c.Apply.Config == nil) {
		return false
	}
	for _, f := range c.Fields {
		if len(f.Path) == 0 {
			return false
		}
	}
	return true
}

// Rotation is what the journal keeps of a rotation: enough to find out how far
// it came, and to go on, and no value.
type Rotation struct {
	Rotator string          `json:"rotator"`
	Secrets []RotatedSecret `json:"secrets,omitempty"`
	// Keeper is the Certificate or ExternalSecret that was told to have the value
	// made anew: by its status, or an annotation.
	Keeper *Ref `json:"keeper,omitempty"`
	// AccountUID is that of the ServiceAccount before.
	AccountUID string `json:"accountUID,omitempty"`
	// Account is the ServiceAccount that is made anew, as it will be: it holds
	// no secret, and whoever finds it deleted can create it again.
	Account json.RawMessage `json:"account,omitempty"`
	// Tokens are the legacy token Secrets that are made anew with it.
	Tokens []json.RawMessage `json:"tokens,omitempty"`
}

// RotatedSecret is one Secret of a rotation.
type RotatedSecret struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// Successor is the Secret that takes the place of one that is immutable.
	Successor string                `json:"successor,omitempty"`
	Keys      map[string]KeyDigests `json:"keys,omitempty"`
	// Kept are keys that were left as they are, since the responder said that
	// they are no secret.
	Kept []string `json:"kept,omitempty"`
}

// KeyDigests are the keyed digests of one key's value.
type KeyDigests struct {
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"` // empty: not known beforehand, since somebody else makes it
	// Source and Role are what the responder said of the key: a rotate.Kind, and
	// a role of a database.
	Source string `json:"source,omitempty"`
	Role   string `json:"role,omitempty"`
}

// Revocation is what came of making an old value worthless.
type Revocation struct {
	// Left is what of it is left to a person.
	Left []string `json:"left,omitempty"`
}
