// Draws the two canvases of a target with uPlot: delay as smoke (SmokePing's form), and
// beneath it packet loss as bars with interarrival jitter as a line.

import uPlot from 'uplot';
import { delay, percent, short, tick } from '../lib/format';
import { delayRange, lossLevel, lossTop, type Cell, type SeriesColumns } from '../lib/series';

export interface Colours {
  text: string;
  grid: string;
  smokeOuter: string;
  smokeInner: string;
  jitter: string;
  cursor: string;
  loss: string[]; // by level of lossLevel
}

/** Reads the theme's colours as the browser resolved them. */
export function coloursOf(el: HTMLElement): Colours {
  const probe = document.createElement('span');
  probe.hidden = true;
  el.append(probe);
  const read = (name: string) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const colours: Colours = {
    text: read('--ink-2'),
    grid: read('--line'),
    smokeOuter: read('--smoke-outer'),
    smokeInner: read('--smoke-inner'),
    jitter: read('--jitter'),
    cursor: read('--ink-2'),
    loss: [0, 1, 2, 3, 4].map((i) => read(`--loss-${i}`)),
  };
  probe.remove();
  return colours;
}

export interface Look {
  colours: Colours;
  width: number;
  bounds: () => [number, number];
  onCursor: (index: number | null) => void;
  onSelect: (fromMs: number, toMs: number) => void;
}

const LEFT = 54;
const RIGHT = 46;
export const SMOKE_HEIGHT = 164;
export const LOSS_HEIGHT = 92;

const NUMBER_FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

function timeAxis(look: Look, labels: boolean): uPlot.Axis {
  return {
    stroke: look.colours.text,
    font: NUMBER_FONT,
    size: labels ? 26 : 6,
    gap: 4,
    space: 70,
    grid: { stroke: look.colours.grid, width: 1 },
    ticks: { show: labels, stroke: look.colours.grid, width: 1, size: 4 },
    values: labels
      ? (_u, splits, _axis, _space, incr) => splits.map((t) => tick(t, incr))
      : (_u, splits) => splits.map(() => ''),
  };
}

function valueAxis(look: Look, scale: string, side: 1 | 3, format: (v: number) => string): uPlot.Axis {
  return {
    scale,
    side,
    stroke: look.colours.text,
    font: NUMBER_FONT,
    size: side === 3 ? LEFT : RIGHT,
    gap: 5,
    space: 26,
    grid: side === 3 ? { stroke: look.colours.grid, width: 1 } : { show: false },
    ticks: { show: false },
    values: (_u, splits) => splits.map((v) => format(v)),
  };
}

function base(look: Look, height: number): Pick<uPlot.Options, 'width' | 'height' | 'ms' | 'legend' | 'cursor' | 'hooks'> {
  return {
    width: look.width,
    height,
    ms: 1,
    legend: { show: false },
    cursor: {
      // Other charts follow the pointer, not the selection.
      sync: { key: 'site', setSeries: false, filters: { pub: (type) => type === 'mousemove' || type === 'mouseleave', sub: () => true } },
      y: false,
      points: { show: false },
      drag: { x: true, y: false, setScale: false },
    },
    hooks: {
      setCursor: [(u) => look.onCursor(u.cursor.idx ?? null)],
      setSelect: [
        (u) => {
          if (u.select.width < 8) return;
          const from = u.posToVal(u.select.left, 'x');
          const to = u.posToVal(u.select.left + u.select.width, 'x');
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          look.onSelect(Math.round(from), Math.round(to));
        },
      ],
    },
  };
}

const axisMs = (v: number) => short(delay(v * 1000));
const axisPercent = (v: number) => short(percent(v));

/** Calls `draw` for each unbroken run of points for which `has` holds. */
function runs(n: number, has: (i: number) => boolean, draw: (from: number, to: number) => void): void {
  let from = -1;
  for (let i = 0; i <= n; i++) {
    const there = i < n && has(i);
    if (there && from < 0) from = i;
    if (!there && from >= 0) {
      draw(from, i - 1);
      from = -1;
    }
  }
}

