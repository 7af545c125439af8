// What a user can do with their own account on this node. Each part of it is
// a card; further ones join the list in accountCards.
import { h } from '../lib/dom.mjs';
import * as text from '../lib/text.mjs';
import { t } from '../lib/i18n.mjs';
import { state } from '../model.mjs';
import { button } from './parts.mjs';
import { compareKey } from './person.mjs';

/** The cards of the account, in order. */
export function accountCards({ onlogout }) {
  return [session(onlogout), secrets()];
}

/** The password and the recovery sheet have their own document, the door: words for them load only there. */
function secrets() {
  return h('section', { class: 'card' }, h('h2', t('door.account')), h('p', { class: 'quiet' }, t('door.account_note')),
    h('div', { class: 'actions' }, h('a', { class: 'button', id: 'account-door', href: '/c/#account' }, h('span', t('door.account_open')))));
}

function session(onlogout) {
  return h('section', { class: 'card' }, h('h2', t('settings.account')),
    h('p', t('status.user'), ': ', h('bdi', { class: 'strong' }, text.label(state.me?.name, 60))),
    h('div', { class: 'actions' },
      button(t('settings.logout'), onlogout, { kind: 'primary', iconName: 'lock', id: 'logout' }),
      button(t('settings.own_key'), () => compareKey(state.me?.id), { iconName: 'key' })),
    h('p', { class: 'quiet' }, t('settings.logout_note')));
}
