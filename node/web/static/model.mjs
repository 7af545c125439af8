// What the page knows, and how it is kept true: a snapshot by HTTP, then events.
// After every gap (a stream that ended, a node that restarted) the snapshot is
// taken again, so a lost event can delay the page but never leave it wrong.
// Everything lives in memory only and is forgotten at logout.
import * as api from './lib/api.mjs';
import { stream } from './lib/events.mjs';

const PAGE = 50; // messages asked for at once
const POLL_MS = 5000;
const STATUS_MS = 30000;
const MOST_FILES = 200; // in one answer
const KEPT_MESSAGES = 2000; // of one conversation in memory

const blank = () => ({
  me: null, status: null, banner: null, version: null, outdated: false,
  connection: 'connecting', // live, polling, down
  conversations: null, users: null, calls: null, nodes: null, contacts: null, files: null, failures: [], policy: null, archive: null,
  threads: new Map(), // conversation id -> {messages, more, fresh}
  drafts: new Map(), // peer id -> {text, precedence, ttl}
  uploads: new Map(), // peer id -> [{name, size, sent, error, abort}]
  open: null, // the conversation on the screen
});

export const state = blank();

// ---- observers -------------------------------------------------------------

const observers = new Map();
const pending = new Set();

/** Calls fn after topic changed. Returns a function that ends it. */
export function on(topics, fn) {
  for (const topic of [].concat(topics)) {
    if (!observers.has(topic)) observers.set(topic, new Set());
    observers.get(topic).add(fn);
  }
  return () => [].concat(topics).forEach((topic) => observers.get(topic).delete(fn));
}

/** Tells the observers of topics that something changed. */
export function changed(...topics) {
  if (pending.size === 0) setTimeout(flush, 0);
  topics.forEach((x) => pending.add(x));
}

function flush() {
  const topics = [...pending];
  pending.clear();
  const called = new Set();
  for (const topic of topics) {
    for (const fn of observers.get(topic) ?? []) {
      if (called.has(fn)) continue;
      called.add(fn);
      fn(topic);
    }
  }
}

// ---- session ---------------------------------------------------------------

let live = null;
let poll = 0;
let statusTimer = 0;

/** Takes the session of an answer and starts to follow the node. */
export async function begin(session) {
  if (state.me && state.me.id !== session.user_id) forget();
  state.me = { id: session.user_id, name: session.name };
  changed('session');
  await refresh().finally(follow); // a node that went away meanwhile is followed too: it comes back
}

/** Drops everything that belongs to a user. */
export function forget() {
  halt();
  for (const list of state.uploads.values()) list.forEach((u) => u.abort?.());
  readAsked.clear();
  Object.assign(state, blank(), { version: state.version });
  changed('session', 'conversations', 'thread', 'users', 'nodes', 'contacts', 'files', 'failures', 'connection', 'status', 'uploads');
}

/** Stops following, keeps what is shown and typed: the session is gone, the user may come back. */
export function halt() {
  live?.stop();
  live = null;
  clearInterval(poll);
  clearInterval(statusTimer);
  poll = 0;
}

export const logout = async () => {
  halt();
  api.whenSessionGone(() => {}); // what is still on its way finds no session, and that is meant
  await api.logout().catch(() => {}); // a node that does not answer has no session to keep
};

// ---- following the node ----------------------------------------------------

function follow() {
  halt();
  live = stream(api.eventsURL, { onOpen, onEvent, onDown, onGone: () => gone() });
  statusTimer = setInterval(() => refreshers.status().catch(() => {}), STATUS_MS);
}

let gone = () => {};
/** Is called when the session has ended on the node. */
export function whenGone(fn) {
  gone = () => { halt(); fn(); };
  api.whenSessionGone(gone);
}

function setConnection(value) {
  if (state.connection === value) return;
  state.connection = value;
  changed('connection');
}

function onOpen() {
  clearInterval(poll);
  poll = 0;
  setConnection('live');
  refresh().catch(() => {}); // covers whatever the gap swallowed
}

