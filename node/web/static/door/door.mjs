// The door: what a person sees who has no password here yet, or not any more.
// What stands behind the # says which screen; secrets there are read once and
// then taken out of the address. Nothing of it is sent by the browser itself.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { chooseLanguage, say } from './words.mjs';
import { call } from './calls.mjs';
import { away, field, form, mend, newPassword, screen } from './forms.mjs';

const root = document.getElementById('door');

/** Shows a screen and gives its first field to type in the keyboard. */
function show(...parts) {
  replace(root, screen(...parts));
  root.querySelector('input:not([hidden]), textarea:not([readonly])')?.focus();
}

const enter = () => location.replace('/');

/** A code is typed; then whom it is for is shown, and a password is chosen. */
function askCode(code = '') {
  const input = h('input', { id: 'door-code', class: 'door-code', type: 'text', autocomplete: 'one-time-code', autocapitalize: 'characters', autocorrect: 'off', spellcheck: 'false', maxlength: 64, value: code });
  show(say('code.title'),
    form('door-form', say('code.next'), [h('p', { class: 'quiet' }, say('code.intro')), field('door-code', say('code.label'), input)], async () => {
      const text = input.value.trim();
      if (!text) {
        input.focus();
        throw mend(say('code.intro'));
      }
      askPassword(text, await call('POST', '/codes/check', { code: text }));
    }),
    h('div', { class: 'door-more' }, away('door-restore', say('restore.open'), '#restore'), away('door-login', say('login'), '/')));
}

function askPassword(code, about) {
  const password = newPassword(about.words);
  const agree = h('input', { type: 'checkbox', id: 'door-agree' });
  show(say('code.for', { name: about.name, network: about.network }),
    form('door-form', say('password.set'), [
      about.new_key ? h('div', { id: 'door-newkey' }, h('p', { class: 'notice' }, icon('warn'), h('span', say('code.newkey'))),
        h('label', { class: 'check', for: 'door-agree' }, agree, h('span', say('code.agree')))) : null,
      h('input', { type: 'text', autocomplete: 'username', value: about.name, hidden: true, readOnly: true }),
      ...password.fields,
    ], async () => {
      if (about.new_key && !agree.checked) throw mend(say('code.must_agree'));
      await call('POST', '/codes/redeem', { code, password: password.value(), new_key: about.new_key });
      enter();
    }));
}

/** The words of a recovery sheet, and a new password. */
function askSheet() {
  const words = h('textarea', { id: 'door-sheet-words', rows: 5, autocapitalize: 'none', autocorrect: 'off', spellcheck: 'false', maxlength: 1000 });
  const password = newPassword('');
  show(say('restore.title'),
    form('door-form', say('password.set'), [h('p', { class: 'quiet' }, say('restore.intro')), field('door-sheet-words', say('restore.label'), words), ...password.fields], async () => {
      await call('POST', '/recovery/restore', { words: words.value, password: password.value() });
      enter();
    }),
    h('div', { class: 'door-more' }, away('door-login', say('login'), '/')));
}

/** Whether a frame is a signed config: the first bit of its fourth byte (DEEPLINK.md). */
const isConfig = (frame) => /^(J5JDD|T1Ix[g-z0-9_-])/.test(frame);

/** A link was opened here. It is for a machine; a phone needs none. */
function showLink(frame) {
  if (!/^(OR[0-9]|J5JD|T1I)/.test(frame) || frame.length > 110000) {
    show(say('link.title'), h('p', { class: 'notice' }, icon('warn'), h('span', say('link.broken'))), h('div', { class: 'door-more' }, away('door-login', say('login'), '/')));
    return;
  }
  const link = `outrider://c/#${frame}`;
  const text = h('textarea', { class: 'door-link', id: 'door-link', rows: 4, readOnly: true, onfocus: () => text.select() });
  text.value = link;
  const copied = h('span', say('link.copy'));
  const copy = async () => {
    text.select();
    await navigator.clipboard?.writeText(link).then(() => replace(copied, say('link.copied')), () => {}); // else it is selected, to be copied by hand
  };
  const config = isConfig(frame);
  show(say(config ? 'config.title' : 'link.title'),
    h('p', say(config ? 'config.intro' : 'link.intro')),
    h('p', { class: 'notice' }, icon('key'), h('span', say(config ? 'config.phone' : 'link.phone'))),
    config ? null : h('div', { class: 'door-more' }, away('door-have-code', say('link.have_code'), '#code')),
    h('p', say(config ? 'config.machine' : 'link.machine')), text,
    h('div', { class: 'door-more' },
      h('button', { type: 'button', class: 'button', id: 'door-copy', onclick: copy }, copied),
      h('button', { type: 'button', class: 'button', id: 'door-open', onclick: () => location.assign(link) }, h('span', say('link.open')))));
}

/** For who is logged in: another password, and a recovery sheet. */
async function showAccount() {
  const me = await call('GET', '/session').catch(() => null);
  if (!me) {
    show(say('account.title'), h('p', { class: 'notice' }, icon('key'), h('span', say('account.login_first'))), h('div', { class: 'door-more' }, away('door-login', say('login'), '/')));
    return;
  }
  const secret = (id) => h('input', { id, type: 'password', autocomplete: 'current-password', maxlength: 1000 });
  const old = secret('door-old');
  const password = newPassword('');
  const done = h('p', { class: 'notice', id: 'door-changed', role: 'status', hidden: true }, icon('key'), h('span', say('account.changed')));
  const own = secret('door-own');
  const sheet = h('div', { id: 'door-sheet' });
  show(say('account.title'),
    form('door-form', say('account.change'), [h('h2', { class: 'door-noprint' }, say('account.change')), field('door-old', say('account.old'), old), ...password.fields, done], async () => {
      await call('POST', '/password', { old: old.value, password: password.value() });
      done.hidden = false;
    }),
    form('door-sheet-form', say('account.sheet_make'), [h('h2', say('account.sheet')), h('p', { class: 'quiet' }, say('account.sheet_intro')), field('door-own', say('account.old'), own)], async () => {
      const s = await call('POST', '/recovery', { password: own.value });
      own.value = '';
      replace(sheet, h('h2', say('account.sheet_of', { name: s.name, network: s.network })), h('p', { class: 'quiet' }, say('account.user_number'), ' ', h('span', { class: 'door-number' }, s.user_id)),
        h('ol', { class: 'door-sheet' }, String(s.words).split(' ').map((w) => h('li', w))),
        h('button', { type: 'button', class: 'button door-noprint', onclick: () => print() }, h('span', say('account.print'))));
    }),
    sheet, h('div', { class: 'door-more door-noprint' }, away('door-login', say('back'), '/')));
}

/** Chooses the screen by what stands behind the #, and takes secrets out of the address. */
function route() {
  const at = decodeURIComponent(location.hash.slice(1));
  if (at === 'restore') askSheet();
  else if (at === 'account') showAccount();
  else if (at === '' || at === 'code') askCode();
  else {
    history.replaceState(null, '', location.pathname + location.search);
    const code = /^CODE-([0-9A-Z-]{1,64})$/i.exec(at);
    if (code) askCode(code[1].toUpperCase());
    else showLink(at.replace(/\s/g, ''));
  }
}

await chooseLanguage();
addEventListener('hashchange', route);
route();
