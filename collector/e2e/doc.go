// Package e2e tests the built programs from outside, as a person or a machine would
// use them: real processes, real sockets on loopback, a simulated 3CX, the embedded
// engine and a browser. It imports no internal package. The tests carry the build tag
// e2e; `make test` builds the programs first and runs them.
package e2e
