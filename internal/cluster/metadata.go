package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Metadata of objects is read without the rest of them: the values of Secrets
// have no business where only names and labels are looked at.
const (
	oneAsMetadata  = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
	manyAsMetadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
)

// ListMetadata lists the objects of a kind in a namespace, or in all if it is "".
func (c *Client) ListMetadata(ctx context.Context, kind Ref, namespace,
	selector string) ([]metav1.PartialObjectMetadata, error) {
	var found []metav1.PartialObjectMetadata
	list := func(ctx context.Context, opts metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
		page := &metav1.PartialObjectMetadataList{}
		req := c.reading(kind, namespace).Param("limit", fmt.Sprint(opts.Limit))
		for name, value := range map[string]string{"labelSelector": opts.LabelSelector, "continue": opts.Continue} {
			if value != "" {
				req = req.Param(name, value)
			}
		}
		return page, into(ctx, req, manyAsMetadata, page)
	}
	err := Pages(ctx, list, metav1.ListOptions{LabelSelector: selector}, func(page *metav1.PartialObjectMetadataList) {
		found = append(found, page.Items...)
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", kind.Resource, err)
	}
	return found, nil
}

// Names are those of the objects of a kind.
func (c *Client) Names(ctx context.Context, kind Ref, namespace string) ([]string, error) {
	list, err := c.ListMetadata(ctx, kind, namespace, "")
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name
	}
	return names, err
}

// GetMetadata reads that of one object.
func (c *Client) GetMetadata(ctx context.Context, ref Ref) (*metav1.PartialObjectMetadata, error) {
	object := &metav1.PartialObjectMetadata{}
	if err := into(ctx, c.reading(ref, ref.Namespace).Name(ref.Name), oneAsMetadata, object); err != nil {
		return nil, fmt.Errorf("reading %s: %w", ref, err)
	}
	return object, nil
}

// reading asks for a kind by its path, also where that is of another group than
// the client's.
func (c *Client) reading(kind Ref, namespace string) *rest.Request {
	root := "/apis/" + kind.Group + "/" + kind.Version
	if kind.Group == "" {
		root = "/api/" + kind.Version
	}
	return c.Kube.CoreV1().RESTClient().Get().AbsPath(root).NamespaceIfScoped(namespace, namespace != "").
		Resource(kind.Resource)
}

func into(ctx context.Context, req *rest.Request, accept string, object any) error {
	body, err := req.SetHeader("Accept", accept).Do(ctx).Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, object); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	return nil
}
