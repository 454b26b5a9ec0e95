// The fleet list: which rows, in which order. Pure.

import { STATES, stateOf } from './states';
import type { SiteRow, State } from './types';

export const SORTS = ['worst', 'site', 'since', 'pbx', 'trunks', 'calls', 'loss', 'rtt', 'incidents', 'seen'] as const;
export type Sort = (typeof SORTS)[number];

export interface View {
  text: string;
  states: ReadonlySet<State>; // empty: all
  sort: Sort;
  reverse: boolean;
}

export function viewOf(q: URLSearchParams): View {
  const sort = q.get('sort') as Sort;
  const states = (q.get('state') ?? '').split(',').filter((s): s is State => STATES.includes(s as State));
  return {
    text: q.get('q') ?? '',
    states: new Set(states),
    sort: SORTS.includes(sort) ? sort : 'worst',
    reverse: q.get('dir') === 'reverse',
  };
}

function haystack(r: SiteRow): string {
  return [r.tenant, r.customer, r.site, r.pbx_name, r.pbx_fqdn, r.pbx_version, r.worst_target, r.reason]
    .filter((x) => x)
    .join('\n')
    .toLowerCase();
}

/** Rows in which every word of the text occurs, in one of the wished states. */
export function filtered(rows: readonly SiteRow[], view: View): SiteRow[] {
  const words = view.text.toLowerCase().split(/\s+/).filter((w) => w !== '');
  return rows.filter((r) => {
    if (view.states.size > 0 && !view.states.has(stateOf(r.state))) return false;
    if (words.length === 0) return true;
    const hay = haystack(r);
    return words.every((w) => hay.includes(w));
  });
}

const collator = new Intl.Collator('en-GB', { numeric: true, sensitivity: 'base' });

function byName(a: SiteRow, b: SiteRow): number {
  return (
    collator.compare(a.tenant, b.tenant) ||
    collator.compare(a.customer, b.customer) ||
    collator.compare(a.site, b.site) ||
    (a.site_id < b.site_id ? -1 : a.site_id > b.site_id ? 1 : 0)
  );
}

function missing(r: SiteRow): number | undefined {
  return r.trunks_total === undefined || r.trunks_registered === undefined
    ? undefined
    : r.trunks_total - r.trunks_registered;
}

function load(r: SiteRow): number | undefined {
  return r.calls_active === undefined ? undefined : r.calls_active / Math.max(1, r.calls_max ?? 1e6);
}

/** Orders by a number, the larger first; what is not known comes last in both directions. */
function byNumber(of: (r: SiteRow) => number | null | undefined, sign: number) {
  return (a: SiteRow, b: SiteRow): number => {
    const x = of(a) ?? undefined;
    const y = of(b) ?? undefined;
    if (x === undefined || y === undefined) return x === y ? 0 : x === undefined ? 1 : -1;
    return sign * (y - x);
  };
}

function worst(a: SiteRow, b: SiteRow): number {
  return (
    STATES.indexOf(stateOf(a.state)) - STATES.indexOf(stateOf(b.state)) ||
    b.open_incidents - a.open_incidents ||
    (b.worst_loss_ratio ?? 0) - (a.worst_loss_ratio ?? 0) ||
    (b.since_ms ?? 0) - (a.since_ms ?? 0)
  );
}

function comparator(view: View): (a: SiteRow, b: SiteRow) => number {
  const sign = view.reverse ? -1 : 1;
  switch (view.sort) {
    case 'worst':
      return (a, b) => sign * worst(a, b);
    case 'site':
      return (a, b) => sign * byName(a, b);
    case 'pbx':
      return (a, b) => sign * collator.compare(a.pbx_fqdn ?? '', b.pbx_fqdn ?? '');
    case 'since':
      return byNumber((r) => r.since_ms, sign);
    case 'trunks':
      return byNumber(missing, sign);
    case 'calls':
      return byNumber(load, sign);
    case 'loss':
      return byNumber((r) => r.worst_loss_ratio, sign);
    case 'rtt':
      return byNumber((r) => r.worst_rtt_p50_us, sign);
    case 'incidents':
      return byNumber((r) => r.open_incidents, sign);
    case 'seen':
      return byNumber((r) => r.last_seen_ms, -sign);
  }
}

export function sorted(rows: readonly SiteRow[], view: View): SiteRow[] {
  const compare = comparator(view);
  return [...rows].sort((a, b) => compare(a, b) || byName(a, b));
}

/**
 * Rows in the order of an earlier look. Rows must not jump under the reader's hand, so
 * a page sorts anew only now and then; what came since stands at the end.
 */
export function held(rows: readonly SiteRow[], order: readonly string[]): SiteRow[] {
  const place = new Map(order.map((id, i) => [id, i]));
  const at = (r: SiteRow) => place.get(r.site_id) ?? order.length;
  return [...rows].sort((a, b) => at(a) - at(b));
}

export function counts(rows: readonly SiteRow[]): Record<State, number> {
  const n: Record<State, number> = { ok: 0, degraded: 0, down: 0, no_data: 0 };
  for (const r of rows) n[stateOf(r.state)]++;
  return n;
}
