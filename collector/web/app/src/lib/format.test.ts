import { describe, expect, it } from 'vitest';
import { absolute, ago, bytes, count, counted, delay, duration, percent, plain, short } from './format';

const text = (s: string) => s.replaceAll('\u00a0', ' ');
const NOTHING = [null, undefined, NaN, Infinity];

describe('delay', () => {
  const cases: [string, number, string][] = [
    ['zero', 0, '0.00 ms'],
    ['a fraction of a millisecond', 340, '0.34 ms'],
    ['a few', 3416, '3.42 ms'],
    ['rounds up into fewer digits', 9996, '10.0 ms'],
    ['tens', 12_345, '12.3 ms'],
    ['hundreds', 148_249, '148 ms'],
    ['seconds', 12_340_000, '12.3 s'],
  ];
  it.each(cases)('%s', (_name, us, want) => expect(text(delay(us))).toBe(want));
  it.each(NOTHING)('%s is not zero', (x) => expect(delay(x)).toBe(''));
});

describe('percent', () => {
  const cases: [string, number, string][] = [
    ['none', 0, '0 %'],
    ['hardly any is not none', 0.00001, '<0.01 %'],
    ['below one', 0.0012, '0.12 %'],
    ['just below one', 0.00999, '1.0 %'],
    ['a few', 0.0744, '7.4 %'],
    ['many', 0.47, '47 %'],
    ['nearly all', 0.993, '99.3 %'],
    ['all but one in many is not all', 0.99999, '>99.9 %'],
    ['all', 1, '100 %'],
  ];
  it.each(cases)('%s', (_name, ratio, want) => expect(text(percent(ratio))).toBe(want));
  it.each(NOTHING)('%s is not zero', (x) => expect(percent(x)).toBe(''));
});

describe('bytes', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [31_400_000, '31.4 MB'],
    [999_600_000, '1.00 GB'],
    [240e9, '240 GB'],
  ];
  it.each(cases)('%s', (n, want) => expect(text(bytes(n))).toBe(want));
  it('not known', () => expect(bytes(undefined)).toBe(''));
});

describe('duration and ago', () => {
  const cases: [number, string][] = [
    [0, '0 s'],
    [-5, '0 s'],
    [59_999, '59 s'],
    [60_000, '1 min'],
    [3_600_000, '1 h'],
    [5_000_000, '1 h 23 min'],
    [7 * 3_600_000 + 60_000, '7 h'],
    [26 * 3_600_000, '1 d 2 h'],
    [9 * 86_400_000 + 3_600_000, '9 d'],
  ];
  it.each(cases)('%s ms', (ms, want) => expect(text(duration(ms))).toBe(want));
  it('past', () => expect(text(ago(1_000_000, 1_042_000))).toBe('42 s ago'));
  it('now, also when clocks differ a little', () => expect(ago(1_000_900, 1_000_000)).toBe('just now'));
  it('future', () => expect(text(ago(1_300_000, 1_000_000))).toBe('in 5 min'));
  it('never', () => expect(ago(null, 1)).toBe(''));
});

describe('absolute', () => {
  it('names UTC', () => expect(absolute(Date.UTC(2026, 4, 3, 13, 22, 7))).toContain('3 May, 13:22:07 UTC'));
  it('survives an impossible instant', () => expect(absolute(9e15)).toBe(''));
});

describe('short', () => {
  const cases = [['10.0 ms', '10 ms'], ['2.50 %', '2.5 %'], ['100 ms', '100 ms'], ['0.00 ms', '0 ms'], ['1.25 ms', '1.25 ms'], ['20 %', '20 %']];
  it.each(cases)('%s', (from, want) => expect(short(from)).toBe(want));
});

describe('counts', () => {
  it('groups', () => expect(count(12_345)).toBe('12,345'));
  it('one', () => expect(text(counted(1, 'site'))).toBe('1 site'));
  it('more', () => expect(text(counted(0, 'site'))).toBe('0 sites'));
});

describe('plain', () => {
  it('takes out what turns the direction', () => expect(plain('a\u202egnp.exe\u202c b')).toBe('a gnp.exe b'));
  it('takes out control characters and line ends', () => expect(plain('a\u0000b\nc\u2028d')).toBe('a b c d'));
  it('keeps letters of all scripts', () => expect(plain('Köhler مستشفى 東京')).toBe('Köhler مستشفى 東京'));
  it('cuts whole letters', () => expect(plain('😀'.repeat(10), 4)).toBe('😀😀😀…'));
  it('nothing', () => expect(plain(undefined)).toBe(''));
});
