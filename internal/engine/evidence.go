package engine

import (
	"irctl/internal/evidence"
	"irctl/internal/incident"
)

// EvidenceMeta says, for a bundle, who collects with what, of which cluster, in
// which incident, and where its journal stood.
func (e *Engine) EvidenceMeta(h *incident.Handle, tool evidence.Tool) evidence.Meta {
	id, actor, head := e.identity, e.Actor(), h.Log.Head()
	m := evidence.Meta{Incident: string(h.Incident().ID),
		Actor:   evidence.Actor{OSUser: actor.OSUser, Host: actor.Host, User: id.User, Groups: id.Groups},
		Cluster: evidence.Cluster{Server: id.Server, UID: id.ClusterUID, Version: id.Version, Context: e.Context},
		Tool:    tool, Timeline: &evidence.ChainHead{Seq: head.Seq, SHA256: head.SHA256}}
	if offset, known := e.Client.ClockOffset(); known {
		seconds := offset.Seconds()
		m.Cluster.ClockOffset = &seconds
	}
	return m
}
