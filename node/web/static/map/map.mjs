// The map: who is where, on a plain MGRS grid, with bearing and distance from
// one's own place. No tiles and nothing outside the node are needed.
import { h, reconcile, replace, svg } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import * as api from '../lib/api.mjs';
import { addWords, ago, clock, currentLanguage, now, number, t } from '../lib/i18n.mjs';
import { between, formatLatLon, toMGRS } from '../lib/position.mjs';
import * as model from '../model.mjs';
import { aged, emptyState, iconButton, nameText } from '../ui/parts.mjs';
import { bearingText, fit, frame, gridLines, legend, marksOf, metresText, NEAREST, spacing, way, WIDEST } from './grid.mjs';
import { forget, ownCard, ownPlace, refreshShares, sharesCard, whenOwn } from './share.mjs';

const STALE_MS = 15 * 60000; // a position whose sender did not say when it is out of date
const ASK_MS = 15000;
const PAN = 0.25; // of the view, for a key
const MOST_MARKS = 100; // drawn; the list has all

// Where one looked stays while the page is open.
const look = { view: null, chosen: null };

const pieces = { en: () => import('./lang/en.mjs'), de: () => import('./lang/de.mjs') };

/** The map's own styles, which the page's first load does not carry. */
function styles() {
  if (document.getElementById('map-styles')) return null;
  return new Promise((resolve, reject) => {
    const link = h('link', { id: 'map-styles', rel: 'stylesheet', href: new URL('./map.css', import.meta.url).pathname });
    link.addEventListener('load', resolve);
    link.addEventListener('error', () => { link.remove(); reject(new Error('map: no styles')); });
    document.head.append(link);
  });
}

/** Loads what the map says in the user's language, and how it looks. */
export const prepare = () => Promise.all([addWords(async (code) => (await pieces[code]()).default), styles()]);

/** The screen. */
export function mapView() {
  const v = { places: null, error: null, size: [0, 0], drag: null };
  build(v);
  let asked = 0;
  let taken = 0; // an answer to an earlier question than this one comes too late
  const take = (mine, got) => { if (mine >= taken) { taken = mine; Object.assign(v, got); } };
  const ask = () => {
    const mine = ++asked;
    return Promise.all([api.places().then((places) => take(mine, { places, error: null }), (error) => take(mine, { error })), refreshShares()]).then(() => paint(v));
  };
  const watcher = new ResizeObserver(() => resized(v));
  watcher.observe(v.canvas);
  const timer = setInterval(ask, ASK_MS);
  const leaves = [model.on('conversations', ask), model.on('session', () => { look.view = null; look.chosen = null; if (!model.state.me) forget(); }), whenOwn(() => paint(v))];
  ask();
  return { el: v.el, focus: () => v.canvas.focus(), leave: () => { leaves.forEach((f) => f()); clearInterval(timer); watcher.disconnect(); } };
}

function build(v) {
  v.canvas = h('div', { class: 'map-canvas', id: 'map', tabindex: '0', role: 'group', 'aria-label': t('map.label'), 'aria-describedby': 'map-keys' });
  v.canvas.addEventListener('keydown', (e) => key(v, e));
  v.canvas.addEventListener('wheel', (e) => { e.preventDefault(); zoom(v, e.deltaY > 0 ? 1.25 : 0.8, at(v, e)); }, { passive: false });
  dragging(v);
  v.where = h('p', { class: 'map-where' });
  v.tools = h('div', { class: 'map-tools' },
    iconButton('plus', t('map.nearer'), () => zoom(v, 0.5), { id: 'map-nearer' }), iconButton('minus', t('map.wider'), () => zoom(v, 2), { id: 'map-wider' }),
    iconButton('fit', t('map.all'), () => showAll(v), { id: 'map-all' }), iconButton('position', t('map.own'), () => showOwn(v), { id: 'map-own' }));
  v.list = h('ul', { class: 'rows cards', id: 'map-list' });
  v.note = h('div', { class: 'map-note' });
  v.own = h('div');
  v.sharing = h('div');
  v.heading = h('h2', t('map.people'));
  v.el = h('section', { class: 'page map' }, h('header', { class: 'pane-head' }, h('h1', t('map.title'))),
    h('div', { class: 'map-split' },
      h('div', { class: 'map-ground' }, v.canvas, v.where, h('p', { class: 'vh', id: 'map-keys' }, t('map.keys'))),
      h('div', { class: 'map-side' }, v.tools, v.own, v.sharing, v.heading, v.note, v.list)));
}

