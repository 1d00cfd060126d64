package box

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// procInto makes /proc in a tree, of a box whose files are at a root.
func (b *Box) procInto(into, files *node) {
	proc := into.dir("/proc", b.Now)
	proc.mounted = true
	file := func(p, text string) { proc.put(p, &node{mode: 0o444, text: text, modified: b.Now}) }
	file("version", "Linux version 6.12.0 (simulated)\n")
	file("uptime", fmt.Sprintf("%.2f 0.00\n", built.Seconds()))
	for _, name := range []string{"tcp6", "udp", "udp6", "raw", "raw6"} {
		file("net/"+name, socketHead)
	}
	file("net/tcp", b.procTCP())
	file("net/unix", "Num       RefCount Protocol Flags    Type St Inode Path\n")
	file("net/route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"+
		"eth0\t00000000\t0100F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
	file("net/arp", "IP address       HW type     Flags       HW address            Mask     Device\n")
	for _, p := range b.Processes {
		b.procOf(proc.dir(fmt.Sprint(p.PID), p.Started), files, p)
	}
	if len(b.Processes) > 0 {
		proc.put("self", &node{mode: fs.ModeSymlink | 0o777, link: fmt.Sprint(b.Processes[0].PID), modified: b.Now})
	}
}

func (b *Box) procOf(dir, files *node, p Process) {
	file := func(name, text string) {
		dir.put(name, &node{mode: 0o444, uid: p.UID, text: text, modified: p.Started})
	}
	link := func(name, to string, jump *node) {
		dir.put(name, &node{mode: fs.ModeSymlink | 0o777, uid: p.UID, link: to, jump: jump, modified: p.Started})
	}
	words := strings.Fields(p.Command)
	file("cmdline", strings.Join(words, "\x00")+"\x00")
	file("comm", p.name()+"\n")
	file("environ", zeroEnded(p.Env))
	caps := "0000000000000000"
	if p.UID == 0 {
		caps = "00000000a80425fb"
	}
	file("status", fmt.Sprintf("Name:\t%s\nState:\tS (sleeping)\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\n"+
		"Uid:\t%[5]d\t%[5]d\t%[5]d\t%[5]d\nGid:\t%[5]d\t%[5]d\t%[5]d\t%[5]d\nCapEff:\t%[6]s\n",
		p.name(), p.PID, p.PID, p.Parent, p.UID, caps))
	file("mountinfo", b.mountinfo())
	exe, image := b.exeOf(files, p)
	link("exe", exe, image)
	link("cwd", "/", files)
	link("root", "/", files)
	for fd, to := range []string{"/dev/null", "pipe:[3001]", "pipe:[3002]"} {
		link(fmt.Sprintf("fd/%d", fd), to, nil)
	}
	fd := 3
	for i, s := range b.Sockets {
		if s.PID == p.PID {
			link(fmt.Sprintf("fd/%d", fd), fmt.Sprintf("socket:[%d]", inode(i)), nil)
			fd++
		}
	}
}

// name is that of the program, as the kernel cuts it.
func (p Process) name() string {
	name := path.Base(strings.TrimSuffix(strings.Fields(p.Command + " ?")[0], ":"))
	return name[:min(len(name), 15)]
}

// exeOf is the file that a process runs, which may be deleted and still be there.
func (b *Box) exeOf(files *node, p Process) (string, *node) {
	exe := p.Exe
	if exe == "" {
		exe = strings.Fields(p.Command + " ?")[0]
	}
	if !strings.HasPrefix(exe, "/") {
		exe = "/usr/local/bin/" + exe
	}
	i := slices.IndexFunc(b.Files, func(f File) bool { return f.Path == exe })
	if i >= 0 && b.Files[i].Deleted {
		return exe + " (deleted)", b.Files[i].node(p.Started)
	}
	n, err := (&tree{root: files}).walk(exe, true)
	if err != nil {
		n = &node{name: path.Base(exe), mode: 0o755, size: 1 << 20, modified: b.Now.Add(-built)}
	}
	return exe, n
}

func zeroEnded(list []string) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(s)
		b.WriteByte(0)
	}
	return b.String()
}

func inode(i int) int { return 40_000 + i }

const socketHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// state is that of a socket, as ss calls it, and its number in /proc/net/tcp.
func (s Socket) state() (string, int) {
	switch {
	case !s.Remote.IsValid():
		return "LISTEN", 10
	case s.Waits:
		return "SYN-SENT", 2
	}
	return "ESTAB", 1
}

func (b *Box) procTCP() string {
	var out strings.Builder
	out.WriteString(socketHead)
	for i, s := range b.Sockets {
		_, state := s.state()
		fmt.Fprintf(&out,
			"%4d: %s %s %02X 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0000000000000000 20 0 0 10 -1\n",
			i, kernelAddress(s.Local), kernelAddress(s.Remote), state, b.processOf(s).UID, inode(i))
	}
	return out.String()
}

// kernelAddress is an address as /proc/net has it: in the order of the machine.
func kernelAddress(a netip.AddrPort) string {
	if !a.Addr().Is4() {
		return "00000000:" + fmt.Sprintf("%04X", a.Port())
	}
	four := a.Addr().As4()
	return fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(four[:]), a.Port())
}

func (b *Box) processOf(s Socket) Process {
	for _, p := range b.Processes {
		if p.PID == s.PID {
			return p
		}
	}
	return Process{}
}

// mounts are all of a container.
func (b *Box) mounts() []Mount {
	return append([]Mount{{"/", "overlay", "overlay", "rw,relatime"},
		{"/proc", "proc", "proc", "rw,nosuid,nodev,noexec,relatime"}, {"/dev", "tmpfs", "tmpfs", "rw,nosuid"},
		{"/sys", "sysfs", "sysfs", "ro,nosuid,nodev,noexec,relatime"},
		{"/etc/hosts", "ext4", "/dev/vda1", "rw,relatime"}}, b.Mounts...)
}

func (b *Box) mountinfo() string {
	var out strings.Builder
	for i, m := range b.mounts() {
		options := m.Options
		if options == "" {
			options = "rw,relatime"
		}
		fmt.Fprintf(&out, "%d %d 0:%d / %s %s - %s %s rw\n", 700+i, 699, 100+i, m.Path, options, m.Type, m.Source)
	}
	return out.String()
}
