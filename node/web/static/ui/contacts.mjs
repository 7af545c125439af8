// Who was near in the last 24 hours: a strip for each node over one axis of
// time, and the contacts one by one.
import { h, svg } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { clock, now, shortTime, span, t } from '../lib/i18n.mjs';
import { bytes, shortID } from './parts.mjs';

const DAY_MS = 86400000;
const HOUR_MS = 3600000;
const STRIPS = 16; // nodes that get a strip
const LISTED = 30; // contacts that are listed

/** The history as a section; contacts as the node tells them, the newest first. */
export function history(contacts) {
  const all = contacts.map(parse).filter((c) => c.end > c.start);
  if (!all.length) return null;
  return h('section', { class: 'card history', 'aria-label': t('mesh.contacts') }, strips(all), list(all));
}

function parse(c) {
  const from = now() - DAY_MS;
  const start = Date.parse(c.start);
  const end = c.end ? Date.parse(c.end) : now();
  return { c, lasts: !c.end, start: Math.max(from, start), end: Math.min(now(), end), span: Math.max(0, (end - start) / 1000) };
}

const nodeName = (c) => (c.name ? text.label(c.name, 40) : shortID(c.node));

function strips(all) {
  const nodes = new Map();
  for (const x of all) nodes.set(x.c.node, [...(nodes.get(x.c.node) ?? []), x]);
  return h('figure', { class: 'strips' }, [...nodes.values()].slice(0, STRIPS).map(strip), axis());
}

const x = (time) => (((time - (now() - DAY_MS)) / 60000)).toFixed(1);

function strip(parts) {
  const total = parts.reduce((sum, p) => sum + (p.end - p.start) / 1000, 0);
  const words = t('mesh.contacts_text', { n: parts.length, span: span(total) });
  return h('div', { class: 'strip' }, h('bdi', { class: 'strip-name' }, nodeName(parts[0].c)),
    svg('svg', { class: 'strip-svg', viewBox: '0 0 1440 40', preserveAspectRatio: 'none', role: 'img', 'aria-label': `${nodeName(parts[0].c)}: ${words}` },
      svg('rect', { class: 'track', x: 0, y: 16, width: 1440, height: 8 }),
      [360, 720, 1080].map((at) => svg('rect', { class: 'tick', x: at, y: 4, width: 2, height: 32 })),
      parts.map((p) => svg('rect', { class: 'contact', x: x(p.start), y: 4, width: Math.max(8, (p.end - p.start) / 60000).toFixed(1), height: 32 }))),
    h('span', { class: 'strip-sum', 'aria-hidden': 'true' }, span(total)));
}

function axis() {
  const marks = [24, 18, 12, 6].map((hours) => clock(now() - hours * HOUR_MS));
  return h('div', { class: 'strip axis', 'aria-hidden': 'true' }, h('span', { class: 'strip-name' }), h('p', { class: 'axis-marks' }, [...marks, t('mesh.now')].map((m) => h('span', m))), h('span', { class: 'strip-sum' }));
}

function list(all) {
  return h('details', { class: 'contact-list' }, h('summary', h('span', t('mesh.contacts_all', { n: all.length })), icon('down_small')),
    h('ol', all.slice(0, LISTED).map(row)),
    all.length > LISTED ? h('p', { class: 'quiet' }, t('mesh.contacts_more', { n: all.length - LISTED })) : null);
}

function row({ c, lasts, span: seconds }) {
  return h('li', { class: 'contact-row' },
    h('span', { class: lasts ? 'mark good' : 'mark' }, icon(lasts ? 'up' : 'down'), h('bdi', { class: 'node-name' }, nodeName(c))),
    h('span', { class: 'contact-when' }, moment(c.start), ' – ', lasts ? t('mesh.now') : shortTime(c.start) === shortTime(c.end) ? clock(c.end) : moment(c.end), ' · ', span(seconds)),
    carried(c.tx_bytes, c.rx_bytes));
}

/** The clock today, else the date and the clock. */
function moment(time) {
  const short = shortTime(time);
  return short === clock(time) ? short : `${short}, ${clock(time)}`;
}

/** What went out and came in, as arrows with their bytes. */
export function carried(tx, rx) {
  const one = (name, word, n) => h('span', { class: 'carried-one' }, icon(name), h('span', { class: 'vh' }, word), bytes(Number(n)));
  return h('span', { class: 'carried' }, one('up', t('mesh.tx'), tx), one('down', t('mesh.rx'), rx));
}
