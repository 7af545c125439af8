// Somebody's key: its fingerprint to be compared, and what the user said of it.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { t } from '../lib/i18n.mjs';
import { on, state, trust } from '../model.mjs';
import { announce, button, dialog, errorText, nameText } from './parts.mjs';

/** What is known of somebody's key, as one of: self, frozen, changed, verified, unverified. */
export function standing(u) {
  if (u.self) return 'self';
  if (u.frozen) return 'frozen';
  if (u.key_changed) return 'changed';
  return u.verified ? 'verified' : 'unverified';
}

const ICONS = { verified: 'shield', unverified: 'key', changed: 'warn', frozen: 'blocked' };

/** The standing as a mark; what needs no attention has none. */
export function standingMark(u) {
  const s = standing(u);
  if (s === 'self' || s === 'unverified') return null;
  return h('span', { class: `mark ${s === 'verified' ? 'good' : 'alarm'}` }, icon(ICONS[s]), t(`key.${s}`));
}

const known = (id) => (state.users ?? []).find((u) => u.id === id);

/** Opens the comparison of somebody's key. */
export function compareKey(id) {
  const u = known(id);
  if (!u) return;
  const { body } = dialog(t('key.title', { name: nameText(u) }), { cls: 'sheet', onclose: () => off() });
  const view = { id, outcome: null, acting: false };
  const off = on('users', () => paint(view, body));
  paint(view, body);
}

function paint(view, body) {
  const u = known(view.id);
  const self = (state.users ?? []).find((x) => x.self);
  if (!u) return;
  const focus = body.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  const s = standing(u);
  replace(body,
    s === 'self' ? null : h('p', { class: `key-standing ${s}` }, icon(ICONS[s]), h('span', t(`key.${s}.what`, { name: nameText(u) }))),
    fingerprint(u, s === 'self' ? t('key.yours') : nameText(u)),
    s === 'self' || !self ? null : fingerprint(self, t('key.yours')),
    h('p', { class: 'quiet' }, t('key.how')),
    view.outcome ? h('p', { class: 'notice', role: 'status' }, view.outcome) : null,
    s === 'self' ? null : actions(view, u, s, body));
  if (focus) (body.querySelector(`[data-focus="${CSS.escape(focus)}"]`) ?? body.querySelector('button'))?.focus();
}

function fingerprint(u, label) {
  const groups = text.label(u.fingerprint, 60).split(' ').filter(Boolean);
  return h('figure', { class: 'fingerprint' }, h('figcaption', label), h('code', { class: 'groups' }, groups.map((g) => [h('span', g), ' '])));
}

function actions(view, u, s, body) {
  const disabled = view.acting;
  const say = (verified, words) => async (e) => {
    const { focus } = e.currentTarget.dataset;
    e.currentTarget.disabled = true;
    view.acting = true;
    try {
      await trust(u, verified);
      view.outcome = words;
    } catch (error) {
      view.outcome = errorText(error);
    }
    view.acting = false;
    announce(view.outcome);
    paint(view, body);
    if (!body.contains(document.activeElement)) body.querySelector(`[data-focus="${focus}"]`)?.focus(); // what is disabled loses it
  };
  return h('div', { class: 'actions' },
    s === 'verified' ? button(t('key.untrust'), say(false, t('key.untrusted')), { disabled, 'data-focus': 'trust' })
      : button(t('key.match'), say(true, t('key.matched')), { kind: 'primary', iconName: 'shield', disabled, 'data-focus': 'trust' }),
    s === 'changed' ? button(t('key.noted'), say(false, t('key.noted_done')), { disabled, 'data-focus': 'noted' }) : null);
}

/** The notice over a conversation whose partner has another key than before. */
export function keyNotice(u) {
  if (!u || (standing(u) !== 'changed' && standing(u) !== 'frozen')) return null;
  return h('p', { class: 'notice key-notice' }, icon('warn'), h('span', t(`key.${standing(u)}.what`, { name: nameText(u) })),
    button(t('key.compare'), () => compareKey(u.id), { 'data-focus': 'compare' }));
}
