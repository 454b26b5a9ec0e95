// The time range of a page, as the URL has it. Pure.

export const RANGES = [
  { id: '15m', label: '15 m', name: '15 minutes', ms: 15 * 60_000 },
  { id: '1h', label: '1 h', name: '1 hour', ms: 3_600_000 },
  { id: '6h', label: '6 h', name: '6 hours', ms: 6 * 3_600_000 },
  { id: '24h', label: '24 h', name: '24 hours', ms: 24 * 3_600_000 },
  { id: '7d', label: '7 d', name: '7 days', ms: 7 * 24 * 3_600_000 },
] as const;

export type Range = { live: true; id: string; ms: number } | { live: false; fromMs: number; toMs: number };

const LONGEST_MS = 400 * 24 * 3_600_000;

/** Either `from` and `to` (fixed), or `range` (the last so and so long); 1 h if neither. */
export function rangeOf(q: URLSearchParams): Range {
  const from = Number(q.get('from') ?? NaN);
  const to = Number(q.get('to') ?? NaN);
  if (Number.isSafeInteger(from) && Number.isSafeInteger(to) && from > 0 && to - from >= 1000 && to - from <= LONGEST_MS) {
    return { live: false, fromMs: from, toMs: to };
  }
  const found = RANGES.find((r) => r.id === q.get('range')) ?? RANGES[1];
  return { live: true, id: found.id, ms: found.ms };
}

export function lengthOf(r: Range): number {
  return r.live ? r.ms : r.toMs - r.fromMs;
}

export function boundsOf(r: Range, nowMs: number): [number, number] {
  return r.live ? [nowMs - r.ms, nowMs] : [r.fromMs, r.toMs];
}
