import { describe, expect, it } from 'vitest';
import { retryAfter } from './api';
import { complete, distinct, merged, withIncident, withWindow } from './detail';
import { boundsOf, rangeOf } from './range';
import { nextDelay, STALE_AFTER_MS } from './staleness';
import { changeState, serviceState, stateOf, trunkState, wordOf } from './states';
import type { Incident, SiteDetail, Target, Trunk, Window } from './types';

describe('rangeOf', () => {
  const of = (q: string) => rangeOf(new URLSearchParams(q));
  it('one hour if nothing is said', () => expect(of('')).toEqual({ live: true, id: '1h', ms: 3_600_000 }));
  it('as said', () => expect(of('range=7d')).toMatchObject({ live: true, ms: 604_800_000 }));
  it('a fixed one goes first', () => expect(of('range=7d&from=1000&to=9000')).toEqual({ live: false, fromMs: 1000, toMs: 9000 }));
  it.each(['from=9000&to=1000', 'from=1&to=2', 'from=x&to=9', 'from=1', 'from=1e99&to=2e99', 'from=1&to=9e14', 'range=constructor'])('nonsense: %s', (q) => {
    expect(of(q)).toMatchObject({ live: true, id: '1h' });
  });
  it('a live one ends now', () => expect(boundsOf(of('range=15m'), 10_000_000)).toEqual([9_100_000, 10_000_000]));
});

describe('nextDelay', () => {
  it('grows to its ceiling and never beyond', () => {
    expect([0, 1, 2, 10, 1000].map((n) => nextDelay(n, 0.999999) <= 15_000)).toEqual([true, true, true, true, true]);
    expect(nextDelay(3, 0)).toBeGreaterThan(nextDelay(0, 0));
  });
  it('is never zero', () => expect(nextDelay(0, 0)).toBeGreaterThanOrEqual(500));
  it('a stream is stale after more than two pings', () => expect(STALE_AFTER_MS).toBeGreaterThan(20_000));
});

describe('retryAfter', () => {
  it.each([['40', 40], [' 7 ', 7], [null, undefined], ['soon', undefined]])('%s', (header, want) => expect(retryAfter(header, 0)).toBe(want));
  it('a date', () => expect(retryAfter('Thu, 01 Jan 1970 00:00:30 GMT', 0)).toBe(30));
  it('a date gone by', () => expect(retryAfter('Thu, 01 Jan 1970 00:00:30 GMT', 60_000)).toBe(0));
});

describe('states', () => {
  it('what is unknown never looks green', () => {
    expect([stateOf(undefined), stateOf(''), stateOf('toString'), stateOf('great')]).toEqual(['no_data', 'no_data', 'no_data', 'no_data']);
    expect([serviceState(''), serviceState('Unknown')]).toEqual(['no_data', 'no_data']);
    expect(serviceState('StartPending')).toBe('degraded');
    expect(changeState('something else')).toBeUndefined();
  });
  it('words of a table, and none of its prototype', () => {
    expect(wordOf({ a: 'A' }, 'a')).toBe('A');
    expect(wordOf({ a: 'A' }, 'constructor')).toBe('constructor');
  });
  const trunk = (t: Partial<Trunk>): Trunk => ({ item_id: '1', observed_ms: 1, number: '1', name: 'n', kind: 'provider', registered: true, registration_needed: true, configuration_issue: false, ...t });
  it.each([
    ['registered', {}, 'ok', 'Registered'],
    ['unregistered', { registered: false }, 'down', 'Unregistered'],
    ['no registration needed', { registered: false, registration_needed: false }, 'ok', 'No registration needed'],
    ['registered with an issue', { configuration_issue: true }, 'degraded', 'Registered'],
  ] as const)('trunk %s', (_name, t, state, word) => expect(trunkState(trunk(t))).toEqual({ state, word }));
});

describe('site detail', () => {
  const target = (id: string, last?: Window): Target => ({ item_id: id, agent_id: 'a', method: 'icmp', name: id, address: 'x', ...(last ? { last } : {}) });
  const win = (t: number) => ({ observed_ms: t, length_ms: 10_000, sent: 1, received: 1, lost: 0, loss_ratio: 0 }) as Window;
  const incident = (id: number, state: 'open' | 'resolved', opened: number) => ({ incident_id: id, state, opened_ms: opened }) as Incident;
  const detail = { targets: [target('a', win(1)), target('b')], incidents: [incident(1, 'open', 5)] } as unknown as SiteDetail;

  it('keeps last windows that a newer detail leaves out', () => {
    expect(merged(detail, { ...detail, targets: [target('a'), target('c')] }).targets.map((t) => t.last?.observed_ms)).toEqual([1, undefined]);
  });
  it('takes a live window', () => {
    expect(withWindow(detail, { site_id: 's', item_id: 'b', window: win(9) }).targets[1]?.last?.observed_ms).toBe(9);
  });
  it('names a target once', () => expect(distinct([target('a'), target('b'), target('a')]).length).toBe(2));
  it('puts open incidents first and replaces what changed', () => {
    let list = withIncident(detail.incidents, incident(2, 'open', 9));
    list = withIncident(list, incident(2, 'resolved', 9));
    expect(list.map((i) => `${i.incident_id} ${i.state}`)).toEqual(['1 open', '2 resolved']);
  });
  it('reads missing lists as empty', () => expect(complete({ row: {} } as SiteDetail)).toMatchObject({ trunks: [], changes: [], targets: [] }));
});
