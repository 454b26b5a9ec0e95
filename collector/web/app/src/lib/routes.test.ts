import { describe, expect, it } from 'vitest';
import { match, patched, safeNext } from './routes';

describe('match', () => {
  const cases: [string, object][] = [
    ['/', { page: 'fleet' }],
    ['', { page: 'fleet' }],
    ['/incidents', { page: 'incidents' }],
    ['/incidents/', { page: 'incidents' }],
    ['/signin', { page: 'signin' }],
    ['/setup', { page: 'setup' }],
    ['/sites/7d0c', { page: 'site', siteId: '7d0c' }],
    ['/sites/a%2Fb%20c', { page: 'site', siteId: 'a/b c' }],
    ['/sites/%E0%A4%A', { page: 'unknown' }],
    ['/sites', { page: 'unknown' }],
    ['/sites/a/b', { page: 'unknown' }],
    ['/constructor', { page: 'unknown' }],
  ];
  it.each(cases)('%s', (path, want) => expect(match(path)).toEqual(want));
});

describe('safeNext', () => {
  const cases: [string, string | null, string][] = [
    ['none', null, '/'],
    ['a page with its query', '/sites/1?range=6h', '/sites/1?range=6h'],
    ['another host', 'https://evil.example/', '/'],
    ['another host without a scheme', '//evil.example/x', '/'],
    ['another host by a backslash', '/\\evil.example', '/'],
    ['a tab that browsers drop', '/\t/evil.example', '/'],
    ['a script', 'javascript:alert(1)', '/'],
    ['round in a circle', '/signin?next=/signin', '/'],
    ['malformed', '/%', '/%'],
  ];
  it.each(cases)('%s', (_name, next, want) => expect(safeNext(next, 'https://collector.example')).toBe(want));
});

describe('patched', () => {
  const q = () => new URLSearchParams('q=a&sort=loss');
  it('adds', () => expect(patched(q(), { dir: 'reverse' })).toBe('?q=a&sort=loss&dir=reverse'));
  it('takes out', () => expect(patched(q(), { q: '', sort: null })).toBe(''));
  it('escapes', () => expect(patched(new URLSearchParams(), { q: 'a&b=<c>' })).toBe('?q=a%26b%3D%3Cc%3E'));
});
