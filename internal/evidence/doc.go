// Package evidence collects what a cluster knows about a suspect pod and seals
// it into one encrypted file, the bundle, that can be opened with gpg, tar and
// sha256sum alone.
//
// It owns four things and the seams between them:
//
//   - collectors fetch artefacts (Collector, one file each),
//   - the bag is the layout of the archive: BagIt, RFC 8493 (Bag),
//   - sealing is OpenPGP encryption to recipients (Seal, Recipient),
//   - the bundle is the file: complete under its name, or absent (Bundle).
//
// Snapshot puts them together. Everything streams: API → bag (tar) →
// compression → OpenPGP → file. No plaintext reaches the disk.
//
// # Memory
//
// What grows is bounded whatever the size of the evidence and the number of
// pods: an open artefact buffers at most PartSize (2 MiB) before it goes into
// the archive as a numbered part; as many artefacts are open as requests are
// allowed at once (8); finished artefacts that wait for
// their place in the order hold at most 4 MiB. Buffers are reused. Only the record of an
// artefact (some hundred bytes) is kept until the end, for at most MaxArtefacts.
//
// # Trust
//
// Everything that is collected was possibly written by an attacker. Names go
// through SafeName before they become paths, reads are bounded, and text in
// the readable INDEX.md is escaped. Artefacts themselves keep their bytes.
package evidence
