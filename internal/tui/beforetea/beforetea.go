// Package beforetea keeps bubbletea from asking the terminal a question.
//
// While it is initialised, bubbletea v1 asks for the background colour, and
// waits up to five seconds for an answer: in every command of irctl, also in
// those without a UI, and visibly on terminals that do not know the question.
// It does not ask once lipgloss knows the answer. Packages are initialised in
// the order of their import paths, as soon as what they import is, so a path
// that sorts before bubbletea's comes first. That is the only reason why this
// is a module of its own. The UI has no use for the answer: its colours are
// the sixteen of the terminal's own palette.
package beforetea

import "github.com/charmbracelet/lipgloss"

func init() { lipgloss.SetHasDarkBackground(true) }
