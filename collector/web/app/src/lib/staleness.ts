// When live data is too old to be believed, and how soon to try again. Pure.

/** The collector pings every 10 s; two missed pings and a little are a break. */
export const STALE_AFTER_MS = 25_000;

/** How long to wait before try number `failures`+1; random in [0,1) keeps pages apart. */
export function nextDelay(failures: number, random: number): number {
  const ceiling = Math.min(15_000, 1000 * 2 ** Math.min(failures, 10));
  return ceiling / 2 + (ceiling / 2) * random;
}
