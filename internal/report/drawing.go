package report

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"irctl/internal/timeline"
)

// drawing is the incident on one page: what happened when, and how long each
// thing was open. It is geometry only; the template turns it into SVG.
type drawing struct {
	Width, Height int
	Left, Right   int // of the time axis
	Top, Bottom   int
	Ticks         []tick
	Flags         []flag
	Rows          []row
	// Hidden is how many exposures there is no room for.
	Hidden int
}

// tick is a time on the axis.
type tick struct {
	X           int
	Clock, Date string
}

// flag is a moment of the response: a line from top to bottom, with its name.
type flag struct {
	X, Y  int // of the label
	Label string
	Title string
	End   bool // the label stands left of the line
}

// row is a labelled lane with what happened in it.
type row struct {
	Y     int
	Label Text
	Title Text // of the label, in full
	Bars  []bar
	Marks []mark
}

// bar is a stretch of time.
type bar struct {
	X, Y, Width, Height int
	Class               string
	Title               Text
	// Open: it goes on after the last look.
	Open bool
}

// mark is something that happened at one moment; several at one place are one
// mark.
type mark struct {
	X, Y  int
	Class string
	Sign  string
	Title Text
}

const (
	drawingWidth = 960
	chartLeft    = 168
	chartRight   = 930
	rowHeight    = 24
	flagHeight   = 15
	flagRows     = 4
	letter       = 6.2 // width of a letter of a label
	// markStep is how close two marks may be.
	markStep = 9
	// maxExposureRows that are drawn; all are in the table.
	maxExposureRows = 14
)

// draw lays the report out; nil if there is nothing that has a time.
func (r *Report) draw() *drawing {
	s := r.scale()
	if s == nil {
		return nil
	}
	d := &drawing{Width: drawingWidth, Left: chartLeft, Right: chartRight}
	d.Top = d.flags(r, s)*flagHeight + 34
	d.ticks(s)
	d.unsafe(r, s)
	for _, p := range r.phases {
		d.row(row{Label: Text(p.name), Title: Text("phase " + p.name),
			Bars: []bar{d.bar(s, p.from, p.to, "phase",
				Text(fmt.Sprintf("%s: %s to %s", p.name, when(p.from), when(p.to))))}})
	}
	d.changes(r, s)
	d.events(r, s)
	d.exposureRows(r, s)
	d.Bottom = d.Top + len(d.Rows)*rowHeight
	d.Height = d.Bottom + 12
	return d
}

// row adds a lane below those that are there.
func (d *drawing) row(r row) {
	r.Y = d.next()
	d.Rows = append(d.Rows, r)
}

func (d *drawing) next() int { return d.Top + len(d.Rows)*rowHeight }

func (d *drawing) bar(s *scale, from, to time.Time, class string, title Text) bar {
	x := s.x(from)
	return bar{X: x, Y: d.next() + 6, Width: max(s.x(to)-x, 4), Height: 12, Class: class, Title: title}
}

// unsafe is the time until it was contained, in which the attacker was free.
func (d *drawing) unsafe(r *Report, s *scale) {
	from, to := r.moment(timeline.Started), r.moment(timeline.Contained)
	for _, t := range []time.Time{r.moment(timeline.Detected), r.moment(opened)} {
		if from.IsZero() {
			from = t
		}
	}
	if from.IsZero() || to.Before(from) && !to.IsZero() {
		return
	}
	open := to.IsZero()
	if open {
		to = s.last()
	}
	b := d.bar(s, from, to, "unsafe", Text(fmt.Sprintf("not contained: %s to %s", when(from), when(to))))
	b.Open = open
	d.row(row{Label: "not contained", Title: b.Title, Bars: []bar{b}})
}

func (r *Report) moment(name timeline.Moment) time.Time {
	for _, m := range r.Moments {
		if m.Name == string(name) {
			return m.At
		}
	}
	return time.Time{}
}

