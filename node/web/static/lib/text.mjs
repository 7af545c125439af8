// What peers wrote, made safe to look at. Markup is no danger here (all text
// becomes text nodes); these functions are about characters that make text look
// like something it is not: direction overrides, zero-width and control
// characters, and letters of two alphabets in one word.

const PICTURES = 0x2400; // U+2400..2421: visible pictures of the control characters

// Explicit embeddings and overrides reorder what follows; nothing written by hand needs them.
const OVERRIDE = /[\u202a-\u202e]/g;
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;
const INVISIBLE = /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb]|\udb40[\udc00-\udfff]/g;
const JOINER = /[\u200c\u200d]/g;
const JOINED = /[\p{Script=Arabic}\p{Script=Devanagari}\p{Script=Bengali}\p{Script=Gurmukhi}\p{Script=Gujarati}\p{Script=Oriya}\p{Script=Tamil}\p{Script=Telugu}\p{Script=Kannada}\p{Script=Malayalam}\p{Script=Sinhala}\p{Extended_Pictographic}\ufe0f\u{1f3fb}-\u{1f3ff}]/u;

function code(ch) {
  return `\u2039U+${ch.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}\u203a`;
}

function picture(ch) {
  const c = ch.charCodeAt(0);
  if (c < 0x20) return String.fromCharCode(PICTURES + c);
  return c === 0x7f ? '\u2421' : code(ch);
}

function joiner(ch, offset, all) {
  const before = [...all.slice(Math.max(0, offset - 2), offset)].pop() || '';
  return JOINED.test(before) ? ch : code(ch);
}

// Marks piled on one letter run over what stands around it; no script needs so many.
const PILE = /(\p{M}{8})\p{M}+/gu;

const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** A message text: line breaks and joiners stay, what reorders or hides is shown by its number. */
export function plain(text) {
  return String(text ?? '').replace(LONE, '\ufffd').replace(PILE, '$1\u2039\u2026\u203a').replace(/\r\n?/g, '\n').replace(CONTROL, picture).replace(OVERRIDE, code);
}

/** A name, file name, reason or note: one line, nothing invisible, at most max characters. */
export function label(text, max = 200) {
  const s = String(text ?? '').slice(0, max * 4).replace(LONE, '\ufffd').replace(PILE, '$1\u2039\u2026\u203a').replace(/[\t\r\n]+/g, ' ')
    .replace(CONTROL, picture).replace(INVISIBLE, code).replace(JOINER, joiner);
  const chars = [...s];
  return chars.length > max ? `${chars.slice(0, max - 1).join('')}\u2026` : s;
}

/** A file name to save under: no path, no control, no direction trick, never empty. */
export function fileName(text) {
  const s = String(text ?? '').replace(LONE, '').replace(CONTROL, '').replace(INVISIBLE, '').replace(JOINER, '')
    .replace(/[\\/:*?"<>|\t\r\n]/g, '_').replace(/^[.\s]+|[.\s]+$/g, '');
  return [...s].slice(0, 120).join('') || 'file';
}

const SCRIPTS = [/\p{Script=Latin}/u, /\p{Script=Cyrillic}/u, /\p{Script=Greek}/u, /\p{Script=Cherokee}/u, /\p{Script=Armenian}/u];

/** Reports whether a word of the name mixes alphabets that look alike, as a false "admin" would. */
export function mixedAlphabets(name) {
  return String(name ?? '').split(/[^\p{L}\p{M}]+/u).some((word) => SCRIPTS.filter((s) => s.test(word)).length > 1);
}

/** Two names that read alike have the same sameness. */
export function sameness(name) {
  return String(name ?? '').normalize('NFKC').replace(INVISIBLE, '').replace(JOINER, '').trim().toLowerCase();
}
