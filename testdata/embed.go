// Package testdata holds incidents that irctl left behind, a folder a version.
// See README.md; package fixture gives them to tests.
package testdata

import "embed"

// Versions are the folders.
//
//go:embed v1
var Versions embed.FS
