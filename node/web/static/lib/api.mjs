// The node's HTTP API as functions. Paths and shapes are those of API.md.
import { learnClock } from './i18n.mjs';

const BASE = '/v1';
const TIMEOUT_MS = 20000;

/**
 * Why a call did not work. code is the node's stable code, or 'unreachable'
 * when no answer came; message and hint are the node's English prose.
 */
export class ApiError extends Error {
  constructor(status, code, message = '', hint = '', retryAfter = 0, body = null) {
    super(message || code);
    Object.assign(this, { status, code, hint, retryAfter, body });
  }
}

let onSessionGone = () => {};
let sessions = 0; // counts logins

/** Is called whenever the node says that there is no session (any more). */
export function whenSessionGone(fn) {
  onSessionGone = fn;
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  const e = body?.error ?? {};
  const wait = Number(response.headers.get('Retry-After'));
  return new ApiError(response.status, String(e.code || `http_${response.status}`), String(e.message || ''), String(e.hint || ''),
    Number.isFinite(wait) && wait > 0 ? Math.min(wait, 86400) : 0, body);
}

async function call(method, path, { body, quiet, once, last } = {}) {
  const [mine, asked] = [sessions, Date.now()];
  const headers = { Accept: 'application/json', 'X-Outrider': '1' };
  if (once) headers['Idempotency-Key'] = once;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(BASE + path, {
      method, headers, credentials: 'same-origin', cache: 'no-store', redirect: 'error', keepalive: last === true,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (cause) {
    throw new ApiError(0, 'unreachable', String(cause));
  }
  learnClock(response.headers.get('Date'), asked);
  if (!response.ok) {
    const e = await failure(response);
    if (e.status === 401 && !quiet && mine === sessions) onSessionGone(); // of an earlier session it says nothing
    throw e;
  }
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (cause) {
    throw new ApiError(response.status, 'unreachable', String(cause)); // cut off in the middle
  }
}

/**
 * A name for one act of sending. Browsers repeat a request by themselves when a
 * connection closes without an answer, and people press Send again; under the
 * same name a node takes a message once.
 */
export const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');

/** A list answer is an array, or an object that holds it under name. */
function listed(answer, name) {
  const l = Array.isArray(answer) ? answer : answer?.[name];
  return Array.isArray(l) ? l : [];
}

const id = encodeURIComponent;
const query = (o) => {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(o)) if (v !== undefined && v !== null && v !== '') q.set(k, String(v));
  const s = q.toString();
  return s && `?${s}`;
};

export const status = (quiet = false) => call('GET', '/status', { quiet });
export const session = () => call('GET', '/session', { quiet: true });
export const login = async (user, password) => {
  const session = await call('POST', '/session', { body: { user, password }, quiet: true });
  sessions++;
  return session;
};
export const logout = () => call('DELETE', '/session', { quiet: true });
export const users = async () => listed(await call('GET', '/users'), 'users');
export const trust = (user, fingerprint, verified) => call('POST', `/users/${id(user)}/key`, { body: { fingerprint, verified } });
export const peers = async () => listed(await call('GET', '/peers'), 'peers');
export const links = async () => listed(await call('GET', '/links'), 'links');
export const contacts = async () => listed(await call('GET', '/contacts'), 'contacts');
export const conversations = async () => listed(await call('GET', '/conversations'), 'conversations');
/** A page of a conversation, the newest last: {messages, more}. */
export const messages = async (conversation, before, limit) => {
  const answer = await call('GET', `/conversations/${id(conversation)}/messages${query({ before, limit })}`);
  return { messages: listed(answer, 'messages'), more: answer?.more === true };
};
/** A page of the files of all conversations, the newest first: {messages, more}. */
export const files = async (before, limit) => {
  const answer = await call('GET', `/files${query({ before, limit })}`);
  return { messages: listed(answer, 'messages'), more: answer?.more === true };
};
export const failures = async () => listed(await call('GET', '/failures'), 'messages');
export const message = (m) => call('GET', `/messages/${id(m)}`);
export const why = (m) => call('GET', `/messages/${id(m)}/why`);
export const retry = (m) => call('POST', `/messages/${id(m)}/retry`);
export const recall = (m) => call('POST', `/messages/${id(m)}/recall`);
export const dismiss = (m) => call('POST', `/messages/${id(m)}/dismiss`);
export const read = (m) => call('POST', `/messages/${id(m)}/read`);
export const send = (draft, once) => call('POST', '/messages', { body: draft, once });
/** Where the node is: {state, fix}; fix is null when it does not know. */
export const policy = () => call('GET', '/policy');
/** Who archives what this user says: {readers, refused}. */
export const archive = () => call('GET', '/archive');
export const position = () => call('GET', '/position');
/** Positions of others: the live one of each, and those of the last day. */
export const places = async () => listed(await call('GET', '/locations'), 'messages');
export const liveShares = async () => listed(await call('GET', '/locations/live'), 'shares');
export const shareLive = (draft) => call('POST', '/locations/live', { body: draft });
export const stopLive = (to) => call('DELETE', `/locations/live${query({ to })}`);
/** Tells the node where this device is, for live shares that take from it. */
export const moved = (place) => call('PUT', '/locations/live/position', { body: place });
export const sendLocation = (draft, once) => call('POST', '/locations', { body: draft, once });
/** The calls that run or ring: each {id, with, outgoing, state, ...}. */
export const calls = async () => listed(await call('GET', '/calls'), 'calls');
/** One step of a call, to POST /calls + path. last: the page goes away and waits for no answer. */
export const callStep = (path, body, last = false) => call('POST', `/calls${path}`, { body, last });
export const fileURL = (m) => `${BASE}/files/${id(m)}`;
export const eventsURL = `${BASE}/events`;

/** A complete file's bytes as a Blob of at most limit bytes, for a preview. */
export const fileBlob = async (m, limit) => {
  const response = await fetch(fileURL(m), { credentials: 'same-origin', headers: { 'X-Outrider': '1' }, signal: AbortSignal.timeout(120000) })
    .catch((cause) => { throw new ApiError(0, 'unreachable', String(cause)); });
  if (!response.ok) throw await failure(response);
  const blob = await response.blob();
  if (blob.size > limit) throw new ApiError(0, 'too_large');
  return blob;
};

/**
 * Sends a file. onProgress gets (sent, total) bytes. Returns {done, abort}:
 * done is the message, or rejects with ApiError (code 'aborted' after abort).
 * once is the act's name, see newKey.
 * XMLHttpRequest, because fetch tells nothing of an upload's progress.
 */
export function upload(to, file, options, once, onProgress) {
  const xhr = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    xhr.open('POST', `${BASE}/files${query({ to, name: file.name, ...options })}`);
    xhr.setRequestHeader('X-Outrider', '1');
    xhr.setRequestHeader('Accept', 'application/json');
    xhr.setRequestHeader('Idempotency-Key', once);
    xhr.setRequestHeader('Content-Type', /^[\w.+-]+\/[\w.+-]+$/.test(file.type) ? file.type : 'application/octet-stream');
    xhr.upload.onprogress = (e) => onProgress(e.loaded, e.lengthComputable ? e.total : file.size);
    xhr.onerror = () => reject(new ApiError(0, 'unreachable'));
    xhr.onabort = () => reject(new ApiError(0, 'aborted'));
    xhr.onload = () => finish(xhr, resolve, reject);
    xhr.send(file);
  });
  return { done, abort: () => xhr.abort() };
}

function finish(xhr, resolve, reject) {
  let body = null;
  try {
    body = JSON.parse(xhr.responseText);
  } catch { /* judged by the status below */ }
  if (xhr.status >= 200 && xhr.status < 300 && body) {
    resolve(body);
    return;
  }
  if (xhr.status === 401) onSessionGone();
  const e = body?.error ?? {};
  reject(new ApiError(xhr.status, String(e.code || `http_${xhr.status}`), String(e.message || ''), String(e.hint || ''),
    Number(xhr.getResponseHeader('Retry-After')) || 0, body));
}
