// Package controldbtest is the contract of the control store: one suite that every
// database must pass. A database's own test calls Run with a function that opens an
// empty, migrated store.
package controldbtest

import (
	"testing"
	"time"

	"sidetone/collector/internal/controldb"
)

// Open opens an empty store with the schema in place; it is closed by t.Cleanup.
type Open func(t *testing.T) *controldb.DB

// Run runs the whole contract.
func Run(t *testing.T, open Open) {
	t.Run("enrolment", func(t *testing.T) { enrolmentContract(t, open) })
	t.Run("inventory", func(t *testing.T) { inventoryContract(t, open) })
	t.Run("authn", func(t *testing.T) { authnContract(t, open) })
	t.Run("alerting", func(t *testing.T) { alertingContract(t, open) })
}

// noon is a fixed instant; stores keep milliseconds.
var noon = time.Date(2026, 3, 29, 12, 0, 0, 123e6, time.UTC)
