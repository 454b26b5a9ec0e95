// The columns behind a chart: made from the API's series, grown by live windows, with
// every gap kept as a gap. Pure.

import type { Maybe, Series, Window } from './types';

export type Cell = number | null;

/** Delays in ms, loss as a ratio. Equal lengths, times rising. */
export interface SeriesColumns {
  stepMs: number;
  t: number[];
  min: Cell[];
  p10: Cell[];
  p50: Cell[];
  p90: Cell[];
  max: Cell[];
  jitter: Cell[];
  loss: Cell[];
}

const FIELDS = ['min', 'p10', 'p50', 'p90', 'max', 'jitter', 'loss'] as const;
type Field = (typeof FIELDS)[number];
type Point = { t: number } & Record<Field, Cell>;

/** What one chart keeps at most, whatever comes in. */
export const MAX_POINTS = 4000;

function cell(x: Maybe<number>, divisor = 1): Cell {
  return typeof x === 'number' && Number.isFinite(x) ? x / divisor : null;
}

/** Columns without a point. */
export function empty(stepMs: number): SeriesColumns {
  return { stepMs: Math.max(1, stepMs), t: [], min: [], p10: [], p50: [], p90: [], max: [], jitter: [], loss: [] };
}

function gapPoint(t: number): Point {
  return { t, min: null, p10: null, p50: null, p90: null, max: null, jitter: null, loss: null };
}

function push(c: SeriesColumns, p: Point): void {
  c.t.push(p.t);
  for (const f of FIELDS) c[f].push(p[f]);
}

function pointAt(c: SeriesColumns, i: number): Point {
  const p = gapPoint(c.t[i] as number);
  for (const f of FIELDS) p[f] = c[f][i] ?? null;
  return p;
}

/** Whether anything was measured in a point: an answer, or the loss of all. */
export function hasData(c: SeriesColumns, i: number): boolean {
  return c.p50[i] != null || c.loss[i] != null;
}

/** Number of points that a chart draws. */
export function drawn(c: SeriesColumns): number {
  let n = 0;
  for (let i = 0; i < c.t.length; i++) if (hasData(c, i)) n++;
  return n;
}

/** Rebuilds columns from points in order, and marks each missing stretch by an empty point. */
function build(points: Point[], stepMs: number): SeriesColumns {
  const c = empty(stepMs);
  for (const p of points.slice(-MAX_POINTS)) {
    const last = c.t.at(-1);
    if (last !== undefined && p.t - last > 1.5 * stepMs) push(c, gapPoint(last + stepMs));
    push(c, p);
  }
  return c;
}

export function fromSeries(s: Series): SeriesColumns {
  const points = s.t_ms.map((t, i): Point => {
    const sent = cell(s.sent[i]);
    return {
      t,
      min: cell(s.rtt_min_us[i], 1000),
      p10: cell(s.rtt_p10_us[i], 1000),
      p50: cell(s.rtt_p50_us[i], 1000),
      p90: cell(s.rtt_p90_us[i], 1000),
      max: cell(s.rtt_max_us[i], 1000),
      jitter: cell(s.jitter_us[i], 1000),
      loss: sent === 0 ? null : cell(s.loss_ratio[i]), // nothing sent is nothing lost
    };
  });
  points.sort((a, b) => a.t - b.t);
  return build(points, Math.max(1, s.step_ms));
}

function fromWindow(w: Window, stepMs: number): Point {
  return {
    t: Math.floor(w.observed_ms / stepMs) * stepMs,
    min: cell(w.rtt_min_us, 1000),
    p10: cell(w.rtt_p10_us, 1000),
    p50: cell(w.rtt_p50_us, 1000),
    p90: cell(w.rtt_p90_us, 1000),
    max: cell(w.rtt_max_us, 1000),
    jitter: cell(w.jitter_us, 1000),
    loss: w.sent > 0 ? cell(w.loss_ratio) : null,
  };
}

