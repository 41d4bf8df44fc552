// How the page looks: kept in this browser, and the same on all pages of a set.
QC.makeSettings = (pageId) => {
  const KEY = `sct7t-qc:${pageId}:view`;
  let known = {};
  try {
    const found = JSON.parse(localStorage.getItem(KEY) || '{}');
    if (found && typeof found === 'object') known = found;
  } catch { /* As if nothing had been set. */ }
  return {
    get: (name, otherwise) => (Object.hasOwn(known, name) ? known[name] : otherwise),
    set(name, value) {
      known[name] = value;
      try { localStorage.setItem(KEY, JSON.stringify(known)); } catch { /* Lost at the next page. */ }
    },
  };
};

// Light or dark: as the system has it, unless one is chosen.
QC.followTheme = (settings) => {
  const { $ } = QC;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const NEXT = { system: 'light', light: 'dark', dark: 'system' };
  const chosen = () => (Object.hasOwn(NEXT, settings.get('theme')) ? settings.get('theme') : 'system');
  function apply() {
    const theme = chosen() === 'system' ? (system.matches ? 'dark' : 'light') : chosen();
    document.documentElement.dataset.theme = theme;
    $('theme').textContent = `Theme: ${chosen()}`;
  }
  $('theme').addEventListener('click', () => { settings.set('theme', NEXT[chosen()]); apply(); });
  system.addEventListener('change', apply);
  apply();
};

// The lines between the panes are dragged, or moved by arrow keys.
QC.resizePanes = (settings, resized) => {
  for (const line of document.querySelectorAll('[role=separator]')) {
    const { pane, from } = line.dataset, name = `--${pane}`;
    const [least, most] = [Number(line.getAttribute('aria-valuemin')), Number(line.getAttribute('aria-valuemax'))];
    function set(width) {
      const kept = Math.round(Math.max(least, Math.min(most, width)));
      document.documentElement.style.setProperty(name, `${kept}px`);
      line.setAttribute('aria-valuenow', kept);
      settings.set(pane, kept);
      resized();
    }
    const before = settings.get(pane);
    if (Number.isFinite(before)) set(before);
    const now = () => Number(line.getAttribute('aria-valuenow'));
    const way = from === 'left' ? 1 : -1;
    line.addEventListener('pointerdown', (event) => {
      const start = event.clientX, width = now();
      line.setPointerCapture(event.pointerId);
      const move = (moved) => set(width + way * (moved.clientX - start));
      line.addEventListener('pointermove', move);
      line.addEventListener('pointerup', () => line.removeEventListener('pointermove', move), { once: true });
    });
    line.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 16, ArrowLeft: -16 }[event.key];
      if (!step) return;
      event.preventDefault();
      set(now() + way * step);
    });
  }
};