function onDown() {
  if (state.connection === 'live') setConnection('connecting');
  if (poll) return;
  const tick = () => refresh().then(() => { if (poll) setConnection('polling'); }, (e) => {
    if (e.code === 'unreachable') setConnection('down');
  });
  poll = setInterval(tick, POLL_MS);
  tick();
}

/** Tries to reach the node at once. */
export const poke = () => live?.poke();

function onEvent(event) {
  let data;
  try {
    data = JSON.parse(event.data);
  } catch {
    return; // an event we cannot read is as good as lost; the next refresh repairs it
  }
  switch (event.type) {
    case 'message': case 'state': case 'file': onMessage(event.type, data.message ?? data); break;
    case 'banner': setBanner(data.banner ?? data); break;
    case 'contact': soon('users'); soon('conversations'); break;
    case 'link': soon('nodes'); soon('contacts'); soon('status'); break;
    case 'call': onCall(data); break;
    case 'archive': soon('archive'); break;
    case 'policy': refresh().catch(() => {}); break; // what is withheld may be free now, or the other way round
    case 'reset': refresh().catch(() => {}); break; // the node no longer has the events in between
    default: // hello, and what a later version may tell
  }
}

function onMessage(type, m) {
  if (!m || typeof m.id !== 'string') return;
  const thread = m.conversation ? state.threads.get(m.conversation) : threadOf(m.id);
  const known = thread?.messages.find((x) => x.id === m.id);
  if (known) put(thread, { ...known, ...m });
  else if (type === 'message' && thread && m.type) put(thread, m);
  else if (thread) soon('thread');
  const conversation = (state.conversations ?? []).find((c) => c.last?.id === m.id);
  if (conversation) {
    conversation.last = { ...conversation.last, ...m };
    changed('conversations');
  }
  if (type !== 'file') soon('conversations');
  if (state.files && (m.type === 'file' || state.files.messages.some((x) => x.id === m.id))) soon('files');
  onFailure(m);
  if (type === 'state') soon('failures');
}

const STUCK = ['failed', 'expired', 'waiting-for-keys'];
const isStuck = (m) => STUCK.includes(m.state) && !m.dismissed;

/** Keeps the list of failures true while the node is asked for the new one. */
function onFailure(m) {
  const i = state.failures.findIndex((f) => f.id === m.id);
  if (i < 0) return;
  if (isStuck(m)) state.failures[i] = { ...state.failures[i], ...m };
  else state.failures.splice(i, 1);
  changed('failures');
}

/** The group whose policy forbids the user a thing ('files', 'location'), or ''. */
export const forbidden = (what) => {
  const s = state.policy?.switches?.[what];
  return s && !s.allowed ? String(s.group ?? '') || '?' : '';
};

/** Whether the user sent the message. */
export const isOwn = (m) => m.outgoing ?? m.from?.id === state.me?.id;

const threadOf = (id) => [...state.threads.values()].find((x) => x.messages.some((m) => m.id === id));

let puts = 0; // counts what events and answers put into threads

/** Adds or replaces one message; a new one is the newest. */
function put(thread, m) {
  thread.put.set(m.id, ++puts);
  const i = thread.messages.findIndex((x) => x.id === m.id);
  if (i >= 0) thread.messages[i] = m;
  else thread.messages.push(m);
  settleDrafts([m]);
  changed('thread');
}

/** A call changed; one that is over is told once and then gone. */
function onCall(c) {
  if (!c || typeof c.id !== 'string') return;
  state.calls = [...(state.calls ?? []).filter((x) => x.id !== c.id && !CALL_OVER.includes(x.state)), c];
  changed('calls');
}

const CALL_OVER = ['ended', 'declined', 'missed', 'cancelled', 'failed'];

let banners = 0; // counts those that events brought

function setBanner(b) {
  if (!b || typeof b.state !== 'string') return;
  banners++;
  state.banner = b;
  changed('status');
}

// ---- refreshing ------------------------------------------------------------

