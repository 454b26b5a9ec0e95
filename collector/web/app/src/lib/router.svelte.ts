import { match, patched, type Route } from './routes';

/** The address bar as state. Everything a page shows can be read from it. */
class Router {
  path = $state(location.pathname);
  search = $state(location.search);
  readonly route: Route = $derived(match(this.path));
  readonly query = $derived(new URLSearchParams(this.search));

  go(url: string, replace = false): void {
    const moved = new URL(url, location.origin).pathname !== location.pathname;
    if (replace) history.replaceState(null, '', url);
    else history.pushState(null, '', url);
    this.#read();
    if (moved) scrollTo(0, 0);
  }

  /** Changes values of the query in place. */
  set(patch: Record<string, string | null | undefined>, replace = true): void {
    const next = this.path + patched(this.query, patch);
    if (next !== this.path + this.search) this.go(next, replace);
  }

  /** Listens to the back button and to clicks on links of this site. */
  start(): () => void {
    const pop = () => this.#read();
    const click = (e: MouseEvent) => this.#click(e);
    addEventListener('popstate', pop);
    document.addEventListener('click', click);
    return () => {
      removeEventListener('popstate', pop);
      document.removeEventListener('click', click);
    };
  }

  #read(): void {
    this.path = location.pathname;
    this.search = location.search;
  }

  #click(e: MouseEvent): void {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const a = (e.target as Element | null)?.closest?.('a');
    if (!(a instanceof HTMLAnchorElement) || a.origin !== location.origin) return;
    if (a.target || a.hasAttribute('download') || a.hash || a.pathname.startsWith('/api/')) return;
    e.preventDefault();
    this.go(a.pathname + a.search);
  }
}

export const router = new Router();
