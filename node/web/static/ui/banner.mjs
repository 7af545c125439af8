// The one line at the top that says what the network looks like from here, or
// that the node itself does not answer.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { ago, t } from '../lib/i18n.mjs';
import { on, poke, state } from '../model.mjs';
import { aged, button } from './parts.mjs';

export function banner() {
  const words = h('p', { class: 'banner-words', role: 'status', id: 'banner-words' });
  const el = h('div', { class: 'banner', id: 'banner' }, words);
  const paint = () => {
    const [kind, content] = say();
    el.className = `banner ${kind}`;
    el.dataset.state = kind;
    replace(words, content);
    el.querySelector('.banner-action')?.remove();
    const action = state.connection === 'down' ? button(t('error.try_again'), poke, { kind: 'banner-action' })
      : state.outdated ? button(t('banner.reload'), () => location.reload(), { kind: 'banner-action' }) : null;
    if (action) el.append(action);
  };
  const leave = on(['status', 'connection', 'session'], paint);
  paint();
  return { el, leave };
}

function say() {
  const b = state.banner;
  if (state.connection === 'down') return ['down', [icon('warn'), h('span', t('banner.down'))]];
  if (!b) return ['connecting', [icon('node'), h('span', t('banner.connecting'))]];
  const kind = ['alone', 'contact', 'core'].includes(b.state) ? b.state : 'alone';
  const n = Number(b.contacts) || 0;
  return [kind, [
    icon(kind), h('span', t(`banner.${kind}`, { n }),
      kind !== 'core' && b.core_last ? [' · ', aged(b.core_last, (time) => t('banner.core_last', { ago: ago(time) }))] : null,
      state.connection === 'polling' ? [' · ', t('banner.polling')] : null,
      state.outdated ? [' · ', t('banner.outdated')] : null),
  ]];
}
