// How the two ends of a call agree on its keys: the same as media/agree in Go,
// and a browser test holds both to the same vectors. The private half cannot
// be read out, not even by this page.

const subtle = globalThis.crypto?.subtle; // not there outside a secure context
const CURVE = { name: 'ECDH', namedCurve: 'P-256' };
const CODES = 1000000n;

/** The two senders, which are their KIDs too. */
export const CALLER = 0n;
export const CALLEE = 1n;

const utf8 = (text) => new TextEncoder().encode(text);
const text = (name) => utf8(`outrider/v1/${name}\0`);

function joined(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/** A call's name: 16 random bytes. */
export const newCall = () => crypto.getRandomValues(new Uint8Array(16));

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** A call's name as the node writes it: base32 without padding. */
export function callText(call) {
  let bits = 0n;
  for (const b of call) bits = (bits << 8n) | BigInt(b);
  bits <<= 2n; // 130 bits are 26 characters
  let out = '';
  for (let i = 0; i < 26; i++, bits >>= 5n) out = ALPHABET[Number(bits & 31n)] + out;
  return out;
}

/** The bytes of a call's name; null when it is none. */
export function callBytes(name) {
  if (!/^[a-z2-7]{26}$/.test(name)) return null;
  let bits = 0n;
  for (const c of name) bits = (bits << 5n) | BigInt(ALPHABET.indexOf(c));
  bits >>= 2n;
  const out = new Uint8Array(16);
  for (let i = 15; i >= 0; i--, bits >>= 8n) out[i] = Number(bits & 255n);
  return out;
}

export const toText = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

/** Bytes from base64url; empty when it is none. */
export function fromText(s) {
  try {
    return Uint8Array.from(atob(String(s).replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
  } catch {
    return new Uint8Array(0);
  }
}

/** One end's key for one call: {pair, raw}, raw being what is sent. */
export async function makeKey() {
  const pair = await subtle.generateKey(CURVE, false, ['deriveKey']);
  return { pair, raw: new Uint8Array(await subtle.exportKey('raw', pair.publicKey)) };
}

/** The caller's commitment to its key. */
export const commit = async (call, callerKey) => new Uint8Array(await subtle.digest('SHA-256', joined(text('call-commit'), call, callerKey)));

/** Whether two byte strings are equal. */
export const same = (a, b) => a.length === b.length && a.reduce((d, v, i) => d | (v ^ b[i]), 0) === 0;

/**
 * What both ends have in the end: {bases, code}. bases are the senders' base
 * keys for sframe.mjs, caller first; code is compared by voice. Rejects when
 * the other's key is no key.
 */
export async function agree(pair, call, callerKey, calleeKey, peerKey) {
  const peer = await subtle.importKey('raw', peerKey, CURVE, false, []);
  const shared = await subtle.deriveKey({ name: 'ECDH', public: peer }, pair.privateKey, { name: 'HKDF' }, false, ['deriveBits']);
  const hkdf = (salt, info) => ({ name: 'HKDF', hash: 'SHA-512', salt, info });
  const secret = await subtle.deriveBits(hkdf(call, joined(text('call-secret'), callerKey, calleeKey)), shared, 256);
  const key = await subtle.importKey('raw', secret, 'HKDF', false, ['deriveBits']);
  new Uint8Array(secret).fill(0);
  const part = (info, bits) => subtle.deriveBits(hkdf(new Uint8Array(0), info), key, bits);
  const bases = [];
  for (const sender of [CALLER, CALLEE]) {
    const raw = await part(joined(text('call-sender'), [Number(sender)]), 256);
    bases.push(await subtle.importKey('raw', raw, 'HKDF', false, ['deriveBits', 'deriveKey']));
    new Uint8Array(raw).fill(0);
  }
  const number = new DataView(await part(text('call-code'), 64)).getBigUint64(0) % CODES;
  return { bases, code: String(number).padStart(6, '0') };
}
