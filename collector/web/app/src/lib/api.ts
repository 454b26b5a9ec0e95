// Talking to the collector. Every failure becomes an ApiError with a sentence that can
// be shown as it is.

import type { Fleet, Gaps, Incident, Series, Session, SiteDetail, Token, TokenRequest, Tree } from './types';

const BASE = '/api/v1';
const DEADLINE_MS = 20_000;

export interface FieldError {
  message: string;
  location?: string;
  value?: unknown;
}

export class ApiError extends Error {
  readonly status: number; // 0: no answer at all
  readonly errors: FieldError[];
  readonly retryAfterS: number | undefined;

  constructor(status: number, message: string, errors: FieldError[] = [], retryAfterS?: number) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.errors = errors;
    this.retryAfterS = retryAfterS;
  }
}

let onSignedOut: () => void = () => {};

/** Names what happens when the collector says that nobody is signed in. */
export function whenSignedOut(action: () => void): void {
  onSignedOut = action;
}

/** Seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3). */
export function retryAfter(header: string | null, nowMs: number): number | undefined {
  if (!header) return undefined;
  if (/^\d+$/.test(header.trim())) return Number(header.trim());
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - nowMs) / 1000));
}

function sentence(status: number, body: unknown): { message: string; errors: FieldError[] } {
  const problem = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const errors = Array.isArray(problem.errors)
    ? problem.errors.filter((e): e is FieldError => typeof e?.message === 'string')
    : [];
  const said = [problem.detail, problem.title].find((x): x is string => typeof x === 'string' && x !== '');
  if (said) return { message: said, errors };
  if (status >= 500) return { message: `The collector answered with an error (${status}).`, errors };
  return { message: `The collector refused this request (${status}).`, errors };
}

interface Options {
  method?: 'GET' | 'POST' | 'DELETE';
  body?: unknown;
  signal?: AbortSignal;
  /** A 401 is an answer here and not the end of the session. */
  signingIn?: boolean;
}

async function call<T>(path: string, opts: Options = {}): Promise<T> {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  const writes = opts.method !== undefined && opts.method !== 'GET';
  const init: RequestInit = {
    method: opts.method ?? 'GET',
    credentials: 'same-origin',
    cache: 'no-store',
    headers: { Accept: 'application/json', ...(writes ? { 'Content-Type': 'application/json' } : {}) },
    signal: opts.signal ? AbortSignal.any([opts.signal, deadline]) : deadline,
  };
  if (writes && opts.body !== undefined) init.body = JSON.stringify(opts.body);

  let res: Response;
  try {
    res = await fetch(BASE + path, init);
  } catch (err) {
    if (opts.signal?.aborted) throw err;
    const why = deadline.aborted ? `did not answer within ${DEADLINE_MS / 1000} s` : 'cannot be reached';
    throw new ApiError(0, `The collector ${why}. Check that it runs and that this device is online.`);
  }
  const body: unknown = res.status === 204 ? undefined : await res.json().catch(() => undefined);
  if (!res.ok) {
    if (res.status === 401 && !opts.signingIn) onSignedOut();
    const { message, errors } = sentence(res.status, body);
    throw new ApiError(res.status, message, errors, retryAfter(res.headers.get('Retry-After'), Date.now()));
  }
  if (body === undefined && res.status !== 204) {
    throw new ApiError(res.status, 'The collector sent an answer that this page cannot read. Reload the page.');
  }
  return body as T;
}

export const api = {
  session: (signal?: AbortSignal) => call<Session>('/session', { signal, signingIn: true }),
  signIn: (email: string, password: string) =>
    call<Session>('/session', { method: 'POST', body: { email, password }, signingIn: true }),
  signOut: () => call<void>('/session', { method: 'DELETE' }),
  setUp: (body: { code: string; email: string; name: string; password: string }) =>
    call<Session>('/setup', { method: 'POST', body, signingIn: true }),
  fleet: (signal?: AbortSignal) => call<Fleet>('/fleet', { signal }),
  site: (id: string, signal?: AbortSignal) => call<SiteDetail>(`/sites/${encodeURIComponent(id)}`, { signal }),
  series: (site: string, target: string, fromMs: number, toMs: number, signal?: AbortSignal) => {
    const q = new URLSearchParams({ target, from_ms: String(Math.round(fromMs)), to_ms: String(Math.round(toMs)) });
    return call<Series>(`/sites/${encodeURIComponent(site)}/series?${q}`, { signal });
  },
  gaps: (site: string, signal?: AbortSignal) => call<Gaps>(`/sites/${encodeURIComponent(site)}/gaps`, { signal }),
  incidents: (state: 'open' | 'all', limit: number, signal?: AbortSignal) =>
    call<{ incidents: Incident[] }>(`/incidents?state=${state}&limit=${limit}`, { signal }),
  tree: (signal?: AbortSignal) => call<Tree>('/tree', { signal }),
  createToken: (body: TokenRequest) => call<Token>('/tokens', { method: 'POST', body }),
};

/** The sentence of any error. */
export function errorText(err: unknown): string {
  return err instanceof Error && err.message ? err.message : 'Something went wrong in this page. Reload it.';
}
