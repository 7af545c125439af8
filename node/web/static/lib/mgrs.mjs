// Latitude and longitude (WGS 84, degrees) to MGRS grid references and back.
//
// UTM: transverse Mercator by Krueger's series in the third flattening n, to
// order 4 (error well under a millimetre inside a zone). Poles: UPS. Grid
// letters: DMA TM 8358.1, the AA scheme of WGS 84. Digits are truncated, never
// rounded: a reference names the square that holds the point.

const A = 6378137;
const F = 1 / 298.257223563;
const E = Math.sqrt(F * (2 - F));
const N = F / (2 - F);
const RECT = (A / (1 + N)) * (1 + N ** 2 / 4 + N ** 4 / 64); // rectifying radius

const ALPHA = [
  N / 2 - (2 / 3) * N ** 2 + (5 / 16) * N ** 3 + (41 / 180) * N ** 4,
  (13 / 48) * N ** 2 - (3 / 5) * N ** 3 + (557 / 1440) * N ** 4,
  (61 / 240) * N ** 3 - (103 / 140) * N ** 4,
  (49561 / 161280) * N ** 4,
];
const BETA = [
  N / 2 - (2 / 3) * N ** 2 + (37 / 96) * N ** 3 - (1 / 360) * N ** 4,
  (1 / 48) * N ** 2 + (1 / 15) * N ** 3 - (437 / 1440) * N ** 4,
  (17 / 480) * N ** 3 - (37 / 840) * N ** 4,
  (4397 / 161280) * N ** 4,
];

const UTM_SCALE = 0.9996;
const FALSE_EASTING = 500000;
const FALSE_NORTHING_SOUTH = 10000000;
const UPS_SCALE = 0.994;
const UPS_FALSE = 2000000;
const UPS_C = 2 * A / Math.sqrt((1 + E) ** (1 + E) * (1 - E) ** (1 - E));

const BANDS = 'CDEFGHJKLMNPQRSTUVWX'; // 8 degrees each from 80 S; X has 12
const COLUMNS = ['ABCDEFGH', 'JKLMNPQR', 'STUVWXYZ']; // by (zone - 1) mod 3
const ROWS = 'ABCDEFGHJKLMNPQRSTUV'; // even zones start at F
const POLAR_COLUMNS_WEST = 'JKLPQRSTUXYZ'; // A, Y: eastings below 2,000 km
const POLAR_COLUMNS_EAST = 'ABCFGHJKLPQR'; // B, Z
const POLAR_ROWS_NORTH = 'ABCDEFGHJKLMNP'; // from 1,300 km
const POLAR_ROWS_SOUTH = 'ABCDEFGHJKLMNPQRSTUVWXYZ'; // from 800 km
const SQUARE = 100000;

const rad = (d) => (d * Math.PI) / 180;
const deg = (r) => (r * 180) / Math.PI;

/** The longitude in [-180, 180). */
function wrap(lon) {
  return ((((lon + 180) % 360) + 360) % 360) - 180;
}

/** tan of the conformal latitude for tan of the latitude. */
function conformal(tau) {
  const sigma = Math.sinh(E * Math.atanh((E * tau) / Math.hypot(1, tau)));
  return tau * Math.hypot(1, sigma) - sigma * Math.hypot(1, tau);
}

/** The inverse of conformal, by Newton's method (three steps suffice; seven are allowed). */
function geographic(taup) {
  let tau = taup;
  for (let i = 0; i < 7; i++) {
    const d = ((taup - conformal(tau)) / Math.hypot(1, conformal(tau))) *
      ((1 + (1 - E * E) * tau * tau) / ((1 - E * E) * Math.hypot(1, tau)));
    tau += d;
    if (Math.abs(d) < 1e-14 * Math.max(1, Math.abs(tau))) break;
  }
  return tau;
}

/** The UTM zone of a point between 80 S and 84 N, with the exceptions of Norway and Svalbard. */
export function zoneOf(lat, lon) {
  const l = wrap(lon);
  const zone = Math.floor((l + 180) / 6) + 1;
  if (lat >= 56 && lat < 64 && l >= 3 && l < 12) return 32;
  if (lat >= 72 && l >= 0 && l < 42) {
    if (l < 9) return 31;
    if (l < 21) return 33;
    return l < 33 ? 35 : 37;
  }
  return zone;
}

const meridian = (zone) => rad(zone * 6 - 183);

