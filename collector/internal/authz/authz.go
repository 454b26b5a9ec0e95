// Package authz says who may see and do what. A Scope is an argument of every
// reading function; its zero value sees nothing.
package authz

import (
	"slices"

	"sidetone/shared/telemetry"
)

// Role is what a person may do.
type Role string

// RoleOwner may do everything in every tenant. Further roles come with the
// account work; a role that is not known here may do nothing.
const RoleOwner Role = "owner"

// Principal is who asks: a signed-in person.
type Principal struct {
	UserID int64
	Email  string
	Name   string
	Role   Role
}

// Scope is what the principal may see.
func (p Principal) Scope() Scope {
	if p.Role == RoleOwner {
		return Scope{all: true}
	}
	return Scope{}
}

// CanManage reports whether the principal may change the tree, tokens and channels.
func (p Principal) CanManage() bool { return p.Role == RoleOwner }

// Scope is a set of tenants. The zero Scope is empty.
type Scope struct {
	all     bool
	tenants []telemetry.TenantID
}

// System is the collector's own scope, for work that serves every tenant: judging
// alerts, notifying, retention. Never hand it to a request of a person.
func System() Scope { return Scope{all: true} }

// Tenants is a scope of just these tenants.
func Tenants(ids ...telemetry.TenantID) Scope { return Scope{tenants: slices.Clone(ids)} }

// All reports whether the scope covers every tenant.
func (s Scope) All() bool { return s.all }

// TenantIDs lists the tenants; it is nil when All.
func (s Scope) TenantIDs() []telemetry.TenantID {
	if s.all {
		return nil
	}
	return slices.Clone(s.tenants)
}

// Allows reports whether the scope covers the tenant.
func (s Scope) Allows(id telemetry.TenantID) bool {
	return s.all || slices.Contains(s.tenants, id)
}
