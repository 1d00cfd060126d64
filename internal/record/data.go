package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode/utf8"

	"irctl/internal/sanitize"
)

// Data is the payload of an entry as it lies in the journal. It is read with
// [Decode] and by no other way.
type Data struct{ text json.RawMessage }

// Verbatim takes a payload over as it is: from another entry, or from a test.
func Verbatim(text []byte) Data { return Data{text} }

// IsZero: the entry carries none.
func (d Data) IsZero() bool { return len(d.text) == 0 }

// Equal reports that two payloads are the same text.
func (d Data) Equal(other Data) bool { return bytes.Equal(d.text, other.text) }

// String is the text, for people and tests.
func (d Data) String() string { return string(d.text) }

// MarshalJSON writes it as it is.
func (d Data) MarshalJSON() ([]byte, error) {
	if d.IsZero() {
		return []byte("null"), nil
	}
	return d.text, nil
}

// UnmarshalJSON keeps the text and does not look at it.
func (d *Data) UnmarshalJSON(text []byte) error {
	if d.text = nil; !bytes.Equal(text, []byte("null")) {
		d.text = bytes.Clone(text)
	}
	return nil
}

// Clean is the payload on one line, in valid UTF-8, without what acts on a
// terminal. It shares nothing with d.
func (d Data) Clean() (Data, error) {
	if d.IsZero() {
		return Data{}, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, bytes.ToValidUTF8(d.text, []byte(string(utf8.RuneError)))); err != nil {
		return d, fmt.Errorf("data is not JSON: %w", err)
	}
	return Data{sanitize.JSON(compact.Bytes())}, nil
}

// Most is what a payload may be, in bytes: well below what a line of the journal
// takes.
const Most = 512 << 10

// ErrTooLarge: a payload is larger than Most. Who writes it leaves out what a
// later reader can do without, and says so in it.
var ErrTooLarge = fmt.Errorf("a payload of more than %d KiB", Most>>10)

// Encode returns what an entry carries for one of this package's structs: the
// name of its form, and the data.
func Encode(payload any) (form string, data Data, err error) {
	form, ok := current[reflect.TypeOf(payload)]
	if !ok {
		return "", Data{}, fmt.Errorf("%T is no payload of the journal", payload)
	}
	text, err := json.Marshal(payload)
	if err != nil {
		return "", Data{}, fmt.Errorf("journaling %s: %w", form, err)
	}
	if len(text) > Most {
		return "", Data{}, fmt.Errorf("journaling %s: %w", form, ErrTooLarge)
	}
	return form, Data{text}, nil
}

// Place is where in a journal an entry stands, which is what tells the form of
// a payload that does not name its own.
type Place struct{ Kind, Phase, Step, Action string }

// Decode reads a payload: a pointer to one of this package's structs. It is nil
// if there is none, or if it is of a form that this version does not know; then
// known is false. The error is that it is not what its form says.
func Decode(form string, at Place, d Data) (payload any, known bool, err error) {
	if d.IsZero() {
		return nil, true, nil
	}
	if form != "" {
		f, ok := forms[form]
		if !ok {
			return nil, false, nil
		}
		payload, err = f.read(d)
		if err != nil {
			err = fmt.Errorf("a payload %s that cannot be read: %w", form, err)
		}
		return payload, true, err
	}
	for _, e := range earlier {
		if !e.at.holds(at) {
			continue
		}
		if payload, err := forms[e.form].read(d); err == nil {
			return payload, true, nil
		}
	}
	return nil, false, nil
}

// holds: every part of p that is not empty is that of an entry.
func (p Place) holds(of Place) bool {
	for _, part := range [][2]string{{p.Kind, of.Kind}, {p.Phase, of.Phase}, {p.Step, of.Step}, {p.Action, of.Action}} {
		if part[0] != "" && part[0] != part[1] {
			return false
		}
	}
	return true
}
