// Who is near: a picture of this node and its neighbours, and a card for each.
import { h, reconcile, replace, svg } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { ago, currentLanguage, now, span, t } from '../lib/i18n.mjs';
import * as model from '../model.mjs';
import { state } from '../model.mjs';
import { carried, history } from './contacts.mjs';
import { aged, emptyState, shortID } from './parts.mjs';

const DRAWN = 12; // neighbours in the picture; the cards have all

export function meshView() {
  const picture = h('div', { class: 'mesh-picture' });
  const list = h('ul', { class: 'rows cards', id: 'mesh-list' });
  const past = h('div', { class: 'past' });
  const [near, lately] = [h('h2', t('mesh.near')), h('h2', t('mesh.contacts'))];
  const note = h('div', { hidden: true });
  const el = h('section', { class: 'page mesh' }, h('header', { class: 'pane-head' }, h('h1', t('mesh.title'))), note,
    h('div', { class: 'mesh-top' }, picture, h('section', { class: 'mesh-past' }, lately, past)), near, list);
  const paint = () => {
    const nodes = sorted(state.nodes ?? []);
    note.hidden = nodes.length > 0;
    near.hidden = nodes.length === 0;
    if (!nodes.length) replace(note, state.nodes === null ? h('p', { class: 'empty' }, t('chats.loading')) : emptyState('mesh', t('mesh.empty_title'), t('mesh.empty')));
    replace(picture, drawing(nodes));
    reconcile(list, nodes, (n) => n.id, (n) => JSON.stringify([n, currentLanguage()]), card);
  };
  const paintPast = () => {
    const open = past.querySelector('details')?.open ?? false;
    const focused = past.contains(document.activeElement);
    const drawn = history(state.contacts ?? []);
    lately.hidden = !drawn;
    replace(past, drawn);
    if (drawn) past.querySelector('details').open = open;
    if (drawn && focused) past.querySelector('summary').focus();
  };
  const leaves = [model.on(['nodes', 'status', 'session'], paint), model.on(['contacts', 'session'], paintPast)];
  const ask = () => { model.soon('nodes'); model.soon('contacts'); };
  const timer = setInterval(ask, 10000); // counters have no events
  ask();
  paint();
  paintPast();
  return { el, leave: () => { leaves.forEach((f) => f()); clearInterval(timer); } };
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
const WIDE = { width: 520, height: 300, rx: 180, ry: 98 };
const NARROW = { width: 360, height: 244, rx: 122, ry: 70 };

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
    h('p', { class: 'node-line carried-line' }, Number.isFinite(n.tx_bytes) ? carried(n.tx_bytes, n.rx_bytes) : null, addresses(n)));
}

function addresses(n) {
  const list = n.addr ? [n.addr] : n.addrs ?? [];
  return list.length ? h('code', text.label(list.slice(0, 3).join(', '), 120)) : null;
}
