// Calls: what rings, what is said to the node about it, and the bar that shows
// it. Loaded when the first call comes or goes out.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { t } from '../lib/i18n.mjs';
import * as api from '../lib/api.mjs';
import { changed, on, state } from '../model.mjs';
import { announce, button, errorText, nameText } from '../ui/parts.mjs';
import * as keys from './keys.mjs';
import { CallMedia, microphone, missing } from './media.mjs';

const NOTE_MS = 8000; // how long the outcome of a call is shown
const TICK_MS = 1000;
const RING_MS = 50000; // a little longer than the node lets it ring

/**
 * The call this window takes part in, null when there is none:
 * {id, call, outgoing, peer, pair, raw, track, media, code, since, note}.
 */
let own = null;
let note = null; // {text} of a call that is over
let noteTimer = 0;
let bar = null; // the element of the frame that is shown
let painted = '';

const OVER = ['ended', 'declined', 'missed', 'cancelled', 'failed'];
const isOver = (c) => OVER.includes(c?.state);

/** Shows calls in el from now on. */
export function show(el) {
  bar = el;
  painted = '';
  paint();
}

on(['calls', 'session'], () => {
  if (!state.me && own) finish(null);
  for (const c of state.calls ?? []) take(c);
  paint();
});
setInterval(() => {
  if (own?.call && own.call.state !== 'accepted' && Date.now() - own.began > RING_MS) finish(t('call.over.missed', { name: nameText(own.peer) })); // the news of it was lost
  if (own?.since) paint();
}, TICK_MS);
addEventListener('pagehide', () => { if (own && !isOver(own.call)) api.callStep(`/${own.id}/end`, {}, true); });

/** Calls a user. */
export async function start(peer) {
  if (own) return;
  if (cannot()) return;
  own = { peer, outgoing: true, began: Date.now() };
  paint();
  await guarded(async (mine) => {
    await prepare(mine);
    const id = keys.newCall();
    Object.assign(mine, { bytes: id, id: keys.callText(id) });
    const commit = await keys.commit(id, mine.raw);
    const c = await api.callStep('', { to: peer.id, id: mine.id, commit: keys.toText(commit) });
    if (own === mine) heard(c);
    else end(mine.id);
  });
}

/** Takes a call that rings. */
async function accept(c) {
  if (own || cannot()) return;
  own = { peer: c.with, outgoing: false, began: Date.now(), id: c.id, bytes: keys.callBytes(c.id), call: c };
  paint();
  await guarded(async (mine) => {
    await prepare(mine);
    heard(await api.callStep(`/${mine.id}/answer`, { key: keys.toText(mine.raw) }));
  });
}

async function prepare(mine) {
  mine.track = await microphone();
  if (own !== mine) throw new Error('call: given up meanwhile'); // guarded closes the microphone
  Object.assign(mine, await keys.makeKey());
}

/** Runs a step of the own call; when it fails the call is over and the bar says why. */
async function guarded(step) {
  const mine = own;
  try {
    await step(mine);
  } catch (e) {
    if (own !== mine) {
      mine.track?.stop();
      return;
    }
    const words = e?.name === 'NotAllowedError' || e?.name === 'NotFoundError' ? t('call.no_microphone') : e?.code === 'wrong_state' ? t('call.gone') : errorText(e);
    if (mine.id && mine.call && !isOver(mine.call)) end(mine.id, 'lost');
    finish(words);
  }
}

/** Says why no call can be made here, if none can. */
function cannot() {
  const why = missing();
  if (why) say(t(`call.${why}`));
  return why;
}

const end = (id, reason) => api.callStep(`/${id}/end`, reason ? { reason } : {}).catch(() => {}); // it ends by its own time

/** Takes what the node says of a call: an answer, or an event by way of the model. */
function heard(c) {
  if (c?.id) take(c);
  paint();
}

function take(c) {
  if (!own || c.id !== own.id) return;
  const before = own.call;
  if (isOver(before)) return;
  own.call = c;
  if (isOver(c)) {
    finish(outcome(c));
    return;
  }
  if (c.state === 'accepted' && c.peer_key && !own.agreeing) {
    own.agreeing = true;
    guarded(agree);
  }
}

/** Both keys are known: agree, and let media begin. */
async function agree(mine) {
  const peerKey = keys.fromText(mine.call.peer_key);
  const [caller, callee] = mine.outgoing ? [mine.raw, peerKey] : [peerKey, mine.raw];
  if (mine.outgoing) {
    await api.callStep(`/${mine.id}/key`, { key: keys.toText(mine.raw) });
  } else if (!keys.same(await keys.commit(mine.bytes, peerKey), keys.fromText(mine.call.commit))) {
    await end(mine.id, 'keys');
    finish(t('call.keys'));
    return;
  }
  const { bases, code } = await keys.agree(mine.pair, mine.bytes, caller, callee, peerKey);
  if (own !== mine) return;
  mine.code = code;
  const [me, other] = mine.outgoing ? [keys.CALLER, keys.CALLEE] : [keys.CALLEE, keys.CALLER];
  mine.media = new CallMedia(mine.track, { own: bases[Number(me)], ownKID: me, other: bases[Number(other)], otherKID: other },
    async (sdp) => (await api.callStep(`/${mine.id}/media`, { sdp })).sdp, (event) => happened(mine, event));
  paint();
  await mine.media.start();
}

