// Who is near: a picture of this node and its neighbours, and a card for each.
import { h, reconcile, replace, svg } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { ago, currentLanguage, now, span, t } from '../lib/i18n.mjs';
import * as model from '../model.mjs';
import { state } from '../model.mjs';
import { aged, bytes, facts, shortID } from './parts.mjs';

const DRAWN = 12; // neighbours in the picture; the cards have all
const DAY_MS = 86400000;

export function meshView() {
  const picture = h('div', { class: 'mesh-picture' });
  const list = h('ul', { class: 'rows cards', id: 'mesh-list' });
  const note = h('p', { class: 'empty', hidden: true });
  const el = h('section', { class: 'page mesh' }, h('header', { class: 'pane-head' }, h('h1', t('mesh.title'))), picture, h('h2', t('mesh.near')), list, note);
  const paint = () => {
    const nodes = sorted(state.nodes ?? []);
    note.hidden = nodes.length > 0;
    if (!nodes.length) replace(note, state.nodes === null ? t('chats.loading') : t('mesh.empty'));
    replace(picture, drawing(nodes));
    reconcile(list, nodes, (n) => n.id, (n) => JSON.stringify([n, currentLanguage()]), card);
  };
  const leave = model.on(['nodes', 'status', 'session'], paint);
  const timer = setInterval(() => model.soon('nodes'), 10000); // counters have no events
  model.soon('nodes');
  paint();
  return { el, leave: () => { leave(); clearInterval(timer); } };
}

const sorted = (nodes) => [...nodes].sort((a, b) => Number(Boolean(b.up)) - Number(Boolean(a.up)) || (Date.parse(b.last_heard) || 0) - (Date.parse(a.last_heard) || 0));

const nodeName = (n) => (n.name ? text.label(n.name, 40) : shortID(n.id));

const condition = (n) => (n.blocked ? 'blocked' : n.up ? 'up' : 'down');

const CLASSES = ['lan', 'wifi', 'radio'];

function className(n) {
  const c = String(n.class ?? '').toLowerCase();
  return CLASSES.includes(c) ? t(`mesh.class.${c}`) : n.class ? text.label(n.class, 20) : t('mesh.class.unknown');
}

const linkClass = (n) => (CLASSES.includes(n.class) ? n.class : 'other');

// ---- the picture -------------------------------------------------------------

// Drawn at about the size it is shown, so that its words stay legible.
const WIDE = { width: 640, height: 300, rx: 235, ry: 100 };
const NARROW = { width: 360, height: 290, rx: 122, ry: 92 };

function drawing(nodes) {
  const shown = nodes.slice(0, DRAWN);
  if (!shown.length) return null;
  const { width, height, rx, ry } = matchMedia('(min-width: 800px)').matches ? WIDE : NARROW;
  const [cx, cy] = [width / 2, height / 2];
  const at = shown.map((_, i) => {
    const angle = -Math.PI / 2 + ((i + 0.5) * 2 * Math.PI) / shown.length;
    return [cx + Math.cos(angle) * rx, cy + Math.sin(angle) * ry];
  });
  return svg('svg', { class: 'mesh-svg', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': t('mesh.picture', { n: shown.length }) },
    shown.map((n, i) => svg('line', { class: `link ${condition(n)} ${linkClass(n)}`, x1: cx, y1: cy, x2: at[i][0], y2: at[i][1] })),
    shown.map((n, i) => figure(n, at[i])),
    svg('g', { class: 'self' }, svg('circle', { cx, cy, r: 30 }), svg('circle', { class: 'core-dot', cx, cy, r: 6 }),
      svg('text', { class: 'self-label', x: cx, y: cy + 48, 'text-anchor': 'middle' }, state.status?.name ? text.label(state.status.name, 20) : t('mesh.self'))));
}

/** A circle for a node that is up, a square for one that is down, a cross for a blocked one: the shape tells it too. */
function figure(n, [x, y]) {
  const c = condition(n);
  const mark = c === 'up' ? svg('circle', { cx: x, cy: y, r: 16 })
    : c === 'down' ? svg('rect', { x: x - 13, y: y - 13, width: 26, height: 26, rx: 4 })
      : svg('path', { d: `M${x - 11} ${y - 11}l22 22M${x + 11} ${y - 11}l-22 22` });
  return svg('g', { class: `neighbour ${c}` }, mark,
    svg('text', { x, y: y + 34, 'text-anchor': 'middle' }, text.label(nodeName(n), 16)),
    svg('text', { class: 'small', x, y: y - 24, 'text-anchor': 'middle' }, c === 'up' ? className(n) : t(`mesh.${c}`)));
}

// ---- the cards ---------------------------------------------------------------

function card(n) {
  const c = condition(n);
  const since = n.since ? aged(n.since, (time) => t(n.up ? 'mesh.since_up' : 'mesh.since_down', { span: span((now() - Date.parse(time)) / 1000) })) : t(`mesh.${c}`);
  return h('li', { class: `card node ${c}` },
    h('header', { class: 'node-head' },
      h('span', { class: `mark ${c === 'up' ? 'good' : 'wait'}` }, icon(c), t(`mesh.${c}`)),
      h('bdi', { class: 'node-name' }, nodeName(n)), h('code', shortID(n.id)), h('span', { class: 'chip' }, className(n))),
    h('p', { class: 'node-line' }, since, ' · ', n.last_heard ? aged(n.last_heard, (time) => t('mesh.heard', { ago: ago(time) })) : t('mesh.never')),
    facts([
      [t('mesh.tx'), Number.isFinite(n.tx_bytes) ? bytes(n.tx_bytes) : null],
      [t('mesh.rx'), Number.isFinite(n.rx_bytes) ? bytes(n.rx_bytes) : null],
      [t('mesh.address'), addresses(n)],
    ]),
    contacts(n));
}

function addresses(n) {
  const list = n.addr ? [n.addr] : n.addrs ?? [];
  return list.length ? h('code', text.label(list.slice(0, 3).join(', '), 120)) : null;
}

/** The contacts of the last day as a strip, when the node tells them: [{start, end?}]. */
function contacts(n) {
  if (!Array.isArray(n.contacts)) return null;
  const from = now() - DAY_MS;
  const parts = n.contacts.map((c) => [Math.max(from, Date.parse(c.start)), Math.min(now(), c.end ? Date.parse(c.end) : now())]).filter(([a, b]) => b > a).slice(-200);
  const total = parts.reduce((s, [a, b]) => s + b - a, 0) / 1000;
  const words = t('mesh.contacts_text', { n: parts.length, span: span(total) });
  return h('figure', { class: 'contacts' }, h('figcaption', t('mesh.contacts')),
    svg('svg', { class: 'contacts-svg', viewBox: '0 0 1440 40', preserveAspectRatio: 'none', role: 'img', 'aria-label': words },
      svg('rect', { class: 'track', x: 0, y: 12, width: 1440, height: 16 }),
      parts.map(([a, b]) => svg('rect', { class: 'contact', x: fixed((a - from) / 60000), y: 2, width: fixed(Math.max(4, (b - a) / 60000)), height: 36 }))),
    h('p', { class: 'contacts-axis', 'aria-hidden': 'true' }, h('span', t('mesh.ago24')), h('span', words), h('span', t('mesh.now'))));
}

const fixed = (v) => v.toFixed(2);
