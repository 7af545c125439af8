// What is known of one message: its state, why it is there, and what can be done.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { ago, bytes, fullTime, has, number, span, t, until } from '../lib/i18n.mjs';
import * as api from '../lib/api.mjs';
import { act, on, state } from '../model.mjs';
import { aged, announce, button, dialog, errorText, facts, isOwn, hintText, name, precedenceOf, reasonText, shortID, stateMark, stateMeaning } from './parts.mjs';
import { preview } from './chats.mjs';

const ENDED = new Set(['expired', 'recalled']);

/** What retry and recall apply to (decisions 22); the node has the last word. */
export const canRetry = (m) => isOwn(m) && (m.state === 'queued' || m.state === 'failed');
export const canRecall = (m) => isOwn(m) && !ENDED.has(m.state);

/** The newest that the page knows of a message. */
function known(id) {
  for (const thread of state.threads.values()) {
    const m = thread.messages.find((x) => x.id === id);
    if (m) return m;
  }
  return state.failures.find((m) => m.id === id) ?? null;
}

/** Opens the details of a message and keeps them true while they are open. */
export function details(id) {
  const { body, close } = dialog(t('details.title'), { cls: 'sheet', onclose: () => off() });
  const view = { id, why: null, error: null, asking: false, acting: false, outcome: null };
  const off = on(['thread', 'failures'], () => ask(view, body, close, true));
  ask(view, body, close);
}

async function ask(view, body, close, quiet = false) {
  if (view.asking) {
    view.again = true;
    return;
  }
  view.asking = true;
  if (!quiet) paint(view, body, close);
  try {
    view.why = await api.why(view.id);
    view.error = null;
  } catch (e) {
    view.error = e;
  }
  view.asking = false;
  if (body.isConnected) paint(view, body, close);
  if (view.again && body.isConnected) {
    view.again = false;
    ask(view, body, close, true);
  }
}

function paint(view, body, close) {
  const m = view.why?.message ?? known(view.id);
  const focus = body.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  replace(body, m ? summary(m) : null, m ? way(m) : null, explanation(view, m),
    view.outcome ? h('p', { class: 'notice', role: 'status' }, view.outcome) : null, m ? actions(view, m, body, close) : null, m ? rows(m) : null);
  if (focus) body.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
}

function summary(m) {
  return h('section', { class: 'details-state' },
    h('blockquote', { class: 'quote', dir: 'auto' }, preview(m)),
    h('p', { class: 'big-state' }, stateMark(m)), h('p', stateMeaning(m)));
}

const STEPS = ['waiting-for-keys', 'queued', 'carried', 'at-core', 'at-node', 'delivered', 'read'];

/**
 * The steps of an own message as a line: where it began, where it is, and what
 * may follow. Steps it may have skipped are not claimed.
 */
function way(m) {
  const now = isOwn(m) ? STEPS.indexOf(m.state) : -1;
  if (now < 0) return null;
  const steps = STEPS.filter((s, i) => (s === 'queued' && now > 1) || i === now || (i > now && s !== 'at-core'));
  const at = steps.indexOf(m.state);
  return h('ol', { class: 'way', 'aria-label': t('details.path') }, steps.map((s, i) => {
    const phase = i < at ? 'done' : i === at ? 'now' : 'open';
    return h('li', { class: phase, 'aria-current': phase === 'now' ? 'step' : null }, icon(s), h('span', t(`state.${s}`)), h('span', { class: 'vh' }, t(`details.path_${phase}`)));
  }));
}

/**
 * A part of the explanation as lines: what the node said as a code, in the
 * user's language where we have it, else in the node's own words.
 */
function lines(w, part) {
  const list = (v) => (Array.isArray(v) ? v : v === undefined || v === null ? [] : [v]).slice(0, 40);
  const codes = list(w[`${part}_said`]);
  return list(w[part]).map((plain, i) => said(codes[i]) || (typeof plain === 'string' ? text.label(plain, 500) : '')).filter(Boolean);
}

function said(sentence) {
  const key = `why.${sentence?.code}`;
  if (!has(key)) return '';
  const params = {};
  for (const [k, v] of Object.entries(sentence.args ?? {})) params[k] = argument(k, v);
  return t(key, params);
}