// changes are those to the cluster, and their undoing.
func (d *drawing) changes(r *Report, s *scale) {
	var made, undone []mark
	for _, a := range r.Actions {
		class, sign := markOf(timeline.Outcome(a.Outcome))
		made = append(made, mark{X: s.x(a.Time), Class: class, Sign: sign, Title: a.Outcome + ": " + a.Summary})
		if a.Undo == nil {
			continue
		}
		class, sign = "done", "↩"
		if a.Undo.State != timeline.Undone {
			class, sign = "bad", "✗"
		}
		undone = append(undone, mark{X: s.x(a.Undo.Time), Class: class, Sign: sign, Title: "undo, " +
			Text(a.Undo.State) + ": " + a.Summary})
	}
	d.marks("changes", made)
	d.marks("undo", undone)
}

func markOf(o timeline.Outcome) (class, sign string) {
	switch o {
	case timeline.OutcomeDone:
		return "done", "✓"
	case timeline.OutcomeAlready:
		return "note", "="
	case timeline.OutcomeFailed, timeline.OutcomeDenied:
		return "bad", "✗"
	case timeline.OutcomeRefused, timeline.OutcomeSkipped:
		return "warn", "–"
	}
	return "warn", "?"
}

// events are what was seen, judged and noted.
func (d *drawing) events(r *Report, s *scale) {
	var verdicts, notes []mark
	for _, e := range r.Timeline {
		m := mark{X: s.x(e.Time), Title: e.What}
		switch e.Kind {
		case timeline.KindVerdict:
			if m.Class, m.Sign = "done", "✓"; e.Outcome != Text(timeline.OutcomeDone) {
				m.Class, m.Sign = "bad", "✗"
			}
			verdicts = append(verdicts, m)
		case timeline.KindNote, timeline.KindObservation, timeline.KindChanged, timeline.KindRecovered:
			if m.Class, m.Sign = "note", "•"; e.Evidence > 0 {
				m.Class, m.Sign = "done", "E"
			}
			notes = append(notes, m)
		}
	}
	d.marks("verdicts", verdicts)
	d.marks("notes, evidence", notes)
}

// marks adds a lane of marks. Those that would cover each other become one,
// which shows what is worst.
func (d *drawing) marks(label Text, list []mark) {
	if len(list) == 0 {
		return
	}
	slices.SortStableFunc(list, func(a, b mark) int { return a.X - b.X })
	weight := []string{"note", "done", "warn", "bad"}
	var shown []mark
	together := 0
	for _, m := range list {
		m.Y = d.next() + rowHeight/2
		if n := len(shown); n > 0 && m.X-shown[n-1].X < markStep {
			last := &shown[n-1]
			together++
			if slices.Index(weight, m.Class) > slices.Index(weight, last.Class) {
				last.Class, last.Sign, last.Title = m.Class, m.Sign, m.Title
			}
			continue
		}
		shown, together = also(shown, together), 0
		shown = append(shown, m)
	}
	d.row(row{Label: label, Title: Text(entries(len(list))), Marks: also(shown, together)})
}

// also says in the last mark's title how many it hides.
func also(list []mark, hidden int) []mark {
	if hidden > 0 {
		last := &list[len(list)-1]
		last.Title += Text(fmt.Sprintf(" (and %d more at about the same time)", hidden))
	}
	return list
}

func (d *drawing) exposureRows(r *Report, s *scale) {
	list := filter(byWeight(r.Exposures), Exposure.Weighs)
	d.Hidden = max(len(list)-maxExposureRows, 0)
	for _, x := range list[:len(list)-d.Hidden] {
		class, end := "risk", x.GoneBy
		if x.Severity != risk {
			class = "open"
		}
		if x.Open() {
			end = s.last()
		}
		title := x.Severity + ": " + x.Text + Text(" ("+x.Fate()+")")
		b := d.bar(s, x.FirstSeen, end, class, title)
		b.Open = x.Open()
		d.row(row{Label: Text(x.Code.Short(20)), Title: title, Bars: []bar{b}})
	}
}

