package eradicate

import (
	"context"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"irctl/internal/cluster"
	"irctl/internal/rotate"
)

// keeper is what writes a Secret, and would put the old value back.
type keeper struct {
	cluster.Ref
	// rotator can have it write a new one; "": irctl knows no way.
	rotator string
	// cannot is why it would not.
	cannot string
}

// keepers finds them. Which ExternalSecrets there are is asked once a namespace.
type keepers struct {
	client *cluster.Client
	mu     sync.Mutex
	found  map[string][]unstructured.Unstructured
	kind   *cluster.Ref // nil: not asked yet
}

func newKeepers(client *cluster.Client) *keepers {
	return &keepers{client: client, found: map[string][]unstructured.Unstructured{}}
}

// of is the keeper of a Secret; nil: nobody is known to write it but people.
// What the annotations say counts only where the keeper says the same: anybody
// who may write the Secret may have put them there.
func (k *keepers) of(ctx context.Context, s *corev1.Secret) (*keeper, error) {
	if name := s.Annotations[rotate.CertificateName]; name != "" {
		return k.certificate(ctx, s, name)
	}
	es, err := k.externalSecret(ctx, s)
	if es != nil || err != nil {
		return es, err
	}
	if o := metav1.GetControllerOf(s); o != nil {
		return &keeper{Ref: cluster.Ref{Kind: o.Kind, Namespace: s.Namespace, Name: o.Name}}, nil
	}
	return nil, nil
}

func (k *keepers) certificate(ctx context.Context, s *corev1.Secret, name string) (*keeper, error) {
	ref := rotate.CertificateRef.Named(s.Namespace, name, "")
	cert, err := k.client.Dynamic.Resource(ref.GVR()).Namespace(ref.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s, which issues it: %w", ref, err)
	}
	if target, _, _ := unstructured.NestedString(cert.Object, "spec", "secretName"); target != s.Name {
		return nil, nil
	}
	return &keeper{Ref: ref, rotator: "cert-manager", cannot: rotate.CannotReissue(cert)}, nil
}

func (k *keepers) externalSecret(ctx context.Context, s *corev1.Secret) (*keeper, error) {
	list, err := k.externalSecrets(ctx, s.Namespace)
	if err != nil {
		return nil, err
	}
	for i := range list {
		target, _, _ := unstructured.NestedString(list[i].Object, "spec", "target", "name")
		if target == "" {
			target = list[i].GetName()
		}
		if policy, _, _ := unstructured.NestedString(list[i].Object, "spec", "target",
			"creationPolicy"); target == s.Name && policy != "None" {
			return &keeper{Ref: k.kind.Named(s.Namespace, list[i].GetName(), list[i].GetUID()),
				rotator: "external-secret", cannot: rotate.CannotSync(&list[i])}, nil
		}
	}
	return nil, nil
}

func (k *keepers) externalSecrets(ctx context.Context, namespace string) ([]unstructured.Unstructured, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kind == nil {
		ref, err := k.client.ResourceType(ctx, "externalsecrets.external-secrets.io")
		switch {
		case err != nil && !strings.Contains(err.Error(), cluster.ErrUnknownType.Error()):
			return nil, fmt.Errorf("finding out whether an ExternalSecret writes it: %w", err)
		case err != nil:
			ref = cluster.Ref{} // the operator is not installed
		}
		k.kind = &ref
	}
	if list, ok := k.found[namespace]; ok || k.kind.Resource == "" {
		return list, nil
	}
	found := []unstructured.Unstructured{}
	err := cluster.Pages(ctx, k.client.Dynamic.Resource(k.kind.GVR()).Namespace(namespace).List, metav1.ListOptions{},
		func(page *unstructured.UnstructuredList) { found = append(found, page.Items...) })
	if err != nil {
		return nil, fmt.Errorf("finding out whether an ExternalSecret writes it: %w", err)
	}
	k.found[namespace] = found
	return found, nil
}
