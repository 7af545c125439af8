// The picture of the mesh: this node in the middle, its neighbours around it.
import { h, svg } from '../lib/dom.mjs';
import * as text from '../lib/text.mjs';
import { t } from '../lib/i18n.mjs';

// Drawn at about the size it is shown, so that its words stay legible. A row
// holds so many neighbours that the words of each have room.
const WIDE = { width: 520, row: 5, own: 180 };
const NARROW = { width: 320, row: 3, own: 100 };
export const wide = matchMedia('(min-width: 560px)');

const MARK = 16; // half a neighbour's mark
const WORDS = 40; // its name and its link, one below the other
const ABOVE = 66; // from the middle to the row above,
const BELOW = 80; // and below: between them are the words of those beside
const ARCH = 20; // so much farther are the middles of the rows
const EDGE = 8;
const SPAN = 0.36; // of the width: neighbours in a row are not farther apart
const PILL = 22; // half the height of this node

/**
 * The picture of neighbours, each {condition, name, link, line}; null without
 * any. What has no room in it is counted below it.
 */
export function picture(self, neighbours) {
  if (!neighbours.length) return null;
  const form = wide.matches ? WIDE : NARROW;
  const places = around(Math.min(neighbours.length, 2 + 2 * form.row), form);
  const shown = neighbours.slice(0, places.length);
  const top = Math.min(-PILL, ...places.map((p) => p.y - MARK - (p.above ? WORDS : 0))) - EDGE;
  const bottom = Math.max(PILL, ...places.map((p) => p.y + MARK + (p.above ? 0 : WORDS))) + EDGE;
  const hub = places.length === 1 ? -places[0].x : 0; // two nodes share the middle
  return [
    svg('svg', { class: 'mesh-svg', width: form.width, viewBox: `${-form.width / 2} ${top} ${form.width} ${bottom - top}`, role: 'img', 'aria-label': t('mesh.picture', { n: shown.length }) },
      shown.map((n, i) => svg('line', { class: `link ${n.condition} ${n.line}`, x1: hub, y1: 0, x2: places[i].x, y2: places[i].y })),
      shown.map((n, i) => figure(n, places[i])), own(self, hub, form.own)),
    neighbours.length > shown.length ? h('p', { class: 'quiet' }, t('mesh.contacts_more', { n: neighbours.length - shown.length })) : null,
  ];
}

/** Places for n neighbours, clockwise: one at each side, the others in an arch above and one below. */
function around(n, { width, row }) {
  const side = width / 2 - width / row / 2;
  const rest = Math.max(0, n - 2);
  const arch = (k, y, sign) => Array.from({ length: k }, (_, i) => {
    const x = (i - (k - 1) / 2) * Math.min(width / k, SPAN * width);
    return { x: -sign * x, y: sign * (y + ARCH * (1 - (x / side) ** 2)), above: sign < 0, room: Math.min(width / k, SPAN * width) - EDGE };
  });
  const beside = (x) => ({ x, y: 0, above: false, room: width - 2 * Math.abs(x) - EDGE });
  if (n === 1) return [beside(side * 0.7)];
  return [beside(-side), ...arch(Math.ceil(rest / 2), ABOVE, -1), beside(side), ...arch(Math.floor(rest / 2), BELOW, 1)];
}

/** A circle for a node that is up, a square for one that is down, a cross for a blocked one: the shape tells it too. */
function figure(n, { x, y, above, room }) {
  const mark = n.condition === 'up' ? svg('circle', { cx: x, cy: y, r: MARK })
    : n.condition === 'down' ? svg('rect', { x: x - 13, y: y - 13, width: 26, height: 26, rx: 4 })
      : svg('path', { d: `M${x - 11} ${y - 11}l22 22M${x + 11} ${y - 11}l-22 22` });
  const first = above ? y - MARK - WORDS + 14 : y + MARK + 18;
  return svg('g', { class: `neighbour ${n.condition}` }, mark,
    svg('text', { x, y: first, 'text-anchor': 'middle' }, fit(n.name, room, NAME)),
    svg('text', { class: 'small', x, y: first + 16, 'text-anchor': 'middle' }, fit(n.link, room, SMALL)));
}

/** This node, with its name inside it. */
function own(name, x, most) {
  const words = fit(name, most - 2 * EDGE, NAME);
  const width = Math.max(2 * PILL, long(words, NAME) + 24);
  return svg('g', { class: 'self' }, svg('rect', { x: x - width / 2, y: -PILL, width, height: 2 * PILL, rx: PILL }),
    svg('text', { x, y: 5, 'text-anchor': 'middle' }, words));
}

// ---- the width of words ----------------------------------------------------

// As in style.css.
const NAME = '600 15px ';
const SMALL = '12px ';

const ruler = h('canvas').getContext('2d');

function long(words, font) {
  ruler.font = font + getComputedStyle(document.body).fontFamily;
  return ruler.measureText(words).width;
}

/** The words, cut so that they are at most room wide. */
function fit(words, room, font) {
  let [cut, most] = [words, [...words].length];
  while (most > 1 && long(cut, font) > room) cut = text.label(words, --most);
  return cut;
}