/** Asks and takes the answer, unless one to a later question is here already or somebody logged in since. */
function part(name, ask, take = (answer) => { state[name] = answer; }) {
  let asked = 0;
  let taken = 0;
  return async () => {
    const mine = ++asked;
    const { me } = state;
    const answer = await ask();
    if (mine < taken || !me || state.me !== me) return;
    taken = mine;
    take(answer);
    changed(name);
  };
}

const refreshers = {
  conversations: part('conversations', api.conversations),
  users: part('users', api.users),
  calls: part('calls', api.calls),
  nodes: part('nodes', async () => join(await api.peers(), await api.links())),
  contacts: part('contacts', api.contacts),
  files: part('files', () => api.files(undefined, Math.max(PAGE, Math.min(MOST_FILES, state.files?.messages.length ?? 0)))),
  failures: part('failures', api.failures),
  status: part('status', async () => ({ heard: banners, s: await api.status() }), takeStatus),
  policy: part('policy', api.policy),
  archive: part('archive', api.archive),
  thread: async () => { if (state.open) await loadNewest(state.open); },
};

function takeStatus({ heard, s }) {
  state.outdated = state.version !== null && s.version !== undefined && s.version !== state.version;
  state.version ??= s.version ?? null;
  state.status = s;
  if (s.banner && heard === banners) state.banner = s.banner; // one that came meanwhile is newer
}

const SOON_MS = 200;
const soonTimers = new Map();

/** Refreshes a part shortly; a burst of events becomes one request. */
export function soon(part) {
  if (soonTimers.has(part)) return;
  soonTimers.set(part, setTimeout(() => {
    soonTimers.delete(part);
    refreshers[part]().catch(() => {}); // the stream or the poll says when the node is away
  }, SOON_MS));
}

/** Takes the whole snapshot again. Rejects when the node cannot be reached. */
export async function refresh() {
  if (!state.me) return;
  const parts = ['conversations', 'users', 'failures', 'status', 'thread', 'calls', 'policy', 'archive'];
  for (const p of ['nodes', 'contacts', 'files']) if (state[p]) parts.push(p);
  const outcomes = await Promise.allSettled(parts.map((p) => refreshers[p]()));
  const bad = outcomes.find((o) => o.status === 'rejected' && o.reason.code === 'unreachable');
  if (bad) throw bad.reason;
}

/** A neighbour as the mesh screen shows it: what is known of the node, and its link. */
function join(peers, links) {
  const all = new Map();
  for (const p of peers) if (p?.id) all.set(p.id, { ...p, addrs: p.addrs ?? [] });
  for (const l of links) {
    const id = l?.node;
    if (!id) continue;
    const known = all.get(id);
    if (known?.since && l.since && Date.parse(known.since) > Date.parse(l.since)) continue;
    all.set(id, { ...known, ...l, id, name: l.name || known?.name, addrs: known?.addrs ?? (l.addr ? [l.addr] : []) });
  }
  return [...all.values()];
}

// ---- conversations ---------------------------------------------------------

const newThread = () => ({ messages: [], more: false, fresh: false, put: new Map(), taken: 0 });

let pages = 0; // counts what loadNewest asked for

/**
 * Loads the newest page; older pages that are already here stay when they
 * connect. What an event put here while the page was on its way is newer than
 * the page and stays too; so does a page that was asked for later.
 */
export async function loadNewest(conversation) {
  const began = puts;
  const mine = ++pages;
  const { me } = state;
  const { messages: page, more } = await api.messages(conversation, undefined, PAGE);
  const thread = state.threads.get(conversation) ?? newThread();
  if (mine < thread.taken || state.me !== me) return;
  thread.taken = mine;
  const newer = (m) => (thread.put.get(m.id) ?? 0) > began;
  const held = new Map(thread.messages.map((m) => [m.id, m]));
  const ids = new Set(page.map((m) => m.id));
  const first = thread.messages.findIndex((m) => ids.has(m.id));
  const older = first > 0 ? thread.messages.slice(0, first) : [];
  if (older.length === 0) thread.more = more;
  const current = page.map((m) => (newer(m) && held.has(m.id) ? held.get(m.id) : m));
  const later = thread.messages.filter((m) => newer(m) && !ids.has(m.id));
  thread.messages = [...older, ...current, ...later].slice(-KEPT_MESSAGES);
  thread.put = new Map(thread.messages.filter(newer).map((m) => [m.id, thread.put.get(m.id)]));
  thread.fresh = true;
  state.threads.set(conversation, thread);
  settleDrafts(thread.messages);
  changed('thread');
}

