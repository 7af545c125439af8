// The people known here: whose keys are here and compared, and who could be
// mistaken for whom.
import { h, reconcile, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { currentLanguage, t } from '../lib/i18n.mjs';
import * as model from '../model.mjs';
import { state } from '../model.mjs';
import { emptyState, hasTwin, iconButton, name, nameText, shortID } from './parts.mjs';
import { compareKey, standingMark } from './person.mjs';
import { avatar } from './chats.mjs';

export function peopleView() {
  const search = h('input', { type: 'search', class: 'search-input', placeholder: t('people.search'), 'aria-label': t('people.search'), autocomplete: 'off', spellcheck: 'false', maxlength: 100 });
  const list = h('ul', { class: 'rows cards' });
  const note = h('div', { hidden: true });
  const el = h('section', { class: 'page people' }, h('header', { class: 'pane-head' }, h('h1', t('people.title')), h('div', { class: 'search' }, icon('search'), search)), list, note);
  const paint = () => {
    const wanted = text.sameness(search.value);
    const users = [...(state.users ?? [])].filter((u) => !wanted || text.sameness(u.name).includes(wanted) || String(u.id).startsWith(wanted))
      .sort((a, b) => Number(Boolean(b.self)) - Number(Boolean(a.self)) || String(a.name).localeCompare(String(b.name), currentLanguage()));
    reconcile(list, users, (u) => u.id, (u) => JSON.stringify([u, hasTwin(u), currentLanguage()]), row);
    const alone = !wanted && users.length === 1 && users[0].self;
    note.hidden = users.length > 0 && !alone;
    if (!note.hidden) replace(note, nothing(wanted, search.value));
  };
  search.addEventListener('input', paint);
  const leave = model.on(['users', 'session'], paint);
  model.soon('users');
  paint();
  return { el, search, leave };
}

function nothing(wanted, typed) {
  if (state.users === null) return h('p', { class: 'empty' }, t('chats.loading'));
  if (wanted) return h('p', { class: 'empty' }, t('chats.found_none', { what: text.label(typed, 40) }));
  return emptyState('people', t('people.empty_title'), [t('people.empty'), t('people.invite')]);
}

function row(u) {
  const c = model.conversationWith(u.id);
  const href = c ? `#/chats/c/${encodeURIComponent(c.id)}` : `#/chats/u/${encodeURIComponent(u.id)}`;
  const mixed = text.mixedAlphabets(u.name);
  const facts = [
    u.self ? t('people.self') : null,
    u.here ? t('people.here') : null,
    Number.isFinite(u.devices) ? t('people.devices', { n: u.devices }) : null,
  ].filter(Boolean);
  const inside = [
    avatar(u),
    h('span', { class: 'row-main' },
      h('span', { class: 'row-top' }, name(u, 'row-name'), h('code', { class: 'row-id' }, shortID(u.id))),
      h('span', { class: 'row-bottom wrap' }, standingMark(u),
        u.self || u.has_keys ? null : h('span', { class: 'mark wait' }, icon('expiry'), t('people.no_keys')),
        h('span', { class: 'row-text' }, facts.join(' · '))),
      mixed || hasTwin(u) ? h('span', { class: 'row-warning' }, icon('warn'), t(mixed ? 'chat.mixed' : 'chat.twin')) : null),
  ];
  const row = u.self ? h('div', { class: 'row' }, inside) : h('a', { class: 'row', href, 'aria-label': t('people.write', { name: nameText(u) }), 'data-focus': 'row' }, inside);
  return h('li', { class: 'person' }, row,
    u.fingerprint ? iconButton('key', t('key.title', { name: nameText(u) }), () => compareKey(u.id), { 'data-focus': 'key' }) : null);
}
