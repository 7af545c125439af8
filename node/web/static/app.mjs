// The page's beginning: language, then the node, then the session.
import { h, replace } from './lib/dom.mjs';
import { icon } from './lib/icons.mjs';
import { preferredLanguage, setLanguage, t } from './lib/i18n.mjs';
import * as api from './lib/api.mjs';
import * as model from './model.mjs';
import { login } from './ui/login.mjs';
import { shell } from './ui/shell.mjs';

const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 8000;

const app = document.getElementById('app'); // the screens; stays, hidden, while somebody logs in again
const gate = document.getElementById('gate'); // the login
let frame = null;
let asking = false;

async function start() {
  await setLanguage(preferredLanguage(location.search, navigator.languages ?? []));
  model.whenGone(() => ask({ again: true }));
  const session = await currentSession();
  if (session) await enter(session);
  else await ask({ again: false });
}

/** The session there is, or null; waits for a node that does not answer. */
async function currentSession() {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LAST_PAUSE_MS)) {
    try {
      return await api.session();
    } catch (e) {
      if (e.status === 401) return null;
      replace(gate, h('main', { class: 'login' }, h('div', { class: 'login-card' }, h('p', { class: 'notice', role: 'status' }, icon('warn'), h('span', t('login.down'))))));
      await new Promise((resolve) => { setTimeout(resolve, pause); });
    }
  }
}

/** Hides the screens and asks for the password. What was typed stays in memory. */
async function ask({ again }) {
  if (asking) return;
  asking = true;
  document.querySelectorAll('dialog[open]').forEach((d) => d.close());
  app.hidden = true;
  gate.hidden = false;
  document.title = t('app.name');
  const session = await login(gate, { again: again && model.state.me !== null, user: again ? model.state.me?.name ?? '' : '' });
  asking = false;
  await enter(session);
}

async function enter(session) {
  const other = model.state.me && model.state.me.id !== session.user_id;
  if (other) location.hash = '#/chats';
  const begun = model.begin(session);
  frame ??= shell(app, { onlanguage, onlogout });
  frame.render();
  gate.hidden = true;
  replace(gate);
  app.hidden = false;
  await begun.catch(() => {}); // the stream keeps trying and the banner says so
}

/** Changes the language: kept in the address, since nothing but the theme is stored. */
async function onlanguage(code) {
  const url = new URL(location.href);
  url.searchParams.set('lang', code);
  history.replaceState(null, '', url);
  await setLanguage(code);
  frame.leave();
  frame = shell(app, { onlanguage, onlogout });
  frame.render();
  app.querySelector('input[name="language"]:checked')?.focus();
}

/** Ends the session and loads the page anew, so that nothing of the user is left in memory. */
async function onlogout() {
  await model.logout();
  location.hash = '';
  location.reload();
}

start();
