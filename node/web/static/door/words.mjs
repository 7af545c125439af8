// The words of the door, in their own files so that the page itself, which
// loads on thin links, does not carry them.
import { preferredLanguage, setLanguage } from '../lib/i18n.mjs';
import en from './lang/en.mjs';

let words = en;

/** Chooses the language as the page does. */
export async function chooseLanguage() {
  const code = preferredLanguage(location.search, navigator.languages ?? []);
  await setLanguage(code);
  if (code === 'de') words = (await import('./lang/de.mjs')).default;
}

/** The sentence named key with {names} replaced; what is put in cannot reorder it. */
export function say(key, params = {}) {
  return (words[key] ?? en[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => (name in params ? `\u2068${params[name]}\u2069` : all));
}

export const has = (key) => Object.hasOwn(en, key);
