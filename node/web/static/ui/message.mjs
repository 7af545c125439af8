// One message in a conversation.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { ago, clock, fullTime, now, number, span, t } from '../lib/i18n.mjs';
import * as api from '../lib/api.mjs';
import { changed } from '../model.mjs';
import { between, formatLatLon, toMGRS } from '../lib/position.mjs';
import { aged, announce, button, bytes, errorText, expiryChip, isOwn, nameText, percent, percentText, precedenceChip, precedenceOf, progress, reasonText, stateMark, stateWord } from './parts.mjs';
import { details } from './details.mjs';

const LONG_TEXT = 1500; // characters shown at first
const STALE_MS = 3600000; // a position older than this is marked
const MAX_PREVIEW = 8 << 20; // bytes
const PICTURES = new Set(['image/png', 'image/jpeg', 'image/webp', 'image/gif']); // what the browser decodes for certain, nothing that is a document

/** What decides whether a message must be drawn again. */
export const signature = (m, language) => JSON.stringify([m, language, pictures.has(m.id)]);

export function messageItem(m) {
  const own = isOwn(m);
  const p = precedenceOf(m);
  const who = own ? t('message.from_you', { time: fullTime(m.sent) }) : t('message.from', { name: nameText(m.from), time: fullTime(m.sent) });
  const bubble = h('article', { class: `bubble ${p.toLowerCase()}`, 'aria-label': who },
    p === 'ROUTINE' ? null : h('div', { class: 'bubble-head' }, precedenceChip(p)),
    h('div', { class: 'content' }, content(m)),
    m.state === 'failed' && reasonText(m) ? h('p', { class: 'reason' }, icon('warn'), h('bdi', reasonText(m))) : null,
    h('footer', { class: 'meta' }, h('time', { datetime: isoOrNull(m.sent), title: fullTime(m.sent) }, clock(m.sent)), expiryChip(m), stateButton(m)));
  bubble.addEventListener('click', (e) => {
    if (e.target.closest('a, button, input, label') || String(getSelection()) !== '') return;
    details(m.id); // the whole bubble is the target for a thumb; the state button is it for keys
  });
  return h('li', { class: own ? 'message own' : 'message', 'data-id': m.id }, bubble);
}

const isoOrNull = (time) => (Number.isNaN(Date.parse(time)) ? null : new Date(time).toISOString());

function stateButton(m) {
  return h('button', { type: 'button', class: 'state-button', 'data-focus': 'state', 'aria-label': t('state.details', { state: stateWord(m) }), onclick: () => details(m.id) }, stateMark(m));
}

function content(m) {
  if (m.type === 'text') return textContent(m);
  if (m.type === 'file' && m.file) return fileContent(m);
  if (m.type === 'location' && m.location) return positionContent(m);
  if (m.type === 'call' && m.call) return callContent(m);
  if (m.withheld && m.state !== 'recalled') return h('p', { class: 'notice withheld' }, icon('lock'), h('span', t(m.type === 'location' ? 'policy.withheld_location' : 'policy.withheld_file', { group: text.label(m.withheld, 40) })));
  if (m.state === 'recalled') return h('p', { class: 'quiet' }, t('message.recalled_text'));
  return h('p', { class: 'quiet' }, t('message.unknown', { type: text.label(m.type, 40) }));
}

function textContent(m) {
  const whole = text.plain(m.text);
  const el = h('p', { class: 'text', dir: 'auto' });
  if (whole.length <= LONG_TEXT * 1.2 || unfolded.has(m.id)) return replace(el, whole);
  const cut = whole.slice(0, LONG_TEXT).replace(/[\ud800-\udbff]$/, '');
  replace(el, `${cut}…`);
  const more = button(t('message.show_all', { n: whole.length - cut.length }), () => {
    unfolded.add(m.id);
    replace(el, whole);
    more.remove();
  }, { kind: 'quiet' });
  return [el, more];
}

// ---- files -----------------------------------------------------------------

function fileContent(m) {
  const f = m.file;
  const shown = text.label(f.name, 120);
  return h('div', { class: 'file' },
    h('div', { class: 'file-head' }, icon('files', 'file-icon'), h('div', h('bdi', { class: 'file-name' }, shown), h('span', { class: 'file-size' }, bytes(Number(f.size))))),
    f.complete ? fileActions(m, shown) : fileProgress(f, shown));
}

function fileProgress(f, shown) {
  const have = Number(f.have) || 0;
  const total = Number(f.total) || 0;
  const n = percent(have, total);
  return [
    h('div', { class: 'file-bar' }, progress(have, total, t('file.progress', { n, name: shown })), h('span', percentText(n))),
    h('p', { class: 'quiet' }, have === 0 ? t('file.waiting') : t('file.partial', { done: bytes(have), total: bytes(total) })),
  ];
}

function fileActions(m, shown) {
  const place = h('div', { class: 'picture' });
  return h('div', { class: 'file-actions' },
    h('a', { class: 'button', href: api.fileURL(m.id), download: text.fileName(m.file.name), 'data-focus': 'download', 'aria-label': t('file.download_name', { name: shown }) }, icon('download'), h('span', t('file.download'))),
    PICTURES.has(m.file.media_type) && Number(m.file.size) <= MAX_PREVIEW ? previewButton(m, place) : null, place);
}

