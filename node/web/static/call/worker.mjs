// Stands between the codec and the network: what leaves is sealed, what comes
// in is opened, and whatever cannot be is dropped. It counts, so that the page
// can tell a transform that works from one that the browser never calls.
import { Opener, Sealer } from './sframe.mjs';

let sealer = null;
let opener = null;
const count = { sealed: 0, opened: 0, failed: 0 };
let now = { n: 0, sealed: 0, opened: 0 }; // of the newest connection alone

async function seal(frame, out, n) {
  if (!sealer) return; // never in the clear
  frame.data = (await sealer.seal(new Uint8Array(frame.data))).buffer;
  count.sealed++;
  if (n === now.n) now.sealed++;
  out.enqueue(frame);
}

async function open(frame, out, n) {
  try {
    if (!opener) return;
    frame.data = (await opener.open(new Uint8Array(frame.data))).buffer;
  } catch {
    count.failed++;
    return;
  }
  count.opened++;
  if (n === now.n) now.opened++;
  out.enqueue(frame);
}

self.onrtctransform = ({ transformer }) => {
  const { side, n } = transformer.options;
  const work = side === 'send' ? seal : open;
  if (n > now.n) now = { n, sealed: 0, opened: 0 };
  const transform = (frame, out) => work(frame, out, n);
  transformer.readable.pipeThrough(new TransformStream({ transform })).pipeTo(transformer.writable).catch(() => {}); // its connection is over
};

self.onmessage = async ({ data }) => {
  if (data.keys) {
    const { own, ownKID, other, otherKID } = data.keys;
    const next = new Opener();
    await next.add(otherKID, other);
    sealer = await Sealer.from(own, ownKID);
    opener = next;
  }
  postMessage({ ready: sealer !== null, count, now });
};
