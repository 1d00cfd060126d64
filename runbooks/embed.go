// Package runbooks holds the runbooks that ship with irctl, and the JSON
// Schema of their format.
package runbooks

import "embed"

// Files are the runbooks, by name with .yaml.
//
//go:embed *.yaml
var Files embed.FS

// Schema is the JSON Schema of runbooks, for editors.
//
//go:embed runbook.schema.json
var Schema string
