// Package drill owns the practice of an incident: a simulated cluster under
// attack, the attacker who goes on while you work, and the score at the end.
//
// A [Scenario] is a file: what the cluster holds at the beginning, what the
// attacker does and under which conditions, who fights back, and by what it is
// scored. A [World] is a scenario that takes place: package sim's cluster,
// with a clock that can be sped up. The attacker gets what the cluster lets
// through, by the effective NetworkPolicies, by RBAC, by the images and the
// Secrets there are; nothing is scripted about how well it is contained.
//
// What is found in containers, by who runs commands in them, is [Inside].
//
// The score is computed from what happened to the cluster and from the
// incident's journal, not from which commands were used: kubectl counts as
// much as irctl.
//
// A [Session] is a world behind an API server on this machine's loopback
// interface, with all that irctl needs to work on it: a kubeconfig, a
// configuration, a key, and a state directory apart from that of real
// incidents.
package drill
