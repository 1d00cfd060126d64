package evidence

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"irctl/internal/record"
	"irctl/internal/sanitize"
)

// Collection is collection.json: what was collected, from where, when, and how
// well. It is the machine-readable index of a bag.
type Collection struct {
	// Format of this file; it changes when a reader would have to.
	Format string `json:"format"`
	Meta
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Complete: every artefact is complete or absent.
	Complete bool `json:"complete"`
	// Incomplete says why the collection ended early, if it did.
	Incomplete string     `json:"incomplete,omitempty"`
	Artefacts  []Artefact `json:"artefacts"`
}

// CollectionFormat is the value of Collection.Format.
const CollectionFormat = "irctl-evidence/1"

// Meta are the custody facts of a bag, known before it is filled.
type Meta struct {
	// Purpose says what kind of collection it is, such as "snapshot".
	Purpose  string `json:"purpose,omitempty"`
	Incident string `json:"incident,omitempty"`
	// Drill: the cluster is a simulated one, and this is evidence of nothing.
	Drill   bool    `json:"drill,omitempty"`
	Actor   Actor   `json:"actor"`
	Cluster Cluster `json:"cluster"`
	Tool    Tool    `json:"tool"`
	// Timeline is the head of the incident's journal when it was read.
	Timeline *ChainHead `json:"timeline,omitempty"`
	// RedactedFrom is the name of the bundle of which this is the shareable one.
	RedactedFrom string `json:"redactedFrom,omitempty"`
}

// Actor is who collects: the person on this machine, and whom the API server
// takes them for.
type Actor = record.Collector

// Cluster says which cluster it was.
type Cluster struct {
	Server  string `json:"server,omitempty"`
	UID     string `json:"uid,omitempty"` // of the namespace kube-system
	Version string `json:"version,omitempty"`
	Context string `json:"context,omitempty"`
	// ClockOffset is how many seconds the API server's clock is ahead of the
	// one that the times in the bag are from; nil if unknown.
	ClockOffset *float64 `json:"clockOffsetSeconds,omitempty"`
}

// Tool is the program that collected.
type Tool = record.Tool

// Status is how much of an artefact is there.
type Status = record.ArtefactStatus

const (
	// Complete: all of it.
	Complete Status = "complete"
	// Truncated: a part of it; the reason says why it ends where it does.
	Truncated Status = "truncated"
	// Failed: nothing of it; the reason is the error.
	Failed Status = "failed"
	// Forbidden: nothing of it, because the collecting identity may not read it.
	Forbidden Status = "forbidden"
	// Absent: the cluster says that there is nothing, such as the log of a
	// container that never started. It does not make a collection incomplete.
	Absent Status = "absent"
	// Withheld: it is in the original, not in this redacted bundle.
	Withheld Status = "withheld"
)

// Artefact is the record of one thing that was collected, or should have been.
type Artefact struct {
	// Path in the bag, from its root: "data/...". With Parts, no file has this
	// name: the parts in order are its content.
	Path string `json:"path"`
	// Original are the path's elements below data/ as the cluster names them,
	// percent-encoded; only where SafeName had to change one.
	Original []string `json:"original,omitempty"`
	// Collector that fetched it.
	Collector string `json:"collector"`
	// Source is the API request, or where else it is from.
	Source string `json:"source"`
	// Started and Ended are the times of the request, by the collecting machine's clock.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Size in bytes and SHA256 of the whole content.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	Status Status `json:"status"`
	Reason string `json:"reason,omitempty"`
	// Parts of content that is larger than PartSize.
	Parts []Part `json:"parts,omitempty"`
	// Redaction is set in a redacted bundle alone.
	Redaction *Redaction `json:"redaction,omitempty"`
}

// Part is one file of an artefact's content.
type Part struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// originalNames encodes names so that they can be had back from JSON whatever
// bytes they are made of; nil if none was changed.
func originalNames(names []string) []string {
	changed := false
	encoded := make([]string, len(names))
	for i, name := range names {
		changed = changed || !isSafeName(name)
		encoded[i] = url.PathEscape(name)
	}
	if !changed {
		return nil
	}
	return encoded
}

func (c *Collection) encode() ([]byte, error) {
	data, err := marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding collection.json: %w", err)
	}
	return data, nil
}

