package engine

import (
	"fmt"

	"irctl/internal/incident"
)

// place is whether an incident is of the cluster that we talk to.
type place int

const (
	here place = iota
	elsewhereForSure
	nobodyKnows
)

func (e *Engine) placeOf(i incident.Incident) place {
	switch c := i.Cluster; {
	case c.UID != "" && e.identity.ClusterUID != "":
		if c.UID == e.identity.ClusterUID {
			return here
		}
		return elsewhereForSure
	case c.Server != "" && c.Server == e.identity.Server:
		return here
	case c.UID == "" && c.Server == "" && !incident.Weighs(i.Doubts):
		return here // it was opened for none
	}
	return nobodyKnows
}

// other reports that an incident is of another cluster than ours.
func (e *Engine) other(i incident.Incident) bool { return e.placeOf(i) == elsewhereForSure }

// notHere says why an incident cannot be looked at, or acted on, in this cluster:
// what is not found here may be where it belongs.
func (e *Engine) notHere(i incident.Incident) error {
	at := e.placeOf(i)
	if at == here {
		return nil
	}
	its, ours := clusterText(i.Cluster), clusterText(e.cluster())
	if at == elsewhereForSure {
		return fmt.Errorf("%w: incident %s is of another cluster, %s; this one is %s: name its own with --context",
			ErrUndetermined, i.ID, its, ours)
	}
	return fmt.Errorf("%w: whether this is the cluster of incident %s is not known: it is of %s, this one is %s; "+
		"the namespace kube-system, whose UID tells clusters apart, may not be read: the right to get it would tell",
		ErrUndetermined, i.ID, its, ours)
}

func clusterText(c incident.Cluster) string {
	text := c.Server
	if c.Context != "" {
		text = fmt.Sprintf("%s at %s", c.Context, c.Server)
	}
	if text == "" {
		text = "an address that is not known"
	}
	if c.UID == "" {
		return text + " (UID not known)"
	}
	return fmt.Sprintf("%s (UID %s)", text, c.UID)
}
