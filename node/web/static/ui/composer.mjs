// Writing: text, files, positions, with precedence and expiry.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { span, t } from '../lib/i18n.mjs';
import * as text from '../lib/text.mjs';
import * as model from '../model.mjs';
import { announce, bytes, choice, errorText, iconButton, nameText, percent, PRECEDENCES, progress } from './parts.mjs';
import { sharePosition } from './place.mjs';

export const MAX_TEXT = 32 << 10; // bytes of UTF-8; the network's limit
const TTLS = [0, 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400]; // seconds; 0 is the network's own
const MAX_ROWS = 8;

const size = (s) => new TextEncoder().encode(s).length;

/** Builds the composer for peer. onsent is called after something was sent. */
export function composer(peer, person, onsent) {
  const c = { peer, person, onsent, draft: model.draftFor(peer), busy: false };
  build(c);
  const stop = [model.on('uploads', () => paintUploads(c)), model.on('drafts', () => show(c)), model.on('session', () => show(c)), model.on('policy', () => paintPolicy(c)), model.on('archive', () => paintArchive(c))];
  c.leave = () => stop.forEach((f) => f());
  c.focus = () => c.input.focus();
  show(c);
  paintUploads(c);
  paintPolicy(c);
  paintArchive(c);
  return c;
}

/** Who archives is said before the next message, and what was not let in. */
function paintArchive(c) {
  const { readers = [], refused = [] } = model.state.archive ?? {};
  const said = readers.map((r) => (r.self ? t('archive.self') : t(r.has_keys ? 'archive.by' : 'archive.by_no_keys', { name: text.label(r.user?.name, 64) })));
  for (const r of refused) {
    if ((r.from ?? []).some((p) => p.id === c.peer)) said.push(t(r.code === 'unknown_reader' ? 'archive.unknown_reader' : 'archive.unarchived'));
  }
  c.archived.hidden = said.length === 0;
  replace(c.archived, said.length ? [icon('lock'), h('span', said.join(' '))] : []);
}

/** What a policy forbids cannot be pressed, and says why. */
function paintPolicy(c) {
  for (const [what, b, label] of [['files', c.attachButton, 'compose.attach'], ['location', c.positionButton, 'compose.position']]) {
    const group = model.forbidden(what);
    const words = group ? t(`policy.no_${what}`, { group: text.label(group, 40) }) : t(label);
    b.disabled = group !== '';
    b.title = words;
    b.setAttribute('aria-label', words);
  }
}

function build(c) {
  const who = nameText(c.person());
  c.input = h('textarea', { id: 'compose', rows: 1, class: 'compose-input', placeholder: t('compose.placeholder'), 'aria-label': t('compose.label', { name: who }), enterkeyhint: 'send', dir: 'auto', 'aria-describedby': 'compose-error' });
  c.input.addEventListener('input', () => { c.draft.text = c.input.value; grow(c); paintLimit(c); });
  c.input.addEventListener('keydown', (e) => {
    if (e.key === 'Enter' && !e.shiftKey && !e.altKey && !e.ctrlKey && !e.metaKey && !e.isComposing) {
      e.preventDefault();
      send(c);
    }
  });
  c.send = h('button', { type: 'submit', class: 'button primary send', 'aria-label': t('compose.send'), title: t('compose.send') }, icon('send'));
  c.pick = h('input', { type: 'file', multiple: true, class: 'vh', tabindex: '-1', 'aria-hidden': 'true', id: 'compose-files', onchange: () => { attach(c, c.pick.files); c.pick.value = ''; } });
  c.chips = h('p', { class: 'compose-chips', hidden: true });
  c.error = h('p', { class: 'error', id: 'compose-error', role: 'alert' });
  c.uploads = h('ul', { class: 'uploads' });
  c.options = h('div', { class: 'compose-options', id: 'compose-options', hidden: true });
  c.optionsButton = iconButton('options', t('compose.options'), () => toggleOptions(c), { 'aria-expanded': 'false', 'aria-controls': 'compose-options' });
  const form = h('form', { class: 'compose-row', novalidate: true, onsubmit: (e) => { e.preventDefault(); send(c); } },
    h('div', { class: 'compose-tools' },
      c.attachButton = iconButton('attach', t('compose.attach'), () => c.pick.click(), { id: 'compose-attach' }),
      c.positionButton = iconButton('position', t('compose.position'), () => sharePosition(c.peer, nameText(c.person()), c.onsent)), c.optionsButton),
    h('div', { class: 'compose-line' }, c.input, c.send));
  c.archived = h('p', { class: 'notice archived', id: 'compose-archived', role: 'status', hidden: true });
  c.el = h('div', { class: 'composer' }, c.archived, c.uploads, c.error, c.options, c.chips, form, c.pick);
  dropTarget(c);
}

function dropTarget(c) {
  const hint = h('p', { class: 'drop-hint', hidden: true }, t('compose.drop'));
  c.el.append(hint);
  const carries = (e) => [...(e.dataTransfer?.types ?? [])].includes('Files');
  c.el.addEventListener('dragover', (e) => { if (carries(e)) { e.preventDefault(); hint.hidden = false; } });
  c.el.addEventListener('dragleave', () => { hint.hidden = true; });
  c.el.addEventListener('drop', (e) => {
    hint.hidden = true;
    if (!carries(e)) return;
    e.preventDefault();
    attach(c, e.dataTransfer.files);
  });
  c.input.addEventListener('paste', (e) => {
    if (!e.clipboardData?.files.length) return;
    e.preventDefault();
    attach(c, e.clipboardData.files);
  });
}

