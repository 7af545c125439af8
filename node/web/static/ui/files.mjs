// The files of all conversations, with how much of each is here.
import { h, reconcile, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import * as text from '../lib/text.mjs';
import { ago, currentLanguage, t } from '../lib/i18n.mjs';
import * as api from '../lib/api.mjs';
import * as model from '../model.mjs';
import { state } from '../model.mjs';
import { aged, button, bytes, emptyState, errorText, isOwn, linkButton, nameText, percent, percentText, progress, stateMark } from './parts.mjs';

export function filesView() {
  const search = h('input', { type: 'search', class: 'search-input', placeholder: t('files.search'), 'aria-label': t('files.search'), autocomplete: 'off', spellcheck: 'false', maxlength: 100 });
  const list = h('ul', { class: 'rows cards' });
  const note = h('div', { hidden: true });
  const more = button(t('files.older'), () => older(more, error), { kind: 'quiet', hidden: true });
  const error = h('p', { class: 'error', role: 'alert' });
  const el = h('section', { class: 'page files' }, h('header', { class: 'pane-head' }, h('h1', t('files.title')), h('div', { class: 'search' }, icon('search'), search)), list, note, error, more);
  const paint = () => {
    const wanted = text.sameness(search.value);
    const files = (state.files?.messages ?? []).filter((m) => m.file && (!wanted || text.sameness(m.file.name).includes(wanted)));
    reconcile(list, files, (m) => m.id, (m) => JSON.stringify([m, currentLanguage()]), row);
    more.hidden = !state.files?.more;
    note.hidden = files.length > 0;
    if (!files.length) replace(note, nothing(wanted, search.value));
  };
  search.addEventListener('input', paint);
  const leave = model.on(['files', 'session'], paint);
  model.soon('files');
  paint();
  return { el, search, leave };
}

function nothing(wanted, typed) {
  if (state.files === null) return h('p', { class: 'empty' }, t('chats.loading'));
  if (wanted) return h('p', { class: 'empty' }, t('chats.found_none', { what: text.label(typed, 40) }));
  return emptyState('files', t('files.empty_title'), t('files.empty'), linkButton(t('nav.chats'), '#/chats', { iconName: 'chats' }));
}

async function older(more, error) {
  more.disabled = true;
  replace(error);
  try {
    await model.loadOlderFiles();
  } catch (e) {
    replace(error, icon('warn'), h('span', errorText(e)));
  }
  more.disabled = false;
}

function row(m) {
  const f = m.file;
  const shown = text.label(f.name, 120);
  const own = isOwn(m);
  const n = percent(Number(f.have), Number(f.total));
  return h('li', { class: 'card file-row' },
    h('span', { class: 'file-icon-box' }, icon('files')),
    h('div', { class: 'row-main' },
      h('span', { class: 'row-top' }, h('bdi', { class: 'file-name' }, shown), h('span', { class: 'row-time' }, bytes(Number(f.size)))),
      h('span', { class: 'row-bottom wrap' }, stateMark(m), h('span', { class: 'row-text' }, t(own ? 'files.to' : 'files.from', { name: nameText(own ? m.to : m.from) }), ' · ', aged(m.sent, ago))),
      f.complete ? null : h('div', { class: 'file-bar' }, progress(Number(f.have), Number(f.total), t('file.progress', { n, name: shown })), h('span', percentText(n))),
      f.complete ? null : h('p', { class: 'quiet' }, Number(f.have) ? t('file.partial', { done: bytes(Number(f.have)), total: bytes(Number(f.total)) }) : t('file.waiting'))),
    h('div', { class: 'actions' },
      f.complete ? h('a', { class: 'button', href: api.fileURL(m.id), download: text.fileName(f.name), 'aria-label': t('file.download_name', { name: shown }) }, icon('download'), h('span', t('file.download'))) : null,
      h('a', { class: 'button', href: `#/chats/c/${encodeURIComponent(m.conversation)}` }, icon('chats'), h('span', t('files.open')))));
}
