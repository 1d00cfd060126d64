package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/change"
	"irctl/internal/cluster"
)

// CertificateRef is cert-manager's kind Certificate.
var CertificateRef = cluster.Ref{Group: "cert-manager.io", Version: "v1", Resource: "certificates", Kind: "Certificate"}

// CertificateName is the annotation by which cert-manager marks its Secrets.
const CertificateName = "cert-manager.io/certificate-name"

// Certificate has cert-manager issue a certificate again, as `cmctl renew`
// does: by the condition Issuing in the status of the Certificate.
type Certificate struct {
	client  *cluster.Client
	digests Digests
	source  cluster.Ref
	live    *corev1.Secret
	prior   *Record
	now     func() time.Time
}

// NewCertificate plans it.
func NewCertificate(client *cluster.Client, digests Digests, prior *Record, source cluster.Ref, live *corev1.Secret,
	now func() time.Time) *Certificate {
	return &Certificate{client: client, digests: digests, source: source, live: live, prior: prior, now: now}
}

// CannotReissue says why issuing again would not replace the key; "": it would,
// or it is not known before.
func CannotReissue(certificate *unstructured.Unstructured) string {
	if policy, _, _ := unstructured.NestedString(certificate.Object, "spec", "privateKey",
		"rotationPolicy"); policy == "Never" {
		return "its spec.privateKey.rotationPolicy is Never, so that the leaked key would be certified again"
	}
	return ""
}

// New has nothing to make.
func (c *Certificate) New(context.Context) (Outcome, error) {
	return already("cert-manager makes the key")
}

// Store has nowhere to store.
func (c *Certificate) Store(context.Context) (Outcome, error) {
	return already("the Kubernetes Secret is where it lives")
}

// Record holds the digest of the key of before.
func (c *Certificate) Record() Record {
	if c.prior != nil {
		return *c.prior
	}
	return Record{Rotator: "cert-manager", Keeper: keeper(c.source),
		Secrets: []SecretRecord{{Namespace: c.live.Namespace, Name: c.live.Name, UID: string(c.live.UID),
			Keys: map[string]KeyDigests{corev1.TLSPrivateKeyKey: {Before: c.digests.Of(
				c.live.Data[corev1.TLSPrivateKeyKey])}}}}}
}

// Update triggers the issuance and waits for the new certificate.
func (c *Certificate) Update(ctx context.Context) (Outcome, error) {
	if c.prior != nil {
		return already("an earlier run did")
	}
	revision, edit, err := c.trigger(ctx)
	if err != nil {
		return Outcome{}, err
	}
	// That the conditions changed meanwhile means that cert-manager is at work.
	var drift *change.DriftError
	if _, err := edit.Do(ctx, c.client.Dynamic); err != nil && !errors.As(err, &drift) {
		return Outcome{}, err
	}
	err = await(ctx, c.source.String()+" to be issued again", func(ctx context.Context) (bool, error) {
		cert, err := c.get(ctx)
		if err != nil {
			return false, err
		}
		now, _, _ := unstructured.NestedInt64(cert.Object, "status", "revision")
		return now > revision && condition(cert, "Ready") == "True" && condition(cert, "Issuing") != "True", nil
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("%w: kubectl describe certificate and its CertificateRequest tell why", err)
	}
	live, err := c.client.Kube.CoreV1().Secrets(c.live.Namespace).Get(ctx, c.live.Name, metav1.GetOptions{})
	if err != nil {
		return Outcome{}, fmt.Errorf("reading Secret %s/%s: %w", c.live.Namespace, c.live.Name, err)
	}
	if string(live.Data[corev1.TLSPrivateKeyKey]) == string(c.live.Data[corev1.TLSPrivateKeyKey]) {
		return Outcome{}, fmt.Errorf("%s was issued again with the same private key: set its "+
			"spec.privateKey.rotationPolicy to Always, then run the same command again", c.source)
	}
	return done("issued again, with a new key")
}

func (c *Certificate) get(ctx context.Context) (*unstructured.Unstructured, error) {
	cert, err := c.client.Dynamic.Resource(CertificateRef.GVR()).Namespace(c.source.Namespace).
		Get(ctx, c.source.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.source, err)
	}
	return cert, nil
}

func condition(o *unstructured.Unstructured, name string) string {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, raw := range conditions {
		if m, _ := raw.(map[string]any); m["type"] == name {
			status, _ := m["status"].(string)
			return status
		}
	}
	return ""
}

func (c *Certificate) trigger(ctx context.Context) (revision int64, edit change.Change, err error) {
	cert, err := c.get(ctx)
	if err != nil {
		return 0, change.Change{}, err
	}
	revision, _, _ = unstructured.NestedInt64(cert.Object, "status", "revision")
	before, _, _ := unstructured.NestedSlice(cert.Object, "status", "conditions")
	after := slices.DeleteFunc(slices.Clone(before), func(raw any) bool {
		m, _ := raw.(map[string]any)
		return m["type"] == "Issuing"
	})
	after = append(after, map[string]any{"type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
		"message":            "Certificate re-issuance manually triggered",
		"lastTransitionTime": c.now().UTC().Format(time.RFC3339), "observedGeneration": cert.GetGeneration()})
	ref := c.source
	ref.UID = cert.GetUID()
	edit, _ = change.NewEdit(ref, "status", cert.GetResourceVersion(),
		change.Field{Path: []string{"status", "conditions"}, Before: before, After: after})
	return revision, edit, nil
}

// DryRun asks whether the status may be patched.
func (c *Certificate) DryRun(ctx context.Context) error {
	if c.prior != nil {
		return nil
	}
	_, edit, err := c.trigger(ctx)
	if err != nil {
		return err
	}
	return edit.DryRun(ctx, c.client.Dynamic)
}

// Deactivate leaves the revocation to the authority.
func (c *Certificate) Deactivate(context.Context) (Outcome, error) {
	left := fmt.Sprintf(
		"the old certificate of Secret %s/%s is valid until it expires: have its authority revoke it if that matters",
		c.live.Namespace, c.live.Name)
	return Outcome{Result: change.Already, Note: left}, nil
}
