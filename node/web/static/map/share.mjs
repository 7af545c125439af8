// One's own place, and sharing it live for a set time: from the node's
// receiver, from this device, or as it was typed.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as api from '../lib/api.mjs';
import * as text from '../lib/text.mjs';
import { ago, clock, number, t } from '../lib/i18n.mjs';
import { formatLatLon, parsePosition, toMGRS } from '../lib/position.mjs';
import { on, state } from '../model.mjs';
import { aged, button, choice, dialog, errorText, nameText } from '../ui/parts.mjs';

const LOCATE_MS = 30000;
const TELL_MS = 10000; // at most so often this device tells the node where it is
const REPEAT_MS = 30000; // and at least, while it stands still
const MAX_ACCURACY = 100000; // metres; worse is no position
const DAY_S = 86400;
const LISTED = 30; // people to choose from

const here = {
  receiver: null, // what GET /v1/position said
  device: null, // {lat, lon, accuracy, time} of this device
  typed: null, // {lat, lon, accuracy, time} that the user typed
  use: null, // 'device' or 'typed': what the user asked for last; null is the receiver
  watch: null, // of the browser, while shares take from this device
  told: 0,
  shares: [],
};

const observers = new Set();

/** Calls fn when one's own place changed; returns a function that ends it. */
export function whenOwn(fn) {
  observers.add(fn);
  return () => observers.delete(fn);
}

const tell = () => observers.forEach((fn) => fn());

/** The place to measure from: {lat, lon, accuracy, time, source}, or null. */
export function ownPlace() {
  const r = here.receiver?.fix;
  const receiver = typeof r?.lat === 'number' ? { lat: r.lat, lon: r.lon, accuracy: r.accuracy_m, time: r.time, source: 'receiver' } : null;
  const own = { device: here.device && { ...here.device, source: 'device' }, typed: here.typed && { ...here.typed, source: 'entered' } };
  return own[here.use] ?? receiver ?? own.device ?? own.typed;
}

let asked = 0;
let taken = 0;

/** Asks the node for its receiver and for the shares that go on; an answer to an earlier question comes too late. */
export async function refreshShares() {
  const mine = ++asked;
  const [receiver, list] = await Promise.allSettled([api.position(), api.liveShares()]);
  if (mine < taken) return;
  taken = mine;
  if (receiver.status === 'fulfilled') here.receiver = receiver.value;
  if (list.status === 'fulfilled') here.shares = list.value;
  if (!here.shares.some((s) => s.source === 'device')) unwatch();
  else if (!here.watch && await allowed()) watch();
}

/** Whether the browser gives positions without asking: then a share goes on after the page was loaded anew. */
async function allowed() {
  if (!window.isSecureContext || !navigator.geolocation) return false;
  const p = await navigator.permissions?.query({ name: 'geolocation' }).catch(() => null);
  return p?.state === 'granted';
}

// ---- this device ---------------------------------------------------------------

const place = (p) => ({ lat: p.coords.latitude, lon: p.coords.longitude, accuracy: Math.min(MAX_ACCURACY, Math.max(1, Math.round(p.coords.accuracy))), time: new Date(p.timestamp).toISOString(), coords: p.coords });

/** Where this device is; rejects with words for the user. */
function locate() {
  return new Promise((resolve, reject) => {
    if (!window.isSecureContext || !navigator.geolocation) {
      reject(new Error(t('position.insecure')));
      return;
    }
    navigator.geolocation.getCurrentPosition((p) => resolve(place(p)),
      (e) => reject(new Error(t(['position.unavailable', 'position.denied', 'position.unavailable', 'position.timeout'][e.code] ?? 'position.unavailable'))),
      { enableHighAccuracy: true, timeout: LOCATE_MS, maximumAge: 5000 });
  });
}

/** Follows this device and tells the node, for the shares that take from it. */
function watch() {
  if (here.watch) return;
  const timer = setInterval(() => { if (here.device && Date.now() - here.told >= REPEAT_MS) report(); }, REPEAT_MS / 3);
  const id = navigator.geolocation.watchPosition((p) => {
    here.device = place(p);
    if (Date.now() - here.told >= TELL_MS) report();
    tell();
  }, () => {}, { enableHighAccuracy: true, maximumAge: 5000 });
  here.watch = () => { clearInterval(timer); navigator.geolocation.clearWatch(id); };
}

function unwatch() {
  here.watch?.();
  here.watch = null;
}

const known = (v) => (Number.isFinite(v) ? v : undefined);

function report() {
  const { lat, lon, accuracy, coords } = here.device;
  here.told = Date.now();
  return api.moved({ lat, lon, accuracy_m: accuracy, altitude_m: known(coords.altitude), course_deg: known(coords.heading), speed_ms: known(coords.speed) })
    .catch((e) => { if (e.status === 401) unwatch(); });
}

// ---- one's own card --------------------------------------------------------------

