import { describe, expect, it } from 'vitest';
import { appendable, appended, delayRange, drawn, fromSeries, lossLevel, lossTop, MAX_POINTS, quantile, summary, type SeriesColumns } from './series';
import type { Series, Target, Window } from './types';

const target: Target = { item_id: 't', agent_id: 'a', method: 'icmp', name: 'n', address: '192.0.2.1' };
type Given = [t: number, p50us: number | null, loss: number | null, sent?: number | null];

function series(step: number, points: Given[]): Series {
  const col = (f: (p: Given) => number | null) => points.map(f);
  return {
    target, from_ms: 0, to_ms: 1e6, step_ms: step,
    t_ms: points.map((p) => p[0]),
    rtt_min_us: col((p) => (p[1] === null ? null : p[1] - 100)),
    rtt_p10_us: col((p) => p[1]), rtt_p50_us: col((p) => p[1]), rtt_p90_us: col((p) => p[1]),
    rtt_max_us: col((p) => (p[1] === null ? null : p[1] + 500)),
    jitter_us: col(() => null), loss_ratio: col((p) => p[2]),
    sent: col((p) => (p[3] === undefined ? 10 : p[3])),
  };
}

function window(t: number, p50us: number | null, loss = 0): Window {
  return { observed_ms: t, length_ms: 10_000, sent: 10, received: 10, lost: 0, loss_ratio: loss, rtt_p50_us: p50us, rtt_min_us: p50us, rtt_max_us: p50us, rtt_p10_us: p50us, rtt_p90_us: p50us };
}

const times = (c: SeriesColumns) => c.t;

describe('fromSeries', () => {
  it('turns microseconds into milliseconds', () => {
    const c = fromSeries(series(10_000, [[10_000, 1500, 0]]));
    expect([c.p50[0], c.min[0], c.max[0], c.loss[0]]).toEqual([1.5, 1.4, 2, 0]);
  });
  it('keeps a null as a gap and does not make it zero', () => {
    const c = fromSeries(series(10_000, [[10_000, 1000, 0], [20_000, null, null, null], [30_000, 1000, 0]]));
    expect(c.p50).toEqual([1, null, 1]);
    expect(drawn(c)).toBe(2);
  });
  it('marks a missing stretch that the answer left out', () => {
    const c = fromSeries(series(10_000, [[10_000, 1000, 0], [60_000, 1000, 0]]));
    expect(times(c)).toEqual([10_000, 20_000, 60_000]);
    expect(c.p50[1]).toBeNull();
  });
  it('does not break a line for a window that came a little late', () => {
    expect(times(fromSeries(series(10_000, [[10_000, 1, 0], [24_000, 1, 0]])))).toEqual([10_000, 24_000]);
  });
  it('takes nothing sent as no data, not as no loss', () => {
    expect(fromSeries(series(10_000, [[10_000, null, 0, 0]])).loss[0]).toBeNull();
  });
  it('counts the loss of everything as data', () => {
    expect(drawn(fromSeries(series(10_000, [[10_000, null, 1]])))).toBe(1);
  });
  it('puts times in order', () => {
    expect(times(fromSeries(series(10_000, [[20_000, 1, 0], [10_000, 1, 0]])))).toEqual([10_000, 20_000]);
  });
  it('holds a limit', () => {
    const many = Array.from({ length: MAX_POINTS + 50 }, (_, i): Given => [i * 10_000, 1, 0]);
    expect(fromSeries(series(10_000, many)).t.length).toBe(MAX_POINTS);
  });
});