export async function loadOlder(conversation) {
  const thread = state.threads.get(conversation);
  if (!thread?.messages.length) return;
  const { messages: page, more } = await api.messages(conversation, thread.messages[0].id, PAGE);
  const known = new Set(thread.messages.map((m) => m.id));
  const fresh = page.filter((m) => !known.has(m.id));
  thread.messages = [...fresh, ...thread.messages];
  thread.more = more && fresh.length > 0 && thread.messages.length < KEPT_MESSAGES;
  changed('thread');
}

export const conversationWith = (userID) => (state.conversations ?? []).find((c) => c.with?.id === userID) ?? null;

export const unread = () => (state.conversations ?? []).reduce((n, c) => n + (Number(c.unread) || 0), 0);

const readAsked = new Set();

/** Marks what the user now sees as read; each message is asked for once. */
export async function markRead(conversation) {
  const thread = state.threads.get(conversation);
  const news = (thread?.messages ?? []).filter((m) => !isOwn(m) && m.state !== 'read' && !readAsked.has(m.id) &&
    m.state !== 'expired' && m.state !== 'recalled');
  if (!news.length) return;
  news.forEach((m) => readAsked.add(m.id));
  const row = (state.conversations ?? []).find((c) => c.id === conversation);
  if (row?.unread) {
    row.unread = 0;
    changed('conversations');
  }
  for (const m of news) {
    try {
      await api.read(m.id);
    } catch (e) {
      if (e.code === 'unreachable' || e.status >= 500) readAsked.delete(m.id); // asked again when it is seen next
    }
  }
  soon('conversations');
}

// ---- sending ---------------------------------------------------------------

export function draftFor(peer) {
  if (!state.drafts.has(peer)) state.drafts.set(peer, { text: '', precedence: 'ROUTINE', ttl: 0, unsure: null, key: null });
  return state.drafts.get(peer);
}

const options = (d) => ({ precedence: d.precedence === 'ROUTINE' ? undefined : d.precedence.toLowerCase(), ttl_s: d.ttl || undefined });

/** Takes the answer of a call that sent: shows the message at once. What events told of it meanwhile is newer. */
function sent(m) {
  if (!m?.id) return m;
  if (m.conversation) {
    const thread = state.threads.get(m.conversation) ?? newThread();
    state.threads.set(m.conversation, thread);
    put(thread, { ...m, ...thread.messages.find((x) => x.id === m.id) });
  }
  soon('conversations');
  return m;
}

/**
 * Sends the draft's text and empties the draft for the next one. Until the node
 * has said that the message is durable its text is held here, and put back in
 * front of what was typed since when that does not happen. When no answer came
 * the node may have taken it all the same: then the draft is marked unsure and
 * settled by what the node tells next.
 */
export async function sendDraft(peer) {
  const d = draftFor(peer);
  const { text, precedence, ttl } = d;
  const body = { to: peer, text, ...options(d) };
  const known = new Set((state.threads.get(conversationWith(peer)?.id)?.messages ?? []).map((m) => m.id));
  if (d.key?.of !== JSON.stringify(body)) d.key = { of: JSON.stringify(body), once: api.newKey() }; // sent again unchanged, it is the same act
  const { key } = d;
  Object.assign(d, { text: '', precedence: 'ROUTINE', ttl: 0, unsure: null });
  changed('drafts');
  try {
    const m = await api.send(body, key.once);
    d.key = null; // the same words again are another message
    return sent(m);
  } catch (e) {
    Object.assign(d, { text: d.text ? `${text}\n${d.text}` : text, precedence, ttl, key });
    d.unsure = e.code === 'unreachable' ? { text, known } : null;
    for (const thread of state.threads.values()) settleDrafts(thread.messages); // its event may have been faster than the failure
    changed('drafts');
    if (d.unsure === null && e.code === 'unreachable') return null;
    soon('thread');
    throw e;
  }
}