/** Seconds and bytes are told by their names; whatever else is text of a peer or the node. */
function argument(name, v) {
  if (typeof v === 'number') return name.endsWith('_s') ? span(v) : name.endsWith('_bytes') ? bytes(v) : v;
  if (name === 'precedence') return String(v).toUpperCase().slice(0, 20);
  return text.label([].concat(v).slice(0, 16).join(', '), 300);
}

function explanation(view, m) {
  if (view.error) return h('p', { class: 'error' }, icon('warn'), h('span', errorText(view.error)));
  if (!view.why) return h('p', { class: 'quiet', role: 'status' }, t('details.asking'));
  const w = view.why;
  const reason = m ? reasonText(m) : '';
  const todo = lines(w, 'todo')[0] ?? (m ? hintText(m) : '');
  const known = lines(w, 'facts');
  const next = lines(w, 'next');
  return h('section', { class: 'why', id: 'why' },
    lines(w, 'summary').map((s) => h('p', { class: 'why-summary', dir: 'auto' }, s)),
    reason ? [h('h3', t('details.reason')), h('p', { class: 'reason', dir: 'auto' }, icon('warn'), h('span', reason))] : null,
    todo ? [h('h3', t('details.todo')), h('p', { dir: 'auto' }, todo)] : null,
    next.length ? [h('h3', t('details.next')), next.map((s) => h('p', { dir: 'auto' }, s))] : null,
    known.length ? [h('h3', t('details.facts')), h('ul', { class: 'why-facts' }, known.map((f) => h('li', { dir: 'auto' }, f)))] : null);
}

const timeRow = (time) => (Number.isNaN(Date.parse(time)) ? null : [fullTime(time), ' (', aged(time, ago), ')']);

function rows(m) {
  const left = until(m.expires);
  return facts([
    [t('details.from'), m.from ? [name(m.from), ' ', h('code', shortID(m.from.id))] : null],
    [t('details.to'), m.to ? [name(m.to), ' ', h('code', shortID(m.to.id))] : null],
    [t('details.sent'), timeRow(m.sent)],
    [t('details.received'), timeRow(m.received)],
    [t('details.delivered'), isOwn(m) && m.delivered?.m > 0 ? t('details.delivered_n', { have: m.delivered.n, n: m.delivered.m }) : null],
    [t('details.expires'), Number.isFinite(left) ? [fullTime(m.expires), left > 0 ? ` (${t('message.expires', { span: span(left) })})` : ` (${t('message.expired')})`] : null],
    [t('details.precedence'), t(`precedence.${precedenceOf(m)}`)],
    [t('details.hops'), Number.isFinite(m.hops) && !isOwn(m) ? number(m.hops) : null],
    [t('details.id'), h('code', text.label(m.id, 80))],
  ]);
}

function actions(view, m, body, close) {
  if (!canRetry(m) && !canRecall(m)) return null;
  const disabled = view.acting;
  const run = (action, words) => async (e) => {
    const { focus } = e.currentTarget.dataset;
    e.currentTarget.disabled = true;
    view.acting = true;
    try {
      await act(action, m.id);
      view.outcome = words;
      announce(words);
    } catch (error) {
      view.outcome = errorText(error);
    }
    view.acting = false;
    await ask(view, body, close, true);
    if (!body.contains(document.activeElement)) body.querySelector(`[data-focus="${focus}"]`)?.focus(); // what is disabled loses it
  };
  if (view.confirm) {
    return h('div', { class: 'confirm', role: 'group', 'aria-label': t('details.recall') }, h('p', t('details.recall_ask')), h('div', { class: 'actions' },
      button(t('details.recall_yes'), (e) => { view.confirm = false; run('recall', t('details.recalled'))(e); }, { kind: 'danger', iconName: 'recalled', 'data-focus': 'yes' }),
      button(t('details.keep'), () => { view.confirm = false; paint(view, body, close); }, { 'data-focus': 'keep' })));
  }
  return h('div', { class: 'actions' },
    canRetry(m) ? button(t('details.retry'), run('retry', t('details.retried')), { kind: 'primary', iconName: 'up', disabled, 'data-focus': 'retry' }) : null,
    canRecall(m) ? button(t('details.recall'), () => {
      view.confirm = true;
      paint(view, body, close);
      body.querySelector('[data-focus="keep"]')?.focus();
    }, { iconName: 'recalled', disabled, 'data-focus': 'recall' }) : null);
}
