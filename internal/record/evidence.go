package record

import "time"

// Receipt says which file a bundle is and what is in it, without opening it. It
// is written beside the bundle and belongs into the incident's timeline, which
// proves that neither was changed since. What vouches for the receipt (the
// responder's signature, a time stamp, the custody chain) vouches for the
// bundle by its digest.
type Receipt struct {
	Format string `json:"format"`
	// Path is absolute; in the file beside the bundle it is the bundle's name alone.
	Path     string `json:"path"`
	Purpose  string `json:"purpose,omitempty"`
	Incident string `json:"incident,omitempty"`
	// Drill: it is of a simulated cluster, and evidence of nothing.
	Drill   bool      `json:"drill,omitempty"`
	Created time.Time `json:"created"`
	Tool    Tool      `json:"tool"`
	// SHA256 and Size, in bytes, of the bundle as it lies on disk.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Segments are the SHA-256 of each SegmentSize bytes of the bundle, the
	// last one shorter: they tell where a bundle was altered.
	SegmentSize int64    `json:"segmentSize"`
	Segments    []string `json:"segments"`
	// Recipients are the fingerprints of the keys that open it.
	Recipients []string `json:"recipients"`
	// Signer is the fingerprint of the key that signed this receipt, in the
	// signature beside it; empty if none did.
	Signer string `json:"signer,omitempty"`
	// Redacted is the name of the bundle of which this is the shareable one.
	Redacted string `json:"redactedFrom,omitempty"`
	// Pods are those that could be read, each with the UID that it had: of these
	// there is evidence in the bundle.
	Pods []SealedPod `json:"pods,omitempty"`
	// Timeline is the head of the incident's journal at the time.
	Timeline *ChainHead `json:"timeline,omitempty"`
	Summary
}

// SealedPod is a pod of which there is evidence in a bundle.
type SealedPod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// ChainHead names an entry of a journal by its number and the hash of its
// line, and with it the whole journal up to it.
type ChainHead struct {
	Seq    int64  `json:"seq"`
	SHA256 string `json:"sha256"`
}

// Summary says what a bag is once it is closed.
type Summary struct {
	// ManifestSHA256 covers the payload, TagManifestSHA256 the manifest and all
	// other files too.
	ManifestSHA256    string `json:"manifestSha256"`
	TagManifestSHA256 string `json:"tagManifestSha256"`
	// Artefacts counted by status.
	Artefacts map[ArtefactStatus]int `json:"artefacts"`
	// PayloadBytes is the size of what was collected, uncompressed.
	PayloadBytes int64 `json:"payloadBytes"`
	// Complete: every artefact is complete or absent.
	Complete bool `json:"complete"`
	// Incomplete says why the collection ended early, if it did.
	Incomplete string `json:"incomplete,omitempty"`
}

// ArtefactStatus is how much of an artefact is there; package evidence has the words.
type ArtefactStatus string

// Tool is the program that collected.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	SHA256  string `json:"sha256,omitempty"` // of its executable
}

// Custody is an entry of a bundle's chain of custody, as its file holds it, with
// the digest of that file.
type Custody struct {
	CustodyEntry
	SHA256 string `json:"sha256"`
}

// CustodyEntry records that a bundle changed hands; package evidence writes and
// checks it.
type CustodyEntry struct {
	Format string    `json:"format"`
	Seq    int       `json:"seq"`
	Time   time.Time `json:"time"`
	// Bundle is the file's name, BundleSHA256 what it was found to be when
	// this was written.
	Bundle       string `json:"bundle"`
	BundleSHA256 string `json:"bundleSha256"`
	HandOver
	Actor Collector `json:"actor"`
	// Signer is the fingerprint of the key that signed the entry.
	Signer string `json:"signer"`
	// Prev is the SHA-256 of the entry before, or of the receipt.
	Prev string `json:"prev"`
}

// HandOver says who gave a bundle to whom. What was handed over where and why
// is the note's.
type HandOver struct {
	From string `json:"from"`
	To   string `json:"to"`
	Note string `json:"note,omitempty"`
}

// Collector is who acts: the person on this machine, and whom the API server
// takes them for.
type Collector struct {
	OSUser string   `json:"osUser,omitempty"`
	Host   string   `json:"host,omitempty"`
	User   string   `json:"user,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// Trace is what a collection leaves in the cluster and nobody can take back: it
// goes with the pod, or lies on the node's disk. The entry's summary tells of it.
type Trace struct {
	Kind      TraceKind `json:"kind"`
	Namespace string    `json:"namespace"`
	Pod       string    `json:"pod"`
	UID       string    `json:"uid,omitempty"`
	// Container is the ephemeral one, or the one whose checkpoint it is.
	Container string `json:"container"`
	Node      string `json:"node,omitempty"`
}

// TraceKind is what is left.
type TraceKind string

// The kinds of traces.
const (
	EphemeralContainer TraceKind = "ephemeral-container"
	Checkpoint         TraceKind = "checkpoint"
)

// Elsewhere: evidence is written to another folder than the incident's.
type Elsewhere struct {
	Folder string `json:"folder"`
}
