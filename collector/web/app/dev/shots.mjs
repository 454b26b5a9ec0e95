// Takes screenshots of the pages in headless Chromium, against a mock that runs.
//   node dev/shots.mjs BASE OUTDIR [name-filter]
// Talks to the browser by its own debugging protocol over a pipe; needs no package.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [base, out, only = ''] = process.argv.slice(2);
const SHOTS = JSON.parse(process.env.SHOTS ? (process.env.SHOTS.startsWith('@') ? readFileSync(process.env.SHOTS.slice(1), 'utf8') : process.env.SHOTS) : 'null') ?? [
  { name: 'fleet', path: '/' },
  { name: 'site-degraded', path: '/sites/s1001', full: true },
  { name: 'site-down', path: '/sites/s1000?range=15m' },
  { name: 'incidents', path: '/incidents?state=all' },
];
const SIZES = { desktop: [1440, 900], laptop: [1366, 768], phone: [390, 844], narrow: [320, 640] };
const DEFAULT_SIZES = ['desktop-light', 'desktop-dark', 'phone-light'];

class Browser {
  #next = 1;
  #waiting = new Map();
  #listeners = [];
  #rest = '';

  static async start() {
    const b = new Browser();
    b.dir = await mkdtemp(join(tmpdir(), 'shots-'));
    b.child = spawn('chromium', ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars', `--user-data-dir=${b.dir}`, '--remote-debugging-pipe', 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    b.child.stdio[4].on('data', (d) => b.#read(String(d)));
    return b;
  }

  #read(text) {
    const parts = (this.#rest + text).split('\0');
    this.#rest = parts.pop();
    for (const p of parts) {
      const m = JSON.parse(p);
      if (m.id) {
        const { resolve, reject } = this.#waiting.get(m.id);
        this.#waiting.delete(m.id);
        if (m.error) reject(new Error(m.error.message));
        else resolve(m.result);
      } else for (const fn of this.#listeners) fn(m);
    }
  }

  send(method, params = {}, sessionId) {
    const id = this.#next++;
    this.child.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + '\0');
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  on(fn) {
    this.#listeners.push(fn);
  }

  async stop() {
    await this.send('Browser.close').catch(() => {});
    await new Promise((done) => this.child.on('exit', done));
    await rm(this.dir, { recursive: true, force: true });
  }
}

const browser = await Browser.start();
const complaints = [];
browser.on((m) => {
  if (m.method === 'Runtime.exceptionThrown') complaints.push(m.params.exceptionDetails.exception?.description ?? m.params.exceptionDetails.text);
  if (m.method === 'Runtime.consoleAPICalled' && m.params.type !== 'log') complaints.push(m.params.args.map((a) => a.value ?? a.description).join(' '));
  if (m.method === 'Log.entryAdded') complaints.push(`${m.params.entry.text} ${m.params.entry.url ?? ''}`);
});
await mkdir(out, { recursive: true });
try {
  for (const shot of SHOTS.filter((s) => s.name.includes(only))) {
    for (const [sizeName, [width, height]] of Object.entries(SIZES)) {
      for (const scheme of ['light', 'dark']) {
        if (!(shot.sizes ?? DEFAULT_SIZES).includes(`${sizeName}-${scheme}`)) continue;
        await take(shot, sizeName, width, height, scheme);
      }
    }
  }
} finally {
  await browser.stop();
}
for (const c of new Set(complaints)) console.log('browser says:', c);

async function take(shot, sizeName, width, height, scheme) {
  const { targetId } = await browser.send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await browser.send('Target.attachToTarget', { targetId, flatten: true });
  const page = (method, params) => browser.send(method, params, sessionId);
  await page('Runtime.enable');
  await page('Log.enable');
  await page('Page.enable');
  await page('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 500 });
  await page('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
  await page('Page.navigate', { url: base + shot.path });
  await new Promise((done) => setTimeout(done, shot.wait ?? 1800));
  for (const [type, x, y] of shot.mouse ?? []) {
    await page('Input.dispatchMouseEvent', { type, x, y, button: 'left', buttons: type === 'mouseReleased' ? 0 : 1, clickCount: 1 });
  }
  if (shot.run) {
    const r = await page('Runtime.evaluate', { expression: `(async () => { ${shot.run} })()`, awaitPromise: true, returnByValue: true });
    if (r.exceptionDetails) console.log(shot.name, r.exceptionDetails.exception?.description);
    else if (r.result?.value !== undefined) console.log(shot.name, sizeName, r.result.value);
    await new Promise((done) => setTimeout(done, shot.after ?? 600));
  }
  const wide = await page('Runtime.evaluate', { expression: 'document.documentElement.scrollWidth - innerWidth', returnByValue: true });
  if (wide.result.value > 0) console.log(`${shot.name} ${sizeName}: ${wide.result.value} px too wide`);
  const full = shot.full && (await page('Page.getLayoutMetrics')).cssContentSize;
  const clip = full ? { clip: { x: 0, y: 0, width, height: Math.min(full.height, 3200), scale: 1 }, captureBeyondViewport: true } : {};
  const { data } = await page('Page.captureScreenshot', { format: 'png', ...clip });
  await writeFile(join(out, `${shot.name}-${sizeName}-${scheme}.png`), Buffer.from(data, 'base64'));
  await browser.send('Target.closeTarget', { targetId });
}
