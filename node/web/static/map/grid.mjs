// The plain grid: MGRS lines over nothing, and marks where people are. It knows
// pixels and metres, and draws with SVG; what there is to draw it is told.
import { svg } from '../lib/dom.mjs';
import { plane, toMGRS } from '../lib/mgrs.mjs';
import { between } from '../lib/position.mjs';
import { number, t } from '../lib/i18n.mjs';

const SQUARE = 100000;
const FAR = 1000000; // metres; beyond, a place is drawn by bearing and distance
const MIN_LINE = 46; // pixels between two labelled lines
const MIN_FINE = 9; // and between two fine ones
export const NEAREST = 0.05; // metres per pixel
export const WIDEST = 4000;

/** A view of the ground: center {lat, lon}, metres per pixel, size in pixels. */
export function frame(center, scale, width, height) {
  const p = plane(center.lat, center.lon);
  const c = p.to(center.lat, center.lon);
  const pixel = (x, y) => [width / 2 + (x - c.x) / scale, height / 2 - (y - c.y) / scale];
  const place = (lat, lon) => {
    const { metres, bearing } = between(center.lat, center.lon, lat, lon);
    if (metres < FAR) {
      const q = p.to(lat, lon);
      return pixel(q.x, q.y);
    }
    const b = (bearing * Math.PI) / 180;
    return pixel(c.x + metres * Math.sin(b), c.y + metres * Math.cos(b));
  };
  const ground = (px, py) => p.from(c.x + (px - width / 2) * scale, c.y - (py - height / 2) * scale);
  return { center, scale, width, height, c, pixel, place, ground };
}

/** The distance of labelled lines: a power of ten, as the digits of a reference are. */
export function spacing(scale) {
  for (let s = 1; s < SQUARE; s *= 10) if (s / scale >= MIN_LINE) return s;
  return SQUARE;
}

const steps = (from, to, by) => {
  const out = [];
  for (let v = Math.ceil(from / by) * by; v <= to && out.length < 400; v += by) out.push(v);
  return out;
};

/** The digits that name a line within its 100 km square. */
function digits(v, by) {
  const n = 5 - Math.round(Math.log10(by));
  return String(Math.floor(((((v % SQUARE) + SQUARE) % SQUARE) + 0.5) / by)).padStart(n, '0');
}

/** Lines, their digits, and the letters of the squares. */
export function gridLines(f) {
  const s = spacing(f.scale);
  const [west, east] = [f.c.x - (f.width / 2) * f.scale, f.c.x + (f.width / 2) * f.scale];
  const [south, north] = [f.c.y - (f.height / 2) * f.scale, f.c.y + (f.height / 2) * f.scale];
  const upright = (x) => `M${f.pixel(x, 0)[0].toFixed(1)} 0V${f.height}`;
  const level = (y) => `M0 ${f.pixel(0, y)[1].toFixed(1)}H${f.width}`;
  const [xs, ys] = [steps(west, east, s), steps(south, north, s)];
  const path = (lines) => lines.join('') || 'M0 0';
  const fine = s > 1 && s / 10 / f.scale >= MIN_FINE;
  const heavy = s < SQUARE ? SQUARE : 0;
  return [
    fine ? svg('path', { class: 'grid-fine', d: path([...steps(west, east, s / 10).map(upright), ...steps(south, north, s / 10).map(level)]) }) : null,
    svg('path', { class: 'grid-line', d: path([...xs.map(upright), ...ys.map(level)]) }),
    heavy ? svg('path', { class: 'grid-heavy', d: path([...steps(west, east, heavy).map(upright), ...steps(south, north, heavy).map(level)]) }) : null,
    s >= SQUARE / 10 ? squares(f, west, east, south, north) : null,
    s < SQUARE ? [
      xs.map((x) => [f.pixel(x, 0)[0], digits(x, s)]).filter(([x]) => x > 44 && x < f.width - 16).map(([x, d]) => svg('text', { class: 'grid-digits', x, y: f.height - 8, 'text-anchor': 'middle' }, d)),
      ys.map((y) => [f.pixel(0, y)[1], digits(y, s)]).filter(([y]) => y > 44 && y < f.height - 26).map(([y, d]) => svg('text', { class: 'grid-digits', x: 8, y: y + 4 }, d)),
    ] : null,
  ];
}

