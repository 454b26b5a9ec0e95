// Words for states. Each state has a word, a symbol (ui/Mark.svelte) and a colour, so
// that none of them carries the meaning alone.

import type { Method, PBXState, Severity, State, Trunk } from './types';

/** Worst first: the order in which everything is listed. */
export const STATES: readonly State[] = ['down', 'degraded', 'no_data', 'ok'];

export const STATE_WORD: Record<State, string> = {
  ok: 'OK',
  degraded: 'Degraded',
  down: 'Down',
  no_data: 'No data',
};

export const PBX_WORD: Record<PBXState, string> = {
  ok: 'Reachable',
  unreachable: 'Unreachable',
  auth_failed: 'Sign-in refused',
  busy: 'Busy',
};

export const PBX_STATE: Record<PBXState, State> = {
  ok: 'ok',
  unreachable: 'down',
  auth_failed: 'degraded',
  busy: 'degraded',
};

export const METHOD_WORD: Record<Method, string> = {
  icmp: 'ICMP echo',
  stamp: 'STAMP',
  tcp: 'TCP connect',
  tls: 'TLS handshake',
  dns: 'DNS',
  stun: 'STUN',
};

export const SEVERITY_WORD: Record<Severity, string> = {
  critical: 'Critical',
  warning: 'Warning',
  info: 'Information',
};

export const SEVERITY_STATE: Record<Severity, State> = {
  critical: 'down',
  warning: 'degraded',
  info: 'no_data',
};

/** The state of a known word, and "no data" for one that this page does not know. */
export function stateOf(word: string | undefined): State {
  return word !== undefined && Object.hasOwn(STATE_WORD, word) ? (word as State) : 'no_data';
}

/** The word of a table, or the given word itself when the table lacks it. */
export function wordOf(table: Record<string, string>, word: string): string {
  return Object.hasOwn(table, word) ? (table[word] as string) : word;
}

export function trunkState(t: Trunk): { state: State; word: string } {
  if (!t.registration_needed) return { state: t.configuration_issue ? 'degraded' : 'ok', word: 'No registration needed' };
  if (!t.registered) return { state: 'down', word: 'Unregistered' };
  return { state: t.configuration_issue ? 'degraded' : 'ok', word: 'Registered' };
}

export function serviceState(status: string): State {
  switch (status.toLowerCase()) {
    case 'running':
      return 'ok';
    case 'stopped':
    case 'failed':
      return 'down';
    case '':
    case 'unknown':
      return 'no_data';
    default:
      return 'degraded';
  }
}

/** The state that a word of the change list stands for, when it is a known one. */
export function changeState(word: string): State | undefined {
  switch (word.toLowerCase().replaceAll(' ', '_')) {
    case 'ok':
    case 'registered':
    case 'running':
    case 'connected':
    case 'active':
    case 'reachable':
      return 'ok';
    case 'down':
    case 'unregistered':
    case 'stopped':
    case 'disconnected':
    case 'unreachable':
    case 'inactive':
    case 'failed':
      return 'down';
    case 'degraded':
    case 'busy':
    case 'auth_failed':
      return 'degraded';
    case 'no_data':
    case 'unknown':
      return 'no_data';
    default:
      return undefined;
  }
}
