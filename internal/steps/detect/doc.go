// Package detect finds suspects: what in a cluster, in its audit log and in
// the alerts of Falco speaks for an attack, against whom, and how strongly.
//
//   - A detector looks at one thing and makes a [Finding] of it. Those of the
//     cluster are registered in cluster.go, those of the audit log in
//     audit.go, one file each. Falco has detected already; falco.go maps it.
//   - A [Tally] counts findings that repeat, in bounded memory.
//   - [Rank] gathers findings by suspect and puts the worst first.
//   - A [Run] reads all sources that it is given, once or until it is stopped.
//   - [Open] makes an incident of a suspect.
//
// Every line that is read is an attacker's to write: lines are bounded, what
// cannot be read is counted and passed over, and nothing of it becomes a path
// or a command. Texts are kept as they came; whoever prints them sanitises.
package detect
