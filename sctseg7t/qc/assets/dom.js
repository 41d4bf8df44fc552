'use strict';
// Small tools that all parts use. Text only ever enters the page as text, never as markup.
const QC = {};
(() => {
  const SVG = 'http://www.w3.org/2000/svg';

  QC.$ = (id) => document.getElementById(id);

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
      else if (name.startsWith('--')) node.style.setProperty(name, value);
      else node.setAttribute(name, value === true ? '' : value);
    }
    for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) node.append(child);
    return node;
  }

  QC.el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  QC.svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  QC.json = (id) => JSON.parse(QC.$(id).textContent);

  // A number for people; a dash where there is none.
  QC.number = (value, digits = 1) => (value === null || value === undefined ? '\u2013' : Number(value).toFixed(digits));

  QC.count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;

  // A z or a score in words. What stays below the limit from which a scan stands out does not read as the limit.
  const LIMIT = 3.5;
  QC.z = (value) => { const size = Math.abs(value); return (size < LIMIT ? Math.min(size, LIMIT - .1) : size).toFixed(1); };
  QC.signed = (value) => `${value < 0 ? '\u2212' : '+'}${QC.z(value)}`;
  // Without a score: what became of the scan.
  QC.score = (scan) => (scan.status !== 'ok' ? scan.status.replace('_', ' ') : scan.score === null ? '\u2013' : QC.z(scan.score));

  // Words for a screen reader only.
  QC.unseen = (text) => QC.el('span', { class: 'unseen' }, text);

  QC.press = (button, on) => button.setAttribute('aria-pressed', on ? 'true' : 'false');
  QC.pressed = (button) => button.getAttribute('aria-pressed') === 'true';

  // What is behind an open dialog is neither seen nor read out: the message goes into it.
  const frontmost = () => [...document.querySelectorAll('dialog[open]')].pop() || document.body;

  let fading;
  QC.say = (text) => {
    const toast = QC.$('say');
    if (toast.parentNode !== frontmost()) frontmost().append(toast);
    toast.textContent = text;
    toast.classList.add('on');
    clearTimeout(fading);
    fading = setTimeout(() => toast.classList.remove('on'), 2200);
  };

  // For a screen reader: what is shown now.
  QC.announce = (text) => {
    const region = QC.$('announce');
    if (region.parentNode !== frontmost()) frontmost().append(region);
    region.textContent = text;
  };

  QC.hueOf = (tissue) => (['SC', 'GM', 'WM', 'LESION'].includes(tissue) ? `var(--${tissue})` : 'var(--other)');
})();