class Pen {
  readonly ctx: CanvasRenderingContext2D;
  readonly px: number;
  readonly half: number; // half the width of one step, in canvas pixels

  constructor(
    private readonly u: uPlot,
    private readonly c: SeriesColumns,
    private readonly scale: string,
  ) {
    this.ctx = u.ctx;
    this.px = uPlot.pxRatio;
    const step = Math.abs(u.valToPos(c.stepMs, 'x', true) - u.valToPos(0, 'x', true));
    this.half = Math.min(Math.max(step / 2, 1.5 * this.px), 12 * this.px);
  }

  x(i: number): number {
    return this.u.valToPos(this.c.t[i] as number, 'x', true);
  }

  y(v: number): number {
    return this.u.valToPos(v, this.scale, true);
  }

  /** The area between two columns; a lone point becomes a bar of one step. */
  band(low: Cell[], high: Cell[], fill: string): void {
    this.ctx.fillStyle = fill;
    runs(this.c.t.length, (i) => low[i] != null && high[i] != null, (from, to) => {
      if (from === to) {
        const top = this.y(high[from] as number);
        this.ctx.fillRect(this.x(from) - this.half, top, 2 * this.half, Math.max(this.px, this.y(low[from] as number) - top));
        return;
      }
      this.ctx.beginPath();
      for (let i = from; i <= to; i++) this.ctx.lineTo(this.x(i), this.y(high[i] as number));
      for (let i = to; i >= from; i--) this.ctx.lineTo(this.x(i), this.y(low[i] as number));
      this.ctx.closePath();
      this.ctx.fill();
    });
  }

  /** A line through a column; each stretch takes the colour of its right end. */
  line(col: Cell[], width: number, colour: (i: number) => string): void {
    this.ctx.lineWidth = width * this.px;
    this.ctx.lineJoin = 'round';
    this.ctx.lineCap = 'round';
    runs(this.c.t.length, (i) => col[i] != null, (from, to) => {
      if (from === to) {
        this.stroke(colour(from), [[this.x(from) - this.half, from], [this.x(from) + this.half, from]], col);
        return;
      }
      for (let i = from + 1; i <= to; ) {
        const ink = colour(i);
        const path: [number, number][] = [[this.x(i - 1), i - 1]];
        for (; i <= to && colour(i) === ink; i++) path.push([this.x(i), i]);
        this.stroke(ink, path, col);
      }
    });
  }

  private stroke(ink: string, path: [number, number][], col: Cell[]): void {
    this.ctx.strokeStyle = ink;
    this.ctx.beginPath();
    for (const [x, i] of path) this.ctx.lineTo(x, this.y(col[i] as number));
    this.ctx.stroke();
  }

  dot(i: number, v: number, radius: number, ink: string): void {
    this.ctx.fillStyle = ink;
    this.ctx.beginPath();
    this.ctx.arc(this.x(i), this.y(v), radius * this.px, 0, 2 * Math.PI);
    this.ctx.fill();
  }

  /** An upward mark at the top edge: the value goes on beyond it. */
  beyond(i: number, ink: string): void {
    const { top } = this.u.bbox;
    const r = 4 * this.px;
    this.ctx.fillStyle = ink;
    this.ctx.beginPath();
    this.ctx.moveTo(this.x(i), top + this.px);
    this.ctx.lineTo(this.x(i) + r, top + this.px + 1.4 * r);
    this.ctx.lineTo(this.x(i) - r, top + this.px + 1.4 * r);
    this.ctx.fill();
  }

  bar(i: number, v: number, ink: string): void {
    const base = this.y(0);
    const height = Math.max(2 * this.px, base - this.y(v));
    const half = Math.max(this.half * 0.8, this.px);
    this.ctx.fillStyle = ink;
    this.ctx.fillRect(this.x(i) - half, base - height, 2 * half, height);
  }

