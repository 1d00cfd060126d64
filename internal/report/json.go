package report

import (
	"bytes"
	"encoding/json"
	"io"

	"irctl/internal/sanitize"
)

// JSON writes the whole report for programs. Text is in it as it was written,
// with what a terminal would act on as \u escapes.
func (r *Report) JSON(w io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false) // commands hold < > & and are read by people
	if err := enc.Encode(r); err != nil {
		return err
	}
	_, err := w.Write(sanitize.JSON(b.Bytes()))
	return err
}
