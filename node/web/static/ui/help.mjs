// The list of keys.
import { h } from '../lib/dom.mjs';
import { t } from '../lib/i18n.mjs';
import { dialog } from './parts.mjs';

const KEYS = [
  ['/', 'help.search'], ['g c', 'help.chats'], ['g p', 'help.people'], ['g l', 'help.map'], ['g f', 'help.files'], ['g m', 'help.mesh'], ['g s', 'help.status'],
  ['g e', 'help.settings'], ['g x', 'help.failures'], ['j|k', 'help.next'], ['r', 'help.reply'], ['Enter', 'help.send'], ['Shift+Enter', 'help.newline'],
  ['i', 'help.details'], ['Esc', 'help.escape'], ['?', 'help.help'],
];

/** "g c" is one after the other, "j|k" one or the other, "Shift+Enter" both at once. */
function keys(k) {
  const parts = k === '/' || k === '?' ? [k] : k.split(/([ |+])/);
  return parts.map((p) => (p === ' ' ? h('span', { class: 'quiet' }, ` ${t('help.then')} `) : p === '|' ? h('span', { class: 'quiet' }, ` ${t('help.or')} `) : p === '+' ? ' + ' : h('kbd', p)));
}

let open = false;

export function help() {
  if (open) return;
  open = true;
  const { body } = dialog(t('help.title'), { cls: 'help', onclose: () => { open = false; } });
  body.append(h('dl', { class: 'keys' }, KEYS.map(([k, words]) => h('div', h('dt', keys(k)), h('dd', t(words))))));
}
