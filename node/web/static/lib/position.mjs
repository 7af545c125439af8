// Reading and writing positions as people type them.
import { fromMGRS, toMGRS } from './mgrs.mjs';

const DECIMAL = /^([NS])?\s*([-+\u2212]?\d{1,3}(?:[.,]\d{1,12})?)\s*°?\s*([NS])?(\s*[,;/]\s*|\s+)([EWO])?\s*([-+\u2212]?\d{1,3}(?:[.,]\d{1,12})?)\s*°?\s*([EWO])?$/i;
const SEXAGESIMAL = /^(\d{1,3})\s*°\s*(\d{1,2}(?:[.,]\d{1,9})?)\s*['\u2032\u2019]\s*(?:(\d{1,2}(?:[.,]\d{1,9})?)\s*(?:["\u2033\u201d]|''))?\s*([NSEWO])\s*[,;]?\s*(\d{1,3})\s*°\s*(\d{1,2}(?:[.,]\d{1,9})?)\s*['\u2032\u2019]\s*(?:(\d{1,2}(?:[.,]\d{1,9})?)\s*(?:["\u2033\u201d]|''))?\s*([NSEWO])$/i;

const number = (s) => Number(String(s).replace('\u2212', '-').replace(',', '.'));

function checked(lat, lon) {
  if (!Number.isFinite(lat) || !Number.isFinite(lon) || Math.abs(lat) > 90 || Math.abs(lon) > 180) return null;
  return { lat, lon };
}

/** Negative for south and west; a sign and a letter that contradict are an error. */
function signed(value, letter) {
  if (!letter) return value;
  if (value < 0) return NaN;
  return /[SW]/i.test(letter) ? -value : value;
}

function fromDecimal(text) {
  const m = DECIMAL.exec(text);
  if (!m || (m[1] && m[3]) || (m[5] && m[7])) return null;
  if (/,(?!\s)/.test(m[4]) && !/\./.test(m[2] + m[6])) return null; // "46,9" may be one number with a decimal comma
  return checked(signed(number(m[2]), m[1] || m[3]), signed(number(m[6]), m[5] || m[7]));
}

function fromSexagesimal(text) {
  const m = SEXAGESIMAL.exec(text);
  if (!m || !/[NS]/i.test(m[4]) || /[NS]/i.test(m[8])) return null;
  const value = (d, min, s) => {
    const [mm, ss] = [number(min), number(s || 0)];
    return mm >= 60 || ss >= 60 ? NaN : number(d) + mm / 60 + ss / 3600;
  };
  return checked(signed(value(m[1], m[2], m[3]), m[4]), signed(value(m[5], m[6], m[7]), m[8]));
}

/**
 * The position in text, as {lat, lon, size}: decimal degrees ("46.94809,
 * 7.44744", "46,94809 7,44744", "N46.9 E7.4"), degrees with minutes and
 * seconds (46°56'53"N 7°26'51"E) or an MGRS reference, whose square's side in
 * metres is size. "O" is East (Ost). Null when it is none of these.
 */
export function parsePosition(text) {
  const s = String(text).trim();
  return fromDecimal(s) || fromSexagesimal(s) || fromMGRS(s);
}

/** "46.94809° N, 7.44744° E": five decimals, about a metre. */
export function formatLatLon(lat, lon) {
  const part = (v, plus, minus) => `${Math.abs(v).toFixed(5)}° ${v < 0 ? minus : plus}`;
  return `${part(lat, 'N', 'S')}, ${part(lon, 'E', 'W')}`;
}

const RADIUS = 6371008.8; // mean, metres (IUGG)

/** The great circle between two points: {metres, bearing}, the bearing in degrees from true north. */
export function between(lat1, lon1, lat2, lon2) {
  const [p1, p2, dl] = [lat1, lat2, lon2 - lon1].map((d) => (d * Math.PI) / 180);
  const y = Math.sin(dl) * Math.cos(p2);
  const x = Math.cos(p1) * Math.sin(p2) - Math.sin(p1) * Math.cos(p2) * Math.cos(dl);
  const z = Math.sin(p1) * Math.sin(p2) + Math.cos(p1) * Math.cos(p2) * Math.cos(dl);
  return { metres: RADIUS * Math.atan2(Math.hypot(x, y), z), bearing: ((Math.atan2(y, x) * 180) / Math.PI + 360) % 360 };
}

export { toMGRS };
