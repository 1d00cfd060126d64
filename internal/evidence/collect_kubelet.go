package evidence

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// kubeletCollector asks the kubelets, through the API server, for what they
// themselves run: a pod that the API shows and the kubelet does not, or the
// other way round, is a finding. It takes a right (nodes/proxy) that few have.
type kubeletCollector struct{ *inquiry }

func (c *kubeletCollector) Name() string { return "kubelet" }

func (c *kubeletCollector) Collect(ctx context.Context, out *Output) error {
	for _, node := range c.nodes(ctx) {
		proxy := "/api/v1/nodes/" + node + "/proxy"
		c.pods(ctx, out, node, proxy+"/pods")
		_ = out.Stream(ctx, "GET "+proxy+"/stats/summary", maxPage, func(ctx context.Context) (io.ReadCloser, error) {
			return c.api.openPath(ctx, http.MethodGet, proxy+"/stats/summary")
		}, "nodes", node, "kubelet-stats.json") // recorded
	}
	return nil
}

// pods keeps those of the collection, as the kubelet gives them.
func (c *kubeletCollector) pods(ctx context.Context, out *Output, node, path string) {
	wanted := map[name]bool{}
	for _, p := range c.inquiry.pods {
		wanted[name{p.Namespace, p.Name}] = true
	}
	var kept []json.RawMessage
	size := 0
	err := c.api.requests.do(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return c.api.openPath(ctx, http.MethodGet, path)
	}, func(body io.Reader) error {
		_, err := decodeList(io.LimitReader(body, maxList), func(item json.RawMessage) error {
			var pod struct {
				Metadata struct{ Namespace, Name string }
			}
			if json.Unmarshal(item, &pod) != nil || !wanted[name{pod.Metadata.Namespace, pod.Metadata.Name}] {
				return nil
			}
			if size += len(item); size > maxPage {
				return errLimit
			}
			kept = append(kept, item)
			return nil
		})
		return err
	})
	if err != nil && len(kept) == 0 {
		out.Fail("GET "+path, err, "nodes", node, "kubelet-pods.json")
		return
	}
	out.JSON("GET "+path+" (the pods of this collection)", kept, err, "nodes", node, "kubelet-pods.json")
}
