package drill

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Mark is by what a kubeconfig's context is known to lead to a drill. It is in
// the kubeconfig, since that is the responder's own: a cluster that could say it
// of itself could have real evidence taken for a drill's.
type Mark struct {
	Scenario string `json:"scenario"`
	// Speed is how many seconds of the drill pass in one.
	Speed float64 `json:"speed"`
}

// markName is the extension of the context that holds it.
const markName = "irctl-drill"

// mark puts the mark into a kubeconfig's current context.
func (m Mark) mark(kubeconfig string) ([]byte, error) {
	config, err := clientcmd.Load([]byte(kubeconfig))
	if err != nil {
		return nil, fmt.Errorf("making the drill's kubeconfig: %w", err)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("making the drill's kubeconfig: %w", err)
	}
	context := config.Contexts[config.CurrentContext]
	context.Extensions = map[string]runtime.Object{markName: &runtime.Unknown{Raw: text,
		ContentType: runtime.ContentTypeJSON}}
	return clientcmd.Write(*config)
}

// MarkOf is the mark of a context; "" is the current one.
func MarkOf(config api.Config, context string) (Mark, bool) {
	if context == "" {
		context = config.CurrentContext
	}
	c := config.Contexts[context]
	if c == nil {
		return Mark{}, false
	}
	var m Mark
	raw, ok := c.Extensions[markName].(*runtime.Unknown)
	if !ok || json.Unmarshal(raw.Raw, &m) != nil {
		return Mark{}, ok
	}
	if m.Speed <= 0 || m.Speed > MaxSpeed {
		m.Speed = 1
	}
	return m, true
}

// MaxSpeed is how fast a drill can be.
const MaxSpeed = 1000