describe('appended', () => {
  const c = fromSeries(series(10_000, [[10_000, 1000, 0], [20_000, 2000, 0], [40_000, 4000, 0]]));
  it('adds at the end', () => expect(times(appended(c, window(50_000, 5000), 0)).at(-1)).toBe(50_000));
  it('puts the window on the grid of the series', () => expect(times(appended(c, window(53_000, 5000), 0)).at(-1)).toBe(50_000));
  it('replaces a window that came twice', () => {
    const d = appended(c, window(40_000, 9000), 0);
    expect(times(d)).toEqual(times(c));
    expect(d.p50.at(-1)).toBe(9);
  });
  it('fills a gap by late data', () => {
    const d = appended(c, window(30_000, 3000), 0);
    expect(times(d)).toEqual([10_000, 20_000, 30_000, 40_000]);
    expect(d.p50).toEqual([1, 2, 3, 4]);
  });
  it('leaves a gap when windows are missing', () => {
    const d = appended(c, window(90_000, 1000), 0);
    expect(times(d).slice(-3)).toEqual([40_000, 50_000, 90_000]);
    expect(d.p50.at(-2)).toBeNull();
  });
  it('forgets what left the range', () => expect(times(appended(c, window(50_000, 1000), 35_000))).toEqual([40_000, 50_000]));
  it('does not take what lies before the range', () => expect(times(appended(c, window(1_000, 1000), 35_000))).toEqual([40_000]));
  it('only where a step is no longer than a window', () => {
    expect(appendable(c, window(0, 1))).toBe(true);
    expect(appendable({ ...c, stepMs: 60_000 }, window(0, 1))).toBe(false);
  });
});

describe('summary', () => {
  it('says what the picture shows', () => {
    const s = summary(fromSeries(series(10_000, [[10_000, 1000, 0], [20_000, 3000, 0.2], [50_000, 2000, 0.1]])));
    expect(s).toMatchObject({ points: 3, gaps: 1, p50: 2, worst: 3.5, jitter: null, lossWorst: 0.2 });
    expect(s.loss).toBeCloseTo(0.1);
  });
  it('knows nothing of an empty series', () => {
    expect(summary(fromSeries(series(10_000, [])))).toEqual({ points: 0, gaps: 0, p50: null, worst: null, jitter: null, loss: null, lossWorst: null });
  });
  it('counts a gap at the beginning', () => {
    expect(summary(fromSeries(series(10_000, [[10_000, null, null, null], [20_000, 1, 0]]))).gaps).toBe(1);
  });
});

describe('axes', () => {
  it('ends the delay axis where one spike would flatten the rest', () => {
    const points = Array.from({ length: 100 }, (_, i): Given => [i * 10_000, i === 50 ? 900_000 : 10_000, 0]);
    const [low, high] = delayRange(fromSeries(series(10_000, points)));
    expect(low).toBe(0);
    expect(high).toBeLessThan(50);
  });
  it('shows the whole of an even series', () => {
    const [, high] = delayRange(fromSeries(series(10_000, [[10_000, 10_000, 0], [20_000, 12_000, 0]])));
    expect(high).toBeGreaterThan(12.5);
  });
  it('has a range without data', () => expect(delayRange(fromSeries(series(10_000, [])))).toEqual([0, 1]));
  it.each([[0, 0.05], [0.05, 0.05], [0.06, 0.1], [0.3, 0.5], [0.51, 1], [1, 1]])('loss of %s', (loss, want) => {
    expect(lossTop(fromSeries(series(10_000, [[10_000, 1, loss]])))).toBe(want);
  });
});

describe('lossLevel', () => {
  it.each([[null, 0], [undefined, 0], [0, 0], [0.001, 1], [0.01, 1], [0.02, 2], [0.03, 2], [0.1, 3], [0.11, 4], [1, 4], [7, 4]])('%s', (ratio, want) => {
    expect(lossLevel(ratio)).toBe(want);
  });
});

describe('quantile', () => {
  it('of none', () => expect(quantile([], 0.5)).toBeNull());
  it('of one', () => expect(quantile([4], 0.97)).toBe(4));
  it('does not disturb its input', () => {
    const xs = [3, 1, 2];
    expect(quantile(xs, 0.5)).toBe(2);
    expect(xs).toEqual([3, 1, 2]);
  });
});
