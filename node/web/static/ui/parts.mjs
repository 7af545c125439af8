// Small parts that several screens share.
import { h } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { ago, bytes, fullTime, has, number, span, t, until } from '../lib/i18n.mjs';
import { isOwn, state } from '../model.mjs';

/** Somebody's name as a text that cannot reorder or hide anything around it. */
export function name(person, cls = 'name') {
  return h('bdi', { class: cls }, nameText(person));
}

export const nameText = (person) => text.label(person?.name || person?.id?.slice(0, 8) || '?', 60);

export const shortID = (id) => text.label(String(id ?? '').slice(0, 8));

/** Whether somebody else known here has a name that reads the same. */
export function hasTwin(person) {
  const like = text.sameness(person?.name);
  return like !== '' && (state.users ?? []).some((u) => u.id !== person.id && text.sameness(u.name) === like);
}

/** Marks beside a name that could be taken for another's. */
export function nameWarning(person) {
  const mixed = text.mixedAlphabets(person?.name);
  if (!mixed && !hasTwin(person)) return null;
  return h('p', { class: 'name-warning' }, icon('warn'), h('span', t(mixed ? 'chat.mixed' : 'chat.twin')),
    h('code', shortID(person.id)));
}

/** A time whose age is kept true while it is on the screen; make gives the text for it. */
export function aged(time, make = ago) {
  const el = h('time', { class: 'aged', datetime: validISO(time), title: fullTime(time) }, make(time));
  el.retell = () => {
    const now = make(time);
    if (el.textContent !== now) el.textContent = now;
  };
  return el;
}

const validISO = (time) => (Number.isNaN(Date.parse(time)) ? null : new Date(time).toISOString());

/** Brings all ages on the screen up to date. */
export function retellAges(root = document) {
  for (const el of root.querySelectorAll('.aged')) el.retell?.();
}

export const PRECEDENCES = ['ROUTINE', 'PRIORITY', 'IMMEDIATE', 'FLASH'];

/** The precedence of a message in upper case; anything unknown counts as ROUTINE. */
export function precedenceOf(m) {
  const p = String(m?.precedence ?? '').toUpperCase();
  return PRECEDENCES.includes(p) ? p : 'ROUTINE';
}

export function precedenceChip(p) {
  return p === 'ROUTINE' ? null : h('span', { class: `chip precedence ${p.toLowerCase()}` }, icon(p), t(`precedence.${p}`));
}

const SOON = 3600; // seconds; from here on an expiry is marked

export function expiryChip(m) {
  if (!m.expires || !Number.isFinite(until(m.expires)) || ['expired', 'recalled'].includes(m.state)) return null;
  const left = until(m.expires);
  const words = () => (until(m.expires) <= 0 ? t('message.expired') : t('message.expires', { span: span(until(m.expires)) }));
  if (left <= SOON) return h('span', { class: 'chip expiry soon' }, icon('expiry'), aged(m.expires, words));
  return h('span', { class: 'chip expiry', title: words() }, icon('expiry'), h('span', { class: 'vh' }, words()), h('span', { 'aria-hidden': 'true' }, aged(m.expires, () => span(until(m.expires)))));
}

export const STATES = ['waiting-for-keys', 'queued', 'carried', 'at-core', 'at-node', 'delivered', 'read', 'expired', 'recalled', 'failed'];

const counted = (m) => Number.isFinite(m.delivered?.n) && Number.isFinite(m.delivered?.m) && m.delivered.m > 0;

export { isOwn };

/** The words for a message's state: the network's own names, delivered with its count. */
export function stateWord(m) {
  if (!STATES.includes(m.state)) return text.label(m.state || '?', 40);
  if (!isOwn(m) && m.state === 'delivered') return t('state.received');
  if (m.state === 'delivered' && counted(m)) return t('state.delivered_n', { have: m.delivered.n, all: m.delivered.m });
  return t(`state.${m.state}`);
}

/** One sentence that says what the state means. */
export function stateMeaning(m) {
  if (!isOwn(m) && m.state === 'delivered') return t('state.received.what');
  if (m.state === 'delivered' && counted(m)) return t('state.delivered_n.what', { have: m.delivered.n, n: m.delivered.m });
  return has(`state.${m.state}.what`) ? t(`state.${m.state}.what`) : '';
}

/** A state as icon and word. */
export function stateMark(m) {
  const known = STATES.includes(m.state) ? m.state : 'failed';
  return h('span', { class: `state ${known}`, 'data-state': known }, icon(known), h('span', { class: 'word' }, stateWord(m)));
}

