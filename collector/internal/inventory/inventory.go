// Package inventory is the tree that everything hangs on: tenant > customer > site >
// PBX, and the agent beside each PBX. Names live here only; measurements carry ids.
// Agents and PBXs are created by the enrolment, and fill in from what they report.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sidetone/collector/internal/authz"
	"sidetone/shared/telemetry"
)

// ErrNotFound is the answer for what does not exist, and for what the scope hides.
var ErrNotFound = errors.New("not found")

// Tenant is the top of the tree: the operator, or one of an operator's businesses.
type Tenant struct {
	ID        telemetry.TenantID
	Name      string
	Customers []Customer
}

// Customer is who a tenant watches over.
type Customer struct {
	ID    telemetry.CustomerID
	Name  string
	Sites []Site
}

// Site is a place of a customer, with its PBXs.
type Site struct {
	ID       telemetry.SiteID
	Name     string
	Tenant   Name[telemetry.TenantID]
	Customer Name[telemetry.CustomerID]
	PBXs     []PBX
}

// Name is an id with its name.
type Name[T any] struct {
	ID   T
	Name string
}

// PBX is one 3CX system.
type PBX struct {
	ID      telemetry.PBXID
	Name    string
	FQDN    string
	Version string
	Agents  []Agent
}

// Agent is an enrolled agent.
type Agent struct {
	ID                          telemetry.AgentID
	Hostname, OS, Arch, Version string
	Revoked                     bool
	Created                     time.Time
	LastSeen                    time.Time // zero: never since it enrolled
}

// Path is an agent's whole place, ids and names.
type Path struct {
	Source                           telemetry.Source
	Tenant, Customer, Site, PBX      string
	PBXFQDN                          string
	Hostname, OS, Arch, AgentVersion string
	Revoked                          bool
}

// Hello is what an agent says of itself when it connects.
type Hello struct {
	Hostname, OS, Arch, Version string
	At                          time.Time
}

// Seen is the last sign of life of an agent.
type Seen struct {
	Agent telemetry.AgentID
	At    time.Time
}

// Store keeps the tree. Reading methods return only what the scope covers.
type Store interface {
	// Sites lists sites by tenant, customer and name, each with PBXs and agents.
	// A nil filter means all.
	Sites(ctx context.Context, scope authz.Scope, only *telemetry.SiteID) ([]Site, error)
	// Places lists tenants, customers and sites, those without sites too.
	Places(ctx context.Context, scope authz.Scope) ([]Tenant, error)
	// Paths lists agents with their place. A nil filter means all.
	Paths(ctx context.Context, scope authz.Scope, only *telemetry.AgentID) ([]Path, error)
	SetPBXFacts(ctx context.Context, id telemetry.PBXID, fqdn, version string) error
	SetHello(ctx context.Context, id telemetry.AgentID, h Hello) error
	// SetSeen moves last-seen times forward, never back.
	SetSeen(ctx context.Context, seen []Seen) error
}

// Inventory reads and completes the tree. It is safe for concurrent use.
type Inventory struct{ store Store }

// New builds the inventory over its store.
func New(store Store) *Inventory { return &Inventory{store: store} }

// Tree lists tenants, customers and sites (without PBXs), by name.
func (i *Inventory) Tree(ctx context.Context, scope authz.Scope) ([]Tenant, error) {
	tree, err := i.store.Places(ctx, scope)
	if err != nil {
		return nil, fmt.Errorf("list the tree: %w", err)
	}
	return tree, nil
}

// Sites lists all sites with their PBXs and agents.
func (i *Inventory) Sites(ctx context.Context, scope authz.Scope) ([]Site, error) {
	sites, err := i.store.Sites(ctx, scope, nil)
	if err != nil {
		return nil, fmt.Errorf("list sites: %w", err)
	}
	return sites, nil
}

// Site returns one site, or ErrNotFound.
func (i *Inventory) Site(ctx context.Context, scope authz.Scope, id telemetry.SiteID) (Site, error) {
	sites, err := i.store.Sites(ctx, scope, &id)
	if err != nil {
		return Site{}, fmt.Errorf("read site %d: %w", id, err)
	}
	if len(sites) == 0 {
		return Site{}, fmt.Errorf("site %d: %w", id, ErrNotFound)
	}
	return sites[0], nil
}

// Path returns where an agent hangs, or ErrNotFound.
func (i *Inventory) Path(ctx context.Context, scope authz.Scope, id telemetry.AgentID) (Path, error) {
	paths, err := i.store.Paths(ctx, scope, &id)
	if err != nil {
		return Path{}, fmt.Errorf("read agent %d: %w", id, err)
	}
	if len(paths) == 0 {
		return Path{}, fmt.Errorf("agent %d: %w", id, ErrNotFound)
	}
	return paths[0], nil
}

// Dimensions lists every agent of the scope with all ids and names, for the database
// of measurements to mirror.
func (i *Inventory) Dimensions(ctx context.Context, scope authz.Scope) ([]Path, error) {
	paths, err := i.store.Paths(ctx, scope, nil)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	return paths, nil
}

// Limits of text that agents report.
const (
	maxHostname = 253
	maxWord     = 64
)

// UpdatePBX stores what a PBX says of itself. Empty text changes nothing.
func (i *Inventory) UpdatePBX(ctx context.Context, id telemetry.PBXID, fqdn, version string) error {
	fqdn, version = clean(fqdn, maxHostname), clean(version, maxWord)
	if fqdn == "" && version == "" {
		return nil
	}
	if err := i.store.SetPBXFacts(ctx, id, fqdn, version); err != nil {
		return fmt.Errorf("update PBX %d: %w", id, err)
	}
	return nil
}

// UpdateAgent stores an agent's hello. Empty text changes nothing.
func (i *Inventory) UpdateAgent(ctx context.Context, id telemetry.AgentID, h Hello) error {
	h.Hostname, h.OS = clean(h.Hostname, maxHostname), clean(h.OS, maxWord)
	h.Arch, h.Version = clean(h.Arch, maxWord), clean(h.Version, maxWord)
	if err := i.store.SetHello(ctx, id, h); err != nil {
		return fmt.Errorf("update agent %d: %w", id, err)
	}
	return nil
}

// UpdateSeen stores the last signs of life of many agents in one transaction.
func (i *Inventory) UpdateSeen(ctx context.Context, seen []Seen) error {
	if len(seen) == 0 {
		return nil
	}
	if err := i.store.SetSeen(ctx, seen); err != nil {
		return fmt.Errorf("update last-seen times: %w", err)
	}
	return nil
}

// clean keeps the printable part of hostile text, up to limit bytes.
func clean(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