// flags are the moments of the response, their labels in as many rows as it
// takes that none covers another; it returns how many that are.
func (d *drawing) flags(r *Report, s *scale) (used int) {
	ends := [flagRows]int{}
	known := filter(r.Moments, func(m Moment) bool { return !m.At.IsZero() })
	slices.SortStableFunc(known, func(a, b Moment) int { return a.At.Compare(b.At) })
	for _, m := range known {
		f := flag{X: s.x(m.At), Label: m.Name, Title: m.Name + ": " + when(m.At)}
		width := int(letter*float64(len(m.Name))) + 10
		from := f.X
		if f.End = f.X+width > d.Width; f.End {
			from = f.X - width
		}
		n := 0
		for n < flagRows-1 && ends[n] > from {
			n++
		}
		ends[n] = from + width
		f.Y = 12 + n*flagHeight
		used = max(used, n+1)
		d.Flags = append(d.Flags, f)
	}
	return used
}

// ticks are times at which something happened, as many as there is room for.
func (d *drawing) ticks(s *scale) {
	const room = 84
	date := ""
	for i, t := range s.times {
		x := s.x(t)
		last := i == len(s.times)-1
		if n := len(d.Ticks); n > 0 && x-d.Ticks[n-1].X < room {
			if !last || n == 1 {
				continue
			}
			d.Ticks = d.Ticks[:n-1] // the end is worth more than what is right before it
		}
		tk := tick{X: x, Clock: t.UTC().Format("15:04:05")}
		if day := t.UTC().Format("2006-01-02"); day != date {
			tk.Date, date = day, day
		}
		d.Ticks = append(d.Ticks, tk)
	}
}

// Where the parts of a drawing are that follow from the others.

func (d *drawing) ClockY() int { return d.Top - 6 }
func (d *drawing) DateY() int  { return d.Top - 18 }
func (r row) Base() int        { return r.Y + rowHeight/2 + 4 }
func (m mark) Base() int       { return m.Y + 4 }
func (f flag) Top() int        { return f.Y + 3 }
func (f flag) TextX() int {
	if f.End {
		return f.X - 4
	}
	return f.X + 4
}

// Arrow is the tip of a bar that goes on.
func (b bar) Arrow() string {
	x := b.X + b.Width
	return fmt.Sprintf("M%d %dL%d %dL%d %dZ", x, b.Y-3, x+10, b.Y+b.Height/2, x, b.Y+b.Height+3)
}

// scale maps times to the axis. It is not linear: what happens in an incident
// comes in bursts of seconds with hours in between, so the room for a pause
// grows with its logarithm only. Order is kept, and equal pauses look equal.
type scale struct {
	times []time.Time // distinct, in order
	at    []float64   // 0 to 1
}

func (r *Report) scale() *scale {
	var all []time.Time
	for _, m := range r.Moments {
		all = append(all, m.At)
	}
	for _, e := range r.Timeline {
		all = append(all, e.Time)
	}
	for _, a := range r.Actions {
		all = append(all, a.Time)
	}
	all = slices.DeleteFunc(all, time.Time.IsZero)
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, time.Time.Compare)
	s := &scale{times: slices.CompactFunc(all, time.Time.Equal)}
	sum := 0.0
	s.at = append(s.at, 0)
	for i := 1; i < len(s.times); i++ {
		sum += math.Log2(1 + s.times[i].Sub(s.times[i-1]).Seconds())
		s.at = append(s.at, sum)
	}
	for i := range s.at {
		if sum > 0 {
			s.at[i] /= sum
		}
	}
	return s
}

func (s *scale) last() time.Time { return s.times[len(s.times)-1] }

// x is where a time is on the axis; between two that are known, in proportion.
func (s *scale) x(t time.Time) int {
	i := sort.Search(len(s.times), func(n int) bool { return !s.times[n].Before(t) })
	f := 1.0
	switch {
	case i == 0:
		f = 0
	case i < len(s.times):
		f = s.at[i]
		if gap := s.times[i].Sub(s.times[i-1]); !s.times[i].Equal(t) && gap > 0 {
			f = s.at[i-1] + (s.at[i]-s.at[i-1])*float64(t.Sub(s.times[i-1]))/float64(gap)
		}
	}
	return chartLeft + int(f*(chartRight-chartLeft))
}