// ---- what there is -------------------------------------------------------------

const valid = (l) => typeof l?.lat === 'number' && typeof l?.lon === 'number' && toMGRS(l.lat, l.lon) !== '';

/** A message's position as a mark. */
function markOf(m) {
  const l = m.location;
  const time = l.time ?? m.sent;
  const until = Date.parse(l.live_until);
  const staleAt = Number.isFinite(Date.parse(l.stale_at)) ? Date.parse(l.stale_at) : Date.parse(time) + STALE_MS;
  const ended = l.live === true && until <= now();
  const old = ended || staleAt <= now();
  return { id: m.id, m, kind: l.live === true ? 'live' : 'once', name: text.label(nameText(m.from), 16), lat: l.lat, lon: l.lon, accuracy: Number(l.accuracy_m) || 0, time, until, ended, old, fade: fade(time, staleAt, old) };
}

/** Full while it is fresh, fainter the longer it is out of date, never gone. */
function fade(time, staleAt, old) {
  if (!old) return 1;
  const good = Math.max(60000, staleAt - Date.parse(time));
  return Math.max(0.5, 0.8 - 0.05 * ((now() - staleAt) / good)).toFixed(2);
}

function marks(v) {
  const list = (v.places ?? []).filter((m) => valid(m.location)).map(markOf);
  list.sort((a, b) => Number(b.id === look.chosen) - Number(a.id === look.chosen) || Number(a.old) - Number(b.old) || Date.parse(b.time) - Date.parse(a.time));
  return list;
}

/** One's own place as a mark, null when nobody knows. */
function ownMark() {
  const own = ownPlace();
  return own && valid(own) ? { id: 'own', kind: 'own', name: t('map.me'), lat: own.lat, lon: own.lon, accuracy: own.accuracy ?? 0, time: own.time, old: false, fade: 1 } : null;
}

// ---- the picture -----------------------------------------------------------------

function paint(v) {
  if (!v.el.isConnected && v.size[0] > 0) return;
  const list = marks(v);
  const own = ownMark();
  draw(v, list, own);
  replace(v.own, ownCard(() => paint(v)));
  replace(v.sharing, sharesCard(() => paint(v)));
  v.heading.hidden = list.length === 0;
  replace(v.note, note(v, list));
  reconcile(v.list, list, (m) => m.id, (m) => JSON.stringify([m.m, m.old, m.ended, m.id === look.chosen, own?.lat, own?.lon, currentLanguage()]), (m) => card(v, m, own));
}

function note(v, list) {
  if (v.error && v.places === null) return h('p', { class: 'error', role: 'alert' }, icon('warn'), h('span', t('map.unreachable')));
  if (v.places === null) return h('p', { class: 'empty' }, t('chats.loading'));
  return list.length ? null : emptyState('map', t('map.empty_title'), t('map.empty'));
}

function resized(v) {
  const r = v.canvas.getBoundingClientRect();
  v.size = [Math.round(r.width), Math.round(r.height)];
  paint(v);
}

/** The view: where one looked, else all there is, else the world's middle of nothing. */
function viewOf(v, list, own) {
  if (look.view) return look.view;
  const all = [...(own ? [own] : []), ...list];
  const fresh = all.filter((m) => !m.old);
  return fit(fresh.length ? fresh : all, ...v.size);
}

