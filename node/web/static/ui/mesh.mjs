// Who is near: a picture of this node and its neighbours, and a card for each.
import { h, reconcile, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { ago, currentLanguage, now, span, t } from '../lib/i18n.mjs';
import * as model from '../model.mjs';
import { state } from '../model.mjs';
import { carried, history } from './contacts.mjs';
import { aged, emptyState, shortID } from './parts.mjs';
import { picture, wide } from './picture.mjs';

export function meshView() {
  const image = h('div', { class: 'mesh-picture' });
  const list = h('ul', { class: 'rows cards', id: 'mesh-list' });
  const past = h('div', { class: 'past' });
  const [near, lately] = [h('h2', t('mesh.near')), h('h2', t('mesh.contacts'))];
  const note = h('div', { hidden: true });
  const el = h('section', { class: 'page mesh' }, h('header', { class: 'pane-head' }, h('h1', t('mesh.title'))), note,
    h('div', { class: 'mesh-top' }, image, h('section', { class: 'mesh-past' }, lately, past)), near, list);
  const paint = () => {
    const nodes = sorted(state.nodes ?? []);
    note.hidden = nodes.length > 0;
    near.hidden = nodes.length === 0;
    if (!nodes.length) replace(note, state.nodes === null ? h('p', { class: 'empty' }, t('chats.loading')) : emptyState('mesh', t('mesh.empty_title'), t('mesh.empty')));
    replace(image, picture(state.status?.name ? text.label(state.status.name, 40) : t('mesh.self'), nodes.map(drawn)));
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
  wide.addEventListener('change', paint); // the phone was turned
  const ask = () => { model.soon('nodes'); model.soon('contacts'); };
  const timer = setInterval(ask, 10000); // counters have no events
  ask();
  paint();
  paintPast();
  return { el, leave: () => { leaves.forEach((f) => f()); clearInterval(timer); wide.removeEventListener('change', paint); } };
}

const sorted = (nodes) => [...nodes].sort((a, b) => Number(Boolean(b.up)) - Number(Boolean(a.up)) || (Date.parse(b.last_heard) || 0) - (Date.parse(a.last_heard) || 0));

const nodeName = (n) => (n.name ? text.label(n.name, 40) : shortID(n.id));

const condition = (n) => (n.blocked ? 'blocked' : n.up ? 'up' : 'down');

const CLASSES = ['lan', 'wifi', 'radio'];

function className(n) {
  const c = String(n.class ?? '').toLowerCase();
  return CLASSES.includes(c) ? t(`mesh.class.${c}`) : n.class ? text.label(n.class, 20) : t('mesh.class.unknown');
}

/** What the picture shows of a node. */
function drawn(n) {
  const c = condition(n);
  return { condition: c, name: nodeName(n), link: c === 'up' ? className(n) : t(c === 'down' ? 'mesh.down' : 'mesh.blocked_short'), line: CLASSES.includes(n.class) ? n.class : 'other' };
}

// ---- the cards ---------------------------------------------------------------

function card(n) {
  const c = condition(n);
  const since = n.since ? aged(n.since, (time) => t(n.up ? 'mesh.since_up' : 'mesh.since_down', { span: span((now() - Date.parse(time)) / 1000) })) : t(`mesh.${c}`);
  return h('li', { class: `card node ${c}` },
    h('header', { class: 'node-head' },
      h('span', { class: `mark ${c === 'up' ? 'good' : 'wait'}` }, icon(c), t(`mesh.${c}`)),
      h('bdi', { class: 'node-name' }, nodeName(n)), n.name ? h('code', shortID(n.id)) : null, h('span', { class: 'chip' }, className(n))),
    h('p', { class: 'node-line' }, since, ' · ', n.last_heard ? aged(n.last_heard, (time) => t('mesh.heard', { ago: ago(time) })) : t('mesh.never')),
    h('p', { class: 'node-line carried-line' }, Number.isFinite(n.tx_bytes) ? carried(n.tx_bytes, n.rx_bytes) : null, addresses(n)));
}

function addresses(n) {
  const list = n.addr ? [n.addr] : n.addrs ?? [];
  return list.length ? h('code', text.label(list.slice(0, 3).join(', '), 120)) : null;
}