// What the user has unfolded stays so when a message is drawn again for a new
// state, and is folded when the conversation is left.
const unfolded = new Set(); // message ids of long texts
const pictures = new Map(); // message id -> object URL

/** Folds everything and gives the pictures' memory back. */
export function foldAll() {
  unfolded.clear();
  pictures.forEach((url) => URL.revokeObjectURL(url));
  pictures.clear();
}

/** Pictures are decoded only when asked for: a decoder is a target. */
function previewButton(m, place) {
  const face = h('span');
  const b = h('button', { type: 'button', class: 'button', 'data-focus': 'preview', onclick: () => (pictures.has(m.id) ? fold() : unfold()) }, icon('eye'), face);
  const paint = () => {
    const open = pictures.has(m.id);
    replace(face, t(open ? 'file.preview_close' : 'file.preview'));
    b.setAttribute('aria-expanded', String(open));
    replace(place, open ? picture(m, place, fold) : null);
  };
  const fold = () => {
    URL.revokeObjectURL(pictures.get(m.id));
    pictures.delete(m.id);
    paint();
  };
  const unfold = async () => {
    b.disabled = true;
    try {
      const blob = await api.fileBlob(m.id, MAX_PREVIEW);
      if (!pictures.has(m.id)) pictures.set(m.id, URL.createObjectURL(new Blob([blob], { type: m.file.media_type })));
      paint();
      if (!b.isConnected) changed('preview'); // drawn again meanwhile: the element that took its place shows it
    } catch (error) {
      replace(place, h('p', { class: 'error' }, errorText(error)));
    }
    b.disabled = false;
  };
  paint();
  return b;
}

function picture(m, place, fold) {
  const img = h('img', { src: pictures.get(m.id), alt: text.label(m.file.name, 120) });
  img.addEventListener('error', () => {
    fold();
    replace(place, h('p', { class: 'error' }, t('file.preview_failed')));
  });
  return img;
}

// ---- calls -----------------------------------------------------------------

/** How a call went, in words of whoever reads it. */
export function callText(m) {
  const status = ['completed', 'missed', 'cancelled', 'declined'].includes(m.call.status) ? m.call.status : 'completed';
  if (status === 'completed') return t('call.log.completed', { span: span(Number(m.call.duration_s) || 0) });
  return t(!isOwn(m) && status === 'cancelled' ? 'call.log.missed' : `call.log.${status}`);
}

const callContent = (m) => h('p', { class: 'call-log' }, icon('call'), h('span', callText(m)));

// ---- positions -------------------------------------------------------------

function positionContent(m) {
  const { lat, lon, accuracy_m: accuracy, note } = m.location;
  const mgrs = typeof lat === 'number' && typeof lon === 'number' ? toMGRS(lat, lon) : '';
  if (!mgrs) return h('p', { class: 'quiet' }, t('position.invalid'));
  const at = m.location.time ?? m.sent;
  const ends = Date.parse(m.location.stale_at);
  const old = Number.isFinite(ends) ? now() > ends : now() - Date.parse(at) > STALE_MS;
  return h('div', { class: old ? 'position stale' : 'position' },
    h('div', { class: 'position-head' }, icon('position', 'position-icon'), h('div', { class: 'position-text' },
      h('span', { class: 'mgrs' }, mgrs), h('span', { class: 'latlon' }, formatLatLon(lat, lon)))),
    h('p', { class: 'position-age' }, old ? h('span', { class: 'chip stale-chip' }, icon('expiry'), t('position.stale')) : null,
      aged(at, (time) => t('position.age', { ago: ago(time) })),
      accuracy > 0 ? h('span', { class: 'accuracy' }, ` · ${t('position.accuracy', { m: number(Math.round(accuracy)) })}`) : null),
    isOwn(m) ? null : wayTo(lat, lon),
    note ? h('p', { class: 'note', dir: 'auto' }, text.label(note, 200)) : null,
    copyButton(mgrs));
}

const OWN_MS = 15000; // for so long the node's own position is not asked for again
let own = { at: 0, fix: null };

/** The node's own position, null when it does not know. */
function ownFix() {
  if (Date.now() - own.at > OWN_MS) own = { at: Date.now(), fix: api.position().then((p) => p?.fix ?? null, () => null) };
  return own.fix;
}

/** Distance and bearing from the node, with the age of its own position; empty while it has none. */
function wayTo(lat, lon) {
  const el = h('p', { class: 'position-age position-way' });
  el.hidden = true;
  ownFix().then((fix) => {
    if (typeof fix?.lat !== 'number' || typeof fix?.lon !== 'number') return;
    const { metres, bearing } = between(fix.lat, fix.lon, lat, lon);
    const distance = metres < 1000 ? `${number(Math.round(metres))}\u00a0m` : `${number(metres / 1000, { maximumFractionDigits: 1 })}\u00a0km`;
    replace(el, aged(fix.time, (time) => t('position.way', { distance, bearing: String(Math.round(bearing) % 360).padStart(3, '0'), ago: ago(time) })));
    el.hidden = false;
  });
  return el;
}

function copyButton(value) {
  const face = h('span', t('position.copy'));
  return h('button', { type: 'button', class: 'button', onclick: async () => {
    const words = await navigator.clipboard?.writeText(value).then(() => t('position.copied'), () => null) ?? t('position.copy_failed');
    replace(face, words);
    announce(words);
  } }, icon('copy'), face);
}
