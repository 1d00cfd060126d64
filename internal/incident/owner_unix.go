//go:build unix

package incident

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the user ID a file belongs to.
func ownerOf(info fs.FileInfo) (int, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
