// Which page a path names. Pure; router.svelte.ts ties it to the browser.

export type Route =
  | { page: 'fleet' }
  | { page: 'site'; siteId: string }
  | { page: 'incidents' }
  | { page: 'signin' }
  | { page: 'setup' }
  | { page: 'unknown' };

export function match(path: string): Route {
  const parts = path.split('/').filter((p) => p !== '');
  if (parts.length === 0) return { page: 'fleet' };
  if (parts.length === 1) {
    switch (parts[0]) {
      case 'incidents':
        return { page: 'incidents' };
      case 'signin':
        return { page: 'signin' };
      case 'setup':
        return { page: 'setup' };
    }
  }
  if (parts.length === 2 && parts[0] === 'sites') {
    const siteId = decode(parts[1] as string);
    if (siteId) return { page: 'site', siteId };
  }
  return { page: 'unknown' };
}

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

/**
 * The place to go to after signing in: a path of this site and nothing else, whatever
 * the address bar says.
 */
export function safeNext(next: string | null, origin: string): string {
  if (!next || !next.startsWith('/')) return '/';
  let url: URL;
  try {
    url = new URL(next, origin);
  } catch {
    return '/';
  }
  if (url.origin !== origin) return '/';
  const page = match(url.pathname).page;
  return page === 'signin' || page === 'setup' ? '/' : url.pathname + url.search;
}

/** A query with some values changed; null, undefined and '' take a value out. */
export function patched(query: URLSearchParams, patch: Record<string, string | null | undefined>): string {
  const q = new URLSearchParams(query);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null || value === undefined || value === '') q.delete(key);
    else q.set(key, value);
  }
  const s = q.toString();
  return s === '' ? '' : '?' + s;
}