  /** Draws only inside the plot. */
  inside(draw: () => void): void {
    const b = this.u.bbox;
    this.ctx.save();
    this.ctx.beginPath();
    this.ctx.rect(b.left, b.top, b.width, b.height);
    this.ctx.clip();
    draw();
    this.ctx.restore();
  }
}

function drawSmoke(u: uPlot, c: SeriesColumns, colours: Colours): void {
  const pen = new Pen(u, c, 'y');
  const ink = (i: number) => colours.loss[lossLevel(c.loss[i])] as string;
  const ceiling = u.scales.y?.max ?? Infinity;
  pen.inside(() => {
    pen.band(c.min, c.max, colours.smokeOuter);
    pen.band(c.p10, c.p90, colours.smokeInner);
    pen.line(c.p50, 2, ink);
    for (let i = 0; i < c.t.length; i++) {
      const v = c.p50[i];
      if (v != null && lossLevel(c.loss[i]) > 0) pen.dot(i, v, 3.5, ink(i));
      if ((c.max[i] ?? v ?? 0) > ceiling) pen.beyond(i, colours.text);
    }
  });
}

function drawLoss(u: uPlot, c: SeriesColumns, colours: Colours): void {
  const loss = new Pen(u, c, 'loss');
  const jitter = new Pen(u, c, 'y');
  loss.inside(() => {
    for (let i = 0; i < c.t.length; i++) {
      const v = c.loss[i];
      if (v != null && v > 0) loss.bar(i, v, colours.loss[lossLevel(v)] as string);
    }
    jitter.line(c.jitter, 1.5, () => colours.jitter);
  });
}

/** Both canvases of one target. */
export class Plot {
  #smoke: uPlot;
  #loss: uPlot;
  #columns: SeriesColumns;
  readonly #look: Look;

  constructor(smokeAt: HTMLElement, lossAt: HTMLElement, columns: SeriesColumns, look: Look) {
    this.#columns = columns;
    this.#look = look;
    const x: uPlot.Scale = { time: true, range: () => look.bounds() };
    const hidden = (scale: string): uPlot.Series => ({ scale, paths: () => null, points: { show: false } });

    const smoke = base(look, SMOKE_HEIGHT);
    this.#smoke = new uPlot(
      {
        ...smoke,
        padding: [8, RIGHT, 0, 0],
        scales: { x, y: { range: () => delayRange(this.#columns) } },
        axes: [timeAxis(look, false), valueAxis(look, 'y', 3, axisMs)],
        series: [{}, hidden('y')],
        hooks: { ...smoke.hooks, draw: [(u) => drawSmoke(u, this.#columns, look.colours)] },
      },
      [columns.t, columns.p50],
      smokeAt,
    );
    const loss = base(look, LOSS_HEIGHT);
    this.#loss = new uPlot(
      {
        ...loss,
        padding: [8, 0, 0, 0],
        scales: {
          x,
          y: { range: (_u, _min, max) => [0, Math.max(max ?? 0, 0.1) * 1.15] },
          loss: { range: () => [0, lossTop(this.#columns)] },
        },
        axes: [
          timeAxis(look, true),
          valueAxis(look, 'y', 3, (v) => (this.#columns.jitter.some((x) => x !== null) ? axisMs(v) : '')),
          valueAxis(look, 'loss', 1, axisPercent),
        ],
        series: [{}, hidden('y'), hidden('loss')],
        hooks: { ...loss.hooks, draw: [(u) => drawLoss(u, this.#columns, look.colours)] },
      },
      [columns.t, columns.jitter, columns.loss],
      lossAt,
    );
  }

  set(columns: SeriesColumns): void {
    this.#columns = columns;
    this.#smoke.setData([columns.t, columns.p50]);
    this.#loss.setData([columns.t, columns.jitter, columns.loss]);
  }

  resize(width: number): void {
    if (width === this.#look.width) return;
    this.#look.width = width;
    this.#smoke.setSize({ width, height: SMOKE_HEIGHT });
    this.#loss.setSize({ width, height: LOSS_HEIGHT });
  }

  destroy(): void {
    this.#smoke.destroy();
    this.#loss.destroy();
  }
}
