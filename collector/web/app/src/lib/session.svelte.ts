import { api, errorText, whenSignedOut } from './api';
import { router } from './router.svelte';
import type { Session } from './types';

class SessionState {
  value = $state<Session>();
  error = $state('');

  async load(): Promise<void> {
    this.error = '';
    try {
      this.value = await api.session();
    } catch (err) {
      this.error = errorText(err);
    }
  }

  set(value: Session): void {
    this.value = value;
  }

  async signOut(): Promise<void> {
    await api.signOut().catch(() => {}); // the cookie may be gone already
    await this.load();
  }

  /** The collector said that nobody is signed in: show the sign-in page, and come back. */
  lost(): void {
    if (this.value) this.value = { ...this.value, signed_in: false };
    else void this.load();
  }
}

export const session = new SessionState();
whenSignedOut(() => session.lost());

/** The page that must be shown before the wished one, if any. */
export function detour(): string | undefined {
  const s = session.value;
  const page = router.route.page;
  if (!s) return undefined;
  if (s.setup_needed) return page === 'setup' ? undefined : '/setup';
  if (!s.signed_in && page !== 'signin') {
    const wished = router.path + router.search;
    return page === 'setup' || wished === '/' ? '/signin' : '/signin?next=' + encodeURIComponent(wished);
  }
  return undefined;
}
