// What admins decided for the user: groups, switches, versions and dates.
import { h, replace } from '../lib/dom.mjs';
import { icon } from '../lib/icons.mjs';
import { fullTime, t } from '../lib/i18n.mjs';
import * as text from '../lib/text.mjs';
import * as model from '../model.mjs';

const label = (s) => text.label(s, 40);

/** A card that follows the policy for as long as it is on the screen. */
export function policyCard() {
  const body = h('div', { id: 'policy' });
  const paint = () => {
    if (body.isConnected || !body.firstChild) replace(body, content(model.state.policy));
    else stop();
  };
  const stop = model.on('policy', paint);
  paint();
  model.soon('policy');
  return h('section', { class: 'card' }, h('h2', t('policy.title')), body);
}

function content(p) {
  if (!p) return h('p', { class: 'quiet' }, t('policy.unknown'));
  if (!p.configs?.length) return h('p', { class: 'quiet' }, t('policy.none'));
  return [
    h('dl', { class: 'facts' }, switchRow('files', p.switches?.files), switchRow('location', p.switches?.location)),
    p.configs.map(configRow),
  ];
}

function switchRow(what, s) {
  const words = s?.allowed === false ? t('policy.off', { group: label(s.group) }) : t('policy.on');
  return h('div', h('dt', t(`policy.${what}`)), h('dd', { id: `policy-${what}` }, words));
}

function configRow(c) {
  const facts = [t('policy.version', { n: c.sequence }), t(`policy.from_${['link', 'file', 'mesh'].includes(c.source) ? c.source : 'link'}`), t('policy.issued', { time: fullTime(c.issued) })];
  if (c.past_days) facts.push(t('policy.past', { n: c.past_days }));
  else if (c.expires) facts.push(t('policy.until', { time: fullTime(c.expires) }));
  return h('div', { class: 'policy-group' },
    h('p', { class: 'strong' }, c.group === 'default' ? t('policy.default') : t('policy.group', { group: label(c.group) })),
    h('p', { class: 'quiet' }, facts.join(' · ')),
    warn(c.conflict, 'policy.conflict'), warn(c.seen > c.sequence, 'policy.behind', { n: c.seen }), warn(c.unverified, 'policy.unverified'), warn(c.later, 'policy.later'));
}

const warn = (on, key, values) => (on ? h('p', { class: 'notice' }, icon('warn'), h('span', t(key, values))) : null);