function happened(mine, event) {
  if (own !== mine) return;
  if (event === 'connected') mine.since ??= Date.now();
  mine.stage = event;
  if (event === 'unsealed' || event === 'failed') {
    end(mine.id, 'lost');
    finish(t(`call.${event}`));
  }
  if (event === 'over') finish(t('call.over.ended'));
  paint();
}

/** The own call is over; words say how, if there is anything to say. */
function finish(words) {
  own?.media?.close();
  own?.track?.stop();
  own = null;
  if (words) say(words);
  paint();
}

function say(words) {
  note = { words };
  announce(words);
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => { note = null; paint(); }, NOTE_MS);
  paint();
}

function outcome(c) {
  const name = nameText(c.with);
  if (c.reason === 'busy') return t('call.busy', { name });
  if (c.state === 'failed') return t('call.failed');
  return t(c.outgoing || c.state === 'ended' ? `call.over.${c.state}` : 'call.over.ended', { name });
}

function hangUp() {
  const { id, call, media, track } = own ?? {};
  if (own) own.media = null;
  media?.silence();
  track?.stop();
  finish(null);
  if (id && !isOver(call)) end(id).finally(() => media?.close()); // who is gone before it is said looks lost
  else media?.close();
}

// ---- the bar -----------------------------------------------------------------

/** Calls that ring here and are not the own one. */
const ringing = () => (state.calls ?? []).filter((c) => !c.outgoing && c.state === 'ringing' && c.id !== own?.id);

function clock(since) {
  const s = Math.max(0, Math.floor((Date.now() - since) / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
}

/** What is shown: the own call, else one that rings, else how the last one went. */
function paint() {
  if (!bar) return;
  const rings = own ? null : ringing()[0];
  const kind = own ? 'own' : rings ? 'ringing' : note ? 'note' : '';
  bar.hidden = kind === '';
  bar.dataset.state = own ? own.call?.state ?? 'calling' : kind;
  bar.className = `call-bar ${kind}`;
  const signature = JSON.stringify([kind, own && [own.id, own.call?.state, own.stage, own.code, own.media?.muted], rings?.id, note?.words]);
  if (signature !== painted) {
    painted = signature;
    const focus = bar.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    replace(bar, own ? ownBar() : rings ? ringBar(rings) : note ? noteBar() : null);
    if (focus) bar.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
    if (rings) announce(t('call.incoming', { name: nameText(rings.with) }));
  }
  const time = bar.querySelector('.call-time');
  if (time) time.textContent = own?.since ? clock(own.since) : '';
}

function ringBar(c) {
  return [
    h('p', { class: 'call-words' }, icon('call'), h('span', t('call.incoming', { name: nameText(c.with) }))),
    h('div', { class: 'call-actions' },
      button(t('call.accept'), () => accept(c), { kind: 'primary', iconName: 'call', id: 'call-accept', 'data-focus': 'accept' }),
      button(t('call.decline'), () => { end(c.id); }, { id: 'call-decline', 'data-focus': 'decline' }))];
}

function stageWords() {
  const name = nameText(own.peer);
  if (own.call?.state !== 'accepted') return t(own.outgoing ? `call.${own.call?.state ?? 'calling'}` : 'call.connecting', { name });
  if (own.stage === 'blocked') return t('call.blocked');
  return own.since ? t('call.with', { name }) : t('call.connecting', { name });
}

function ownBar() {
  const muted = own.media?.muted === true;
  return [
    h('p', { class: 'call-words' }, icon('call'), h('span', stageWords()), h('span', { class: 'call-time' })),
    own.code ? h('p', { class: 'call-code' }, icon('shield'), h('span', t('call.code')), h('code', { id: 'call-code' }, `${own.code.slice(0, 3)} ${own.code.slice(3)}`)) : null,
    h('div', { class: 'call-actions' },
      own.media ? button(t(muted ? 'call.unmute' : 'call.mute'), () => { own?.media?.mute(!muted); paint(); }, { id: 'call-mute', 'aria-pressed': String(muted), 'data-focus': 'mute' }) : null,
      button(t(own.call?.state === 'accepted' ? 'call.hang_up' : 'call.cancel'), hangUp, { kind: 'danger', iconName: 'close', id: 'call-end', 'data-focus': 'end' }))];
}

function noteBar() {
  return [h('p', { class: 'call-words' }, icon('call'), h('span', note.words)),
    h('div', { class: 'call-actions' }, button(t('close'), () => { note = null; paint(); }, { kind: 'quiet' }))];
}

/** How the own call's media is, null without a call: for tests and the curious. */
export const report = () => (own ? { state: own.call?.state ?? '', stage: own.stage ?? '', code: own.code ?? '', ...own.media?.report() } : null);

changed('calls'); // what was known before this module was loaded