/** The two letters of each 100 km square, in its middle as far as that is in view. */
function squares(f, west, east, south, north) {
  const out = [];
  const half = SQUARE / 2;
  for (const x of steps(west - SQUARE, east, SQUARE)) {
    for (const y of steps(south - SQUARE, north, SQUARE)) {
      const [px, py] = f.pixel(x + half, y + half);
      if (SQUARE / f.scale < 40 || px < 0 || py < 0 || px > f.width || py > f.height) continue;
      const at = f.ground(px, py);
      out.push(svg('text', { class: 'grid-square', x: px, y: py + 8, 'text-anchor': 'middle' }, toMGRS(at.lat, at.lon, 0).split(' ').pop()));
    }
  }
  return out;
}

/** "850 m", "1.2 km". */
export function metresText(m) {
  return m < 1000 ? `${number(Math.round(m))}\u00a0m` : `${number(m / 1000, { maximumFractionDigits: m < 100000 ? 1 : 0 })}\u00a0km`;
}

export const bearingText = (b) => `${String(Math.round(b) % 360).padStart(3, '0')}°`;

/** A bar of a round length, and where grid north is. */
export function legend(f) {
  const most = Math.min(140, f.width / 4) * f.scale;
  const unit = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((k) => k * unit).find((v) => v <= most) ?? unit;
  const px = length / f.scale;
  const [x, y] = [f.width - 14 - px, f.height - 30];
  return [
    svg('g', { class: 'scale' }, svg('path', { d: `M${x} ${y - 6}v6h${px}v-6` }), svg('text', { x: x + px / 2, y: y - 9, 'text-anchor': 'middle' }, metresText(length))),
    svg('g', { class: 'north', transform: `translate(${f.width - 30} 18)` }, svg('path', { d: 'M0 30V4M-6 11L0 3l6 8' }), svg('text', { x: 0, y: 44, 'text-anchor': 'middle' }, t('map.north'))),
  ];
}

// ---- marks -------------------------------------------------------------------

const LABEL_H = 16;
const wide = (words) => 8 + [...words].length * 7.6;
const apart = (a, b) => a.x + a.w < b.x || b.x + b.w < a.x || a.y + a.h < b.y || b.y + b.h < a.y;

/** Where a label may stand around a mark, the best first. */
const sides = (x, y, w, gap) => [
  { x: x + gap, y: y - 8, anchor: 'start', tx: x + gap + 1 }, { x: x - gap - w, y: y - 8, anchor: 'end', tx: x - gap - 1 },
  { x: x - w / 2, y: y + gap, anchor: 'middle', tx: x }, { x: x - w / 2, y: y - gap - LABEL_H, anchor: 'middle', tx: x },
].map((s) => ({ ...s, w, h: LABEL_H }));

/**
 * All marks: those in view with a name where there is room, those beyond as
 * arrows at the edge. marks: [{id, kind, name, lat, lon, old, fade, accuracy,
 * chosen}]; the first ones win the room.
 */
export function marksOf(f, marks, onpick) {
  const taken = marks.map((m) => f.place(m.lat, m.lon)).map(([x, y]) => ({ x: x - 11, y: y - 11, w: 22, h: 22 }));
  taken.push({ x: f.width - 56, y: 0, w: 56, h: 70 }, { x: f.width - 170, y: f.height - 60, w: 170, h: 60 }, { x: 0, y: 0, w: 150, h: 36 }); // the legend's
  return marks.map((m) => {
    const [x, y] = f.place(m.lat, m.lon);
    if (x < 6 || y < 6 || x > f.width - 6 || y > f.height - 6) return arrow(f, m, x, y, taken, onpick);
    return figure(f, m, x, y, taken, onpick);
  }).reverse(); // the first are drawn last and so lie on top
}

function figure(f, m, x, y, taken, onpick) {
  const r = m.accuracy > 0 ? m.accuracy / f.scale : 0;
  return svg('g', { class: `place-mark ${m.kind}${m.old ? ' old' : ''}${m.chosen ? ' chosen' : ''}`, 'data-mark': m.id, onclick: () => onpick(m.id) },
    r > 14 && r < f.width * 2 ? svg('circle', { class: 'accuracy-ring', cx: x, cy: y, r }) : null,
    svg('circle', { class: 'mark-target', cx: x, cy: y, r: 28 }),
    m.chosen ? svg('circle', { class: 'mark-ring', cx: x, cy: y, r: 17 }) : null,
    svg('g', { opacity: m.fade }, shape(m.kind, x, y)),
    named(f, m, x, y, taken));
}

