// Sharing a position: this device's, or one that is typed.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { number, t } from '../lib/i18n.mjs';
import { formatLatLon, parsePosition, toMGRS } from '../lib/position.mjs';
import { newKey } from '../lib/api.mjs';
import * as model from '../model.mjs';
import { button, dialog, errorText } from './parts.mjs';

const MAX_NOTE = 200; // bytes; the network's limit
const LOCATE_MS = 30000;
const MAX_ACCURACY = 100000; // metres; worse is no position

/** Opens the dialog that shares a position with peer. */
export function sharePosition(peer, who, onsent) {
  const d = dialog(t('position.share', { name: who }), { cls: 'place' });
  const view = { peer, onsent, close: d.close, at: null, busy: false };
  build(view, d.body);
}

function build(view, body) {
  view.input = h('input', { id: 'position-input', type: 'text', autocomplete: 'off', autocapitalize: 'characters', spellcheck: 'false', maxlength: 100, 'aria-describedby': 'position-help position-parsed' });
  view.input.addEventListener('input', () => typed(view));
  view.note = h('input', { id: 'position-note', type: 'text', autocomplete: 'off', maxlength: 300, dir: 'auto' });
  view.parsed = h('p', { id: 'position-parsed', class: 'parsed', role: 'status' });
  view.error = h('p', { class: 'error', role: 'alert' });
  view.mine = button(t('position.mine'), () => locate(view), { iconName: 'position', kind: 'wide' });
  view.send = h('button', { type: 'submit', class: 'button primary wide' }, h('span', t('position.send')));
  replace(body, h('form', { novalidate: true, onsubmit: (e) => { e.preventDefault(); share(view); } },
    view.mine,
    h('div', { class: 'field' }, h('label', { for: 'position-input' }, t('position.input')), view.input, h('p', { class: 'quiet', id: 'position-help' }, t('position.input_help'))),
    view.parsed,
    h('div', { class: 'field' }, h('label', { for: 'position-note' }, t('position.note')), view.note),
    view.error, view.send));
  view.input.focus();
}

function typed(view) {
  view.at = parsePosition(view.input.value);
  replace(view.error);
  if (!view.input.value.trim()) replace(view.parsed);
  else if (!view.at) replace(view.parsed, t('position.bad'));
  else shown(view);
}

function shown(view) {
  const { lat, lon, size, accuracy } = view.at;
  replace(view.parsed, h('span', { class: 'mgrs' }, toMGRS(lat, lon)), h('span', { class: 'latlon' }, formatLatLon(lat, lon)),
    accuracy ? h('span', t('position.accuracy', { m: number(accuracy) })) : size > 1 ? h('span', t('position.square', { size: number(size) })) : null);
}

function locate(view) {
  replace(view.error);
  if (!window.isSecureContext || !navigator.geolocation) {
    fail(view, t('position.insecure'));
    return;
  }
  view.mine.disabled = true;
  replace(view.parsed, t('position.locating'));
  navigator.geolocation.getCurrentPosition((p) => {
    view.mine.disabled = false;
    const { latitude: lat, longitude: lon, accuracy } = p.coords;
    view.at = { lat, lon, accuracy: Math.min(MAX_ACCURACY, Math.max(1, Math.round(accuracy))) };
    view.input.value = `${lat.toFixed(6)}, ${lon.toFixed(6)}`;
    shown(view);
    view.send.focus();
  }, (e) => {
    view.mine.disabled = false;
    replace(view.parsed);
    fail(view, t(['position.unavailable', 'position.denied', 'position.unavailable', 'position.timeout'][e.code] ?? 'position.unavailable'));
  }, { enableHighAccuracy: true, timeout: LOCATE_MS, maximumAge: 5000 });
}

function fail(view, words) {
  replace(view.error, icon('warn'), h('span', words));
}

const half = (size) => (size > 1 ? Math.round(size / 2) : undefined);

async function share(view) {
  if (view.busy) return;
  replace(view.error);
  if (!view.at) {
    fail(view, t('position.bad'));
    view.input.focus();
    return;
  }
  const note = view.note.value.trim();
  const over = new TextEncoder().encode(note).length - MAX_NOTE;
  if (over > 0) {
    fail(view, t('position.note_long', { n: over }));
    view.note.focus();
    return;
  }
  view.busy = true;
  view.send.disabled = true;
  const what = `${view.input.value} ${note}`;
  if (view.key?.of !== what) view.key = { of: what, once: newKey() };
  const { lat, lon, accuracy, size } = view.at;
  try {
    await model.sendPosition(view.peer, { lat, lon, accuracy_m: accuracy ?? half(size), note: note || undefined }, view.key.once);
    view.close();
    view.onsent();
  } catch (e) {
    fail(view, errorText(e));
  }
  view.busy = false;
  view.send.disabled = false;
}
