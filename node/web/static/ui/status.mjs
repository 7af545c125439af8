// The node's own condition.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { ago, has, now, number, span, t } from '../lib/i18n.mjs';
import * as model from '../model.mjs';
import { state } from '../model.mjs';
import { aged, bytes, facts, percent, percentText, progress } from './parts.mjs';

const NEARLY_FULL = 90; // percent

export function statusView() {
  const body = h('div', { class: 'status-body' });
  const el = h('section', { class: 'page status' }, h('header', { class: 'pane-head' }, h('h1', t('status.title')), h('a', { class: 'button to-settings', href: '#/settings' }, icon('settings'), h('span', t('nav.settings')))), body);
  const paint = () => replace(body, state.status ? content(state.status) : h('p', { class: 'empty' }, t('chats.loading')));
  const leave = model.on(['status', 'connection', 'session'], paint);
  const timer = setInterval(() => model.soon('status'), 5000);
  model.soon('status');
  paint();
  return { el, leave: () => { leave(); clearInterval(timer); } };
}

const card = (title, ...rest) => h('section', { class: 'card' }, h('h2', title), rest);

function content(s) {
  return [
    warnings(s.warnings),
    card(t('status.node'), facts([
      [t('status.name'), s.name ? h('bdi', text.label(s.name, 60)) : null],
      [t('status.node_id'), h('code', { class: 'long-id' }, text.label(s.node, 80))],
      [t('status.network'), s.network?.name ? h('bdi', text.label(s.network.name, 40)) : t('status.no_network')],
      [t('status.version'), text.label(s.version, 40)],
      [t('status.uptime'), Number.isFinite(s.uptime_s) ? span(s.uptime_s) : null],
    ])),
    store(s.store),
    card(t('status.reach'), facts([
      [t('status.contacts'), Number.isFinite(s.contacts) ? number(s.contacts) : null],
      [t('status.core'), core(state.banner)],
    ])),
    card(t('status.page'), facts([
      [t('status.user'), h('bdi', text.label(state.me?.name, 60))],
      [t('status.updates'), t({ live: 'status.updates_live', polling: 'status.updates_polling' }[state.connection] ?? 'status.updates_down')],
      [t('status.clock'), clockWords()],
    ])),
  ];
}

/** What the node warns of: our words for codes we know, else the node's. */
function warnings(list) {
  if (!Array.isArray(list) || list.length === 0) return null;
  const say = (key, said) => (has(key) ? t(key) : text.label(said, 300));
  return h('section', { class: 'card warnings', id: 'warnings' }, h('h2', t('warn.title')), h('ul', list.map((w) => h('li', { class: 'notice', 'data-code': text.label(w.code, 40) }, icon('warn'),
    h('div', h('p', say(`warn.${w.code}`, w.message)), h('p', { class: 'quiet' }, say(`warn.${w.code}.todo`, w.hint)))))));
}

function core(b) {
  if (b?.state === 'core') return t('status.core_now');
  return b?.core_last ? aged(b.core_last, ago) : t('status.core_never');
}

function clockWords() {
  const off = (now() - Date.now()) / 1000;
  return Math.abs(off) < 5 ? t('status.clock_ok') : t('status.clock_off', { span: span(Math.abs(off)) });
}

function store(st) {
  if (!st) return null;
  const n = percent(Number(st.bytes), Number(st.limit_bytes));
  const limited = Number(st.limit_bytes) > 0;
  return card(t('status.store'),
    limited ? h('div', { class: 'file-bar' }, progress(Number(st.bytes), Number(st.limit_bytes), t('status.space_percent', { n })), h('span', percentText(n))) : null,
    limited && n >= NEARLY_FULL ? h('p', { class: 'reason' }, icon('warn'), h('span', t('status.full'))) : null,
    facts([
      [t('status.bundles'), Number.isFinite(st.bundles) ? number(st.bundles) : null],
      [t('status.space'), limited ? t('status.space_of', { used: bytes(Number(st.bytes)), limit: bytes(Number(st.limit_bytes)) }) : bytes(Number(st.bytes))],
    ]));
}