/** Whether live windows fit the chart one by one; else a step holds several of them. */
export function appendable(c: SeriesColumns, w: Window): boolean {
  return w.length_ms > 0 && c.stepMs <= w.length_ms * 1.01;
}

/** The columns with one more window, and without what lies before `fromMs`. */
export function appended(c: SeriesColumns, w: Window, fromMs: number): SeriesColumns {
  const fresh = fromWindow(w, c.stepMs);
  const points: Point[] = [];
  let placed = fresh.t < fromMs;
  for (let i = 0; i < c.t.length; i++) {
    const t = c.t[i] as number;
    if (t < fromMs) continue;
    if (!placed && fresh.t <= t) {
      points.push(fresh);
      placed = true;
      if (fresh.t === t) continue;
    }
    points.push(pointAt(c, i));
  }
  if (!placed) points.push(fresh);
  return build(points, c.stepMs);
}

/** Loss in steps that a chart gives a colour each. */
export const LOSS_LEVELS = [
  { upTo: 0, label: 'none' },
  { upTo: 0.01, label: 'to 1 %' },
  { upTo: 0.03, label: 'to 3 %' },
  { upTo: 0.1, label: 'to 10 %' },
  { upTo: 1, label: 'above 10 %' },
] as const;

export function lossLevel(ratio: Maybe<number>): number {
  if (ratio == null || ratio <= 0) return 0;
  const i = LOSS_LEVELS.findIndex((l) => ratio <= l.upTo);
  return i < 0 ? LOSS_LEVELS.length - 1 : i;
}

export interface Summary {
  points: number;
  gaps: number;
  p50: Cell; // median of the medians
  worst: Cell; // largest RTT
  jitter: Cell; // largest
  loss: Cell; // mean of the windows
  lossWorst: Cell;
}

function numbers(col: Cell[]): number[] {
  return col.filter((x): x is number => x !== null);
}

function largest(xs: number[]): Cell {
  return xs.length === 0 ? null : xs.reduce((a, b) => (b > a ? b : a));
}

/** The value below which the given share of the numbers lies. */
export function quantile(xs: number[], q: number): Cell {
  if (xs.length === 0) return null;
  const s = [...xs].sort((a, b) => a - b);
  return s[Math.min(s.length - 1, Math.floor(q * s.length))] as number;
}

export function summary(c: SeriesColumns): Summary {
  const loss = numbers(c.loss);
  let gaps = 0;
  for (let i = 1; i < c.t.length; i++) if (!hasData(c, i) && hasData(c, i - 1)) gaps++;
  if (c.t.length > 0 && !hasData(c, 0)) gaps++;
  return {
    points: drawn(c),
    gaps,
    p50: quantile(numbers(c.p50), 0.5),
    worst: largest(numbers(c.max)),
    jitter: largest(numbers(c.jitter)),
    loss: loss.length === 0 ? null : loss.reduce((a, b) => a + b, 0) / loss.length,
    lossWorst: largest(loss),
  };
}

/**
 * The range of the delay axis in ms. One spike must not press everything else flat:
 * past four times what is usual the axis ends, and the chart marks what it cut.
 */
export function delayRange(c: SeriesColumns): [number, number] {
  const top = largest([...numbers(c.max), ...numbers(c.p50)]);
  if (top === null) return [0, 1];
  const usual = quantile(numbers(c.p90.some((x) => x !== null) ? c.p90 : c.p50), 0.97) ?? top;
  const high = Math.min(top, Math.max(usual * 4, 0.2));
  const low = numbers(c.min.some((x) => x !== null) ? c.min : c.p50).reduce((a, b) => Math.min(a, b), high);
  const from = low > 0.5 * high ? Math.max(0, low - (high - low) * 0.5 - 0.05 * low) : 0;
  return [from, high + (high - from) * 0.06];
}

/** The top of the loss axis: a round ratio, so that small loss stays small on the eye. */
export function lossTop(c: SeriesColumns): number {
  const top = largest(numbers(c.loss)) ?? 0;
  return [0.05, 0.1, 0.25, 0.5].find((x) => top <= x) ?? 1;
}
