// An open conversation: its messages, live, and the composer below them.
import { h, reconcile, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { currentLanguage, day, t } from '../lib/i18n.mjs';
import * as model from '../model.mjs';
import { state } from '../model.mjs';
import { announce, button, errorText, iconButton, isOwn, name, nameText, nameWarning, shortID } from './parts.mjs';
import { compareKey, keyNotice } from './person.mjs';
import { avatar } from './chats.mjs';
import { foldAll, messageItem, signature } from './message.mjs';
import { composer } from './composer.mjs';

const NEAR_BOTTOM = 80; // px; nearer than this and new messages scroll the view

/**
 * Builds the view of the conversation with peer (a user id), which exists
 * already under the id conversation, or comes to exist with the first message.
 * Returns {el, leave, focus, lastMessage}.
 */
export function chatView(peer, conversation) {
  const view = { peer, conversation, error: null, seen: null, below: 0, end: true };
  build(view);
  const stop = [
    model.on(['thread', 'preview'], () => paintMessages(view)),
    model.on(['conversations', 'users', 'calls', 'session'], () => { adopt(view); paintHead(view); }),
  ];
  const attention = () => { if (document.visibilityState === 'visible') read(view); };
  document.addEventListener('visibilitychange', attention);
  addEventListener('focus', attention);
  view.leave = () => {
    stop.forEach((f) => f());
    view.composer.leave();
    view.sizes.disconnect();
    foldAll();
    document.removeEventListener('visibilitychange', attention);
    removeEventListener('focus', attention);
    if (state.open === view.conversation) state.open = null;
  };
  adopt(view);
  paintHead(view);
  paintMessages(view);
  return view;
}

/** Calls somebody; the modules of calls are fetched with the first one. */
const call = async (p) => {
  const calls = await import('../call/call.mjs');
  calls.show(document.getElementById('call'));
  await calls.start(p);
};

const person = (view) => (state.conversations ?? []).find((c) => c.id === view.conversation)?.with ?? (state.users ?? []).find((u) => u.id === view.peer) ?? { id: view.peer };
const known = (view) => (state.users ?? []).find((u) => u.id === view.peer);

function build(view) {
  view.head = h('header', { class: 'chat-head' });
  view.list = h('ol', { class: 'messages', id: 'messages' });
  view.older = button(t('chat.older'), () => older(view), { kind: 'quiet', hidden: true });
  view.note = h('p', { class: 'empty', hidden: true });
  view.more = h('button', { type: 'button', class: 'button primary new-below', hidden: true, onclick: () => toBottom(view) });
  view.scroller = h('div', { class: 'scroller', tabindex: '0', role: 'region', 'aria-label': t('chat.messages', { name: nameText(person(view)) }) }, view.older, view.note, view.list);
  view.scroller.addEventListener('scroll', () => {
    view.end = atBottom(view);
    if (view.end) settle(view);
  }, { passive: true });
  view.sizes = new ResizeObserver(() => { if (view.end) toBottom(view); }); // a banner or the keyboard takes room, not the newest message
  view.sizes.observe(view.scroller);
  view.composer = composer(view.peer, () => person(view), () => toBottom(view));
  view.el = h('section', { class: 'chat', id: 'chat', 'data-peer': view.peer }, view.head, h('div', { class: 'chat-body' }, view.scroller, view.more), view.composer.el);
  view.focus = () => view.composer.focus();
  view.lastMessage = () => state.threads.get(view.conversation)?.messages.at(-1)?.id ?? null;
}

/** Binds the view to its conversation as soon as there is one. */
function adopt(view) {
  const c = view.conversation ? null : model.conversationWith(view.peer);
  if (c) view.conversation = c.id;
  if (!view.conversation || state.open === view.conversation) return;
  state.open = view.conversation;
  model.loadNewest(view.conversation).then(() => { view.error = null; }, (e) => { view.error = e; }).finally(() => paintMessages(view));
}

function paintHead(view) {
  const p = person(view);
  const sig = JSON.stringify([p, known(view), state.calls !== null, currentLanguage()]);
  if (view.headSignature === sig) return;
  view.headSignature = sig;
  const noKeys = known(view)?.has_keys === false;
  replace(view.head,
    h('div', { class: 'chat-title' },
      h('a', { class: 'icon-button back', href: '#/chats', 'aria-label': t('chat.back') }, icon('back')),
      avatar(p), h('div', { class: 'chat-who' }, h('h1', name(p)), h('code', shortID(p.id))),
      state.calls && known(view) && !known(view).self ? iconButton('call', t('call.start', { name: nameText(p) }), () => call(p), { id: 'call-start', 'data-focus': 'call', class: 'icon-button end' }) : null,
      known(view)?.fingerprint ? iconButton(known(view).verified ? 'shield' : 'key', t('key.title', { name: nameText(p) }), () => compareKey(p.id), { class: known(view).verified ? 'icon-button set end' : 'icon-button end' }) : null),
    nameWarning(p), keyNotice(known(view)),
    noKeys ? h('p', { class: 'notice' }, icon('waiting-for-keys'), h('span', t('chat.no_keys', { name: nameText(p) }))) : null);
}

/** Messages with the days between them. */
function entries(messages) {
  const out = [];
  let last = null;
  for (const m of messages) {
    const d = day(m.sent);
    if (d !== last) out.push({ day: d, key: `d${m.id}` });
    last = d;
    out.push({ m, key: `m${m.id}` });
  }
  return out;
}

function paintMessages(view) {
  const thread = state.threads.get(view.conversation);
  const messages = thread?.messages ?? [];
  const stick = atBottom(view) || view.seen === null;
  const fresh = news(view, messages);
  reconcile(view.list, entries(messages), (e) => e.key,
    (e) => (e.m ? signature(e.m, currentLanguage()) : `${e.day}`),
    (e) => (e.m ? messageItem(e.m) : h('li', { class: 'day' }, h('span', e.day))));
  view.older.hidden = !thread?.more;
  view.note.hidden = messages.length > 0;
  if (!messages.length) {
    replace(view.note, view.error ? errorText(view.error) : view.conversation && !thread?.fresh ? t('chats.loading') : t('chat.empty', { name: nameText(person(view)) }));
  }
  if (stick) toBottom(view);
  else if (fresh.length) view.below += fresh.filter((m) => !isOwn(m)).length;
  paintBelow(view);
  const incoming = fresh.filter((m) => !isOwn(m)).at(-1);
  if (incoming) announce(t('chat.announce', { name: nameText(incoming.from) }));
  read(view);
}

/** Messages that were not there at the last painting, at the end of the list. */
function news(view, messages) {
  const fresh = view.seen ? messages.filter((m) => !view.seen.has(m.id)) : [];
  if (messages.length || view.seen) view.seen = new Set(messages.map((m) => m.id));
  return fresh;
}

const atBottom = ({ scroller: s }) => s.scrollHeight - s.scrollTop - s.clientHeight < NEAR_BOTTOM;

function toBottom(view) {
  view.scroller.scrollTop = view.scroller.scrollHeight;
  settle(view);
}

function settle(view) {
  if (!view.below) return;
  view.below = 0;
  paintBelow(view);
}

function paintBelow(view) {
  view.more.hidden = view.below === 0;
  if (view.below) replace(view.more, icon('down_small'), h('span', t('chat.new_below', { n: view.below })));
}

function read(view) {
  if (view.conversation && view.el.isConnected && document.visibilityState === 'visible' && document.hasFocus()) model.markRead(view.conversation);
}

async function older(view) {
  view.older.disabled = true;
  const before = view.scroller.scrollHeight - view.scroller.scrollTop;
  view.seen = null; // what comes now is old, not news
  try {
    await model.loadOlder(view.conversation);
    view.error = null;
  } catch (e) {
    announce(errorText(e));
  }
  const thread = state.threads.get(view.conversation);
  view.seen = new Set((thread?.messages ?? []).map((m) => m.id));
  paintMessages(view);
  view.scroller.scrollTop = view.scroller.scrollHeight - before;
  view.older.disabled = false;
}
