// The cord from the side: a sagittal picture through its middle, in true proportions, with its levels.
(() => {
  const { el, svg } = QC;
  const MOST_WIDE = 240, MOST_HIGH = 460;

  // Runs of slices that have one level: [level, first, last].
  function levelsOf(card) {
    const runs = [];
    for (const { k, level } of card.rows.filter((row) => row.t === QC.view.volume && row.level)) {
      const last = runs[runs.length - 1];
      if (last && last[0] === level && last[2] === k - 1) last[2] = k; else runs.push([level, k, k]);
    }
    return runs;
  }

  QC.strip = (card) => {
    if (!card.sagittal) return null;
    const { image, size: [nx, nz], mm: [sy, sz], paths } = card.sagittal;
    const scale = Math.min(MOST_WIDE / (nx * sy), MOST_HIGH / (nz * sz));
    const share = (k) => 1 - k / nz;
    const frame = el('span', { class: 'frame', '--w': nx * sy, '--h': nz * sz });
    if (image) frame.append(el('img', { src: `data:image/webp;base64,${image}`, alt: '', decoding: 'async' }));
    const drawn = Object.entries(paths)
      .map(([tissue, d]) => svg('path', { class: tissue, d, '--hue': QC.hueOf(tissue) }));
    frame.append(svg('svg', { viewBox: `0 0 ${nx} ${nz}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, drawn),
      ...Object.entries({ r: 'A', l: 'P', a: 'S', p: 'I' }).map(([side, text]) => el('span', { class: `side-mark ${side}`, 'aria-hidden': 'true' }, text)),
      el('i', { class: 'slab' }));
    frame.addEventListener('click', (event) => {
      const box = frame.getBoundingClientRect();
      const k = Math.max(0, Math.min(nz - 1, Math.floor((box.bottom - event.clientY) / box.height * nz)));
      QC.view.choose(k);
      document.querySelector(`#mosaic .tile[data-k="${k}"]`)?.scrollIntoView({ block: 'nearest' });
    });
    const marks = levelsOf(card).map(([level, first, last]) => {
      const mark = el('span', { class: 'level' }, level);
      mark.style.top = `${100 * share(last + 1)}%`;
      mark.style.height = `${100 * (last + 1 - first) / nz}%`;
      return mark;
    });
    const strip = el('div', { class: 'sagittal', '--scale': scale.toFixed(3), 'data-slices': nz, role: 'img', 'aria-label': `Sagittal cut along the middle of the cord, ${nz} slices${marks.length ? ', with levels' : ''}` }, frame, marks.length ? el('span', { class: 'levels' }, marks) : null);
    requestAnimationFrame(QC.showStrip);
    return el('section', {}, el('h3', {}, `Sagittal, along the cord\u2019s middle${marks.length ? ' \u00b7 levels' : ''}`), strip, QC.beside.button(card));
  };

  // Show the tissues that are shown elsewhere.
  QC.showStrip = () => {
    for (const path of document.querySelectorAll('#side .sagittal path')) path.style.display = QC.view.tissues[path.getAttribute('class')] === false ? 'none' : '';
  };

  QC.markStrip = (k) => {
    const strip = document.querySelector('#side .sagittal');
    if (!strip) return;
    const slab = strip.querySelector('.slab'), count = Number(strip.dataset.slices);
    slab.style.top = `${100 * (1 - (k + 1) / count)}%`;
    slab.style.height = `${100 / count}%`;
    slab.classList.add('on');
  };
})();
