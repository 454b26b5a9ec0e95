package controldb

import (
	"context"
	"database/sql"
	"fmt"

	"sidetone/collector/internal/authz"
	"sidetone/collector/internal/inventory"
	"sidetone/shared/telemetry"
)

var _ inventory.Store = (*DB)(nil)

// Sites lists sites with their PBXs and agents.
func (d *DB) Sites(ctx context.Context, scope authz.Scope, only *telemetry.SiteID) ([]inventory.Site, error) {
	where, args := inScope(scope, "t.id", nil)
	if only != nil {
		args = append(args, int64(*only))
		where += fmt.Sprintf(" AND s.id = $%d", len(args))
	}
	var sites []inventory.Site
	err := d.each(ctx, `SELECT t.id, t.name, c.id, c.name, s.id, s.name, p.id, p.name, p.fqdn, p.version,
			a.id, a.hostname, a.os, a.arch, a.version, a.revoked_ms IS NOT NULL, a.created_ms, a.last_seen_ms
		FROM site s JOIN customer c ON c.id = s.customer_id JOIN tenant t ON t.id = c.tenant_id
		LEFT JOIN pbx p ON p.site_id = s.id LEFT JOIN agent a ON a.pbx_id = p.id
		WHERE `+where+` ORDER BY t.name, c.name, s.name, s.id, p.id, a.id`, args,
		func(scan func(...any) error) error {
			r, err := scanSite(scan)
			if err == nil {
				sites = r.addTo(sites)
			}
			return err
		})
	return sites, err
}

// siteRow is one row of Sites: a site with, perhaps, one PBX and one agent of it.
type siteRow struct {
	site              inventory.Site
	pbx, agent        sql.Null[int64]
	pbxText           [3]sql.Null[string]
	agentText         [4]sql.Null[string]
	revoked           bool
	created, lastSeen sql.Null[int64]
}

func scanSite(scan func(...any) error) (siteRow, error) {
	var r siteRow
	s := &r.site
	err := scan(&s.Tenant.ID, &s.Tenant.Name, &s.Customer.ID, &s.Customer.Name, &s.ID, &s.Name,
		&r.pbx, &r.pbxText[0], &r.pbxText[1], &r.pbxText[2],
		&r.agent, &r.agentText[0], &r.agentText[1], &r.agentText[2], &r.agentText[3], &r.revoked, &r.created, &r.lastSeen)
	return r, err
}

// addTo adds the row to sites, of which the last may be the row's own.
func (r siteRow) addTo(sites []inventory.Site) []inventory.Site {
	if n := len(sites); n == 0 || sites[n-1].ID != r.site.ID {
		sites = append(sites, r.site)
	}
	site := &sites[len(sites)-1]
	if !r.pbx.Valid {
		return sites
	}
	id := telemetry.PBXID(r.pbx.V)
	if n := len(site.PBXs); n == 0 || site.PBXs[n-1].ID != id {
		site.PBXs = append(site.PBXs, inventory.PBX{ID: id, Name: r.pbxText[0].V, FQDN: r.pbxText[1].V, Version: r.pbxText[2].V})
	}
	if r.agent.Valid {
		pbx := &site.PBXs[len(site.PBXs)-1]
		pbx.Agents = append(pbx.Agents, inventory.Agent{
			ID: telemetry.AgentID(r.agent.V), Hostname: r.agentText[0].V, OS: r.agentText[1].V, Arch: r.agentText[2].V,
			Version: r.agentText[3].V, Revoked: r.revoked, Created: fromMS(r.created.V), LastSeen: fromMS(r.lastSeen.V),
		})
	}
	return sites
}

