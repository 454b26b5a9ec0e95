// Numbers, times and names as people read them. Pure functions; "not known" is an
// empty string, which the caller shows as no data and never as zero.

import type { Maybe } from './types';

const NBSP = '\u00a0';

function known(x: Maybe<number>): x is number {
  return typeof x === 'number' && Number.isFinite(x);
}

function fixed(x: number, digits: number): string {
  return x.toFixed(digits);
}

/** A delay in milliseconds with three significant digits, at most two decimals. */
export function delay(us: Maybe<number>): string {
  if (!known(us)) return '';
  const ms = us / 1000;
  if (ms >= 10_000) return fixed(ms / 1000, 1) + NBSP + 's';
  return delayNumber(ms) + NBSP + 'ms';
}

function delayNumber(ms: number): string {
  if (ms < 9.995) return fixed(ms, 2);
  if (ms < 99.95) return fixed(ms, 1);
  return fixed(ms, 0);
}

/** A ratio of 0…1 as percent. Never rounds to 0 % or 100 % what is not. */
export function percent(ratio: Maybe<number>): string {
  if (!known(ratio)) return '';
  const p = ratio * 100;
  if (p === 0) return '0' + NBSP + '%';
  if (p >= 100) return '100' + NBSP + '%';
  if (p < 0.01) return '<0.01' + NBSP + '%';
  if (p > 99.9) return '>99.9' + NBSP + '%';
  if (p < 0.995) return fixed(p, 2) + NBSP + '%';
  if (p < 9.95 || p > 99) return fixed(p, 1) + NBSP + '%';
  return fixed(p, 0) + NBSP + '%';
}

/** Without zeros at the end of its decimals: for labels of an axis. */
export function short(text: string): string {
  return text.replace(/(\.\d*?)0+(?=\D|$)/, '$1').replace(/\.(?=\D|$)/, '');
}

/** A size in decimal units, three significant digits. */
export function bytes(n: Maybe<number>): string {
  if (!known(n)) return '';
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let i = 0;
  let x = n;
  while (Math.abs(x) >= 999.5 && i < units.length - 1) {
    x /= 1000;
    i++;
  }
  const digits = i === 0 || Math.abs(x) >= 99.5 ? 0 : Math.abs(x) >= 9.95 ? 1 : 2;
  return fixed(x, digits) + NBSP + units[i];
}

const grouped = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });

/** A count with grouped thousands. */
export function count(n: Maybe<number>): string {
  return known(n) ? grouped.format(n) : '';
}

/** A count and its noun: 1 site, 2 sites. */
export function counted(n: number, one: string, many: string = one + 's'): string {
  return grouped.format(n) + NBSP + (n === 1 ? one : many);
}

/** A length of time in its one or two largest units. */
export function duration(ms: Maybe<number>): string {
  if (!known(ms)) return '';
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return s + NBSP + 's';
  const min = Math.floor(s / 60);
  if (min < 60) return min + NBSP + 'min';
  const h = Math.floor(min / 60);
  if (h < 24) return h + NBSP + 'h' + (h < 6 && min % 60 ? NBSP + (min % 60) + NBSP + 'min' : '');
  const d = Math.floor(h / 24);
  return d + NBSP + 'd' + (d < 3 && h % 24 ? NBSP + (h % 24) + NBSP + 'h' : '');
}

/** How long ago, or in how long, an instant lies. */
export function ago(atMs: Maybe<number>, nowMs: number): string {
  if (!known(atMs)) return '';
  const d = nowMs - atMs;
  if (d < -1500) return 'in' + NBSP + duration(-d);
  if (d < 1500) return 'just now';
  return duration(d) + NBSP + 'ago';
}

const local = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric',
  month: 'short',
  year: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZoneName: 'short',
});

const utc = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  day: 'numeric',
  month: 'short',
  timeZone: 'UTC',
});

const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });

/** Date and time in the viewer's zone, and in UTC: for titles. */
export function absolute(atMs: Maybe<number>): string {
  if (!known(atMs)) return '';
  const at = new Date(atMs);
  if (Number.isNaN(at.getTime())) return '';
  return `${local.format(at)} (${utc.format(at)} UTC)`;
}

/** The day alone, in the viewer's zone. */
export function date(atMs: Maybe<number>): string {
  if (!known(atMs)) return '';
  const at = new Date(atMs);
  return Number.isNaN(at.getTime()) ? '' : day.format(at);
}

const clockTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const clockSeconds = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayTime = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const dayShort = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short' });

/** The time of day for a table or a cursor; with the day when the range is long. */
export function moment(atMs: number, rangeMs: number): string {
  return rangeMs > 20 * 3_600_000 ? dayTime.format(atMs) : clockSeconds.format(atMs);
}

/** A label on the time axis, as short as the distance of the labels allows. */
export function tick(atMs: number, spacingMs: number): string {
  const at = new Date(atMs);
  if (spacingMs >= 86_400_000 || (at.getHours() === 0 && at.getMinutes() === 0)) return dayShort.format(at);
  return spacingMs < 60_000 ? clockSeconds.format(at) : clockTime.format(at);
}

/**
 * A name from outside, for places that show plain text only (document title, title
 * attributes): without control characters and without marks that turn the direction.
 */
export function plain(text: Maybe<string>, limit = 80): string {
  if (!text) return '';
  const clean = text
    .replace(/[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
  const letters = Array.from(clean);
  return letters.length > limit ? letters.slice(0, limit - 1).join('') + '…' : clean;
}
