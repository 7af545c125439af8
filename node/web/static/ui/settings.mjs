// Appearance, language, keyboard, and the user's account.
import { h } from '../lib/dom.mjs';
import { currentLanguage, LANGUAGES, t } from '../lib/i18n.mjs';
import { accountCards } from './account.mjs';
import { button, choice } from './parts.mjs';
import { help } from './help.mjs';
import { policyCard } from './policy.mjs';

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
    accountCards({ onlogout }), policyCard(),
    h('section', { class: 'card' }, h('h2', t('settings.keys')), button(t('settings.keys_show'), help)));
  return { el, leave() {} };
}
