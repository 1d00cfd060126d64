package cluster

import (
	"context"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Access is a question to the API server's authorizer about ourselves.
type Access struct {
	Verb, Group string
	// Resource may have a subresource: "pods/log".
	Resource string
	// Namespace "" means all of them.
	Namespace string
}

// Answer is what the authorizer says.
type Answer struct {
	Allowed bool
	Reason  string
	Err     error
}

// Can asks all the questions in parallel with SelfSubjectAccessReviews.
func (c *Client) Can(ctx context.Context, questions []Access) []Answer {
	answers := make([]Answer, len(questions))
	Parallel(len(questions), func(i int) {
		q := questions[i]
		resource, sub, _ := strings.Cut(q.Resource, "/")
		review, err := c.Kube.AuthorizationV1().SelfSubjectAccessReviews().
			Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{
					ResourceAttributes: &authorizationv1.ResourceAttributes{
						Namespace: q.Namespace, Verb: q.Verb, Group: q.Group, Resource: resource, Subresource: sub,
					}},
			}, metav1.CreateOptions{})
		if err != nil {
			answers[i].Err = fmt.Errorf("asking whether we may %s %s: %w", q.Verb, q.Resource, err)
			return
		}
		answers[i].Allowed, answers[i].Reason = review.Status.Allowed, review.Status.Reason
	})
	return answers
}
