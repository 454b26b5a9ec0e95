// How live events change what a site page holds. Pure.

import type { Incident, SiteDetail, Target, WindowEvent } from './types';

/** Open ones first, then the newest. */
export function sortIncidents(list: readonly Incident[]): Incident[] {
  return [...list].sort((a, b) => Number(b.state === 'open') - Number(a.state === 'open') || b.opened_ms - a.opened_ms);
}

/** The list with one incident new or changed. */
export function withIncident(list: readonly Incident[], i: Incident): Incident[] {
  return sortIncidents([i, ...list.filter((x) => x.incident_id !== i.incident_id)]);
}

/** A newer detail, which need not repeat the last window of each target. */
export function merged(old: SiteDetail, fresh: SiteDetail): SiteDetail {
  const last = new Map(old.targets.map((t) => [t.item_id, t.last]));
  return { ...fresh, targets: fresh.targets.map((t) => ({ ...t, last: t.last ?? last.get(t.item_id) ?? null })) };
}

export function withWindow(d: SiteDetail, e: WindowEvent): SiteDetail {
  return { ...d, targets: d.targets.map((t) => (t.item_id === e.item_id ? { ...t, last: e.window } : t)) };
}

/** Each target once: two agents may name the same one. */
export function distinct(targets: readonly Target[]): Target[] {
  const seen = new Set<string>();
  return targets.filter((t) => !seen.has(t.item_id) && seen.add(t.item_id));
}

/** Lists that the collector left out read as empty ones. */
export function complete(d: SiteDetail): SiteDetail {
  return {
    ...d,
    agents: d.agents ?? [],
    trunks: d.trunks ?? [],
    sbcs: d.sbcs ?? [],
    services: d.services ?? [],
    targets: d.targets ?? [],
    incidents: d.incidents ?? [],
    changes: d.changes ?? [],
  };
}
