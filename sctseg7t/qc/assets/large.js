// The enlarged view: one slice as large as the window, with its sides, a scale bar and the rating of the scan.
(() => {
  const { $, el } = QC;
  const BARS_MM = [1, 2, 5, 10, 20, 50], MOST = 12;
  let factor = 1;

  const tilesOf = (card) => card.tiles.filter((tile) => tile.t === QC.view.volume);

  // The longest bar of a round length that takes at most a quarter of the picture's width.
  function drawBar(scale, width) {
    const length = BARS_MM.findLast((mm) => mm * scale <= width / 4) || BARS_MM[0];
    $('largeBar').style.width = `${length * scale}px`;
    $('largeBar').textContent = `${length} mm`;
  }

  // Fit the picture into the stage, times the factor; what does not fit is scrolled to, about the same middle.
  function resize() {
    const frame = $('largeFrame').firstChild;
    if (!frame) return;
    const pane = $('largeScroll'), [width, height] = ['--w', '--h'].map((name) => Number(frame.style.getPropertyValue(name)));
    const room = [$('largeStage').clientWidth, $('largeStage').clientHeight];
    const middle = [(pane.scrollLeft + pane.clientWidth / 2) / (pane.scrollWidth || 1), (pane.scrollTop + pane.clientHeight / 2) / (pane.scrollHeight || 1)];
    const scale = factor * Math.min(room[0] / width, room[1] / height);
    frame.style.setProperty('--scale', scale);
    const seen = [Math.min(room[0], scale * width), Math.min(room[1], scale * height)];
    $('largeView').style.width = `${seen[0]}px`;
    $('largeView').style.height = `${seen[1]}px`;
    pane.scrollLeft = middle[0] * scale * width - seen[0] / 2;
    pane.scrollTop = middle[1] * scale * height - seen[1] / 2;
    drawBar(scale, seen[0]);
  }

  QC.large = {
    get isOpen() { return $('large').open; },

    open(k) {
      const card = QC.view.shown, tiles = tilesOf(card);
      const at = tiles.findIndex((tile) => tile.k === k);
      if (at < 0) return;
      QC.view.choose(k);
      if (card.montage) QC.brain.go({ k });
      const { row, flags } = QC.view.label(card, tiles[at]);
      const texts = [`Slice ${k}${QC.view.inFile(card, k) ? ` (${QC.view.inFile(card, k)})` : ''}`, row.level ? `level ${row.level}` : null, QC.view.words(card, tiles[at], true), ...flags.map(QC.flagText)];
      $('largeTitle').textContent = texts.filter(Boolean).join(' \u00b7 ');
      $('largeName').textContent = card.name;
      $('largeCount').textContent = `${at + 1} of ${tiles.length}`;
      $('largePrevious').disabled = at === 0;
      $('largeNext').disabled = at === tiles.length - 1;
      if (!this.isOpen) {
        factor = 1;
        // The one rating of the page moves in, with its keys and notes.
        $('largeHead').after(document.querySelector('.rate'));
        $('large').showModal();
        $('largeScroll').focus();
      }
      const pane = $('largeScroll'), place = [pane.scrollLeft, pane.scrollTop];
      $('largeFrame').replaceChildren(QC.view.frameOf(card, tiles[at]));
      [pane.scrollLeft, pane.scrollTop] = place;
      resize();
    },

    by(step) {
      const tiles = tilesOf(QC.view.shown);
      const next = tiles[tiles.findIndex((tile) => tile.k === QC.view.slice) + step];
      if (next) this.open(next.k);
    },

    // The same slice, drawn again.
    refresh() { if (this.isOpen) this.open(QC.view.slice); },

    // Another scan: its slice of the same number, or else at the same part of the stack.
    follow(before, slice) {
      if (!this.isOpen) return;
      const tiles = tilesOf(QC.view.shown), old = tilesOf(before);
      if (!tiles.length) { $('large').close(); return; }
      const part = old.findIndex((tile) => tile.k === slice) / Math.max(1, old.length - 1);
      const same = tiles.find((tile) => tile.k === slice) || tiles[Math.round(part * (tiles.length - 1))];
      this.open(same.k);
    },

    zoomBy(by) { factor = Math.max(1, Math.min(MOST, factor * by)); resize(); },
  };

  $('large').addEventListener('close', () => { $('cardHead').append(document.querySelector('.rate')); $('largeFrame').replaceChildren(); });
  $('largePrevious').addEventListener('click', () => QC.large.by(-1));
  $('largeNext').addEventListener('click', () => QC.large.by(1));
  $('largeIn').addEventListener('click', () => QC.large.zoomBy(1.25));
  $('largeOut').addEventListener('click', () => QC.large.zoomBy(.8));
  addEventListener('resize', () => { if (QC.large.isOpen) resize(); });

  // Drag what is larger than the stage.
  let held = null;
  const pane = $('largeScroll');
  pane.addEventListener('pointerdown', (event) => { if (event.button === 0) held = [event.clientX + pane.scrollLeft, event.clientY + pane.scrollTop]; });
  addEventListener('pointermove', (event) => { if (held) { pane.scrollLeft = held[0] - event.clientX; pane.scrollTop = held[1] - event.clientY; } });
  addEventListener('pointerup', () => { held = null; });

  // A click beside a dialog closes it.
  for (const dialog of document.querySelectorAll('dialog')) {
    dialog.addEventListener('click', (event) => {
      if (event.target !== dialog) return;
      const box = dialog.getBoundingClientRect();
      if (event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom) dialog.close();
    });
  }
})();