/** Empties drafts whose message turned out to be sent although the answer was lost. */
function settleDrafts(messages) {
  for (const [peer, d] of state.drafts) {
    if (!d.unsure) continue;
    const { text, known } = d.unsure;
    if (!messages.some((m) => isOwn(m) && m.to?.id === peer && m.text === text && !known.has(m.id))) continue;
    if (d.text === text) Object.assign(d, { text: '', precedence: 'ROUTINE', ttl: 0 });
    else if (d.text.startsWith(`${text}\n`)) d.text = d.text.slice(text.length + 1);
    Object.assign(d, { unsure: null, key: null });
    changed('drafts');
  }
}

/** Shares a position; once names the act, see api.newKey. */
export async function sendPosition(peer, position, once) {
  const d = draftFor(peer);
  const m = sent(await api.sendLocation({ to: peer, ...position, ...options(d) }, once));
  Object.assign(d, { precedence: 'ROUTINE', ttl: 0 });
  return m;
}

/** Uploads files to peer, one after the other; each has a row in uploads until it is done or dismissed. */
export function sendFiles(peer, files) {
  const list = state.uploads.get(peer) ?? [];
  state.uploads.set(peer, list);
  const idle = !list.some((u) => !u.error);
  for (const file of files) list.push({ once: api.newKey(), file, name: file.name, size: file.size, sent: 0, options: options(draftFor(peer)) });
  changed('uploads');
  if (idle) next(peer, list);
}

async function next(peer, list) {
  const u = list.find((x) => !x.error);
  if (!u) return;
  try {
    const { done, abort } = api.upload(peer, u.file, u.options, u.once, (n) => { u.sent = n; changed('uploads'); });
    u.abort = abort;
    sent(await done);
    list.splice(list.indexOf(u), 1);
  } catch (e) {
    if (e.code === 'aborted') list.splice(list.indexOf(u), 1);
    else u.error = e;
  }
  changed('uploads');
  if (state.uploads.get(peer) === list) next(peer, list);
}

export function retryUpload(peer, u) {
  const list = state.uploads.get(peer) ?? [];
  const idle = !list.some((x) => !x.error);
  Object.assign(u, { error: null, sent: 0 });
  changed('uploads');
  if (idle) next(peer, list);
}

export function dismissUpload(peer, u) {
  const list = state.uploads.get(peer) ?? [];
  if (u.abort && !u.error) u.abort();
  else {
    const i = list.indexOf(u);
    if (i >= 0) list.splice(i, 1);
  }
  changed('uploads');
}

// ---- acting on messages ----------------------------------------------------

/** Retries or recalls; the answer may be the message or nothing. */
export async function act(action, id) {
  const m = await api[action](id);
  if (m?.id) onMessage('state', m);
  soon('thread');
  soon('failures');
  soon('conversations');
  return m;
}

/** Says that the user compared somebody's key, or has taken note of it. */
export async function trust(user, verified) {
  await api.trust(user.id, user.fingerprint, verified);
  await refreshers.users();
}

/** The messages that cannot go on and were not put aside. */
export const stuck = () => state.failures.filter(isStuck);

/** Puts the text of a message that ended into the draft to the same person. */
export function writeAgain(m) {
  const d = draftFor(m.to.id);
  d.text = d.text ? `${d.text}\n${m.text}` : m.text;
  d.precedence = String(m.precedence ?? 'routine').toUpperCase();
  changed('drafts');
}

/** Files older than those on the screen. */
export async function loadOlderFiles() {
  const held = state.files?.messages ?? [];
  if (!held.length) return;
  const { messages, more } = await api.files(held.at(-1).id, PAGE);
  const known = new Set(held.map((m) => m.id));
  const fresh = messages.filter((m) => !known.has(m.id));
  state.files = { messages: [...held, ...fresh].slice(0, KEPT_MESSAGES), more: more && fresh.length > 0 };
  changed('files');
}