/** Where one is, and the ways to say it. */
export function ownCard(paint) {
  const own = ownPlace();
  const error = h('p', { class: 'error', role: 'alert' });
  const use = button(t('map.this_device'), async () => {
    use.disabled = true;
    try {
      here.device = await locate();
      here.use = 'device';
      paint();
    } catch (e) {
      replace(error, icon('warn'), h('span', e.message));
    }
    use.disabled = false;
  }, { iconName: 'position', id: 'own-locate' });
  return h('section', { class: 'card own-card', 'aria-label': t('map.me') },
    h('header', { class: 'place-head' }, h('span', { class: 'strong' }, t('map.me')), own ? h('span', { class: 'chip' }, t(`map.source.${own.source}`)) : null),
    own ? [
      h('p', { class: 'mgrs', id: 'own-mgrs' }, toMGRS(own.lat, own.lon)),
      h('p', { class: 'latlon' }, formatLatLon(own.lat, own.lon), own.accuracy > 0 ? ` · ${t('position.accuracy', { m: number(Math.round(own.accuracy)) })}` : null),
      h('p', { class: 'position-age' }, aged(own.time, (time) => t('map.fixed', { ago: ago(time) }))),
    ] : h('p', { class: 'quiet' }, t(here.receiver?.state === 'searching' ? 'map.searching' : 'map.nowhere')),
    error,
    h('div', { class: 'actions' }, use, button(t('map.type'), () => typeDialog(paint), { iconName: 'options', id: 'own-type' })));
}

/** A field for a position, with what it reads as below. */
function positionField(onread) {
  const input = h('input', { id: 'map-position', type: 'text', autocomplete: 'off', autocapitalize: 'characters', spellcheck: 'false', maxlength: 100, 'aria-describedby': 'map-position-help map-position-parsed' });
  const parsed = h('p', { id: 'map-position-parsed', class: 'parsed', role: 'status' });
  input.addEventListener('input', () => {
    const at = parsePosition(input.value);
    replace(parsed, !input.value.trim() ? null : at ? [h('span', { class: 'mgrs' }, toMGRS(at.lat, at.lon)), h('span', { class: 'latlon' }, formatLatLon(at.lat, at.lon))] : t('position.bad'));
    onread(at && { lat: at.lat, lon: at.lon, accuracy: at.size > 1 ? Math.round(at.size / 2) : undefined, time: new Date().toISOString() });
  });
  return { input, el: h('div', h('div', { class: 'field' }, h('label', { for: 'map-position' }, t('position.input')), input, h('p', { class: 'quiet', id: 'map-position-help' }, t('position.input_help'))), parsed) };
}

function typeDialog(paint) {
  const d = dialog(t('map.type_title'), { cls: 'place' });
  let at = null;
  const error = h('p', { class: 'error', role: 'alert' });
  const field = positionField((v) => { at = v; replace(error); });
  replace(d.body, h('form', { novalidate: true, onsubmit: (e) => {
    e.preventDefault();
    if (!at) {
      replace(error, icon('warn'), h('span', t('position.bad')));
      field.input.focus();
      return;
    }
    here.typed = at;
    here.use = 'typed';
    d.close();
    paint();
  } }, field.el, error, h('button', { type: 'submit', class: 'button primary wide' }, h('span', t('map.type_use')))));
  field.input.focus();
}

// ---- live shares -------------------------------------------------------------------

/** The shares that go on, each with its end, and the way to a new one. */
export function sharesCard(paint) {
  const error = h('p', { class: 'error', role: 'alert' });
  const stop = async (to) => {
    try {
      await api.stopLive(to);
      await refreshShares();
      paint();
    } catch (e) {
      replace(error, icon('warn'), h('span', errorText(e)));
    }
  };
  return h('section', { class: 'card shares-card', 'aria-label': t('map.sharing') },
    here.shares.length ? h('ul', { class: 'shares' }, here.shares.map((s) => h('li', { class: 'share-row' }, icon('live'),
      h('span', { class: 'row-main' }, h('bdi', { class: 'node-name' }, nameText(s.to)),
        h('span', { class: 'quiet' }, t('map.until', { time: clock(s.until) }), ' · ', t(`map.source.${['receiver', 'device', 'entered'].includes(s.source) ? s.source : 'receiver'}`))),
      button(t('map.stop'), () => stop(s.to.id), { iconName: 'stop', 'aria-label': t('map.stop_name', { name: nameText(s.to) }) })))) : h('p', { class: 'quiet' }, t('map.no_shares')),
    here.shares.length > 1 ? button(t('map.stop_all'), () => stop(), { kind: 'wide', iconName: 'stop' }) : null,
    error,
    button(t('map.share'), () => shareDialog(paint), { kind: 'primary wide', iconName: 'live', id: 'share-live' }));
}

const SPANS = { 900: 'map.for_15min', 3600: 'map.for_1h', 28800: 'map.for_8h' };

/** Seconds until the next time the clock shows "HH:MM"; null when it is no time. */
export function untilClock(words, from = new Date()) {
  const m = /^\s*([01]?\d|2[0-3])[:.h ]?([0-5]\d)\s*$/.exec(words);
  if (!m) return null;
  const end = new Date(from);
  end.setHours(Number(m[1]), Number(m[2]), 0, 0);
  if (end <= from) end.setDate(end.getDate() + 1);
  return Math.min(DAY_S, Math.round((end - from) / 1000));
}

