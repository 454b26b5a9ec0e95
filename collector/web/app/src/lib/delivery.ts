// What the delivery card says of missing ranges. Pure.

import { count, counted, duration, moment } from './format';
import type { Agent, Gap, Gaps, State } from './types';

interface Label {
  word: string;
  state: State;
  why: string;
}

const LABEL: Record<string, Label> = {
  late: { word: 'On the way', state: 'degraded', why: 'still in the agent’s spool' },
  evicted: { word: 'Evicted', state: 'down', why: 'dropped at the agent for want of room' },
  damaged: { word: 'Damaged', state: 'down', why: 'lost to damage of the agent’s spool' },
  rejected: { word: 'Rejected', state: 'down', why: 'refused for its content; look into dead_letter' },
  discarded: { word: 'Discarded', state: 'down', why: 'a person threw the backlog away' },
  never_collected: { word: 'Never collected', state: 'down', why: 'the agent was not running, or lost it unnoticed' },
};

/** The words of a label; one that this page does not know stands for itself. */
export function labelOf(label: string): Label {
  return Object.hasOwn(LABEL, label) ? (LABEL[label] as Label) : { word: label, state: 'no_data', why: '' };
}

/** Lost ranges first, and what is on its way after them. */
export function split(gaps: readonly Gap[]): { lost: Gap[]; late: Gap[] } {
  return { lost: gaps.filter((g) => g.label !== 'late'), late: gaps.filter((g) => g.label === 'late') };
}

/** The range in numbers, or that there was silence. */
export function rangeText(g: Gap): string {
  if (g.from_seq == null || g.to_seq == null) return 'No records made';
  return g.from_seq === g.to_seq ? `Record ${count(g.from_seq)}` : `Records ${count(g.from_seq)}–${count(g.to_seq)}`;
}

/** When: from the record before to the one after. */
export function whenText(g: Gap, rangeMs: number): string {
  if (g.from_ms == null && g.to_ms == null) return '';
  if (g.from_ms == null) return `before ${moment(g.to_ms as number, rangeMs)}`;
  if (g.to_ms == null) return `since ${moment(g.from_ms, rangeMs)}`;
  return `${moment(g.from_ms, rangeMs)} – ${moment(g.to_ms, rangeMs)}`;
}

/** How much: records, or how long the silence was. */
export function amountText(g: Gap): string {
  if (g.records != null) return counted(g.records, 'record');
  return g.from_ms != null && g.to_ms != null ? duration(g.to_ms - g.from_ms) : '';
}

/** The one line at the top of the card. */
export function verdict(gaps: Gaps, agents: readonly Agent[]): { state: State; word: string } {
  if (agents.length === 0) return { state: 'no_data', word: 'No agent has delivered yet' };
  const { lost, late } = split(gaps.gaps);
  const ranges = (n: number) => counted(n, 'range') + (gaps.more ? ' or more' : '');
  if (lost.length) return { state: 'down', word: `${ranges(lost.length)} missing` };
  if (late.length) return { state: 'degraded', word: `Nothing lost, ${ranges(late.length)} on the way` };
  // What an agent that is away still has, nobody here knows.
  if (agents.some((a) => !a.connected)) return { state: 'degraded', word: 'Complete until the agent went away' };
  return { state: 'ok', word: 'Complete' };
}