/** UTM easting and northing in metres; northing without the southern offset. */
function toUTM(lat, lon, zone) {
  const lambda = rad(wrap(lon - deg(meridian(zone))));
  const taup = conformal(Math.tan(rad(lat)));
  const xi0 = Math.atan2(taup, Math.cos(lambda));
  const eta0 = Math.asinh(Math.sin(lambda) / Math.hypot(taup, Math.cos(lambda)));
  let xi = xi0;
  let eta = eta0;
  ALPHA.forEach((a, i) => {
    const k = 2 * (i + 1);
    xi += a * Math.sin(k * xi0) * Math.cosh(k * eta0);
    eta += a * Math.cos(k * xi0) * Math.sinh(k * eta0);
  });
  return { x: FALSE_EASTING + UTM_SCALE * RECT * eta, y: UTM_SCALE * RECT * xi };
}

function fromUTM(x, y, zone) {
  const xi1 = y / (UTM_SCALE * RECT);
  const eta1 = (x - FALSE_EASTING) / (UTM_SCALE * RECT);
  let xi = xi1;
  let eta = eta1;
  BETA.forEach((b, i) => {
    const k = 2 * (i + 1);
    xi -= b * Math.sin(k * xi1) * Math.cosh(k * eta1);
    eta -= b * Math.cos(k * xi1) * Math.sinh(k * eta1);
  });
  const taup = Math.sin(xi) / Math.hypot(Math.sinh(eta), Math.cos(xi));
  return {
    lat: deg(Math.atan(geographic(taup))),
    lon: wrap(deg(Math.atan2(Math.sinh(eta), Math.cos(xi)) + meridian(zone))),
  };
}

function toUPS(lat, lon) {
  const north = lat >= 0;
  const taup = conformal(Math.tan(rad(Math.abs(lat))));
  // tan(colatitude / 2) of the conformal sphere, without cancellation at the pole
  const t = Math.abs(lat) === 90 ? 0 : 1 / (taup + Math.hypot(1, taup));
  const rho = UPS_SCALE * UPS_C * t;
  const l = rad(lon);
  return {
    x: UPS_FALSE + rho * Math.sin(l),
    y: UPS_FALSE + (north ? -1 : 1) * rho * Math.cos(l),
  };
}

function fromUPS(x, y, north) {
  const dx = x - UPS_FALSE;
  const dy = y - UPS_FALSE;
  const t = Math.hypot(dx, dy) / (UPS_SCALE * UPS_C);
  const lat = t === 0 ? 90 : deg(Math.atan(geographic((1 / t - t) / 2)));
  const lon = dx === 0 && dy === 0 ? 0 : wrap(deg(Math.atan2(dx, north ? -dy : dy)));
  return { lat: north ? lat : -lat, lon };
}

/**
 * The plane of the grid around a point, UTM or near the poles UPS: {to, from},
 * metres east and north for degrees and back. Points of other zones lie in the
 * same plane, stretched the more the farther they are.
 */
export function plane(lat, lon) {
  if (lat < -80 || lat >= 84) {
    const north = lat > 0;
    return { to: toUPS, from: (x, y) => fromUPS(x, y, north) };
  }
  const zone = zoneOf(lat, lon);
  return { to: (a, o) => toUTM(a, o, zone), from: (x, y) => fromUTM(x, y, zone) };
}

const band = (lat) => BANDS[Math.min(19, Math.floor((lat + 80) / 8))];

function digits(x, y, precision) {
  const unit = 10 ** (5 - precision);
  // A micrometre is added so that a point typed on a grid line stays on its side of it.
  const cut = (v) => String(Math.floor(((v + 1e-6) % SQUARE) / unit)).padStart(precision, '0');
  return precision === 0 ? '' : ` ${cut(x)} ${cut(y)}`;
}

/**
 * The MGRS reference of a point, like "32T LT 81852 00565".
 * precision is the number of digits for each axis, 0 (100 km) to 5 (1 m).
 * Returns '' for anything that is no position.
 */
export function toMGRS(lat, lon, precision = 5) {
  if (!Number.isFinite(lat) || !Number.isFinite(lon) || Math.abs(lat) > 90 || Math.abs(lon) > 360) return '';
  if (lat < -80 || lat >= 84) return polar(lat, lon, precision);
  const zone = zoneOf(lat, lon);
  const { x, y } = toUTM(lat, lon, zone);
  const n = lat < 0 ? y + FALSE_NORTHING_SOUTH : y;
  const column = COLUMNS[(zone - 1) % 3][Math.floor((x + 1e-6) / SQUARE) - 1];
  const row = ROWS[(Math.floor((n + 1e-6) / SQUARE) + (zone % 2 === 0 ? 5 : 0)) % 20];
  return `${String(zone).padStart(2, '0')}${band(lat)} ${column}${row}${digits(x, n, precision)}`;
}

