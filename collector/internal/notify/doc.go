// Package notify tells people about incidents. A message is in the outbox (the control
// store) before the first try, is claimed under a lease, tried by the sender of its
// channel until it is taken, refused for good, or a day old, and each try is recorded
// as a Delivery. A message is sent at least once; its idempotency key lets a receiver
// notice a second copy. A resolution never overtakes its opening at the same recipient.
package notify
