import { describe, expect, it } from 'vitest';
import { amountText, labelOf, rangeText, split, verdict, whenText } from './delivery';
import type { Agent, Gap, Gaps } from './types';

const gap = (g: Partial<Gap>): Gap => ({ agent_id: '1', label: 'late', epoch: '7', ...g });
const gaps = (...list: Gap[]): Gaps => ({ from_ms: 0, to_ms: 1, gaps: list, more: false });
const agent = (connected: boolean) => ({ agent_id: '1', connected }) as Agent;
const plainSpaces = (s: string) => s.replaceAll('\u00a0', ' ');

describe('verdict', () => {
  it('is complete only when nothing is missing and every agent is there', () => {
    expect(verdict(gaps(), [agent(true)])).toEqual({ state: 'ok', word: 'Complete' });
    expect(verdict(gaps(), [agent(true), agent(false)]).state).toBe('degraded');
    expect(verdict(gaps(), []).state).toBe('no_data');
  });
  it('tells lost from late', () => {
    expect(plainSpaces(verdict(gaps(gap({})), [agent(true)]).word)).toBe('Nothing lost, 1 range on the way');
    const mixed = gaps(gap({}), gap({ label: 'evicted' }), gap({ label: 'never_collected' }));
    expect(plainSpaces(verdict(mixed, [agent(true)]).word)).toBe('2 ranges missing');
    expect(plainSpaces(verdict({ ...mixed, more: true }, [agent(true)]).word)).toBe('2 ranges or more missing');
    expect(split(mixed.gaps).late).toHaveLength(1);
  });
});

describe('one range', () => {
  it('shows numbers, or silence with its length', () => {
    expect(rangeText(gap({ from_seq: 5, to_seq: 5 }))).toBe('Record 5');
    expect(rangeText(gap({ from_seq: 5, to_seq: 1200 }))).toBe('Records 5–1,200');
    expect(rangeText(gap({}))).toBe('No records made');
    expect(plainSpaces(amountText(gap({ records: 3 })))).toBe('3 records');
    expect(plainSpaces(amountText(gap({ from_ms: 0, to_ms: 90_000 })))).toBe('1 min');
    expect(amountText(gap({ from_ms: 0 }))).toBe('');
  });
  it('is open where a neighbour is not known', () => {
    expect(whenText(gap({}), 1)).toBe('');
    expect(whenText(gap({ from_ms: 0 }), 1)).toMatch(/^since /);
    expect(whenText(gap({ to_ms: 0 }), 1)).toMatch(/^before /);
    expect(whenText(gap({ from_ms: 0, to_ms: 60_000 }), 1)).toMatch(/ – /);
  });
  it('takes a label of a newer collector as it is', () => {
    expect(labelOf('melted')).toEqual({ word: 'melted', state: 'no_data', why: '' });
    expect(labelOf('toString').word).toBe('toString');
  });
});