/** Own: a disc in a ring. Live: a disc. Once: a diamond. Shapes, so that colour tells nothing alone. */
function shape(kind, x, y) {
  if (kind === 'own') return [svg('circle', { class: 'mark-body', cx: x, cy: y, r: 9 }), svg('circle', { class: 'mark-core', cx: x, cy: y, r: 3.5 })];
  if (kind === 'live') return svg('circle', { class: 'mark-body', cx: x, cy: y, r: 8 });
  return svg('path', { class: 'mark-body', d: `M${x} ${y - 10}l10 10-10 10-10-10z` });
}

function named(f, m, x, y, taken) {
  const places = sides(x, y, wide(m.name), m.chosen ? 21 : 13);
  const side = places.find((s) => s.x > 2 && s.x + s.w < f.width - 2 && s.y > 0 && s.y + s.h < f.height && taken.every((o) => apart(s, o)));
  if (!side && !m.chosen) return null; // the list has the name
  const at = side ?? places[0];
  taken.push(at);
  return svg('text', { class: 'mark-name', x: at.tx, y: at.y + 13, 'text-anchor': at.anchor }, m.name);
}

/** Somebody beyond the edge: an arrow that points there. */
function arrow(f, m, x, y, taken, onpick) {
  const [cx, cy] = [f.width / 2, f.height / 2];
  const inset = 24;
  const k = Math.min(Math.abs((cx - inset) / (x - cx || 1e-9)), Math.abs((cy - inset) / (y - cy || 1e-9)));
  const [px, py] = [cx + (x - cx) * k, cy + (y - cy) * k];
  const turn = (Math.atan2(x - cx, cy - y) * 180) / Math.PI;
  const w = wide(m.name);
  const left = px > f.width / 2;
  const label = { x: left ? px - 16 - w : px + 16, y: py - 8, w, h: LABEL_H };
  const fits = m.chosen || taken.slice(0).every((o) => apart(label, o)) && label.x > 0 && label.x + w < f.width;
  if (fits) taken.push(label);
  return svg('g', { class: `place-mark edge ${m.kind}${m.old ? ' old' : ''}${m.chosen ? ' chosen' : ''}`, 'data-mark': m.id, onclick: () => onpick(m.id) },
    svg('circle', { class: 'mark-target', cx: px, cy: py, r: 28 }),
    svg('path', { class: 'mark-body', opacity: m.fade, transform: `translate(${px.toFixed(1)} ${py.toFixed(1)}) rotate(${turn.toFixed(1)})`, d: 'M0-12L8 7 0 3-8 7z' }),
    fits ? svg('text', { class: 'mark-name', x: left ? px - 16 : px + 16, y: py + 5, 'text-anchor': left ? 'end' : 'start' }, m.name) : null);
}

/** The line from one place to another, with its length and bearing in its middle. */
export function way(f, from, to, words) {
  const [x1, y1] = f.place(from.lat, from.lon);
  const [x2, y2] = f.place(to.lat, to.lon);
  const clamp = (v, most) => Math.min(most, Math.max(0, v));
  const [mx, my] = [clamp((x1 + x2) / 2, f.width), clamp((y1 + y2) / 2, f.height)];
  const w = wide(words);
  const at = [Math.min(f.width - w / 2 - 4, Math.max(w / 2 + 4, mx)), Math.min(f.height - 40, Math.max(20, my))];
  return svg('g', { class: 'way-line' }, svg('path', { d: `M${x1.toFixed(1)} ${y1.toFixed(1)}L${x2.toFixed(1)} ${y2.toFixed(1)}` }),
    svg('rect', { x: at[0] - w / 2, y: at[1] - 13, width: w, height: 22, rx: 11 }), svg('text', { x: at[0], y: at[1] + 3, 'text-anchor': 'middle' }, words));
}

/** The view that shows all places: center and metres per pixel. */
export function fit(places, width, height) {
  const first = places[0];
  const f = frame(first, 1, 0, 0);
  const at = places.map((p) => f.place(p.lat, p.lon));
  const [xs, ys] = [at.map((p) => p[0]), at.map((p) => p[1])];
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.max((x1 - x0) / Math.max(60, width - 170), (y1 - y0) / Math.max(60, height - 170), 1);
  return { center: f.ground((x0 + x1) / 2, (y0 + y1) / 2), scale: Math.min(WIDEST, scale) };
}