/** Asks with whom, for how long, and from where; with is who is chosen already. */
export function shareDialog(paint, chosen = null) {
  let leave = () => {};
  const d = dialog(t('map.share_title'), { cls: 'place', onclose: () => leave() });
  const receiver = here.receiver !== null && here.receiver.state !== 'off';
  const s = { d, paint, to: chosen?.id ?? null, span: '3600', source: receiver ? 'receiver' : 'device', at: null, busy: false };
  s.error = h('p', { class: 'error', role: 'alert' });
  s.until = h('input', { id: 'share-until', type: 'text', inputmode: 'numeric', maxlength: 5, placeholder: 'hh:mm', autocomplete: 'off', 'aria-label': t('map.until_label') });
  s.untilField = h('div', { class: 'field', hidden: true }, h('label', { for: 'share-until' }, t('map.until_label')), s.until);
  const field = positionField((v) => { s.at = v; replace(s.error); });
  field.el.hidden = s.source !== 'entered';
  s.submit = h('button', { type: 'submit', class: 'button primary wide' }, h('span', t('map.share_start')));
  if (!chosen) {
    s.people = h('div');
    leave = on('users', people(s));
  }
  replace(d.body, h('form', { novalidate: true, onsubmit: (e) => { e.preventDefault(); start(s); } },
    chosen ? h('p', h('bdi', nameText(chosen))) : s.people,
    choice(t('map.for'), 'share-span', [...Object.entries(SPANS).map(([value, words]) => ({ value, label: t(words) })), { value: 'until', label: t('map.for_until') }], s.span,
      (v) => { s.span = v; s.untilField.hidden = v !== 'until'; if (v === 'until') s.until.focus(); }),
    s.untilField,
    choice(t('map.from'), 'share-source', [...(receiver ? ['receiver'] : []), 'device', 'entered'].map((v) => ({ value: v, label: t(`map.source.${v}`) })), s.source,
      (v) => { s.source = v; field.el.hidden = v !== 'entered'; if (v === 'entered') field.input.focus(); }),
    field.el, h('p', { class: 'quiet' }, t('map.share_help')), s.error, s.submit));
}

/** Shows in s.people who can be chosen; what it returns does so again when others are known. */
function people(s) {
  let all = [];
  let shown = null;
  const keys = h('div');
  const find = h('input', { type: 'search', 'aria-label': t('people.search'), placeholder: t('people.search'), autocomplete: 'off', maxlength: 100, oninput: () => paint() });
  const paint = () => {
    const wanted = text.sameness(find.value);
    const focused = keys.contains(document.activeElement);
    replace(keys, choice(t('map.with'), 'share-to', all.filter((u) => !wanted || text.sameness(u.name).includes(wanted)).slice(0, LISTED).map((u) => ({ value: u.id, label: h('bdi', nameText(u)) })), s.to, (v) => { s.to = v; }));
    if (focused) keys.querySelector('input:checked')?.focus();
  };
  const again = () => {
    all = (state.users ?? []).filter((u) => !u.self).sort((a, b) => String(a.name).localeCompare(String(b.name)));
    const now = JSON.stringify([state.users === null, all.map((u) => [u.id, u.name])]);
    if (now === shown) return; // what is made anew under a finger is not pressed
    shown = now;
    find.hidden = all.length <= 8;
    if (!find.isConnected || !all.length) replace(s.people, all.length ? [find, keys] : h('p', { class: 'notice' }, t(state.users === null ? 'chats.loading' : 'people.empty')));
    paint();
  };
  again();
  return again;
}

function fail(s, words, el) {
  replace(s.error, icon('warn'), h('span', words));
  el?.focus();
}

async function start(s) {
  if (s.busy) return;
  replace(s.error);
  const seconds = s.span === 'until' ? untilClock(s.until.value) : Number(s.span);
  if (!s.to) return fail(s, t('map.choose'));
  if (!seconds) return fail(s, t('map.bad_time'), s.until);
  if (s.source === 'entered' && !s.at) return fail(s, t('position.bad'), s.d.body.querySelector('#map-position'));
  s.busy = true;
  s.submit.disabled = true;
  try {
    if (s.source === 'device') here.device = await locate();
    const draft = { to: s.to, for_s: Math.max(10, seconds), source: s.source };
    if (s.source === 'entered') Object.assign(draft, { lat: s.at.lat, lon: s.at.lon, accuracy_m: s.at.accuracy });
    await api.shareLive(draft);
    if (s.source === 'device') {
      here.use = 'device';
      watch();
      await report();
    } else if (s.source === 'entered') Object.assign(here, { typed: s.at, use: 'typed' });
    await refreshShares();
    s.d.close();
    s.paint();
  } catch (e) {
    fail(s, e.code === undefined ? e.message : errorText(e));
  }
  s.busy = false;
  s.submit.disabled = false;
}

/** Forgets everything: somebody else may log in. */
export function forget() {
  unwatch();
  Object.assign(here, { receiver: null, device: null, typed: null, use: null, told: 0, shares: [] });
}
