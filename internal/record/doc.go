// Package record is what the journal's entries carry besides their summary, and
// the only place where that is read: plain data, without behaviour and without
// anything of Kubernetes, so that whoever reads a journal (status, undo, the
// report, a drill's score, a later version on another machine) reads the same.
//
// Each entry names the form of its payload and that form's version, "change/2".
// Journals of irctl before 2 do not; for these [Form] has a table.
//
// A form never changes its meaning. A field may be added to it if an older
// reader can do without; anything else is a new version beside the old one.
package record
