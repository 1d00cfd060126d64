package main

import (
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// style is how a cell looks.
type style struct {
	fg, bg             string // "" is the terminal's own
	bold, dim, reverse bool
}

// run is a piece of a row in one style.
type run struct {
	at   int
	text string
	style
}

// The picture's measures. Every run says how wide it is, so that columns stay
// in line whatever the viewer's monospace font is.
const (
	cell, line, margin = 8.4, 17.0, 12.0
	background         = "#0d1117"
	foreground         = "#d0d7de"
)

// palette are the terminal's sixteen colours.
var palette = [16]string{"#484f58", "#ff7b72", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea", "#d0d7de",
	"#6e7681", "#ffa198", "#7ee787", "#f2cc60", "#a5d6ff", "#e2c5ff", "#b3f0ff", "#ffffff"}

// rows reads what tmux captured. Its styles go on from one line to the next.
func rows(capture string) [][]run {
	var all [][]run
	var now style
	for _, l := range strings.Split(strings.TrimSuffix(capture, "\n"), "\n") {
		var row []run
		column := 0
		for l != "" {
			if rest, ok := strings.CutPrefix(l, "\x1b["); ok {
				end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
				if end < 0 {
					break
				}
				if rest[end] == 'm' {
					now.set(rest[:end])
				}
				l = rest[end+1:]
				continue
			}
			n := strings.IndexByte(l, '\x1b')
			if n < 0 {
				n = len(l)
			}
			if n == 0 { // another escape, which draws nothing
				l = l[1:]
				continue
			}
			row = append(row, run{column, l[:n], now})
			column += utf8.RuneCountInString(l[:n])
			l = l[n:]
		}
		all = append(all, row)
	}
	return all
}

// set applies an SGR sequence.
func (s *style) set(codes string) {
	var n []int
	for _, c := range strings.Split(codes, ";") {
		v, _ := strconv.Atoi(c) // nothing is 0
		n = append(n, v)
	}
	for i := 0; i < len(n); i++ {
		switch c := n[i]; {
		case c == 0:
			*s = style{}
		case c == 1:
			s.bold = true
		case c == 2:
			s.dim = true
		case c == 7:
			s.reverse = true
		case c == 22:
			s.bold, s.dim = false, false
		case c == 27:
			s.reverse = false
		case c >= 30 && c <= 37:
			s.fg = palette[c-30]
		case c == 39:
			s.fg = ""
		case c >= 40 && c <= 47:
			s.bg = palette[c-40]
		case c == 49:
			s.bg = ""
		case c >= 90 && c <= 97:
			s.fg = palette[c-82]
		case c >= 100 && c <= 107:
			s.bg = palette[c-92]
		case c == 38 || c == 48: // irctl keeps to the sixteen
			if i+1 < len(n) && n[i+1] == 5 {
				i += 2
			} else {
				i += 4
			}
		}
	}
}

// draw is a row at the top of the picture.
func draw(row []run) string {
	var b strings.Builder
	for _, r := range row {
		fg, bg := r.fg, r.bg
		if r.reverse {
			if fg == "" {
				fg = foreground
			}
			if bg == "" {
				bg = background
			}
			fg, bg = bg, fg
		}
		width := utf8.RuneCountInString(r.text)
		if bg != "" {
			fmt.Fprintf(&b, `<path fill="%s" d="M%s 0h%sv%gH%sz"/>`, bg, px(r.at), px(width), line, px(r.at))
		}
		text := strings.TrimLeft(r.text, " ")
		at := r.at + utf8.RuneCountInString(r.text) - utf8.RuneCountInString(text)
		if text = strings.TrimRight(text, " "); text == "" {
			continue
		}
		fmt.Fprintf(&b, `<text x="%s" y="13" textLength="%s"`, px(at), px(utf8.RuneCountInString(text)))
		if fg != "" {
			fmt.Fprintf(&b, ` fill="%s"`, fg)
		}
		var class []string
		if r.bold {
			class = append(class, "b")
		}
		if r.dim {
			class = append(class, "d")
		}
		if len(class) > 0 {
			fmt.Fprintf(&b, ` class="%s"`, strings.Join(class, " "))
		}
		fmt.Fprintf(&b, ">%s</text>", html.EscapeString(text))
	}
	return b.String()
}

func px(cells int) string { return strconv.FormatFloat(float64(cells)*cell, 'f', -1, 32) }

// frame is a screen, and how long it is shown.
type frame struct {
	screen  string // as tmux captured it
	caption string
	lasts   time.Duration
}

const (
	// classes are the styles of every picture: of a row, bold, dim, a caption, and a frame.
	classes = `text{white-space:pre}.b{font-weight:700}.d{opacity:.65}.c{font-family:system-ui,sans-serif}` +
		`.f{visibility:hidden}`
	monospace = `ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace`
)

// picture draws frames one after the other, for ever; one frame stands still.
// The still one is shown where nothing moves, or nothing is to move.
func picture(frames []frame, columns, lines, still int, alt string) string {
	captions := 0
	if len(frames) > 1 {
		captions = 2
	}
	width, height := float64(columns)*cell+2*margin, float64(lines+captions)*line+2*margin
	var total time.Duration
	for _, f := range frames {
		total += f.lasts
	}
	var defs, body, css strings.Builder
	css.WriteString(classes)
	ids := map[string]string{}
	use := func(row string) string { // every row is there once
		if ids[row] == "" {
			ids[row] = "r" + strconv.FormatInt(int64(len(ids)), 36)
			fmt.Fprintf(&defs, `<g id="%s">%s</g>`, ids[row], row)
		}
		return ids[row]
	}
	var begin time.Duration
	for i, f := range frames {
		class := ""
		if len(frames) > 1 {
			class = fmt.Sprintf(` class="f" id="f%d"`, i)
			from, to := percent(begin, total), percent(begin+f.lasts, total)
			fmt.Fprintf(&css, "@keyframes k%d{0%%{visibility:hidden}%s%%{visibility:visible}%s%%{visibility:hidden}}",
				i, from, to)
			if i == 0 {
				css.Reset()
				css.WriteString(classes)
				fmt.Fprintf(&css, "@keyframes k0{0%%{visibility:visible}%s%%{visibility:hidden}}", to)
			} else if i == len(frames)-1 {
				fmt.Fprintf(&css, "@keyframes k%d{0%%{visibility:hidden}%s%%{visibility:visible}}", i, from)
			}
			fmt.Fprintf(&css, "#f%d{animation:k%d %gs step-end infinite}", i, i, total.Seconds())
			begin += f.lasts
		}
		fmt.Fprintf(&body, "<g%s>", class)
		for y, row := range rows(f.screen) {
			if text := draw(row); text != "" {
				fmt.Fprintf(&body, `<use href="#%s" y="%g"/>`, use(text), float64(y)*line)
			}
		}
		if captions > 0 && f.caption != "" {
			fmt.Fprintf(&body, `<text class="c" x="0" y="%g" font-size="15" fill="#f2cc60">%s</text>`,
				float64(lines+1)*line+10, html.EscapeString(f.caption))
		}
		body.WriteString("</g>\n")
	}
	if len(frames) > 1 {
		fmt.Fprintf(&css,
			"@media (prefers-reduced-motion:reduce){.f{animation:none!important}#f%d{visibility:visible}}", still)
	}
	return fmt.Sprintf(
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img">`+
			`<title>%s</title><style>%s</style>
<rect width="100%%" height="100%%" rx="8" fill="%s"/><defs>%s</defs>
<g transform="translate(%g %g)" font-family="`+monospace+`" font-size="14" fill="%s" xml:space="preserve">
%s</g></svg>
`, width, height, width, height, html.EscapeString(alt), css.String(), background, defs.String(), margin, margin,
		foreground, body.String())
}

func percent(d, of time.Duration) string {
	return strconv.FormatFloat(100*float64(d)/float64(of), 'f', 3, 64)
}
