// The frame of the page: navigation, banner, list and the screen that the
// address names.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { number, t } from '../lib/i18n.mjs';
import * as model from '../model.mjs';
import { state } from '../model.mjs';
import { shortcuts } from '../lib/keys.mjs';
import { button, retellAges } from './parts.mjs';
import { banner } from './banner.mjs';
import { chatList } from './chats.mjs';
import { chatView } from './chat.mjs';
import { details } from './details.mjs';
import { failuresBar, stepThrough } from './failures.mjs';
import { filesView } from './files.mjs';
import { help } from './help.mjs';
import { meshView } from './mesh.mjs';
import { peopleView } from './people.mjs';
import { settingsView } from './settings.mjs';
import { statusView } from './status.mjs';

const SCREENS = { people: peopleView, map: mapLater, files: filesView, mesh: meshView, status: statusView, settings: settingsView };
const NAV = ['chats', 'people', 'map', 'files', 'mesh', 'status', 'settings'];
const BADGES = { chats: 'nav-badge', status: 'nav-warn' };
const QUIET = ['age_uncertain', 'clock_unconfirmed']; // warnings that many nodes have for ever, and nobody loses by
const AGES_MS = 15000;

/** Builds the frame in root. actions: {onlanguage, onlogout}. Returns {render, leave}. */
export function shell(root, actions) {
  const s = { actions, screen: null, route: null, parts: [] };
  build(s);
  replace(root, s.el);
  const onhash = () => { if (state.me) go(s); };
  addEventListener('hashchange', onhash);
  const timer = setInterval(() => retellAges(), AGES_MS);
  s.parts.push({ leave: model.on(['conversations', 'session'], () => { paintUnread(s); if (state.me && waits(s)) go(s); }) },
    { leave: model.on(['status', 'session'], () => paintWarnings(s)) },
    { leave: model.on(['calls', 'session'], () => showCalls(s)) },
    { leave: shortcuts(bindings(s), () => !state.me || s.el.closest('[hidden]') !== null || document.querySelector('dialog[open]') !== null) },
    { leave: () => { removeEventListener('hashchange', onhash); clearInterval(timer); } });
  showCalls(s);
  return {
    render: () => { s.route = null; go(s); },
    leave: () => { s.screen?.leave?.(); s.parts.forEach((p) => p.leave()); },
  };
}

function build(s) {
  const [top, bar] = [banner(), failuresBar()];
  s.list = chatList();
  s.calls = h('div', { class: 'call-bar', id: 'call', role: 'region', 'aria-label': t('call.title'), hidden: true });
  s.parts.push(top, bar, s.list);
  s.main = h('main', { class: 'main', id: 'main', tabindex: '-1' });
  s.nav = h('nav', { class: 'nav', 'aria-label': t('nav.label') }, NAV.map((n) => navItem(n)));
  s.el = h('div', { class: 'shell', id: 'shell' },
    h('a', { class: 'skip', href: '#main', onclick: (e) => { e.preventDefault(); s.main.focus(); } }, t('app.skip')),
    h('div', { class: 'top' }, top.el, s.calls, bar.el), s.nav, s.list.el, s.main);
}

function navItem(n) {
  return h('a', { class: 'nav-item', href: `#/${n}`, 'data-nav': n }, h('span', { class: 'nav-icon' }, icon(n), BADGES[n] ? h('span', { class: 'nav-badge', id: BADGES[n], hidden: true }) : null), h('span', { class: 'nav-word' }, t(`nav.${n}`)));
}

function paintUnread(s) {
  const n = model.unread();
  const badge = s.nav.querySelector('#nav-badge');
  badge.hidden = n === 0;
  replace(badge, h('span', { 'aria-hidden': 'true' }, number(n)), h('span', { class: 'vh' }, t('nav.unread', { n })));
  document.title = n ? `(${n}) ${t('app.name')}` : t('app.name'); // a count only: titles are seen on locked screens
}

/** Marks the way to the status screen when somebody has to look at it. */
function paintWarnings(s) {
  const badge = s.nav.querySelector('#nav-warn');
  const list = state.status?.warnings;
  badge.hidden = !(Array.isArray(list) && list.some((w) => !QUIET.includes(w.code)));
  replace(badge, badge.hidden ? null : [h('span', { 'aria-hidden': 'true' }, '!'), h('span', { class: 'vh' }, t('warn.badge'))]);
}

/** Fetches the modules of calls once there is anything to show, and gives them their place. */
async function showCalls(s) {
  if (s.callsShown || !(state.calls?.length > 0)) return;
  s.callsShown = true;
  (await import('../call/call.mjs')).show(s.calls);
}

// ---- the address -------------------------------------------------------------

