import { clock } from './clock.svelte';
import { session } from './session.svelte';
import { nextDelay, STALE_AFTER_MS } from './staleness';
import type { Incident, SiteDetail, SiteRow, Storage, WindowEvent } from './types';

export interface Events {
  fleet: SiteRow;
  storage: Storage;
  window: WindowEvent;
  site: SiteDetail;
  incident: Incident;
  ping: { now_ms: number };
}

type Listener = (data: never) => void;

/**
 * The live stream of the collector. One connection at a time; EventSource connects
 * again by itself after a break, and this class does where it gives up. When a
 * connection comes back after a break, `reopened` grows: what happened in between was
 * not heard, and pages read everything anew.
 */
class Stream {
  open = $state(false);
  stale = $state(false);
  silentMs = $state(0); // since the last ping
  reopened = $state(0);
  storage = $state<Storage>({ ok: true });

  #source: EventSource | undefined;
  #site: string | undefined;
  #listeners = new Map<keyof Events, Set<Listener>>();
  #retry: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #wasOpen = false;
  #dialledMs = 0;
  #heardMs = 0; // of the last ping, by the viewer's clock

  /** Connects, for one site or for the fleet. Returns what ends it. */
  connect(site?: string): () => void {
    this.#site = site;
    this.#wasOpen = false;
    this.#heard();
    this.#dial();
    const watch = setInterval(() => this.#judge(), 1000);
    return () => {
      clearInterval(watch);
      this.#hangUp();
    };
  }

  on<K extends keyof Events>(event: K, fn: (data: Events[K]) => void): () => void {
    let set = this.#listeners.get(event);
    if (!set) this.#listeners.set(event, (set = new Set()));
    set.add(fn as Listener);
    return () => set.delete(fn as Listener);
  }

  #judge(): void {
    this.silentMs = Date.now() - this.#heardMs;
    this.stale = this.silentMs > STALE_AFTER_MS;
    // A connection can be dead without either side being told, as after a laptop slept.
    if (this.stale && Date.now() - Math.max(this.#heardMs, this.#dialledMs) > 2 * STALE_AFTER_MS) this.#again();
  }

  #hangUp(): void {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = undefined;
    this.open = false;
  }

  #dial(): void {
    this.#hangUp();
    this.#dialledMs = Date.now();
    const src = new EventSource('/api/v1/stream' + (this.#site ? '?site=' + encodeURIComponent(this.#site) : ''));
    this.#source = src;
    src.onopen = () => {
      this.open = true;
      this.#failures = 0;
      this.#heard();
      if (this.#wasOpen) this.reopened++;
      this.#wasOpen = true;
    };
    src.onerror = () => {
      this.open = false;
      if (src.readyState === EventSource.CLOSED) this.#again();
    };
    for (const name of ['fleet', 'storage', 'window', 'site', 'incident', 'ping'] as const) {
      src.addEventListener(name, (e) => this.#take(name, (e as MessageEvent<string>).data));
    }
  }

  #again(): void {
    this.#hangUp();
    this.#dialledMs = Date.now();
    this.#retry = setTimeout(() => {
      // The browser hides the status of a refused stream, so ask who we are.
      void session.load().then(() => {
        if (session.value?.signed_in && !this.#source) this.#dial();
        else if (session.error) this.#again();
      });
    }, nextDelay(this.#failures++, Math.random()));
  }

  #heard(): void {
    this.#heardMs = Date.now();
    this.silentMs = 0;
    this.stale = false;
  }

  #take(name: keyof Events, text: string): void {
    let data: unknown;
    try {
      data = JSON.parse(text);
    } catch {
      return; // not ours to judge; the next reading of the page sets it right
    }
    if (name === 'ping') {
      this.#heard();
      clock.learn((data as { now_ms: number }).now_ms);
    } else if (name === 'storage') {
      this.storage = data as Storage;
    }
    for (const fn of this.#listeners.get(name) ?? []) fn(data as never);
  }
}

export const stream = new Stream();
