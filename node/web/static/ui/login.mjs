// Logging in: name and password, and the wait when there were too many attempts.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { t } from '../lib/i18n.mjs';
import * as api from '../lib/api.mjs';
import { state } from '../model.mjs';
import { errorText } from './parts.mjs';

/**
 * Shows the login in root and resolves with the session. again says that a
 * session has ended and the same user will probably come back.
 */
export function login(root, { again = false, user = '' } = {}) {
  return new Promise((resolve) => {
    const form = build({ again, user });
    replace(root, form.el);
    form.el.querySelector('form').addEventListener('submit', (e) => {
      e.preventDefault(); // the form goes nowhere by itself; the policy forbids it too
      submit(form, resolve);
    });
    (user ? form.password : form.name).focus();
    place(form.where);
  });
}

function field(id, label, input) {
  return h('div', { class: 'field' }, h('label', { for: id }, label), input);
}

function build({ again, user }) {
  const name = h('input', { id: 'login-name', name: 'username', type: 'text', autocomplete: 'username', autocapitalize: 'none', autocorrect: 'off', spellcheck: 'false', required: true, maxlength: 200, value: user, 'aria-describedby': 'login-error' });
  const password = h('input', { id: 'login-password', name: 'password', type: 'password', autocomplete: 'current-password', required: true, maxlength: 1000, 'aria-describedby': 'login-error' });
  const error = h('p', { class: 'error', id: 'login-error', role: 'alert' });
  const show = h('input', { type: 'checkbox', id: 'login-show', onchange: () => { password.type = show.checked ? 'text' : 'password'; } });
  const submitButton = h('button', { type: 'submit', class: 'button primary wide', id: 'login-submit' }, h('span', t('login.submit')));
  const where = h('p', { class: 'login-where' });
  const el = h('main', { class: 'login', id: 'login' },
    h('div', { class: 'login-card' },
      h('header', { class: 'brand' }, icon('mesh', 'brand-mark'), h('h1', t('app.name')), where),
      h('form', { novalidate: true, autocomplete: 'on' },
        h('h2', { class: 'vh' }, t('login.title')),
        again ? h('p', { class: 'notice' }, icon('key'), h('span', t('login.again'))) : null,
        field('login-name', t('login.user'), name),
        field('login-password', t('login.password'), password),
        h('label', { class: 'check', for: 'login-show' }, show, h('span', t('login.show'))),
        error, submitButton,
        h('p', { class: 'login-door' }, h('a', { id: 'login-door', class: 'button quiet', href: '/c/' }, t('door.code'))),
        h('p', { class: 'quiet' }, t('login.intro')))));
  return { el, name, password, error, submitButton, where };
}

/** Says which node and network this is, so that nobody logs in at the wrong box. */
async function place(el) {
  const s = await api.status(true).catch(() => null);
  if (!s) return;
  state.version ??= s.version ?? null;
  const parts = [];
  if (s.name) parts.push(t('login.node', { name: text.label(s.name, 40) }));
  if (s.network?.name) parts.push(t('login.network', { name: text.label(s.network.name, 40) }));
  replace(el, parts.join(' · '));
}

async function submit(form, resolve) {
  const { name, password, error, submitButton } = form;
  replace(error);
  if (!name.value.trim() || !password.value) {
    replace(error, icon('warn'), h('span', t('login.missing')));
    (name.value.trim() ? password : name).focus();
    return;
  }
  setBusy(form, t('login.working'));
  try {
    const session = await api.login(name.value.trim(), password.value);
    password.value = '';
    resolve(session);
  } catch (e) {
    password.select();
    replace(error, icon('warn'), h('span', errorText(e)));
    if (e.retryAfter > 0) await countDown(form, e);
    setBusy(form, null);
    if (e.retryAfter > 0) replace(error);
    password.focus();
    submitButton.blur();
  }
}

function setBusy({ submitButton, name, password }, words) {
  submitButton.disabled = words !== null;
  name.readOnly = password.readOnly = words !== null;
  replace(submitButton, h('span', words ?? t('login.submit')));
}

/** Counts down the wait the node asked for. */
function countDown(form, e) {
  const end = Date.now() + e.retryAfter * 1000;
  return new Promise((resolve) => {
    const tick = () => {
      const left = Math.ceil((end - Date.now()) / 1000);
      if (left <= 0) {
        clearInterval(timer);
        resolve();
        return;
      }
      replace(form.submitButton, h('span', t('login.wait', { n: left })));
    };
    const timer = setInterval(tick, 250);
    tick();
  });
}
