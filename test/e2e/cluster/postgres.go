package cluster

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// postgresDir is where Debian keeps a version of the server.
const postgresDir = "/usr/lib/postgresql/*/bin"

// postgresUser runs the server in the image: it refuses to be root.
const postgresUser = "postgres:x:999:999:PostgreSQL:/tmp:/bin/sh"

// postgres puts the machine's own PostgreSQL into the image, and of its
// libraries those that it needs to start: no registry has one for us.
func (i *image) postgres(ctx context.Context) error {
	bins, err := filepath.Glob(postgresDir)
	if err != nil || len(bins) == 0 {
		return errors.Join(errors.New("no PostgreSQL: run test/e2e/install-deps.sh"), err)
	}
	bin := bins[len(bins)-1]
	version := filepath.Base(filepath.Dir(bin))
	lib, share := filepath.Join(filepath.Dir(bin), "lib"), "/usr/share/postgresql/"+version
	if err := i.layer.busybox(ctx); err != nil {
		return err
	}
	var binaries []string
	for _, program := range []string{"initdb", "postgres", "psql"} {
		binaries = append(binaries, filepath.Join(bin, program))
	}
	// What initdb loads: a procedural language, and the stemmer of text search.
	for _, module := range []string{"dict_snowball.so", "plpgsql.so"} {
		binaries = append(binaries, filepath.Join(lib, module))
	}
	libraries, err := sharedLibraries(ctx, binaries)
	if err != nil {
		return err
	}
	for _, file := range slices.Concat(binaries, libraries) {
		i.layer.copyFile(file)
	}
	if err := i.layer.copyTree(share); err != nil {
		return err
	}
	i.layer.add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	// it knows UTC by itself
	i.layer.add(tar.Header{Name: "usr/share/zoneinfo/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	i.layer.add(tar.Header{Name: "var/lib/postgresql/data/", Typeflag: tar.TypeDir, Mode: 0o777}, nil)
	i.layer.text("etc/passwd", 0o644, "root:x:0:0:root:/:/bin/sh\n"+postgresUser+"\n")
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	entrypoint, err := os.ReadFile(filepath.Join(root, "images", "postgres", "entrypoint.sh"))
	if err != nil {
		return err
	}
	i.layer.text("bin/entrypoint.sh", 0o755, string(entrypoint))
	i.entrypoint, i.path = "/bin/entrypoint.sh", append(i.path, bin)
	return nil
}

// sharedLibraries are those that programs are linked with, the loader included,
// by the paths at which they are looked for.
func sharedLibraries(ctx context.Context, binaries []string) ([]string, error) {
	output, err := exec.CommandContext(ctx, "ldd", binaries...).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(output)) {
		// "\tlibz.so.1 => /lib/libz.so.1 (0x…)", or the loader: "\t/lib64/ld.so (0x…)"
		for _, field := range strings.Fields(line) {
			if strings.HasPrefix(field, "/") && !strings.HasSuffix(field, ":") && !slices.Contains(found, field) {
				found = append(found, field)
			}
		}
	}
	return found, nil
}

// copyFile puts a file of the machine at the same path, links followed.
func (l *layer) copyFile(path string) {
	info, err := os.Stat(path)
	if err != nil {
		l.err = errors.Join(l.err, err)
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		l.err = errors.Join(l.err, err)
		return
	}
	l.add(tar.Header{Name: strings.TrimPrefix(path, "/"), Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm())}, data)
}

// copyTree copies a folder but for its manual pages.
func (l *layer) copyTree(folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "man":
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return err
		}
		l.copyFile(path)
		return nil
	})
}