/** #/chats, #/chats/c/<conversation>, #/chats/u/<user>, #/people ... */
function parse(hash) {
  const [screen, kind, raw] = hash.replace(/^#\/?/, '').split('/');
  let id = '';
  try {
    id = decodeURIComponent(raw ?? '');
  } catch { /* a broken address shows the list */ }
  if (Object.hasOwn(SCREENS, screen)) return { screen };
  return id && (kind === 'c' || kind === 'u') ? { screen: 'chats', kind, id } : { screen: 'chats' };
}

const sameRoute = (a, b) => a && a.screen === b.screen && a.kind === b.kind && a.id === b.id;

/** An open conversation whose partner is not known yet waits for the list. */
const waits = (s) => s.route?.kind === 'c' && !s.screen;

function go(s) {
  const route = parse(location.hash);
  if (sameRoute(s.route, route) && s.screen) return;
  s.screen?.leave?.();
  s.route = route;
  s.screen = screenOf(s, route);
  s.el.dataset.screen = route.screen;
  s.el.classList.toggle('deep', route.screen === 'chats' && Boolean(route.id));
  for (const a of s.nav.querySelectorAll('a')) {
    if (a.dataset.nav === route.screen) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  replace(s.main, s.screen?.el ?? nothing(route));
  if (route.kind && matchMedia('(min-width: 800px)').matches) s.screen?.focus?.();
  paintUnread(s);
  model.changed('route');
}

function screenOf(s, { screen, kind, id }) {
  if (screen !== 'chats') return SCREENS[screen](s.actions);
  if (kind === 'u') return chatView(id, model.conversationWith(id)?.id ?? null);
  const c = kind === 'c' ? (state.conversations ?? []).find((x) => x.id === id) : null;
  return c?.with?.id ? chatView(c.with.id, c.id) : null;
}

/** The map, whose modules are fetched when it is opened first. */
function mapLater() {
  const el = h('section', { class: 'page map' });
  const view = { el, leave: () => { view.left = true; view.inner?.leave(); }, focus: () => view.inner?.focus() };
  const load = async (again) => {
    replace(el, h('header', { class: 'pane-head' }, h('h1', t('nav.map'))), h('p', { class: 'empty' }, t('chats.loading')));
    try {
      const map = await import(`../map/map.mjs${again}`);
      await map.prepare();
      if (view.left) return;
      view.inner = map.mapView();
      el.replaceWith(view.inner.el);
    } catch {
      replace(el, h('header', { class: 'pane-head' }, h('h1', t('nav.map'))), h('p', { class: 'error', role: 'alert' }, icon('warn'), h('span', t('map_load.failed'))),
        button(t('map_load.again'), () => load(`?${Date.now()}`))); // a browser remembers that a module did not load, under its address
    }
  };
  load('');
  return view;
}

function nothing(route) {
  const words = route.kind && state.conversations === null ? t('chats.loading') : t('chats.choose');
  return h('div', { class: 'nothing' }, icon('chats', 'nothing-icon'), h('p', words));
}

// ---- keys --------------------------------------------------------------------

function bindings(s) {
  const visit = (hash) => { location.hash = hash; go(s); }; // at once, so that what it shows can take the focus
  const to = (hash) => () => visit(hash);
  const search = () => {
    const own = s.screen?.search;
    const input = own ?? s.list.search;
    if (!own && (s.route?.screen !== 'chats' || (s.el.classList.contains('deep') && !matchMedia('(min-width: 800px)').matches))) visit('#/chats');
    input.focus();
    input.select();
  };
  return {
    '/': search, '?': help, 'g x': stepThrough,
    'g c': () => { visit('#/chats'); s.list.el.querySelector('.row')?.focus(); },
    'g p': to('#/people'), 'g l': to('#/map'), 'g f': to('#/files'), 'g m': to('#/mesh'), 'g s': to('#/status'), 'g e': to('#/settings'),
    r: () => s.screen?.focus?.(), i: () => { const id = s.screen?.lastMessage?.(); if (id) details(id); },
    j: () => move(s, 1), k: () => move(s, -1), ArrowDown: (e) => arrow(s, e, 1), ArrowUp: (e) => arrow(s, e, -1), Escape: () => escape(s),
  };
}

/** Moves the focus along the list of the screen. */
function move(s, by) {
  const rows = [...s.el.querySelectorAll(s.route?.screen === 'chats' ? '.list-pane a.row' : '.main a.row, .main .card a')].filter((x) => x.getClientRects().length);
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))].focus();
}

function arrow(s, e, by) {
  if (!e.target.matches?.('a.row')) return false; // elsewhere arrows scroll
  move(s, by);
  return true;
}

/** Leaves what is being typed in, then the conversation. */
function escape(s) {
  const el = document.activeElement;
  const options = s.el.querySelector('#compose-options:not([hidden])');
  if (options) {
    s.el.querySelector('[aria-controls="compose-options"]').click();
    s.screen?.focus?.();
  } else if (el && el.matches('input, textarea')) el.blur();
  else if (s.route?.kind) location.hash = '#/chats';
}