// marshal is JSON as it is written into bags: indented, for people.
func marshal(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// counts of artefacts by status.
func (c *Collection) counts() map[Status]int {
	counts := map[Status]int{}
	for _, a := range c.Artefacts {
		counts[a.Status]++
	}
	return counts
}

// index is INDEX.md: the same for a person who has never seen a bag. All that
// comes from the cluster is escaped; a table of Markdown is its only syntax.
func (c *Collection) index() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Evidence of incident %s\n\n", cell(c.Incident))
	if c.Drill {
		b.WriteString("**DRILL.** It is of a simulated cluster: nothing of it happened.\n\n")
	}
	fmt.Fprintf(&b, "Collected by %s from %s to %s (UTC).\n", cell(c.Tool.Name+" "+c.Tool.Version), utc(c.Started),
		utc(c.Finished))
	if c.Complete {
		b.WriteString("Everything that was asked for is here.\n")
	} else {
		fmt.Fprintf(&b, "**Not complete.** %sSee the status of each artefact below.\n", sentence(c.Incomplete))
	}
	b.WriteString(indexHelp)
	b.WriteString("| Status | Size | Path | Source | Reason |\n|---|---:|---|---|---|\n")
	for _, a := range c.Artefacts {
		path := "`" + a.Path + "`" // safe by construction
		if len(a.Parts) > 0 {
			path += fmt.Sprintf(" (%d parts)", len(a.Parts))
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", a.Status, a.Size, path, cell(a.Source), cell(a.Reason))
	}
	return []byte(b.String())
}

// sentence is a reason, if there is one, for people.
func sentence(reason string) string {
	if reason == "" {
		return ""
	}
	return "The collection ended early: " + cell(reason) + ". "
}

const indexHelp = `
This directory is a bag in the sense of RFC 8493. What was collected is under
` + "`data/`" + `; ` + "`collection.json`" + ` tells of each artefact the request it answers, its
times, size, digest and status. To check that nothing was altered, here:

    sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt

Large artefacts are cut into parts; ` + "`cat NAME.part*`" + ` gives them back.
A name with a "~" stands for one that was not safe to use; its original is in
` + "`collection.json`" + `. Treat the content as hostile: view logs with a pager that
shows control characters (` + "`less`" + ` does), never with ` + "`cat`" + ` on a terminal.

`

// cell makes text harmless in a Markdown table: one line, no escape sequences,
// no markup.
func cell(s string) string { return markdownEscapes.Replace(sanitize.Short(s, maxCell)) }

// maxCell keeps a table readable; collection.json has the whole.
const maxCell = 200

var markdownEscapes = strings.NewReplacer(
	"|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "~",
	`\~`, `\`, `\\`, "!", `\!`, "#", `\#`)

func utc(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// bagInfo is bag-info.txt: RFC 8493, section 2.2.2. A value is one line here.
func (c *Collection) bagInfo(payloadBytes int64, payloadFiles int) []byte {
	var b strings.Builder
	line := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", label, sanitize.Short(value, 1024))
		}
	}
	line("Bagging-Date", c.Finished.UTC().Format(time.DateOnly))
	line("Payload-Oxum", fmt.Sprintf("%d.%d", payloadBytes, payloadFiles))
	line("Bag-Software-Agent", strings.TrimSpace(c.Tool.Name+" "+c.Tool.Version))
	line("External-Identifier", c.Incident)
	if c.Drill {
		line("Drill", "true; of a simulated cluster, nothing of it happened")
	}
	line("Internal-Sender-Description", c.Purpose)
	line("Collected-By-OS-User", c.Actor.OSUser)
	line("Collected-On-Host", c.Actor.Host)
	line("Collected-As", c.Actor.User)
	line("Collected-By-Tool-SHA256", c.Tool.SHA256)
	line("Cluster-Server", c.Cluster.Server)
	line("Cluster-UID", c.Cluster.UID)
	line("Cluster-Version", c.Cluster.Version)
	if c.Cluster.ClockOffset != nil {
		line("Cluster-Clock-Offset-Seconds", fmt.Sprint(*c.Cluster.ClockOffset))
	}
	if c.Timeline != nil {
		line("Timeline-Head", fmt.Sprintf("%d %s", c.Timeline.Seq, c.Timeline.SHA256))
	}
	line("Redacted-From", c.RedactedFrom)
	line("Collection-Started", utc(c.Started))
	line("Collection-Finished", utc(c.Finished))
	line("Collection-Complete", fmt.Sprint(c.Complete))
	line("Collection-Incomplete-Reason", c.Incomplete)
	return []byte(b.String())
}