/** What an error says to a person: our words for known codes, else the node's without the name of its package, with its hint. */
export function errorText(e) {
  const code = String(e?.code ?? '');
  const params = { n: Math.max(1, Math.ceil(e?.retryAfter || 1)), group: text.label(e?.body?.error?.group, 40) };
  if (has(`error.${code}`)) return t(`error.${code}`, params);
  if (e?.status === 429) return t('error.too_many_requests', params);
  const said = [String(e?.message ?? '').replace(/^[a-z]+: /, ''), e?.hint].map((x) => text.label(x, 300)).filter(Boolean).map((x) => (/[.!?]$/.test(x) ? x : `${x}.`));
  return said.length && e?.status ? said.join(' ') : t('error.unknown', { code: text.label(code || e?.name, 40) });
}

const other = (m) => nameText(isOwn(m) ? m.to : m.from);

/** Why a message does not go on: our words for codes we know, else the node's. */
export function reasonText(m) {
  const key = `reason.${m.reason_code}`;
  return m.reason_code && has(key) ? t(key, { name: other(m) }) : text.label(m.reason, 300);
}

/** What can be done about it. */
export function hintText(m) {
  const key = `hint.${m.reason_code}`;
  return m.reason_code && has(key) ? t(key, { name: other(m) }) : text.label(m.hint, 300);
}

/** Progress as a bar with its words. */
export function progress(have, total, label) {
  const max = total > 0 ? total : 1;
  const value = Math.min(Math.max(have, 0), max);
  return h('progress', { class: 'bar', max, value, 'aria-label': label });
}

export const percent = (have, total) => (total > 0 ? Math.floor((Math.min(have, total) / total) * 100) : 0);

export const percentText = (n) => number(n / 100, { style: 'percent' });

export { bytes };

/** A button that shows an icon; its words are the accessible name. */
export function iconButton(iconName, label, onclick, attributes = {}) {
  return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...attributes }, icon(iconName));
}

export function button(label, onclick, { kind = '', iconName, ...attributes } = {}) {
  return h('button', { type: 'button', class: `button ${kind}`.trim(), onclick, ...attributes }, iconName ? icon(iconName) : null, h('span', label));
}

/**
 * What a screen says while there is nothing on it: what will be here, and the
 * next step. actions are links or buttons.
 */
export function emptyState(iconName, title, words, ...actions) {
  return h('div', { class: 'empty-state' }, icon(iconName, 'empty-icon'), h('p', { class: 'strong' }, title),
    [].concat(words).map((w) => h('p', { class: 'quiet' }, w)), actions.length ? h('div', { class: 'actions' }, actions) : null);
}

/** A link that looks like a button. */
export function linkButton(label, href, { kind = '', iconName, ...attributes } = {}) {
  return h('a', { class: `button ${kind}`.trim(), href, ...attributes }, iconName ? icon(iconName) : null, h('span', label));
}

/** A set of choices of which one holds: radio buttons with the look of keys. */
export function choice(legend, group, options, current, onpick) {
  return h('fieldset', { class: 'choice' }, h('legend', legend), h('div', { class: 'choice-keys' }, options.map((o) => h('label', { class: 'choice-key' },
    h('input', { type: 'radio', name: group, value: o.value, checked: o.value === current, onchange: () => onpick(o.value) }),
    h('span', { class: 'choice-face' }, o.icon ? icon(o.icon) : null, h('span', o.label))))));
}

/** Rows of "name: value"; rows without a value are left out. */
export function facts(rows) {
  return h('dl', { class: 'facts' }, rows.filter(([, v]) => v !== null && v !== undefined && v !== '').map(([k, v]) => h('div', h('dt', k), h('dd', v))));
}

/**
 * Opens a dialog in the top layer. The browser keeps focus inside it and gives
 * it back after; Escape and the close button close it.
 */
export function dialog(title, { cls = '', onclose = () => {} } = {}) {
  const body = h('div', { class: 'dialog-body' });
  const titleID = `dialog-${++dialogs}`;
  const el = h('dialog', { class: `dialog ${cls}`.trim(), 'aria-labelledby': titleID },
    h('header', { class: 'dialog-head' }, h('h2', { id: titleID }, title), iconButton('close', t('close'), () => el.close(), { class: 'icon-button close' })), body);
  el.addEventListener('close', () => {
    el.remove();
    onclose();
  });
  el.addEventListener('click', (e) => { if (e.target === el) el.close(); }); // the backdrop
  document.body.append(el);
  el.showModal();
  return { el, body, close: () => el.close() };
}

let dialogs = 0;

const live = () => document.getElementById('announce');

/** Says something to screen readers. */
export function announce(words) {
  const el = live();
  if (el) el.textContent = words;
}
