package uplink

import "sidetone/shared/wire"

// Capabilities of collectors (wire.Capability has their history).
const (
	bundleCapability  = 2 // takes bundles
	payloadCapability = 2 // takes payloads as they are
)

// codec is what depends on the collector's capability.
type codec struct {
	// pack makes one message of as many of the first frames as fit into maxBytes, but
	// at least of one, and says of how many.
	pack func(frames []wire.Frame, maxBytes int) (msg any, n int, err error)
	// payloadFor gives a payload in the form that a collector of that capability reads.
	payloadFor func(capability uint32, payload []byte) ([]byte, error)
}

func wireCodec() codec {
	return codec{
		pack: func(frames []wire.Frame, _ int) (any, int, error) { return frames[0], 1, nil },
		payloadFor: func(_ uint32, payload []byte) ([]byte, error) {
			return payload, nil
		},
	}
}