function polar(lat, lon, precision) {
  const north = lat > 0;
  const { x, y } = toUPS(lat, lon);
  const east = x + 1e-6 >= UPS_FALSE;
  const letter = north ? (east ? 'Z' : 'Y') : (east ? 'B' : 'A');
  const column = east
    ? POLAR_COLUMNS_EAST[Math.floor((x + 1e-6) / SQUARE) - 20]
    : POLAR_COLUMNS_WEST[Math.floor((x + 1e-6) / SQUARE) - 8];
  const row = north
    ? POLAR_ROWS_NORTH[Math.floor((y + 1e-6) / SQUARE) - 13]
    : POLAR_ROWS_SOUTH[Math.floor((y + 1e-6) / SQUARE) - 8];
  return `${letter} ${column}${row}${digits(x, y, precision)}`;
}

const REFERENCE = /^(?:(0?[1-9]|[1-5]\d|60)([C-HJ-NP-X])|([ABYZ]))([A-HJ-NP-Z])([A-HJ-NP-Z])((?:\d\d)*)$/;

/**
 * The middle of the square that a reference names, as {lat, lon, size} with
 * the square's side in metres, or null when it is no valid reference.
 */
export function fromMGRS(text) {
  const m = REFERENCE.exec(String(text).toUpperCase().replace(/[\s\u00a0]+/g, ''));
  if (!m || m[6].length > 10) return null;
  const half = m[6].length / 2;
  const size = 10 ** (5 - half);
  const dx = Number(m[6].slice(0, half) || 0) * size + size / 2;
  const dy = Number(m[6].slice(half) || 0) * size + size / 2;
  const at = m[3] ? fromPolar(m[3], m[4], m[5], dx, dy) : fromZone(Number(m[1]), m[2], m[4], m[5], dx, dy, size);
  return at && { ...at, size };
}

function fromPolar(letter, columnLetter, rowLetter, dx, dy) {
  const north = letter === 'Y' || letter === 'Z';
  const east = letter === 'B' || letter === 'Z';
  const column = (east ? POLAR_COLUMNS_EAST : POLAR_COLUMNS_WEST).indexOf(columnLetter);
  const row = (north ? POLAR_ROWS_NORTH : POLAR_ROWS_SOUTH).indexOf(rowLetter);
  if (column < 0 || row < 0) return null;
  const x = (column + (east ? 20 : 8)) * SQUARE + dx;
  const y = (row + (north ? 13 : 8)) * SQUARE + dy;
  const at = fromUPS(x, y, north);
  return at.lat >= 83 || at.lat <= -79 ? at : null;
}

function fromZone(zone, bandLetter, columnLetter, rowLetter, dx, dy, size) {
  const column = COLUMNS[(zone - 1) % 3].indexOf(columnLetter);
  const row = ROWS.indexOf(rowLetter);
  if (column < 0 || row < 0) return null;
  const south = bandLetter < 'N';
  const x = (column + 1) * SQUARE + dx;
  const inCycle = ((row - (zone % 2 === 0 ? 5 : 0) + 20) % 20) * SQUARE + dy;
  const low = -80 + BANDS.indexOf(bandLetter) * 8;
  const high = bandLetter === 'X' ? 84 : low + 8;
  // Rows repeat every 2,000 km; the band says which cycle is meant. A square on
  // the band's edge reaches over it, so its own size is allowed as slack.
  const slack = Math.max(0.02, (size / SQUARE) * 1.2);
  for (let base = 0; base < 5; base++) {
    const northing = inCycle + base * 20 * SQUARE;
    const at = fromUTM(x, south ? northing - FALSE_NORTHING_SOUTH : northing, zone);
    if (at.lat >= low - slack && at.lat < high + slack) return zoneFits(at, zone, size) ? at : null;
  }
  return null;
}

/** Whether a square touches its zone; outside it the reference is a typing error, not a place. */
function zoneFits(at, zone, size) {
  const dLat = (0.75 * size + 1) / 110000;
  const dLon = dLat / Math.cos(rad(at.lat));
  return [-1, 0, 1].some((i) => [-1, 0, 1].some((j) => zoneOf(at.lat + i * dLat, at.lon + j * dLon) === zone));
}
