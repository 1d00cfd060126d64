package evidence

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"irctl/internal/cluster/rights"
)

// secretCollector describes the Secrets that the pods can read: those they
// mount or read their environment from, and those that their service accounts
// may get from the API. Values are told by a digest with a key that is in the
// bundle: enough to find out later whether a value that turned up somewhere is
// one of these, or whether it was changed since.
type secretCollector struct{ *inquiry }

func (c *secretCollector) Name() string { return "secrets" }

var secrets = core("secrets", "Secret")

func (c *secretCollector) Collect(ctx context.Context, out *Output) error {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails, by its documentation
	out.Confidential().Bytes("made for this bundle", []byte(hex.EncodeToString(key[:])+"\n"), nil, "secrets",
		"hmac.key")
	s := &secretReader{secretCollector: c, out: out, key: key[:], used: map[name]bool{}, done: map[name]bool{}}
	for _, n := range c.named(ctx, func(f *podFacts) []string { return f.secrets }) {
		s.used[n] = true
	}
	for ns := range s.namespaces(c.rights.wait(ctx)) {
		s.list(ctx, ns)
	}
	// Those that could not be listed, one by one.
	for _, n := range slices.SortedFunc(maps.Keys(s.used), func(x, y name) int {
		return strings.Compare(x.String(), y.String())
	}) {
		if !s.done[n] {
			s.get(ctx, n)
		}
	}
	return nil
}

// secretReader reads each Secret once.
type secretReader struct {
	*secretCollector
	out  *Output
	key  []byte
	used map[name]bool
	done map[name]bool
	may  []rights.Rights
}

// namespaces are those in which a service account can read Secrets by the API;
// "" if that is everywhere.
func (s *secretReader) namespaces(of map[name]rights.Rights) map[string]bool {
	found := map[string]bool{}
	for _, r := range of {
		s.may = append(s.may, r)
		for _, g := range r.Beyond() {
			probe := rights.Rights{Grants: []rights.Grant{g}}
			for _, rule := range g.Rules {
				names := append(slices.Clone(rule.ResourceNames), "")
				if slices.ContainsFunc(names, func(n string) bool { return canRead(probe, name{g.Scope, n}) }) {
					found[g.Scope] = true
				}
			}
		}
	}
	if found[""] {
		return map[string]bool{"": true}
	}
	return found
}

func canRead(r rights.Rights, n name) bool {
	return slices.ContainsFunc([]string{"get", "list", "watch"}, func(verb string) bool {
		return r.Allows(verb, "", "secrets", n.namespace, n.name)
	})
}

// maxSecrets bounds how many are described.
const maxSecrets = 10_000

func (s *secretReader) list(ctx context.Context, namespace string) {
	l := listing{resource: secrets, namespace: namespace}
	err := s.out.api.each(ctx, l, func(item json.RawMessage) error {
		var secret corev1.Secret
		if err := json.Unmarshal(item, &secret); err != nil {
			return fmt.Errorf("an item of the list is not a Secret: %w", err)
		}
		n := name{secret.Namespace, secret.Name}
		readable := slices.ContainsFunc(s.may, func(r rights.Rights) bool { return canRead(r, n) })
		if !s.used[n] && !readable || s.done[n] {
			return nil
		}
		if len(s.done) == maxSecrets {
			return fmt.Errorf("%w: more than %d Secrets", ErrTruncated, maxSecrets)
		}
		s.describe(l.source(), n, item, &secret)
		return nil
	})
	if err != nil {
		where := namespace
		if where == "" {
			where = "all-namespaces"
		}
		s.out.Fail(l.source(), err, "secrets", where+".incomplete")
	}
}

func (s *secretReader) get(ctx context.Context, n name) {
	source := "GET " + objectPath(secrets.gvr, n.namespace, n.name)
	body, err := s.api.get(ctx, secrets.gvr, n.namespace, n.name)
	var secret corev1.Secret
	if err == nil {
		err = json.Unmarshal(body, &secret)
	}
	if err != nil {
		s.out.Fail(source, err, "secrets", n.namespace, n.name+".json")
		return
	}
	s.describe(source, n, body, &secret)
}

// secretOf is how a Secret is described: all but its values, and but for the
// annotations, where kubectl keeps a copy of them.
type secretOf struct {
	Namespace       string                      `json:"namespace"`
	Name            string                      `json:"name"`
	UID             string                      `json:"uid"`
	Type            corev1.SecretType           `json:"type"`
	ResourceVersion string                      `json:"resourceVersion"`
	Created         metav1.Time                 `json:"created"`
	Immutable       *bool                       `json:"immutable,omitempty"`
	Labels          map[string]string           `json:"labels,omitempty"`
	Annotations     []string                    `json:"annotationKeys,omitempty"`
	ManagedFields   []metav1.ManagedFieldsEntry `json:"managedFields,omitempty"`
	UsedByPod       bool                        `json:"usedByPod"`
	Keys            []secretKey                 `json:"keys"`
}

type secretKey struct {
	Key  string `json:"key"`
	Size int    `json:"size"`
	HMAC string `json:"hmacSha256"`
}

func (s *secretReader) describe(source string, n name, served []byte, secret *corev1.Secret) {
	s.done[n] = true
	of := secretOf{
		Namespace: n.namespace, Name: n.name, UID: string(secret.UID), Type: secret.Type,
		ResourceVersion: secret.ResourceVersion, Created: secret.CreationTimestamp,
		Immutable: secret.Immutable, Labels: secret.Labels, Annotations: slices.Sorted(maps.Keys(secret.Annotations)),
		ManagedFields: secret.ManagedFields,
		UsedByPod:     s.used[n], Keys: []secretKey{},
	}
	for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
		mac := hmac.New(sha256.New, s.key)
		mac.Write(secret.Data[key])
		of.Keys = append(of.Keys, secretKey{key, len(secret.Data[key]), hex.EncodeToString(mac.Sum(nil))})
	}
	s.out.JSON(source+" (values replaced by digests)", of, nil, "secrets", n.namespace, n.name+".json")
	if s.scope.SecretValues {
		s.out.Confidential().Bytes(source, served, nil, "secrets", n.namespace, n.name+".values.json")
	}
}