/** Shows the draft as it is. */
function show(c) {
  c.draft = model.draftFor(c.peer);
  if (c.input.value !== c.draft.text) c.input.value = c.draft.text;
  if (!c.draft.unsure && c.unsure) replace(c.error);
  c.unsure = c.draft.unsure;
  grow(c);
  paintOptions(c);
  paintLimit(c);
}

/** As many rows as the text needs, up to MAX_ROWS. */
function grow(c) {
  let rows = 1;
  c.input.rows = rows;
  while (rows < MAX_ROWS && c.input.scrollHeight > c.input.clientHeight + 1) c.input.rows = ++rows;
}

function paintLimit(c) {
  const over = size(c.draft.text) - MAX_TEXT;
  if (over > 0) replace(c.error, icon('warn'), h('span', t('compose.too_long', { n: over })));
  else if (c.over) replace(c.error);
  c.over = over > 0;
  c.send.disabled = over > 0;
}

async function send(c) {
  if (c.over || !c.draft.text.trim()) return;
  if (c.busy) { // messages go one after the other, in the order they were typed
    c.again = true;
    return;
  }
  Object.assign(c, { busy: true, again: false });
  replace(c.error);
  closeOptions(c);
  try {
    const going = model.sendDraft(c.peer);
    show(c); // the field is empty before the next key
    await going;
    c.onsent();
  } catch (e) {
    c.again = false;
    const words = e.code === 'unreachable' ? t('error.unsure') : errorText(e);
    const settled = e.code === 'unreachable' && !c.draft.unsure; // the node's news of it was faster than these words
    if (e.status !== 401 && !settled) replace(c.error, icon('warn'), h('span', words));
  }
  c.busy = false;
  show(c);
  if (c.again) send(c);
}

function attach(c, files) {
  if (!files?.length) return;
  const group = model.forbidden('files');
  if (group) { // dropped or pasted
    replace(c.error, icon('warn'), h('span', t('policy.no_files', { group: text.label(group, 40) })));
    return;
  }
  model.sendFiles(c.peer, files);
  Object.assign(c.draft, { precedence: 'ROUTINE', ttl: 0 });
  closeOptions(c);
  show(c);
  c.onsent();
}

// ---- precedence and expiry ---------------------------------------------------

function toggleOptions(c) {
  c.options.hidden = !c.options.hidden;
  c.optionsButton.setAttribute('aria-expanded', String(!c.options.hidden));
  if (!c.options.hidden) c.options.querySelector('input:checked')?.focus();
}

function closeOptions(c) {
  c.options.hidden = true;
  c.optionsButton.setAttribute('aria-expanded', 'false');
}

const ttlLabel = (s) => (s ? span(s) : t('compose.expiry_default'));

function paintOptions(c) {
  const d = c.draft;
  const repaint = () => { paintOptions(c); c.optionsButton.classList.toggle('set', changed(d)); };
  if (c.options.hidden || !c.options.firstChild || !c.options.contains(document.activeElement)) {
    replace(c.options,
      choice(t('compose.precedence'), 'precedence', PRECEDENCES.map((p) => ({ value: p, label: t(`precedence.${p}`), icon: p })), d.precedence, (v) => { d.precedence = v; repaint(); }),
      h('p', { class: 'quiet precedence-what' }, t(`precedence.${d.precedence}.what`)),
      choice(t('compose.expiry'), 'ttl', TTLS.map((s) => ({ value: String(s), label: ttlLabel(s) })), String(d.ttl), (v) => { d.ttl = Number(v); repaint(); }));
  } else {
    replace(c.options.querySelector('.precedence-what'), t(`precedence.${d.precedence}.what`));
  }
  c.chips.hidden = !changed(d);
  replace(c.chips, d.precedence !== 'ROUTINE' ? h('span', { class: `chip precedence ${d.precedence.toLowerCase()}` }, icon(d.precedence), t(`precedence.${d.precedence}`)) : null,
    d.ttl ? h('span', { class: 'chip expiry' }, icon('expiry'), t('message.expires', { span: span(d.ttl) })) : null);
}

const changed = (d) => d.precedence !== 'ROUTINE' || d.ttl !== 0;

// ---- uploads -----------------------------------------------------------------

function paintUploads(c) {
  const list = model.state.uploads.get(c.peer) ?? [];
  const failed = list.find((u) => u.error && !u.told);
  if (failed) {
    failed.told = true;
    announce(errorText(failed.error));
  }
  replace(c.uploads, list.map((u) => uploadRow(c, u)));
}

function uploadRow(c, u) {
  const shown = text.label(u.name, 80);
  const words = u.error ? errorText(u.error) : u.sent ? t('compose.upload', { done: bytes(u.sent), total: bytes(u.size) }) : t('compose.upload_waiting');
  return h('li', { class: u.error ? 'upload bad' : 'upload' },
    h('div', { class: 'upload-main' }, h('bdi', { class: 'file-name' }, shown), h('span', { class: 'quiet' }, words),
      u.error ? null : progress(u.sent, u.size, t('file.progress', { n: percent(u.sent, u.size), name: shown }))),
    u.error ? h('button', { type: 'button', class: 'button', onclick: () => model.retryUpload(c.peer, u) }, h('span', t('retry'))) : null,
    iconButton('close', t(u.error ? 'compose.dismiss' : 'compose.cancel', { name: shown }), () => model.dismissUpload(c.peer, u)));
}
