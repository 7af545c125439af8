// Keyboard shortcuts: single keys and "g x" pairs, never while somebody types
// or with a modifier held.

const PAIR_MS = 1500; // between g and its second key

/**
 * Listens for keys of bindings ({'/': fn, 'g c': fn}). busy() says that a
 * dialog has the keyboard; then only the dialog's own keys work. Returns a
 * function that ends it.
 */
export function shortcuts(bindings, busy) {
  let first = '';
  let since = 0; // by the time of the event: a page that is busy meanwhile takes no pair apart
  const onkey = (e) => {
    if (e.defaultPrevented || e.isComposing || e.ctrlKey || e.metaKey || e.altKey || busy()) return;
    if (e.key !== 'Escape' && typing(e.target)) return;
    const pair = first && e.timeStamp - since < PAIR_MS ? `${first} ${e.key}` : e.key;
    first = '';
    const fn = bindings[pair];
    if (fn) {
      if (fn(e) !== false) e.preventDefault();
    } else if (Object.keys(bindings).some((k) => k.startsWith(`${e.key} `))) {
      first = e.key;
      since = e.timeStamp;
    }
  };
  document.addEventListener('keydown', onkey);
  return () => document.removeEventListener('keydown', onkey);
}

const typing = (el) => el instanceof HTMLElement && (el.isContentEditable || el.matches('textarea, select, input:not([type=radio]):not([type=checkbox]):not([type=button])'));
