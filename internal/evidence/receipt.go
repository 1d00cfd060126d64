package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Receipt says which file a bundle is and what is in it, without opening it. It
// is written beside the bundle and belongs into the incident's timeline, which
// proves that neither was changed since.
type Receipt struct {
	Format string `json:"format"`
	// Path is absolute; in the file beside the bundle it is the bundle's name alone.
	Path     string    `json:"path"`
	Purpose  string    `json:"purpose,omitempty"`
	Incident string    `json:"incident,omitempty"`
	Created  time.Time `json:"created"`
	Tool     Tool      `json:"tool"`
	// SHA256 and Size, in bytes, of the bundle as it lies on disk.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Recipients are the fingerprints of the keys that open it.
	Recipients []string `json:"recipients"`
	Summary
}

// ReceiptFormat is the value of Receipt.Format.
const ReceiptFormat = "irctl-receipt/1"

func receiptPath(bundle string) string { return bundle + ".json" }

// writeReceipt writes the receipt to a temporary file, durably, and returns its
// name.
func (b *Bundle) writeReceipt() (name string, err error) {
	receipt := b.receipt
	receipt.Path = filepath.Base(b.path)
	data, err := json.MarshalIndent(receipt, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encoding the receipt: %w", err)
	}
	f, err := createPartial(receiptPath(b.path))
	if err != nil {
		return "", err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}
