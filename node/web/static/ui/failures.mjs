// Stepping through the messages that cannot go on (features.md M16).
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { ago, t } from '../lib/i18n.mjs';
import { act, on, stuck, writeAgain } from '../model.mjs';
import { aged, announce, button, dialog, errorText, hintText, name, nameText, precedenceChip, precedenceOf, reasonText, stateMark, stateMeaning } from './parts.mjs';
import { preview } from './chats.mjs';
import { canRecall, canRetry } from './details.mjs';

let open = false;

/** The bar that says how many messages cannot go on; hidden when there are none. */
export function failuresBar() {
  const el = h('button', { type: 'button', class: 'failures-bar', id: 'failures-bar', hidden: true, onclick: stepThrough });
  let shown = 0;
  const paint = () => {
    const n = stuck().length;
    el.hidden = n === 0;
    if (n === shown) return; // what is made anew under a finger is not pressed
    shown = n;
    if (n) replace(el, icon('warn'), h('span', { class: 'failures-words' }, t('failures.bar', { n })), h('span', { class: 'failures-go' }, t('failures.step')));
  };
  const leave = on(['failures', 'session'], paint);
  paint();
  return { el, leave };
}

/** Opens the stepper. */
export function stepThrough() {
  if (open) return;
  open = true;
  const { body, close } = dialog(t('failures.title'), { cls: 'sheet', onclose: () => { open = false; off(); } });
  const view = { id: stuck()[0]?.id ?? null, index: 0, outcome: null, acting: new Set() }; // acting: ids whose outcome is on its way
  const off = on('failures', () => paint(view, body, close));
  paint(view, body, close);
}

/** The message the stepper shows: the same as before while it still fails, else the one in its place. */
function current(view) {
  const list = stuck();
  const i = list.findIndex((m) => m.id === view.id);
  view.index = i >= 0 ? i : Math.max(0, Math.min(view.index, list.length - 1));
  const m = list[view.index];
  view.id = m?.id ?? null;
  return m;
}

function paint(view, body, close) {
  const focus = body.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  const m = current(view);
  const outcome = view.outcome ? h('p', { class: 'notice', role: 'status' }, view.outcome) : null;
  if (!m) {
    replace(body, outcome, h('p', { class: 'empty' }, t('failures.none')), h('div', { class: 'actions' }, button(t('close'), close, { kind: 'primary', 'data-focus': 'next' })));
  } else {
    replace(body, outcome, h('p', { class: 'quiet', id: 'failures-position' }, t('failures.position', { i: view.index + 1, n: stuck().length })),
      card(m), buttons(view, m, body, close));
  }
  (body.querySelector(`[data-focus="${CSS.escape(focus ?? '')}"]:not([disabled])`) ?? body.querySelector('[data-focus="next"]') ?? body.querySelector('button'))?.focus();
}

function card(m) {
  const reason = reasonText(m) || stateMeaning(m);
  const hint = hintText(m);
  return h('section', { class: 'failure' },
    h('p', { class: 'failure-to' }, t('details.to'), ': ', name(m.to), ' · ', aged(m.sent, ago), ' ', precedenceChip(precedenceOf(m))),
    h('blockquote', { class: 'quote', dir: 'auto' }, preview(m)),
    h('p', { class: 'big-state' }, stateMark(m)),
    h('h3', t('details.reason')), h('p', { class: 'reason', dir: 'auto' }, icon('warn'), h('span', reason)),
    hint ? [h('h3', t('details.todo')), h('p', { dir: 'auto' }, hint)] : null);
}

function buttons(view, m, body, close) {
  const disabled = view.acting.has(m.id);
  const run = (action, words) => async (e) => {
    e.currentTarget.disabled = true;
    view.acting.add(m.id);
    try {
      await act(action, m.id);
      view.outcome = `${nameText(m.to)}: ${words}`; // the next message may be on the screen already
    } catch (error) {
      view.outcome = errorText(error);
    }
    view.acting.delete(m.id);
    announce(view.outcome);
    paint(view, body, close);
  };
  const step = (by) => () => {
    const n = stuck().length;
    view.index = (view.index + by + n) % n;
    view.id = stuck()[view.index].id;
    view.outcome = null;
    paint(view, body, close);
  };
  const open = () => {
    close();
    location.hash = m.conversation ? `#/chats/c/${encodeURIComponent(m.conversation)}` : `#/chats/u/${encodeURIComponent(m.to?.id)}`;
  };
  return [
    h('div', { class: 'actions' },
      canRetry(m) ? button(t('details.retry'), run('retry', t('details.retried')), { kind: 'primary', iconName: 'up', disabled, 'data-focus': 'retry' }) : null,
      canRecall(m) ? button(t('details.recall'), run('recall', t('details.recalled')), { iconName: 'recalled', disabled, 'data-focus': 'recall' }) : null,
      m.state === 'expired' && m.text ? button(t('failures.again'), () => { writeAgain(m); act('dismiss', m.id).catch(() => {}); open(); }, { kind: 'primary', iconName: 'send', 'data-focus': 'again' }) : null,
      button(t('failures.open'), open, { iconName: 'chats', 'data-focus': 'open' }),
      button(t('failures.dismiss'), run('dismiss', t('failures.dismissed')), { iconName: 'close', disabled, 'data-focus': 'dismiss' })),
    stuck().length > 1 ? h('div', { class: 'actions steps' },
      button(t('failures.previous'), step(-1), { 'data-focus': 'previous' }), button(t('failures.next'), step(1), { 'data-focus': 'next' })) : null,
  ];
}
