// Parts of the door's screens.
import { h, replace } from '../lib/dom.mjs';
import { has as ofPage, t } from '../lib/i18n.mjs';
import { icon } from '../lib/icons.mjs';
import { has, say } from './words.mjs';

export const MIN_PASSWORD = 12;

export function field(id, label, input, hint) {
  return h('div', { class: 'field' }, h('label', { for: id }, label), input, hint ?? null);
}

/** A screen: its name and what is on it. */
export function screen(title, ...children) {
  return h('main', { class: 'login' }, h('div', { class: 'login-card' },
    h('header', { class: 'brand' }, icon('mesh', 'brand-mark'), h('h1', 'Outrider'), h('p', { class: 'login-where' }, title)), ...children));
}

/** A form whose action is run with the button held down; what it throws is shown. */
export function form(id, label, fields, action) {
  const error = h('p', { class: 'error', id: `${id}-error`, role: 'alert' });
  const button = h('button', { type: 'submit', class: 'button primary wide', id: `${id}-submit` }, h('span', label));
  const el = h('form', { novalidate: true, id }, ...fields, error, button);
  el.addEventListener('submit', async (e) => {
    e.preventDefault(); // it goes nowhere by itself; the policy forbids it too
    if (button.disabled) return;
    replace(error);
    button.disabled = true;
    replace(button, h('span', say('working')));
    try {
      await action();
    } catch (cause) {
      replace(error, icon('warn'), h('span', explain(cause)));
    } finally {
      button.disabled = false;
      replace(button, h('span', label));
    }
  });
  return el;
}

function explain(e) {
  if (e.words) return e.words;
  const key = `error.${e.code}`;
  if (has(key)) return say(key, { n: e.wait });
  return ofPage(key) ? t(key, { n: Math.max(1, e.wait) }) : say('error.other', { message: e.message }); // the page has words for the others
}

/** What a person has to mend before anything is sent. */
export function mend(words) {
  return Object.assign(new Error(words), { words });
}

/** Two fields for a new password: value() returns it or throws what is wrong. words, if given, may be taken. */
export function newPassword(words) {
  const make = (id) => h('input', { id, type: 'password', autocomplete: 'new-password', maxlength: 1000 });
  const first = make('door-password');
  const again = make('door-again');
  const show = h('input', { type: 'checkbox', id: 'door-show', onchange: () => { first.type = again.type = show.checked ? 'text' : 'password'; } });
  const take = () => {
    first.value = again.value = words;
    show.checked = true;
    first.type = again.type = 'text';
  };
  const fields = [
    field('door-password', say('password.new'), first),
    words ? h('div', h('p', { class: 'quiet' }, say('password.rule')), h('p', { class: 'door-words', id: 'door-words' }, words),
      h('button', { type: 'button', class: 'button wide', id: 'door-take', onclick: take }, h('span', say('password.take')))) : null,
    field('door-again', say('password.again'), again),
    h('label', { class: 'check', for: 'door-show' }, show, h('span', say('password.show'))),
  ];
  const value = () => {
    if ([...first.value].length < MIN_PASSWORD) throw mend(say('password.short'));
    if (first.value !== again.value) throw mend(say('password.differ'));
    return first.value;
  };
  return { fields, value };
}

/** A button that is a link inside this page. */
export function away(id, label, href) {
  return h('a', { class: 'button', id, href }, h('span', label));
}
