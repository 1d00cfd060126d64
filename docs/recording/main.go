// Command recording plays a drill in the terminal UI and draws what is on the
// screen: the moving picture of the README, and the pictures of docs/tui.md.
// Names, times and digests are those of the run, and differ from run to run.
//
//	recording IRCTL DIR
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"irctl/internal/drill"
	"irctl/internal/drill/player"
)

const columns, lines = 100, 30

// scene is how long a screen is shown before its key is pressed, and what is
// said below it. Without a caption of its own it has the last one's.
type scene struct {
	lasts   time.Duration
	caption string
}

const s = time.Second

// scenes are by what the screen asks, and the step at hand; of others it is "".
var scenes = map[string]scene{
	"briefing":             {3 * s, "irctl drill: what the person on call is told"},
	"home":                 {4 * s, "Suspects, ranked by Falco's alerts and by the cluster itself, with the reasons"},
	"prepare":              {2 * s, "Enter: the runbook that fits, its parameters filled in"},
	"question triage":      {2 * s, "s: begin. What a person has to decide is asked; a note to it is kept"},
	"plan cutOff":          {5 * s, "The containment, planned: every change as a diff. Nothing is done yet"},
	"armed cutOff":         {2 * s, "r: do it. It asks once more, and names what is acted on"},
	"after cutOff":         {5 * s, "Y: cut off, detached, scaled down, sealed; verified, and what is still open"},
	"question block":       {s, "On along the runbook"},
	"ready evidence":       {s, "Evidence, while the pod is still there"},
	"after evidence":       {3 * s, "All of it, sealed into one OpenPGP file"},
	"question persistence": {s, "What only a person can see"},
	"plan patch":           {2 * s, "The patched image, by digest"},
	"plan rotate":          {2 * s, "Every secret that the suspect could read, replaced"},
	"after rotate":         {3 * s, "Every secret that the suspect could read, replaced"},
	"question approve":     {s, "Only now the workload goes back into service"},
	"after restore":        {3 * s, "Back, on clean ground, and checked"},
	"ready watch":          {s, "Who came in once knows the way: irctl watches for it"},
	"after watch":          {2 * s, "Who came in once knows the way: irctl watches for it"},
	"ready report":         {s, "The report, and the end"},
	"end":                  {0, "The end: times, verdict, and the post-mortem as far as the record tells it"},
	"":                     {s, ""},
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: recording IRCTL DIR")
		os.Exit(2)
	}
	if err := record(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

// film is what was on the screen, and where the pictures go.
type film struct {
	*player.Player
	out     string // a directory
	hide    *strings.Replacer
	off     bool // nothing is filmed
	frames  []frame
	caption string
	step    string // at hand
	waited  time.Duration
	still   int // the frame that is shown where nothing is to move
}

// shownAs is where irctl keeps its state, in the pictures.
const shownAs = "/home/oncall/.local/state/irctl"

// tempDir makes a directory whose path is as long as shownAs, so that nothing
// in a picture moves when it is named so.
func tempDir() (string, error) {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	room := len(shownAs) - len(os.TempDir()) - 1
	if room < 8 || room > 2*len(random) {
		return "", fmt.Errorf("TMPDIR: %s is too long, or too short", os.TempDir())
	}
	dir := filepath.Join(os.TempDir(), hex.EncodeToString(random)[:room])
	return dir, os.Mkdir(dir, 0o700)
}

func record(ctx context.Context, irctl, out string) (err error) {
	scenario, err := drill.Find(ctx, drill.First)
	if err != nil {
		return err
	}
	if irctl, err = filepath.Abs(irctl); err != nil {
		return err
	}
	dir, err := tempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	f := &film{out: out, hide: strings.NewReplacer(dir, shownAs)}
	open := func(name string) (*player.Terminal, error) {
		own := filepath.Join(dir, name)
		if err := os.Mkdir(own, 0o700); err != nil {
			return nil, err
		}
		return player.Open(ctx, own, columns, lines, "IRCTL_STATE_DIR="+dir, "PATH="+filepath.Dir(irctl)+":"+
			os.Getenv("PATH"))
	}
	if err := f.accessible(ctx, open); err != nil {
		return err
	}
	t, err := open("film")
	if err != nil {
		return err
	}
	t.Watch = f.watch
	f.Player = &player.Player{Terminal: t, Scenario: scenario, Saw: f.saw}
	if err := errors.Join(f.shoot(ctx), t.Close(ctx)); err != nil {
		return err
	}
	return f.write("drill", "A miner in a pod, in irctl's terminal UI: found, contained, evidence sealed, secrets "+
		"replaced, back in service, and the score of the drill", f.still, f.frames...)
}

// command is typed, and shown for a moment.
func (f *film) command(ctx context.Context, line string) error {
	if err := f.Type(ctx, line); err != nil {
		return err
	}
	screen, err := f.Shows(ctx, "$ "+line)
	if err != nil {
		return err
	}
	f.add(screen, 2*s)
	return f.Press(ctx, "Enter")
}

// shoot films a drill from the command to the score.
func (f *film) shoot(ctx context.Context) error {
	f.caption = "A drill: a whole incident on a simulated cluster, from the alert to the score"
	if err := f.command(ctx, "irctl drill --speed 10"); err != nil {
		return err
	}
	if _, err := f.Play(ctx); err != nil {
		return err
	}
	end, err := f.Until(ctx, "the report", func(text string) bool { return strings.Contains(text, "to contain") })
	if err != nil {
		return err
	}
	f.add(end, 4*s)
	if err := f.draw("end", end,
		"The end of a walk: how long it took, how it stands, and the post-mortem"); err != nil {
		return err
	}
	for range 2 {
		if err := f.Press(ctx, "PageDown"); err != nil {
			return err
		}
		screen, err := f.Until(ctx, "the report, further down", func(text string) bool {
			return !strings.Contains(text, "GONE THROUGH")
		})
		if err != nil {
			return err
		}
		f.add(screen, 2*s)
	}
	f.caption = "Quitting a drill tells the score, and what a better response would have been"
	if err := f.Press(ctx, "q"); err != nil {
		return err
	}
	screen, err := f.Until(ctx, "the score", func(text string) bool {
		return strings.Contains(text, "SCORE") && strings.HasSuffix(strings.TrimSpace(text), "$")
	})
	if err != nil {
		return err
	}
	f.add(screen, 6*s)
	return nil
}

// saw films a screen that asks something, before a key is pressed.
func (f *film) saw(ctx context.Context, at player.Sight) error {
	if at.Step != "" {
		f.step = at.Step
	}
	name := string(at.Kind)
	if at.Step != "" || at.Kind == player.After {
		name += " " + f.step
	}
	sc, ok := scenes[name]
	if !ok {
		sc = scenes[""]
	}
	if sc.caption != "" {
		f.caption = sc.caption
	}
	f.add(at.Screen, sc.lasts)
	f.waited = 0
	switch name {
	case "home":
		return errors.Join(f.draw("findings", at.Screen,
			"irctl's first screen: suspects, ranked, and why the first one is one"), f.pods(ctx))
	case "plan cutOff":
		return errors.Join(f.draw("plan", at.Screen, "The plan of the containment, with the diff of each change"),
			f.aside(ctx, "?", "Keys What changes", "help", "Every key, those that mean something here first"))
	case "after cutOff":
		f.still = len(f.frames) - 1
		return f.draw("verdict", at.Screen, "The verdict after containment: what was verified, and what remains open")
	case "after evidence":
		return f.aside(ctx, "t", "Timeline of inc-", "timeline",
			"The timeline: who did what, when, each entry chained to the one before")
	}
	return nil
}

// aside opens what can be looked up at any time, and draws it.
func (f *film) aside(ctx context.Context, key, shows, name, alt string) error {
	f.off = true
	defer func() { f.off = false }()
	if err := f.Press(ctx, key); err != nil {
		return err
	}
	screen, err := f.Shows(ctx, shows)
	if err != nil {
		return err
	}
	if err := f.draw(name, screen, alt); err != nil {
		return err
	}
	return f.back(ctx, shows)
}

// back leaves what was looked up.
func (f *film) back(ctx context.Context, shown string) error {
	if err := f.Press(ctx, "Escape"); err != nil {
		return err
	}
	_, err := f.Until(ctx, "the end of "+shown, func(text string) bool {
		return !strings.Contains(strings.Join(strings.Fields(text), " "), shown)
	})
	return err
}

// pods draws the table of pods, filtered.
func (f *film) pods(ctx context.Context) error {
	const filter = "backend"
	f.off = true
	defer func() { f.off = false }()
	if err := f.Press(ctx, "p"); err != nil {
		return err
	}
	if _, err := f.Shows(ctx, "NAMESPACE"); err != nil {
		return err
	}
	if err := f.Type(ctx, filter); err != nil {
		return err
	}
	screen, err := f.Until(ctx, "the pods of "+filter, func(text string) bool {
		return strings.Contains(text, "Filter: "+filter) && strings.Contains(text, "Deployment/backend") &&
			!strings.Contains(text, "frontend-")
	})
	if err != nil {
		return err
	}
	if err := f.draw("pods", screen, "The table of pods, filtered by letters"); err != nil {
		return err
	}
	if err := f.Press(ctx, "Escape"); err != nil { // all pods again
		return err
	}
	if _, err := f.Shows(ctx, "frontend-"); err != nil {
		return err
	}
	return f.back(ctx, "NAMESPACE")
}

// longest is how much of a wait is filmed.
const longest = 3 * s

// watch films what moves while something is waited for.
func (f *film) watch(screen string) {
	const blink = 50 * time.Millisecond
	if f.waited += blink; f.waited <= longest && strings.TrimSpace(screen) != "" {
		f.add(screen, blink)
	}
}

// add puts a frame on the film; what stands still is one.
func (f *film) add(screen string, lasts time.Duration) {
	if f.off {
		return
	}
	screen = f.hide.Replace(screen)
	if n := len(f.frames); n > 0 && f.frames[n-1].screen == screen && f.frames[n-1].caption == f.caption {
		f.frames[n-1].lasts += lasts
		return
	}
	f.frames = append(f.frames, frame{screen, f.caption, lasts})
}

// draw makes a picture of one screen.
func (f *film) draw(name, screen, alt string) error {
	return f.write(name, alt, 0, frame{screen: f.hide.Replace(screen)})
}

func (f *film) write(name, alt string, still int, frames ...frame) error {
	svg := picture(frames, columns, lines, still, alt)
	return os.WriteFile(filepath.Join(f.out, name+".svg"), []byte(svg), 0o644) //nolint:gosec // a picture for everybody
}

// accessible draws the walk line by line.
func (f *film) accessible(ctx context.Context, open func(name string) (*player.Terminal, error)) error {
	t, err := open("line")
	if err != nil {
		return err
	}
	shoot := func() error {
		if err := t.Type(ctx, "clear; irctl drill --accessible\n"); err != nil {
			return err
		}
		screen, err := t.Shows(ctx, "or q to leave:")
		if err != nil {
			return err
		}
		return f.draw("accessible", screen, "irctl --accessible: the same walk, line by line")
	}
	return errors.Join(shoot(), t.Close(ctx))
}
