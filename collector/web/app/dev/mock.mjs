// A stand-in for the collector, for working on the pages: the contract's JSON and its
// live stream with plausible data, bad states included. It also serves the built pages
// with the headers of the real handler, so that the content security policy is felt.
//   node dev/mock.mjs [--port 4173] [--empty] [--setup] [--hostile] [--storage-down] [--silent] [--sites N]
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { World } from './world.mjs';

const flag = (name) => process.argv.includes('--' + name);
const value = (name, otherwise) => {
  const i = process.argv.indexOf('--' + name);
  return i > 0 ? process.argv[i + 1] : otherwise;
};

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' };
const POLICY =
  "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
  "require-trusted-types-for 'script'; trusted-types svelte-trusted-html";

const world = new World({ sites: Number(value('sites', 34)), hostile: flag('hostile'), empty: flag('empty') });
let setupNeeded = flag('setup');
let signedIn = !flag('setup') && !flag('signed-out');
let tries = 0;
const streams = new Set();

const session = () => ({
  signed_in: signedIn,
  setup_needed: setupNeeded,
  ...(signedIn ? { user: { email: 'owner@example.com', name: 'Robin Hale', role: 'owner' } } : {}),
  product_version: '0.1.0',
});
const storage = () =>
  flag('storage-down') ? { ok: false, detail: 'dial tcp 127.0.0.1:9000: connection refused', since_ms: Date.now() - 130_000 } : { ok: true };

function json(res, status, body, headers = {}) {
  res.writeHead(status, { 'Content-Type': status < 400 ? 'application/json' : 'application/problem+json', 'Cache-Control': 'no-store', ...headers });
  res.end(body === undefined ? undefined : JSON.stringify(body));
}
const problem = (res, status, detail, headers) => json(res, status, { status, title: 'Refused', detail }, headers);

async function bodyOf(req) {
  let text = '';
  for await (const chunk of req) text += chunk;
  return text ? JSON.parse(text) : {};
}

async function signing(req, res, path) {
  if (path === '/session' && req.method === 'GET') return json(res, 200, session());
  if (path === '/session' && req.method === 'DELETE') {
    signedIn = false;
    return json(res, 204);
  }
  const body = await bodyOf(req);
  if (path === '/setup') {
    if (!setupNeeded) return problem(res, 409, 'An owner exists already.');
    if (body.code !== 'K7QF-92MD') return problem(res, 403, 'This code is wrong.');
    setupNeeded = false;
    signedIn = true;
    return json(res, 201, session());
  }
  if (body.password === 'correct horse battery') {
    signedIn = true;
    return json(res, 201, session());
  }
  if (++tries >= 4) return problem(res, 429, 'Too many tries.', { 'Retry-After': '40' });
  return problem(res, 401, 'email or password is wrong');
}

function stream(req, res, url) {
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  const client = { site: url.searchParams.get('site'), send: (event, data) => res.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`) };
  streams.add(client);
  client.send('ping', { now_ms: Date.now() });
  client.send('storage', storage());
  req.on('close', () => streams.delete(client));
}

async function apiCall(req, res, url) {
  const path = url.pathname.slice('/api/v1'.length);
  if (path === '/session' || path === '/setup') return signing(req, res, path);
  if (!signedIn) return problem(res, 401, 'Sign in first.');
  const parts = path.split('/').filter(Boolean).map(decodeURIComponent);
  if (path === '/stream') return stream(req, res, url);
  if (path === '/fleet') return json(res, 200, world.fleet(storage()));
  if (path === '/tree') return json(res, 200, world.tree());
  if (path === '/incidents') return json(res, 200, { incidents: world.incidents(url.searchParams.get('state')) });
  if (path === '/tokens' && req.method === 'POST') {
    const body = await bodyOf(req);
    const token = 'st1.Y29sbGVjdG9yLmV4YW1wbGUuY29tOjQ0Mw.8F3K2Q9D.t5YqN0eJw2mZ8rXc4uVb7hKs.Qm9vdFNwa2lTaGEyNTZPZlRoZVJvb3RDZXJ0aWZpY2F0ZQ';
    setTimeout(() => {
      const row = world.add(body);
      for (const s of streams) s.send('fleet', row);
    }, 4000);
    return json(res, 201, { token, command: `sidetone-agent enrol ${token} --state-dir /var/lib/sidetone-agent`, expires_ms: Date.now() + (body.hours ?? 24) * 3_600_000 });
  }
  if (parts[0] === 'sites' && parts.length === 2) {
    const site = world.site(parts[1]);
    return site ? json(res, 200, site) : problem(res, 404, 'There is no such site.');
  }
  if (parts[0] === 'sites' && parts[2] === 'series') {
    const q = url.searchParams;
    const series = world.series(parts[1], q.get('target'), Number(q.get('from_ms')), Number(q.get('to_ms')));
    return series ? json(res, 200, series) : problem(res, 404, 'There is no such target.');
  }
  if (parts[0] === 'sites' && parts[2] === 'gaps') {
    const to = Date.now();
    const hour = 3_600_000;
    return json(res, 200, { from_ms: to - 24 * hour, to_ms: to, more: false, gaps: [
      { agent_id: '1', label: 'late', epoch: '7', from_seq: 901, to_seq: 940, records: 40, from_ms: to - hour / 6 },
      { agent_id: '1', label: 'never_collected', epoch: '7', from_ms: to - 5 * hour, to_ms: to - 4 * hour },
      { agent_id: '1', label: 'evicted', epoch: '7', from_seq: 120, to_seq: 1480, records: 1361, from_ms: to - 9 * hour, to_ms: to - 8 * hour },
    ] });
  }
  return problem(res, 404, 'There is no such path in the API.');
}

async function page(res, url) {
  const wanted = normalize(url.pathname);
  const name = extname(wanted) ? wanted : '/index.html';
  try {
    const body = await readFile(join(DIST, name));
    res.writeHead(200, { 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream', 'Content-Security-Policy': POLICY, 'Referrer-Policy': 'no-referrer' });
    res.end(body);
  } catch {
    problem(res, 404, 'There is no such file.');
  }
}

const server = createServer((req, res) => {
  const url = new URL(req.url, 'http://mock');
  const answer = url.pathname.startsWith('/api/') ? apiCall(req, res, url) : page(res, url);
  Promise.resolve(answer).catch((err) => problem(res, 500, String(err)));
});

if (!flag('silent')) {
  setInterval(() => {
    for (const s of streams) s.send('ping', { now_ms: Date.now() });
  }, 10_000);
}
setInterval(() => {
  for (const s of streams) {
    if (s.site) for (const w of world.windows(s.site)) s.send('window', w);
    else for (const row of world.drift()) s.send('fleet', row);
  }
}, 2_500);

server.listen(Number(value('port', 4173)), '127.0.0.1', () => {
  console.log(`mock collector on http://127.0.0.1:${server.address().port}`);
});
