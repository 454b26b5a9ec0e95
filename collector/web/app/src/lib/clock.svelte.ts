/**
 * The collector's time, once a second. The viewer's clock may be wrong, and then "5 s
 * ago" would be; so the page counts in the collector's time, learned from what it sends.
 */
class Clock {
  now = $state(Date.now());
  #offset = 0;

  /** Takes over an instant that the collector has just named. */
  learn(serverMs: number): void {
    if (!Number.isFinite(serverMs)) return;
    const offset = serverMs - Date.now();
    // Less than a second is delay on the way, not a wrong clock.
    this.#offset = Math.abs(offset) < 1000 ? 0 : offset;
    this.#tick();
  }

  /** The time right now, for use outside of what is drawn. */
  exact(): number {
    return Date.now() + this.#offset;
  }

  start(): () => void {
    const id = setInterval(() => this.#tick(), 1000);
    return () => clearInterval(id);
  }

  #tick(): void {
    this.now = this.exact();
  }
}

export const clock = new Clock();
