package uplink

import "sidetone/shared/wire"

// Capabilities of collectors (wire.Capability has their history).
const (
	bundleCapability  = 2 // takes bundles
	payloadCapability = 2 // takes payloads as they are
	pingCapability    = 2 // answers a ping
)

const (
	// frameBytes and bundleBytes are what the messages have besides payloads, at most.
	frameBytes  = 48
	bundleBytes = 40
	// packRatio is how many times more payload is read than a bundle may have, since
	// payloads that follow each other compress well together.
	packRatio = 4
)

// codec is what depends on the collector's capability.
type codec struct {
	// pack makes one message of as many of the first frames as fit into maxBytes, but
	// at least of one, and says of how many, and its bytes. The error means that the first
	// frame is damaged.
	pack func(frames []wire.Frame, maxBytes int) (msg any, n, bytes int, err error)
	// payloadFor gives a payload in the form that a collector of that capability reads.
	payloadFor func(capability uint32, payload []byte) ([]byte, error)
}

func wireCodec() codec {
	return codec{
		pack: func(frames []wire.Frame, maxBytes int) (any, int, int, error) {
			b, n, err := wire.PackBundle(frames, maxBytes)
			return b, n, len(b.Data) + bundleBytes, err
		},
		payloadFor: wire.PayloadFor,
	}
}
