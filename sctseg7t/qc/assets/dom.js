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

  // Cut, not rounded: what stays below a limit does not read as the limit. Without a score: what became of the scan.
  QC.score = (scan) => (scan.status === 'ok' ? (Math.floor(scan.score * 10) / 10).toFixed(1) : scan.status.replace('_', ' '));

  QC.press = (button, on) => button.setAttribute('aria-pressed', on ? 'true' : 'false');
  QC.pressed = (button) => button.getAttribute('aria-pressed') === 'true';

  let fading;
  QC.say = (text) => {
    const toast = QC.$('say');
    toast.textContent = text;
    toast.classList.add('on');
    clearTimeout(fading);
    fading = setTimeout(() => toast.classList.remove('on'), 2200);
  };

  QC.hueOf = (tissue) => (['SC', 'GM', 'WM', 'LESION'].includes(tissue) ? `var(--${tissue})` : 'var(--other)');
})();
