// Server-sent events over fetch. EventSource cannot be told where to resume
// after it was closed, nor does it say that the session is gone; this does both.
// Format: WHATWG HTML, section 9.2.6.

const MAX_EVENT = 1 << 20; // characters of one event; more is a broken server

/** Feeds text pieces of a stream; calls emit({type, data, id}) for each whole event. */
export function parser(emit) {
  let rest = '';
  let type = '';
  let data = [];
  let size = 0;
  let lastId = '';
  let lastWasCR = false;

  const line = (l) => {
    if (l === '') {
      if (data.length) emit({ type: type || 'message', data: data.join('\n'), id: lastId });
      type = '';
      data = [];
      size = 0;
      return;
    }
    const colon = l.indexOf(':');
    if (colon === 0) return; // a comment: the server's heartbeat
    const field = colon < 0 ? l : l.slice(0, colon);
    const value = colon < 0 ? '' : l.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') type = value;
    else if (field === 'id' && !value.includes('\0')) lastId = value;
    else if (field === 'data') {
      size += value.length;
      if (size > MAX_EVENT) throw new Error('events: one event is too large');
      data.push(value);
    }
  };

  return (piece) => {
    let text = rest + (lastWasCR && piece.startsWith('\n') ? piece.slice(1) : piece);
    lastWasCR = piece === '' ? lastWasCR : piece.endsWith('\r');
    const end = Math.max(text.lastIndexOf('\n'), text.lastIndexOf('\r'));
    rest = text.slice(end + 1);
    if (rest.length > MAX_EVENT) throw new Error('events: one line is too long');
    if (end < 0) return;
    text = text.slice(0, end + 1);
    text.replace(/\r\n|\r/g, '\n').slice(0, -1).split('\n').forEach(line);
  };
}

const SILENCE_MS = 60000; // longer without a byte (heartbeats count) and the stream is taken for dead
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 15000;

/**
 * Keeps a stream of events from url, for ever until stop() is called.
 *   onOpen(resumed)  the stream stands; resumed says that it asked to resume
 *   onEvent(event)   {type, data, id}
 *   onDown(error)    it ended or could not be had; it is tried again by itself
 *   onGone()         the node says there is no session: the stream has stopped
 * Returns {stop, poke}: poke tries again at once.
 */
export function stream(url, { onOpen, onEvent, onDown, onGone }) {
  let lastId = '';
  let pause = FIRST_PAUSE_MS;
  let stopped = false;
  let wake = () => {};
  let abort = new AbortController();

  const once = async () => {
    abort = new AbortController();
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const headers = { Accept: 'text/event-stream', 'X-Outrider': '1' };
      if (lastId) headers['Last-Event-ID'] = lastId;
      const response = await fetch(url, { headers, credentials: 'same-origin', cache: 'no-store', signal: abort.signal });
      if (response.status === 401) return 'gone';
      if (!response.ok || !/^text\/event-stream\b/.test(response.headers.get('Content-Type') || '')) throw new Error(`events: status ${response.status}`);
      onOpen(lastId !== '');
      const feed = parser((e) => {
        if (e.id) lastId = e.id;
        onEvent(e);
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new Error('events: the stream ended');
        pause = FIRST_PAUSE_MS;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
        feed(value);
      }
    } finally {
      clearTimeout(watchdog);
      abort.abort();
    }
  };

  const run = async () => {
    while (!stopped) {
      try {
        if (await once() === 'gone') {
          if (!stopped) onGone();
          return;
        }
      } catch (error) {
        if (stopped) return;
        onDown(error);
      }
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, pause);
        wake = () => { clearTimeout(timer); resolve(); };
      });
      pause = Math.min(pause * 2, LAST_PAUSE_MS);
    }
  };
  run();

  return {
    stop() { stopped = true; abort.abort(); wake(); },
    poke() { pause = FIRST_PAUSE_MS; wake(); },
  };
}