function draw(v, list, own) {
  const [width, height] = v.size;
  if (width < 50 || height < 50) return;
  if (!own && !list.length && !look.view) {
    replace(v.canvas, empty(width, height));
    replace(v.where);
    v.f = null;
    return;
  }
  const { center, scale } = viewOf(v, list, own);
  const f = frame(center, scale, width, height);
  v.f = f;
  const drawn = [...(own ? [own] : []), ...list.slice(0, MOST_MARKS)].map((m) => ({ ...m, chosen: m.id === look.chosen }));
  const chosen = drawn.find((m) => m.chosen && m.id !== 'own');
  const line = chosen && own ? way(f, own, chosen, wayText(own, chosen)) : null;
  replace(v.canvas, svg('svg', { class: 'map-svg', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': t('map.picture', { n: list.length }) },
    gridLines(f), marksOf(f, drawn, (id) => pick(v, id)), line, legend(f)));
  const square = spacing(scale);
  replace(v.where, h('span', { class: 'map-square' }, toMGRS(center.lat, center.lon, 0)), ' ', h('span', t('map.grid', { size: metresText(square) })));
}

function empty(width, height) {
  const lines = [];
  for (let x = 60; x < width; x += 60) lines.push(`M${x} 0V${height}`);
  for (let y = 60; y < height; y += 60) lines.push(`M0 ${y}H${width}`);
  return svg('svg', { class: 'map-svg', width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' }, svg('path', { class: 'grid-fine', d: lines.join('') || 'M0 0' }));
}

const wayText = (from, to) => {
  const { metres, bearing } = between(from.lat, from.lon, to.lat, to.lon);
  return `${metresText(metres)} · ${bearingText(bearing)}`;
};

// ---- moving about ------------------------------------------------------------------

function at(v, e) {
  const r = v.canvas.getBoundingClientRect();
  return [e.clientX - r.left, e.clientY - r.top];
}

function setView(v, center, scale) {
  if (!Number.isFinite(center.lat) || !Number.isFinite(center.lon) || Math.abs(center.lat) > 90) return;
  look.view = { center, scale: Math.min(WIDEST, Math.max(NEAREST, scale)) };
  paint(v);
}

/** Zooms by a factor; the ground under a pixel stays there. */
function zoom(v, by, [x, y] = [v.size[0] / 2, v.size[1] / 2]) {
  if (!v.f) return;
  const scale = Math.min(WIDEST, Math.max(NEAREST, v.f.scale * by));
  const k = 1 - scale / v.f.scale;
  setView(v, v.f.ground(v.size[0] / 2 + (x - v.size[0] / 2) * k, v.size[1] / 2 + (y - v.size[1] / 2) * k), scale);
}

function pan(v, dx, dy) {
  if (v.f) setView(v, v.f.ground(v.size[0] / 2 + dx, v.size[1] / 2 + dy), v.f.scale);
}

function showAll(v) {
  look.view = null;
  paint(v);
}

function showOwn(v) {
  const own = ownMark();
  if (!own) v.el.querySelector('#own-locate')?.focus();
  else setView(v, own, Math.min(v.f?.scale ?? 5, 10));
}

function key(v, e) {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const [w, hgt] = v.size;
  const moves = {
    '+': () => zoom(v, 0.5), '=': () => zoom(v, 0.5), '-': () => zoom(v, 2), 0: () => showAll(v), Home: () => showOwn(v),
    ArrowLeft: () => pan(v, -w * PAN, 0), ArrowRight: () => pan(v, w * PAN, 0), ArrowUp: () => pan(v, 0, -hgt * PAN), ArrowDown: () => pan(v, 0, hgt * PAN),
  };
  const move = moves[e.key];
  if (!move) return;
  e.preventDefault();
  e.stopPropagation();
  move();
}

function dragging(v) {
  v.canvas.addEventListener('pointerdown', (e) => {
    if (e.button !== 0 || !v.f) return;
    v.drag = { x: e.clientX, y: e.clientY, f: v.f, moved: false };
  });
  v.canvas.addEventListener('pointermove', (e) => {
    if (!v.drag) return;
    const [dx, dy] = [e.clientX - v.drag.x, e.clientY - v.drag.y];
    if (!v.drag.moved && Math.hypot(dx, dy) < 6) return;
    if (!v.drag.moved) v.canvas.setPointerCapture(e.pointerId);
    v.drag.moved = true;
    setView(v, v.drag.f.ground(v.size[0] / 2 - dx, v.size[1] / 2 - dy), v.drag.f.scale);
  });
  for (const end of ['pointerup', 'pointercancel']) v.canvas.addEventListener(end, () => { v.drag = null; });
}

function pick(v, id) {
  look.chosen = look.chosen === id ? null : id;
  paint(v);
  v.list.querySelector(`[data-key="${CSS.escape(id)}"]`)?.scrollIntoView({ block: 'nearest' });
}

// ---- the list ------------------------------------------------------------------------

function card(v, m, own) {
  const l = m.m.location;
  const c = m.m.conversation;
  const chosen = m.id === look.chosen;
  return h('li', { class: `card place-card${m.old ? ' old' : ''}${chosen ? ' chosen' : ''}` },
    h('header', { class: 'place-head' }, shapeIcon(m.kind), h('bdi', { class: 'node-name' }, nameText(m.m.from)),
      m.old ? h('span', { class: 'chip stale-chip' }, icon('expiry'), t(m.ended ? 'map.ended' : 'position.stale')) : m.kind === 'live' ? h('span', { class: 'chip live-chip' }, icon('live'), t('map.live')) : null),
    own ? h('p', { class: 'place-way' }, way1(own, m)) : null,
    h('p', { class: 'mgrs' }, toMGRS(l.lat, l.lon)),
    h('p', { class: 'latlon' }, formatLatLon(l.lat, l.lon), m.accuracy > 0 ? ` · ${t('position.accuracy', { m: number(Math.round(m.accuracy)) })}` : null),
    h('p', { class: 'position-age' }, aged(m.time, (time) => t('position.age', { ago: ago(time) })), Number.isFinite(m.until) && !m.ended ? h('span', ` · ${t('map.until', { time: clock(m.until) })}`) : null),
    l.note ? h('p', { class: 'note', dir: 'auto' }, text.label(l.note, 200)) : null,
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'button', 'data-focus': 'show', 'aria-pressed': String(chosen), onclick: () => show(v, m) }, icon('map'), h('span', t('map.show'))),
      h('a', { class: 'button', href: `#/chats/c/${encodeURIComponent(c)}`, 'data-focus': 'chat' }, icon('chats'), h('span', t('map.chat')))));
}

