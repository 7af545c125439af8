// The media of one call: microphone, connection, transforms, loudspeaker, and
// the watch that keeps all of it closed when something is not sealed.
//
// Chromium calls no transform that is set later than addTransceiver, and none
// of a section that sends and receives, without any error. So both are set in
// the same task, each section goes one way, and nothing is believed before the
// worker has counted frames.
import { h } from '../lib/dom.mjs';

const WATCH_MS = 100;
const UNSEALED_MS = 500; // packets without a frame that opens, for so long
const BLOCKED_MS = 5000; // without a connection, for so long
const MAX_REBUILDS = 3;

/** Why no call can be made here: 'insecure', 'old', or null. */
export function missing() {
  if (!globalThis.isSecureContext || !navigator.mediaDevices?.getUserMedia || !crypto.subtle) return 'insecure';
  if (typeof RTCPeerConnection === 'undefined' || typeof RTCRtpScriptTransform === 'undefined') return 'old';
  return null;
}

/** Asks for the microphone. Its track stays silent until start() has sealed a frame. */
export async function microphone() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true }, video: false });
  const [track] = stream.getAudioTracks();
  track.enabled = false;
  return track;
}

function shut(pc) {
  pc.onconnectionstatechange = null;
  pc.close();
}

/**
 * The media of a call. keys: {own, ownKID, other, otherKID}; exchange(sdp)
 * gives the node's answer; on(event) is told 'sealed', 'blocked', 'connected',
 * 'rebuilt', and 'unsealed', 'failed' or 'over' when it cannot go on.
 */
export class CallMedia {
  constructor(track, keys, exchange, on) {
    Object.assign(this, { track, exchange, on, muted: false, closed: false, rebuilds: 0, sealing: false, connection: 0, pcs: [], count: { sealed: 0, opened: 0, failed: 0 }, now: { n: 0, sealed: 0, opened: 0 }, packets: 0, energy: 0 });
    this.audio = h('audio', { autoplay: true });
    this.audio.muted = true;
    this.worker = new Worker(new URL('./worker.mjs', import.meta.url), { type: 'module' });
    this.ready = new Promise((resolve, reject) => {
      this.worker.onerror = () => reject(new Error('call: the worker did not start'));
      this.worker.onmessage = ({ data }) => {
        this.count = data.count;
        this.now = data.now;
        if (data.ready) resolve();
        this.told?.();
      };
    });
    this.worker.postMessage({ keys });
  }

  async start() {
    await this.ready;
    await this.connect();
    this.timer = setInterval(() => {
      this.looking ??= this.watch().catch(() => {}).finally(() => { this.looking = null; });
    }, WATCH_MS);
  }

  async connect() {
    const pc = new RTCPeerConnection({ iceServers: [] });
    const n = ++this.connection;
    this.pcs.push(pc);
    Object.assign(this, { pc, begun: performance.now(), blocked: false, quiet: null, seen: 0, packets: 0 });
    const up = pc.addTransceiver(this.track, { direction: 'sendonly' });
    up.sender.transform = new RTCRtpScriptTransform(this.worker, { side: 'send', n });
    const down = pc.addTransceiver('audio', { direction: 'recvonly' });
    down.receiver.transform = new RTCRtpScriptTransform(this.worker, { side: 'receive', n });
    const opus = RTCRtpReceiver.getCapabilities('audio').codecs.filter((c) => c.mimeType.toLowerCase() === 'audio/opus');
    up.setCodecPreferences(opus); // nothing that packs frames anew below the transform
    down.setCodecPreferences(opus);
    this.down = down;
    this.audio.srcObject = new MediaStream([down.receiver.track]);
    this.audio.play().catch(() => {}); // it plays with the next touch of the page
    pc.onconnectionstatechange = () => {
      if (pc !== this.pc || this.closed) return;
      if (pc.connectionState === 'connected') this.on('connected');
      if (pc.connectionState === 'failed') this.rebuild('failed');
    };
    await pc.setLocalDescription();
    const answer = await this.exchange(pc.localDescription.sdp);
    this.pcs.filter((x) => x !== this.pc).forEach(shut); // not before: to the node, who leaves before coming back has left
    this.pcs = [this.pc];
    if (pc === this.pc && !this.closed) await pc.setRemoteDescription({ type: 'answer', sdp: answer });
  }

  /**
   * One look at what the network brings and, after that, at what the worker
   * counts: a page or a worker that is late is not judged by old counts.
   */
  async watch() {
    const { pc } = this;
    const packets = await this.received();
    await new Promise((told) => {
      this.told = told;
      this.worker.postMessage({});
    });
    if (this.closed || pc !== this.pc) return;
    const mine = this.now.n === this.connection ? this.now : { sealed: 0, opened: 0 }; // of an older connection nothing counts
    if (!this.sealing && mine.sealed > 0) {
      this.sealing = true;
      this.speak();
      this.on('sealed');
    }
    const now = performance.now();
    if (mine.opened > this.seen) {
      this.seen = mine.opened;
      this.packets = packets;
      this.quiet = null;
      this.audio.muted = false;
    } else if (packets > this.packets) {
      this.quiet ??= now;
      if (now - this.quiet >= UNSEALED_MS) this.rebuild('unsealed');
    }
    if (pc.connectionState !== 'connected' && !this.blocked && now - this.begun > BLOCKED_MS) {
      this.blocked = true;
      this.on('blocked');
    }
  }

  async received() {
    for (const s of (await this.down.receiver.getStats()).values()) {
      if (s.type !== 'inbound-rtp') continue;
      this.energy = s.totalAudioEnergy ?? 0;
      return s.packetsReceived ?? 0;
    }
    return 0;
  }

  /** Goes silent both ways and connects anew; gives up after a few times. */
  rebuild(why) {
    this.audio.muted = true;
    this.track.enabled = false;
    this.sealing = false;
    this.quiet = null;
    if (++this.rebuilds > MAX_REBUILDS) {
      this.close();
      this.on(why);
      return;
    }
    this.on('rebuilt');
    this.connect().catch((e) => {
      if (this.closed) return;
      if (e?.status === 404 || e?.status === 409) { // the node says that the call is over; that may be faster than its event
        this.close();
        this.on('over');
      } else {
        this.rebuild('failed');
      }
    });
  }

  mute(muted) {
    this.muted = muted;
    this.speak();
  }

  /** The microphone is heard only while its frames are sealed. */
  speak() {
    this.track.enabled = this.sealing && !this.muted;
  }

  /** Neither hears nor speaks from now on. */
  silence() {
    clearInterval(this.timer);
    this.audio.muted = true;
    this.track.stop();
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.timer);
    this.pcs.forEach(shut);
    this.worker.terminate();
    this.track.stop();
    this.audio.srcObject = null;
  }

  /** What happened so far, for tests and the curious. */
  report() {
    return { ...this.count, packets: this.packets, energy: this.energy, silent: this.audio.muted, speaking: this.track.enabled, rebuilds: this.rebuilds, connection: this.pc?.connectionState ?? 'new' };
  }
}
