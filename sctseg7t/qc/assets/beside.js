// The viewer beside the page, where there is one: it opens in a window of its own, and both show the same lesion.
(() => {
  const { el } = QC;
  let meta = null, shown = null;

  function keyOf(card) {
    meta ??= QC.json('meta');
    const scan = meta.viewer && meta.scans.find((one) => one.id === card.id);
    const found = scan && QC.$(`card-${scan.index}`);
    return found ? found.dataset.key : null;
  }

  QC.beside = {
    // A button that opens the viewer; null where there is none.
    button(card) {
      const key = card.status === 'failed' ? null : keyOf(card);
      return key ? el('button', { class: 'beside', onclick: () => { shown = window.open(`viewer/viewer.html#${key}`, 'sct7t-viewer'); } }, 'Open in the viewer') : null;
    },

    tell(lesion) {
      if (shown && !shown.closed && lesion) shown.postMessage({ sct7t: 'lesion', key: keyOf(QC.view.card), id: lesion.id }, '*');
    },
  };

  addEventListener('message', ({ source, data }) => {
    const card = QC.view.card;
    if (!shown || source !== shown || !data || !card || !card.montage || data.key !== keyOf(card)) return;
    if (data.sct7t === 'ready') QC.beside.tell(QC.view.lesion);
    const lesion = data.sct7t === 'lesion' ? QC.brain.lesionOf(card, data.id) : null;
    if (lesion && (QC.view.lesion || {}).id !== lesion.id) QC.view.chooseLesion(lesion);
  });
})();
