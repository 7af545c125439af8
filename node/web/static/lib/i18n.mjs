// Words, numbers and times in the user's language. A language is a module of
// this origin that exports its messages; nothing else in the page holds text.
import en from '../lang/en.mjs';

/** The languages there are: code, own name, loader. */
export const LANGUAGES = [
  { code: 'en', name: 'English', load: async () => en },
  { code: 'de', name: 'Deutsch', load: async () => (await import('../lang/de.mjs')).default },
];

let messages = en;
let language = 'en';
let locale = 'en'; // with the device's region, for dates and numbers
let plural = new Intl.PluralRules('en');
let skew = 0; // node clock minus this device's clock, ms

export const currentLanguage = () => language;

/** The language asked for by ?lang=, else the browser's first that we have, else English. */
export function preferredLanguage(search, wanted) {
  const asked = new URLSearchParams(search).get('lang');
  const codes = [asked, ...wanted].filter(Boolean).map((c) => c.toLowerCase().split('-')[0]);
  return codes.find((c) => LANGUAGES.some((l) => l.code === c)) || 'en';
}

export async function setLanguage(code) {
  const found = LANGUAGES.find((l) => l.code === code) || LANGUAGES[0];
  messages = await found.load();
  language = found.code;
  plural = new Intl.PluralRules(language);
  locale = (navigator.languages ?? []).find((l) => l.toLowerCase().split('-')[0] === language) ?? language;
  document.documentElement.lang = language;
}

const ISOLATE = ['\u2068', '\u2069']; // what is put into a sentence cannot reorder it

/**
 * The message named key with {names} replaced by params. A message with plural
 * forms is chosen by params.n. Strings are isolated, so a name written from
 * right to left leaves the sentence around it in order.
 */
export function t(key, params = {}) {
  let m = messages[key] ?? en[key];
  if (m === undefined) return key;
  if (typeof m === 'object') m = m[plural.select(params.n)] ?? m.other;
  return m.replace(/\{(\w+)\}/g, (all, name) => {
    const v = params[name];
    if (v === undefined) return all;
    return typeof v === 'number' ? number(v) : `${ISOLATE[0]}${v}${ISOLATE[1]}`;
  });
}

/** Adds the words of a part that is loaded on demand; load gives them for a language's code. */
export async function addWords(load) {
  const base = await load('en');
  if (language !== 'en') Object.assign(messages, await load(language));
  Object.assign(en, base);
}

/** Whether there is a message of that name; for codes that the node sends. */
export const has = (key) => Object.hasOwn(en, key);

export function number(n, options) {
  return new Intl.NumberFormat(locale, options).format(n);
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** A size in decimal units, as link counters are. */
export function bytes(n) {
  if (!Number.isFinite(n) || n < 0) return '\u2013';
  let i = 0;
  let v = n;
  while (v >= 999.5 && i < UNITS.length - 1) {
    v /= 1000;
    i++;
  }
  return `${number(v, { maximumFractionDigits: i > 0 && v < 100 ? 1 : 0 })}\u00a0${UNITS[i]}`;
}

/**
 * Corrects this device's clock by the node's, from the Date header of an answer
 * to a question of then: a slow answer, dated in between, corrects nothing.
 */
export function learnClock(dateHeader, asked) {
  const at = Date.parse(dateHeader);
  if (Number.isFinite(at)) skew = at < asked - 5000 || at > Date.now() + 5000 ? at - Date.now() : 0;
}

export const now = () => Date.now() + skew;

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;

/** A span of seconds in its largest unit: "3 h". */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < MINUTE) return t('span.s', { n: s });
  if (s < HOUR) return t('span.min', { n: Math.floor(s / MINUTE) });
  if (s < 2 * DAY) return t('span.h', { n: Math.floor(s / HOUR) });
  return t('span.d', { n: Math.floor(s / DAY) });
}

/** "3 h ago"; "just now" under ten seconds or when the time lies ahead by clock error. */
export function ago(time) {
  const s = (now() - Date.parse(time)) / 1000;
  if (!Number.isFinite(s)) return t('time.unknown');
  return s < 10 ? t('age.now') : t('age.ago', { span: span(s) });
}

/** Seconds until time; negative when it is past, NaN when unknown. */
export const until = (time) => (Date.parse(time) - now()) / 1000;

/** The time of day, always by the 24-hour clock. */
export function clock(time) {
  const d = new Date(time);
  return Number.isNaN(d.getTime()) ? '' : new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(d);
}

export function fullTime(time) {
  const d = new Date(time);
  if (Number.isNaN(d.getTime())) return t('time.unknown');
  return new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' }).format(d);
}

const dayOf = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();

/** "Today", "Yesterday" or the date. */
export function day(time) {
  const d = new Date(time);
  if (Number.isNaN(d.getTime())) return t('time.unknown');
  const days = Math.round((dayOf(new Date(now())) - dayOf(d)) / (DAY * 1000));
  if (days === 0) return t('day.today');
  if (days === 1) return t('day.yesterday');
  const options = days > 300 || days < 0 ? { dateStyle: 'medium' } : { weekday: 'long', day: 'numeric', month: 'long' };
  return new Intl.DateTimeFormat(locale, options).format(d);
}

/** The time of a list row: the clock today, else the date. */
export function shortTime(time) {
  const d = new Date(time);
  if (Number.isNaN(d.getTime())) return '';
  if (dayOf(d) === dayOf(new Date(now()))) return clock(time);
  return new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short' }).format(d);
}
