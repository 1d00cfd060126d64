// Package plural puts numbers into English.
package plural

import (
	"strconv"
	"strings"
)

// Count is a number of things: "1 pod", "2 pods", "3 entries", "4 keys".
func Count(n int, what string) string {
	stem, y := strings.CutSuffix(what, "y")
	switch {
	case n == 1:
	case y && !strings.HasSuffix(stem, "e") && !strings.HasSuffix(stem, "a"): // keys, days
		what = stem + "ies"
	default:
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