// Places lists tenants, customers and sites.
func (d *DB) Places(ctx context.Context, scope authz.Scope) ([]inventory.Tenant, error) {
	where, args := inScope(scope, "t.id", nil)
	var tree []inventory.Tenant
	err := d.each(ctx, `SELECT t.id, t.name, c.id, c.name, s.id, s.name
		FROM tenant t LEFT JOIN customer c ON c.tenant_id = t.id LEFT JOIN site s ON s.customer_id = c.id
		WHERE `+where+` ORDER BY t.name, c.name, c.id, s.name`, args,
		func(scan func(...any) error) error {
			var t inventory.Tenant
			var customer, site sql.Null[int64]
			var customerName, siteName sql.Null[string]
			if err := scan(&t.ID, &t.Name, &customer, &customerName, &site, &siteName); err != nil {
				return err
			}
			if n := len(tree); n == 0 || tree[n-1].ID != t.ID {
				tree = append(tree, t)
			}
			last := &tree[len(tree)-1]
			if !customer.Valid {
				return nil
			}
			c := inventory.Customer{ID: telemetry.CustomerID(customer.V), Name: customerName.V}
			if n := len(last.Customers); n == 0 || last.Customers[n-1].ID != c.ID {
				last.Customers = append(last.Customers, c)
			}
			if site.Valid {
				own := &last.Customers[len(last.Customers)-1]
				own.Sites = append(own.Sites, inventory.Site{
					ID: telemetry.SiteID(site.V), Name: siteName.V,
					Tenant:   inventory.Name[telemetry.TenantID]{ID: t.ID, Name: t.Name},
					Customer: inventory.Name[telemetry.CustomerID]{ID: c.ID, Name: c.Name},
				})
			}
			return nil
		})
	return tree, err
}

// Paths lists agents with their whole place.
func (d *DB) Paths(ctx context.Context, scope authz.Scope, only *telemetry.AgentID) ([]inventory.Path, error) {
	where, args := inScope(scope, "t.id", nil)
	if only != nil {
		args = append(args, int64(*only))
		where += fmt.Sprintf(" AND a.id = $%d", len(args))
	}
	var paths []inventory.Path
	err := d.each(ctx, `SELECT t.id, c.id, s.id, p.id, a.id, t.name, c.name, s.name, p.name, p.fqdn,
			a.hostname, a.os, a.arch, a.version, a.revoked_ms IS NOT NULL
		FROM agent a JOIN pbx p ON p.id = a.pbx_id JOIN site s ON s.id = p.site_id
		JOIN customer c ON c.id = s.customer_id JOIN tenant t ON t.id = c.tenant_id
		WHERE `+where+` ORDER BY a.id`, args,
		func(scan func(...any) error) error {
			var p inventory.Path
			src := &p.Source
			err := scan(&src.Tenant, &src.Customer, &src.Site, &src.PBX, &src.Agent, &p.Tenant, &p.Customer, &p.Site, &p.PBX, &p.PBXFQDN,
				&p.Hostname, &p.OS, &p.Arch, &p.AgentVersion, &p.Revoked)
			paths = append(paths, p)
			return err
		})
	return paths, err
}

// SetPBXFacts stores what a PBX says of itself; empty text changes nothing.
func (d *DB) SetPBXFacts(ctx context.Context, id telemetry.PBXID, fqdn, version string) error {
	return d.mustChange(ctx, `UPDATE pbx SET fqdn = COALESCE(NULLIF($1, ''), fqdn), version = COALESCE(NULLIF($2, ''), version) WHERE id = $3`,
		fqdn, version, int64(id))
}

// SetHello stores what an agent says of itself; empty text changes nothing.
func (d *DB) SetHello(ctx context.Context, id telemetry.AgentID, h inventory.Hello) error {
	return d.mustChange(ctx, `UPDATE agent SET hostname = COALESCE(NULLIF($1, ''), hostname), os = COALESCE(NULLIF($2, ''), os),
		arch = COALESCE(NULLIF($3, ''), arch), version = COALESCE(NULLIF($4, ''), version),
		last_seen_ms = CASE WHEN last_seen_ms < $5 THEN $5 ELSE last_seen_ms END WHERE id = $6`,
		h.Hostname, h.OS, h.Arch, h.Version, ms(h.At), int64(id))
}

func (d *DB) mustChange(ctx context.Context, query string, args ...any) error {
	n, err := affected(d.sql.ExecContext(ctx, query, args...))
	if err == nil && n == 0 {
		return inventory.ErrNotFound
	}
	return err
}

// SetSeen moves last-seen times forward. Agents that are gone are skipped.
func (d *DB) SetSeen(ctx context.Context, seen []inventory.Seen) error {
	return d.inTx(ctx, func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(ctx, `UPDATE agent SET last_seen_ms = $1 WHERE id = $2 AND last_seen_ms < $1`)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, s := range seen {
			if _, err := stmt.ExecContext(ctx, ms(s.At), int64(s.Agent)); err != nil {
				return err
			}
		}
		return nil
	})
}
