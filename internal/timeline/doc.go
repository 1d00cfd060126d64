// Package timeline owns the journal of an incident: what was about to be
// done, what came of it, what was seen and what was decided, in order, by
// whom and when. It knows nothing of Kubernetes.
//
// # Format
//
// timeline.jsonl holds one JSON entry a line. Lines are only ever added, and
// a line is on stable storage before [Log.Append] returns. Every entry ends
// with "prev", the hex SHA-256 of the exact bytes of the line before it
// without the newline. The first entry's prev is the SHA-256 of the text
// "irctl timeline v1 " followed by the incident's ID. So a journal can be
// checked without irctl:
//
//	id=inc-20260102-150405-abcd
//	want=$(printf 'irctl timeline v1 %s' "$id" | sha256sum | cut -d' ' -f1)
//	while IFS= read -r line; do
//	  case $line in
//	    *"\"prev\":\"$want\"}") ;;
//	    *) echo "broken here: $line"; break ;;
//	  esac
//	  want=$(printf '%s' "$line" | sha256sum | cut -d' ' -f1)
//	done <timeline.jsonl
//	echo "$want"; cat timeline.head
//
// or one line at a time: line 7 must name what this prints for line 6.
//
//	sed -n 6p timeline.jsonl | tr -d '\n' | sha256sum
//
// timeline.head, beside the journal, holds {"seq":…,"sha256":…} of an entry
// that is on stable storage, as a rule the last. It makes entries cut off the
// end, and edits to the last line, visible. After a crash it may lag behind,
// never run ahead.
//
// # What the chain proves
//
// Any edit, deletion, insertion or reordering by someone who does not also
// recompute everything that follows and the head. No key is involved: whoever
// can write the directory can write a new chain. To bind the journal to a
// moment, note the head ([Log.Head]) where they cannot write: a ticket, a
// chat, a signed post-mortem.
//
// # Writers
//
// Several processes may have a [Log] open on a journal, if a lock lets one at a
// time write ([Options.Lock]); package incident has one. Each takes in what the
// others have added before it adds to it. [Read] and [Verify] need no lock and
// change nothing.
package timeline
