// Appearance, language, logging out.
import { h } from '../lib/dom.mjs';
import { currentLanguage, LANGUAGES, t } from '../lib/i18n.mjs';
import * as text from '../lib/text.mjs';
import { state } from '../model.mjs';
import { button, choice } from './parts.mjs';
import { help } from './help.mjs';

const THEMES = ['auto', 'day', 'night', 'red'];

export function settingsView({ onlanguage, onlogout }) {
  const theme = document.documentElement.dataset.themeChoice ?? 'auto';
  const setTheme = (v) => dispatchEvent(new CustomEvent('outrider:theme', { detail: v }));
  const el = h('section', { class: 'page settings' }, h('header', { class: 'pane-head' }, h('h1', t('settings.title'))),
    h('section', { class: 'card' },
      choice(t('settings.theme'), 'theme', THEMES.map((x) => ({ value: x, label: t(`settings.theme.${x}`), icon: x })), theme, setTheme),
      h('p', { class: 'quiet' }, t('settings.theme.note'))),
    h('section', { class: 'card' },
      choice(t('settings.language'), 'language', LANGUAGES.map((l) => ({ value: l.code, label: l.name })), currentLanguage(), onlanguage),
      h('p', { class: 'quiet' }, t('settings.language.note'))),
    h('section', { class: 'card' }, h('h2', t('settings.keys')), button(t('settings.keys_show'), help)),
    h('section', { class: 'card' }, h('h2', t('settings.account')),
      h('p', t('status.user'), ': ', h('bdi', { class: 'strong' }, text.label(state.me?.name, 60))),
      button(t('settings.logout'), onlogout, { iconName: 'logout', id: 'logout' }),
      h('p', { class: 'quiet' }, t('settings.logout_note'))));
  return { el, leave() {} };
}