function show(v, m) {
  look.chosen = m.id;
  const own = ownMark();
  look.view = fit(own ? [own, m] : [m], ...v.size);
  paint(v);
  if (!matchMedia('(min-width: 800px)').matches) v.canvas.scrollIntoView({ block: 'center' });
}

function way1(own, m) {
  const { metres, bearing } = between(own.lat, own.lon, m.lat, m.lon);
  return [arrowIcon(bearing), h('span', { class: 'way-metres' }, metresText(metres)), h('span', { class: 'way-bearing' }, bearingText(bearing))];
}

const arrowIcon = (bearing) => svg('svg', { class: 'icon way-arrow', viewBox: '0 0 24 24', 'aria-hidden': 'true' }, svg('path', { d: 'M12 3l6 17-6-4.500-6 4.500z', transform: `rotate(${bearing.toFixed(0)} 12 12)` }));

/** The mark's shape beside the name: a disc is live, a diamond was sent once. */
function shapeIcon(kind) {
  return svg('svg', { class: `icon shape-icon ${kind}`, viewBox: '0 0 24 24', 'aria-hidden': 'true' },
    kind === 'live' ? svg('circle', { cx: 12, cy: 12, r: 7 }) : svg('path', { d: 'M12 3l9 9-9 9-9-9z' }));
}
