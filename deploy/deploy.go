// Package deploy holds the manifests that a cluster's administrator applies.
package deploy

import _ "embed"

// Responder is the ClusterRole of those who contain and undo.
//
//go:embed responder.yaml
var Responder string

// Investigator is the ClusterRole of those who only look.
//
//go:embed investigator.yaml
var Investigator string

// Eradicator is the ClusterRole of those who replace secrets.
//
//go:embed eradicator.yaml
var Eradicator string

// Recoverer is the ClusterRole of those who delete suspects.
//
//go:embed recoverer.yaml
var Recoverer string

// Unbinder is the ClusterRole of those who take rights from suspects.
//
//go:embed unbinder.yaml
var Unbinder string
