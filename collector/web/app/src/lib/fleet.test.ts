import { describe, expect, it } from 'vitest';
import { counts, filtered, held, sorted, viewOf } from './fleet';
import type { SiteRow, State } from './types';

function row(id: string, state: State, more: Partial<SiteRow> = {}): SiteRow {
  return { site_id: id, tenant: 'T', customer: 'C', site: id, state, open_incidents: 0, agents_connected: 1, agents_total: 1, ...more };
}
const view = (q = '') => viewOf(new URLSearchParams(q));
const ids = (rows: SiteRow[]) => rows.map((r) => r.site_id).join(' ');

const fleet = [
  row('ok-1', 'ok', { trunks_registered: 2, trunks_total: 2, worst_loss_ratio: 0.01 }),
  row('none', 'no_data'),
  row('down', 'down', { open_incidents: 2, trunks_registered: 0, trunks_total: 2, pbx_fqdn: 'pbx.Example.com' }),
  row('deg', 'degraded', { open_incidents: 1, worst_loss_ratio: 0.2, customer: 'Hartwell Dental' }),
  row('ok-2', 'ok', { worst_loss_ratio: 0 }),
];

describe('sorted', () => {
  it('worst first, and no data before ok', () => expect(ids(sorted(fleet, view()))).toBe('down deg none ok-1 ok-2'));
  it('best first in reverse', () => expect(ids(sorted(fleet, view('dir=reverse')))).toBe('ok-2 ok-1 none deg down'));
  it('by loss, unknown last', () => expect(ids(sorted(fleet, view('sort=loss')))).toBe('deg ok-1 ok-2 down none'));
  it('by loss in reverse, unknown still last', () => expect(ids(sorted(fleet, view('sort=loss&dir=reverse')))).toBe('ok-2 ok-1 deg down none'));
  it('by missing trunks', () => expect(ids(sorted(fleet, view('sort=trunks'))).startsWith('down ok-1')).toBe(true));
  it('numbers in names by their value', () => {
    expect(ids(sorted([row('s10', 'ok'), row('s9', 'ok')], view('sort=site')))).toBe('s9 s10');
  });
  it('leaves its input alone', () => {
    sorted(fleet, view());
    expect(fleet[0]?.site_id).toBe('ok-1');
  });
});

describe('filtered', () => {
  it('all', () => expect(filtered(fleet, view()).length).toBe(5));
  it('by states', () => expect(ids(filtered(fleet, view('state=down,no_data')))).toBe('none down'));
  it('by each word, in any field and case', () => expect(ids(filtered(fleet, view('q=EXAMPLE+down')))).toBe('down'));
  it('text is no pattern', () => expect(filtered(fleet, view('q=.*')).length).toBe(0));
  it('a row of a state that the page does not know is shown as no data', () => {
    const strange = [row('x', 'maintenance' as State)];
    expect(filtered(strange, view('state=no_data')).length).toBe(1);
    expect(counts(strange)).toEqual({ ok: 0, degraded: 0, down: 0, no_data: 1 });
  });
});

describe('viewOf', () => {
  it('reads nonsense as the default', () => {
    expect(view('sort=__proto__&state=green,,&dir=up')).toEqual({ text: '', states: new Set(), sort: 'worst', reverse: false });
  });
});

describe('held', () => {
  it('keeps places when states change, new ones last', () => {
    const now = [row('new', 'down'), row('b', 'down'), row('a', 'ok')];
    expect(ids(held(now, ['a', 'b', 'gone']))).toBe('a b new');
  });
});

it('counts by state', () => expect(counts(fleet)).toEqual({ ok: 2, degraded: 1, down: 1, no_data: 1 }));
