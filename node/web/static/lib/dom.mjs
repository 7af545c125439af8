// Builds the page's elements. Every string that is not an attribute we name
// here becomes a text node, so what a peer sends can never become markup: this
// module is the only place that creates elements, and it has no way to parse
// HTML.

const SVG = 'http://www.w3.org/2000/svg';
const URLS = new Set(['href', 'src', 'action', 'formaction', 'poster', 'data']);
const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'inert', 'open', 'indeterminate', 'selected', 'multiple', 'readOnly']);

/** Only places of this page and this origin, and pictures made here. */
function safeURL(v) {
  return /^(#|\/(?!\/)|blob:)/.test(v) ? v : null;
}

function setAttribute(el, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (typeof value === 'function') {
    el.addEventListener(name.replace(/^on/, ''), value);
    return;
  }
  const lower = name.toLowerCase();
  if (lower.startsWith('on') || lower === 'style' || lower === 'srcdoc') {
    throw new Error(`dom: attribute ${name} is not allowed`);
  }
  if (URLS.has(lower)) {
    const url = safeURL(String(value));
    if (url === null) throw new Error(`dom: ${name} leaves the page`);
    el.setAttribute(name, url);
    return;
  }
  if (name === 'class') el.setAttribute('class', value);
  else if (PROPERTIES.has(name)) el[name] = value;
  else el.setAttribute(name, value === true ? '' : String(value));
}

function add(el, child) {
  if (child === undefined || child === null || child === false || child === true) return;
  if (Array.isArray(child)) child.forEach((c) => add(el, c));
  else if (child instanceof Node) el.append(child);
  else el.append(document.createTextNode(String(child)));
}

function fill(el, rest) {
  let [attributes, ...children] = rest;
  if (attributes === null || typeof attributes !== 'object' || attributes instanceof Node || Array.isArray(attributes)) {
    children = rest;
    attributes = {};
  }
  for (const [k, v] of Object.entries(attributes)) setAttribute(el, k, v);
  children.forEach((c) => add(el, c));
  return el;
}

/** An element: h('p', {class: 'x', onclick: fn}, 'text', other). The attributes may be left out. */
export function h(tag, ...rest) {
  return fill(document.createElement(tag), rest);
}

/** An SVG element, made the same way. */
export function svg(tag, ...rest) {
  return fill(document.createElementNS(SVG, tag), rest);
}

/** Replaces the children of el. */
export function replace(el, ...children) {
  el.replaceChildren();
  children.forEach((c) => add(el, c));
  return el;
}

/**
 * Makes parent's children show items, in order. An element is made again only
 * when its item's signature changed, so that scroll position, selection and
 * focus survive live updates. Focus inside a remade element moves to the
 * element with the same data-focus.
 */
export function reconcile(parent, items, keyOf, signatureOf, make) {
  const active = parent.contains(document.activeElement) ? document.activeElement : null;
  const old = new Map();
  for (const el of parent.children) if (el.dataset.key !== undefined) old.set(el.dataset.key, el);
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const signature = signatureOf(item);
    let el = old.get(key);
    old.delete(key);
    if (!el || el.signature !== signature) el = remake(el, make(item), key, signature, (gone) => { if (gone === next) next = next.nextElementSibling; });
    if (el === next) next = next.nextElementSibling;
    else parent.insertBefore(el, next);
  }
  for (const el of old.values()) el.remove();
  while (next) {
    const after = next.nextElementSibling;
    if (next.dataset.key === undefined) next.remove();
    next = after;
  }
  if (active && active !== document.activeElement && parent.contains(active)) active.focus({ preventScroll: true }); // moving an element blurs it
}

function remake(old, el, key, signature, leaving) {
  el.dataset.key = key;
  el.signature = signature;
  if (!old) return el;
  const active = old.contains(document.activeElement) ? document.activeElement : null;
  leaving(old);
  old.replaceWith(el);
  if (active) {
    const name = active.dataset.focus;
    const heir = name ? el.querySelector(`[data-focus="${CSS.escape(name)}"]`) : null;
    (heir || (active === old ? el : null))?.focus({ preventScroll: true });
  }
  return el;
}
