package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// CredentialsError is credentials that the API server does not accept, or that
// could not be had, after they were renewed once.
type CredentialsError struct {
	// How says where the credentials come from, and how new ones are got.
	How string
	// Message is the API server's; Err, that there were none to send.
	Message string
	Err     error
}

func (e *CredentialsError) Error() string {
	if e.Err != nil {
		return "there are no credentials for the API server, so nothing was sent to it: " + e.Err.Error()
	}
	return "the API server does not accept the credentials (401): they have expired, or are wrong: " + e.Message
}

// Unwrap is why there were none.
func (e *CredentialsError) Unwrap() error { return e.Err }

// Status is that of the answer, for what looks at an error's code.
func (e *CredentialsError) Status() metav1.Status {
	return metav1.Status{Status: metav1.StatusFailure, Code: http.StatusUnauthorized,
		Reason: metav1.StatusReasonUnauthorized, Message: e.Error()}
}

// signIn says how to get credentials that are accepted.
func signIn(err error) string {
	how := "log in again, or name others with --context, --kubeconfig or --token"
	var e *CredentialsError
	if errors.As(err, &e) && e.How != "" {
		how = e.How
	}
	return "the credentials are missing, wrong or expired: " + how +
		"; then run the same command again, which goes on from what is done (irctl timeline show says what that is)"
}

// howToSignIn says where the credentials of a configuration come from.
func howToSignIn(c *rest.Config) string {
	switch {
	case c.ExecProvider != nil:
		// Its arguments are not told: there may be a client's secret among them.
		how := "the kubeconfig has them from the command " + c.ExecProvider.Command +
			": log in again with what it belongs to"
		if c.ExecProvider.InstallHint != "" {
			how += " (" + strings.TrimSpace(c.ExecProvider.InstallHint) + ")"
		}
		return how
	case c.AuthProvider != nil:
		return "the kubeconfig has them from the auth provider " + c.AuthProvider.Name + ": log in again with that"
	case c.BearerTokenFile != "":
		return "the token is that of the file " + c.BearerTokenFile +
			": put a new one there, or name others with --context, --kubeconfig or --token"
	case c.BearerToken != "":
		return "the token has expired, or was revoked: get a new one, or name others with --context, --kubeconfig or " +
			"--token"
	case c.CertFile != "" || len(c.CertData) > 0:
		return "the client certificate has expired, or is of another cluster: get a new kubeconfig, or name others " +
			"with --context, --kubeconfig or --token"
	}
	return ""
}

// renews: the credentials are got anew when they are not accepted any more.
func renews(c *rest.Config) bool {
	return c.ExecProvider != nil || c.AuthProvider != nil || c.BearerTokenFile != ""
}

// renewOnce sends a request once more that was answered with 401, if the
// credentials renew: whoever adds them below has new ones by then. Authentication comes before
// all else, so that a write too was not executed. Then it is an error that says
// how to log in.
func renewOnce(renews bool, how string, next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r.Clone(r.Context()))
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, missing(how, err)
		}
		message, admitted := refusalOf(resp)
		switch {
		case admitted:
			return resp, nil
		case !renews:
			return nil, &CredentialsError{How: how, Message: message}
		}
		again := r.Clone(r.Context())
		if r.Body != nil && r.Body != http.NoBody {
			if r.GetBody == nil {
				return nil, &CredentialsError{How: how, Message: message}
			}
			if again.Body, err = r.GetBody(); err != nil {
				return nil, &CredentialsError{How: how, Message: message}
			}
		}
		resp, err = next.RoundTrip(again)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, missing(how, err)
		}
		if message, admitted = refusalOf(resp); admitted {
			return resp, nil
		}
		return nil, &CredentialsError{How: how, Message: message}
	})
}

// missing makes a CredentialsError of an error that says that there were none.
func missing(how string, err error) error {
	if err != nil && !errors.Is(err, context.Canceled) && strings.HasPrefix(err.Error(), noCredentials) {
		return &CredentialsError{How: how, Err: err}
	}
	return err
}

// maxStatus bounds what is read of an answer that only says why not.
const maxStatus = 64 << 10

// refusalOf reads what a 401 says, and closes it. admitted: it is one of a policy
// of admission, which may have that code, and is an answer as any other.
func refusalOf(resp *http.Response) (message string, admitted bool) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	_ = resp.Body.Close() // only read
	if err != nil {
		return fmt.Sprintf("(%v)", err), false
	}
	message = http.StatusText(resp.StatusCode)
	if o, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil); err == nil {
		if s, ok := o.(*metav1.Status); ok && s.Message != "" {
			message = s.Message
		}
	}
	if denied(message).Kind == Other {
		return message, false
	}
	resp.Body = io.NopCloser(strings.NewReader(string(data)))
	return message, true
}
