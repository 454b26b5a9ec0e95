// Package impair puts a bad network between two programs: a UDP and a TCP proxy that
// delays, loses, reorders, doubles, limits, cuts and rebinds what passes through, each
// direction for itself, changeable while it runs, and repeatable by a seed. Tests import
// it; cmd/impair is the same as a program.
//
// A packet of UDP meets, in this order: size limit, black hole, loss, duplication, the
// queue of the rate limit, delay. Packets leave in the order they came unless Reorder
// holds some of them back: jitter alone reorders nothing, it makes packets wait for the
// one before them. TCP is delayed, limited, held up and cut, but never loses a byte.
//
// What a proxy cannot do: pass on TTL, DSCP, ECN and ICMP; delay TCP's own handshake,
// which its listener answers at once.
package impair
