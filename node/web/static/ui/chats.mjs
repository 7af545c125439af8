// The list of conversations, with a search over conversations and people.
import { h, reconcile, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { currentLanguage, number, shortTime, t } from '../lib/i18n.mjs';
import { on, state } from '../model.mjs';
import { callText } from './message.mjs';
import { emptyState, hasTwin, isOwn, linkButton, name, nameText, precedenceOf, shortID, stateMark } from './parts.mjs';

/** Builds the list pane. Returns {el, search, leave} where search is its input. */
export function chatList() {
  const search = h('input', { type: 'search', id: 'search', class: 'search-input', placeholder: t('chats.search'), 'aria-label': t('chats.search'), autocomplete: 'off', spellcheck: 'false', maxlength: 100 });
  const list = h('ul', { class: 'rows', id: 'chat-list' });
  const note = h('div', { hidden: true });
  const el = h('section', { class: 'list-pane', 'aria-label': t('chats.title') },
    h('header', { class: 'pane-head' }, h('h1', t('chats.title')), h('div', { class: 'search' }, icon('search'), search)), list, note);
  const update = () => paint(list, note, search.value);
  search.addEventListener('input', update);
  search.addEventListener('keydown', (e) => searchKey(e, search, list, update));
  const leave = on(['conversations', 'users', 'session', 'route'], update);
  update();
  return { el, search, leave };
}

function searchKey(e, search, list, update) {
  if (e.key === 'Escape' && search.value) {
    e.stopPropagation();
    search.value = '';
    update();
  } else if (e.key === 'ArrowDown' || e.key === 'Enter') {
    const first = list.querySelector('a');
    if (!first) return;
    e.preventDefault();
    if (e.key === 'Enter') first.click();
    else first.focus();
  }
}

const fold = (s) => String(s ?? '').normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();

function paint(list, note, search) {
  const wanted = fold(search.trim());
  const all = state.conversations ?? [];
  const conversations = all.filter((c) => !wanted || fold(c.with?.name).includes(wanted) || fold(preview(c.last)).includes(wanted));
  const talked = new Set(all.map((c) => c.with?.id));
  const people = wanted ? (state.users ?? []).filter((u) => !u.self && !talked.has(u.id) && fold(u.name).includes(wanted)) : [];
  const items = [...conversations.map((c) => ({ c })), ...people.map((u) => ({ u }))];
  const here = location.hash;
  reconcile(list, items, (i) => (i.c ? `c${i.c.id}` : `u${i.u.id}`),
    (i) => JSON.stringify([i, here === hrefOf(i), currentLanguage(), i.c?.last && shortTime(i.c.last.sent), hasTwin(i.c?.with ?? i.u)]), (i) => (i.c ? conversationRow(i.c, here) : personRow(i.u, here)));
  note.hidden = items.length > 0;
  if (!items.length) replace(note, nothing(wanted, search));
}

function nothing(wanted, typed) {
  if (state.conversations === null) return h('p', { class: 'empty' }, t('chats.loading'));
  if (wanted) return h('p', { class: 'empty' }, t('chats.found_none', { what: text.label(typed, 40) }));
  return emptyState('chats', t('chats.empty_title'), t('chats.empty'), linkButton(t('nav.people'), '#/people', { kind: 'primary', iconName: 'people' }));
}

const hrefOf = (i) => (i.c ? `#/chats/c/${encodeURIComponent(i.c.id)}` : `#/chats/u/${encodeURIComponent(i.u.id)}`);

/** One line that stands for a message. */
export function preview(m) {
  if (!m) return '';
  if (m.state === 'recalled' && !m.text && !m.file && !m.location) return t('message.recalled_text');
  if (m.type === 'file') return text.label(m.file?.name ?? t('files.title'), 120);
  if (m.type === 'location') return t('position.title') + (m.location?.note ? `: ${text.label(m.location.note, 100)}` : '');
  if (m.type === 'call' && m.call) return callText(m);
  return text.label(m.text, 160);
}

const typeIcon = (m) => (m?.type === 'file' ? icon('files') : m?.type === 'location' ? icon('position') : m?.type === 'call' ? icon('call') : null);

function conversationRow(c, here) {
  const href = hrefOf({ c });
  const m = c.last;
  const p = m ? precedenceOf(m) : 'ROUTINE';
  return h('li', h('a', { class: c.unread ? 'row unread' : 'row', href, 'data-focus': 'row', 'aria-current': href === here ? 'page' : null },
    avatar(c.with),
    h('span', { class: 'row-main' },
      h('span', { class: 'row-top' }, name(c.with, 'row-name'), hasTwin(c.with ?? {}) ? h('code', { class: 'row-id' }, shortID(c.with.id)) : null, h('span', { class: 'row-time' }, m ? shortTime(m.sent) : '')),
      h('span', { class: 'row-bottom' },
        m && p !== 'ROUTINE' ? h('span', { class: `row-precedence ${p.toLowerCase()}` }, icon(p), h('span', { class: 'vh' }, t(`precedence.${p}`))) : null,
        typeIcon(m),
        h('bdi', { class: 'row-text' }, m ? (isOwn(m) ? t('chats.you', { text: preview(m) }) : preview(m)) : t('chats.no_messages')),
        m && isOwn(m) ? stateMark(m) : null,
        c.unread ? h('span', { class: 'badge' }, h('span', { 'aria-hidden': 'true' }, number(c.unread)), h('span', { class: 'vh' }, t('nav.unread', { n: c.unread }))) : null))));
}

function personRow(u, here) {
  const href = hrefOf({ u });
  return h('li', h('a', { class: 'row', href, 'data-focus': 'row', 'aria-current': href === here ? 'page' : null },
    avatar(u),
    h('span', { class: 'row-main' },
      h('span', { class: 'row-top' }, name(u, 'row-name'), h('code', { class: 'row-id' }, shortID(u.id))),
      h('span', { class: 'row-bottom' }, h('span', { class: 'row-text' }, t('people.write', { name: nameText(u) }))))));
}

/** The first letters of a name in a square; the eye finds a row by it. */
export function avatar(person) {
  const words = nameText(person).replace(/‹U\+[0-9A-F]+›/g, '').split(/[\s._-]+/).filter(Boolean);
  const letters = words.slice(0, 2).map((w) => [...w][0]).join('') || '?';
  return h('span', { class: 'avatar', 'aria-hidden': 'true' }, letters.toLocaleUpperCase());
}
