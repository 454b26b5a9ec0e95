package telemetrydb

import "fmt"

// EncodeNative is for the benchmark beside the engine alone.
func EncodeNative(b *Block) ([]byte, error) {
	buf, ok := encodeNative(nil, b)
	if !ok {
		return nil, fmt.Errorf("block of %s has a column that is not known", b.Table)
	}
	return buf, nil
}
