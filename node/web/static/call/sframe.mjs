// Seals and opens media frames between the ends of a call: RFC 9605 with the
// suite AES_256_GCM_SHA512_128. The same as media/sframe in Go, with the same
// limits; a browser test holds both to the RFC's vectors.

const SUITE = 5;
const TAG = 16; // bytes
const WINDOW = 128n; // counters below the newest one that are still taken
const MAX_JUMP = 1n << 16n;
const MAX_FRAMES = 1n << 32n; // of one key
const MAX_FRAME = 1 << 20; // bytes

/** Why a frame was not opened: malformed, unknown_key, replay, jump, forged. */
export class Refused extends Error {
  constructor(code) {
    super(`sframe: ${code}`);
    this.code = code;
  }
}

function bytesOf(v) {
  const out = [];
  for (let rest = v; rest > 0n; rest >>= 8n) out.unshift(Number(rest & 255n));
  return out;
}

/** The header of a frame: kid and ctr are BigInts. */
export function header(kid, ctr) {
  const field = (v) => (v < 8n ? [Number(v), []] : [8 | (bytesOf(v).length - 1), bytesOf(v)]);
  const [x, k] = field(kid);
  const [y, c] = field(ctr);
  return Uint8Array.of((x << 4) | y, ...k, ...c);
}

/** Reads the header that a frame begins with: {kid, ctr, length}. */
export function parseHeader(frame) {
  if (frame.length === 0) throw new Refused('malformed');
  let at = 1;
  const field = (config) => {
    if (config < 8) return BigInt(config);
    const n = (config & 7) + 1;
    if (frame.length - at < n) throw new Refused('malformed');
    let v = 0n;
    for (const b of frame.subarray(at, at + n)) v = (v << 8n) | BigInt(b);
    if (v < 8n || (n > 1 && frame[at] === 0)) throw new Refused('malformed'); // two forms would be two names of one frame
    at += n;
    return v;
  };
  const kid = field(frame[0] >> 4);
  const ctr = field(frame[0] & 15);
  return { kid, ctr, length: at };
}

function label(text, kid) {
  const out = new Uint8Array(text.length + 10);
  out.set(new TextEncoder().encode(text));
  const view = new DataView(out.buffer);
  view.setBigUint64(text.length, kid);
  view.setUint16(text.length + 8, SUITE);
  return out;
}

/** Derives a sender's key and salt from its base key, a CryptoKey for HKDF. */
async function derive(base, kid) {
  const hkdf = (text) => ({ name: 'HKDF', hash: 'SHA-512', salt: new Uint8Array(0), info: label(text, kid) });
  const key = await crypto.subtle.deriveKey(hkdf('SFrame 1.0 Secret key '), base, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
  const salt = new Uint8Array(await crypto.subtle.deriveBits(hkdf('SFrame 1.0 Secret salt '), base, 96));
  return { key, salt };
}

function nonce(salt, ctr) {
  const n = salt.slice();
  const view = new DataView(n.buffer);
  view.setBigUint64(4, view.getBigUint64(4) ^ ctr);
  return n;
}

function joined(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

const NONE = new Uint8Array(0);

/** Seals the frames of one sender. A base key belongs to one sealer. */
export class Sealer {
  static async from(base, kid) {
    return Object.assign(new Sealer(), await derive(base, kid), { kid, next: 0n });
  }

  async seal(frame, metadata = NONE) {
    if (this.next >= MAX_FRAMES) throw new Error('sframe: key is spent');
    const ctr = this.next++; // never twice, whatever becomes of the frame
    const head = header(this.kid, ctr);
    const sealed = await crypto.subtle.encrypt(
      { name: 'AES-GCM', iv: nonce(this.salt, ctr), additionalData: joined(head, metadata), tagLength: TAG * 8 }, this.key, frame);
    return joined(head, new Uint8Array(sealed));
  }
}

/** Opens frames. Each call of open must have ended before the next begins. */
export class Opener {
  keys = new Map(); // kid -> {key, salt, newest, seen}

  async add(kid, base) {
    this.keys.set(kid, { ...await derive(base, kid), newest: -1n, seen: 0n });
  }

  async open(frame, metadata = NONE) {
    const { kid, ctr, length } = parseHeader(frame);
    if (frame.length - length < TAG || frame.length > MAX_FRAME) throw new Refused('malformed');
    const k = this.keys.get(kid);
    if (!k) throw new Refused('unknown_key');
    check(k, ctr);
    let plain;
    try {
      plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: nonce(k.salt, ctr), additionalData: joined(frame.subarray(0, length), metadata), tagLength: TAG * 8 },
        k.key, frame.subarray(length));
    } catch {
      throw new Refused('forged');
    }
    note(k, ctr);
    return new Uint8Array(plain);
  }
}

function check(k, ctr) {
  if (k.newest < 0n) return; // whoever comes late may begin anywhere
  if (ctr > k.newest) {
    if (ctr - k.newest > MAX_JUMP) throw new Refused('jump');
    return;
  }
  const back = k.newest - ctr;
  if (back >= WINDOW || (k.seen >> back) & 1n) throw new Refused('replay');
}

/** Remembers an authentic frame: bit i of seen is the counter newest - i. */
function note(k, ctr) {
  if (ctr > k.newest) {
    const by = k.newest < 0n ? WINDOW : ctr - k.newest;
    k.seen = by >= WINDOW ? 0n : (k.seen << by) & ((1n << WINDOW) - 1n);
    k.newest = ctr;
  }
  k.seen |= 1n << (k.newest - ctr);
}
