// The slices: one tile each, the image with the outlines of the masks over it.
(() => {
  const { $, el, svg, number } = QC;

  // What lies within a tissue: filled, it is not painted twice.
  const WITHIN = { SC: ['GM', 'WM'] };

  QC.frame = (card, tile) => {
    if (card.montage) return QC.brain.frame(card, tile);
    const [nx, ny] = card.size;
    const extent = (of) => of.size.map((n, axis) => n * of.mm[axis]);
    // Another scan is shown in the frame of the current one, in its middle, so that nothing moves but what differs.
    const held = QC.view.card !== card && QC.view.card?.kind === card.kind && QC.view.card.size ? QC.view.card : card;
    const own = extent(card), [width, height] = extent(held);
    // On the same grid, as two runs of a scan, what lies at the same voxel lies at the same place.
    const there = held !== card && held.grid === card.grid && held.tiles.find((other) => other.t === tile.t && other.k === tile.k);
    const frame = el('span', { class: 'frame', '--w': width, '--h': height });
    const inner = el('span', { class: 'inner' });
    for (const [side, place, at] of [['width', 'left', 0], ['height', 'top', 1]]) {
      const part = own[at] / [width, height][at];
      inner.style[side] = `${100 * part}%`;
      const away = there && (there.at[at] + held.size[at] - tile.at[at] - card.size[at]) * card.mm[at];
      inner.style[place] = there ? `${100 * away / [width, height][at]}%` : `${50 * (1 - part)}%`;
    }
    frame.append(inner);
    if (tile.image) inner.append(el('img', { src: `data:image/webp;base64,${tile.image}`, alt: '', decoding: 'async' }));
    // WM shares its borders with the others, which matter more.
    const shown = Object.entries(tile.paths).filter(([tissue]) => QC.view.tissues[tissue] !== false)
      .sort(([a], [b]) => Number(b === 'WM') - Number(a === 'WM'));
    const area = ([tissue, d]) => d + (WITHIN[tissue] || []).filter((name) => shown.some(([other]) => other === name)).map((name) => tile.paths[name]).join('');
    const paths = [
      ...shown.map((part) => svg('path', { class: 'area', 'data-tissue': part[0], d: area(part), '--hue': QC.hueOf(part[0]) })),
      ...shown.map(([tissue, d]) => svg('path', { class: tissue, d, '--hue': QC.hueOf(tissue) })),
    ];
    inner.append(svg('svg', { viewBox: `0 0 ${nx} ${ny}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, paths));
    frame.append(el('span', { class: 'side-mark r', 'aria-hidden': 'true' }, 'R'), el('span', { class: 'side-mark l', 'aria-hidden': 'true' }, 'L'));
    frame.append(el('span', { class: 'side-mark a', 'aria-hidden': 'true' }, 'A'), el('span', { class: 'side-mark p', 'aria-hidden': 'true' }, 'P'));
    return frame;
  };

  QC.view = {
    tissues: { WM: false }, volume: 0, slice: null, card: null, shown: null, zoomed: false, lesion: null,

    // A slice's index in the file as FSLeyes shows it, where that is another one.
    inFile: (card, k) => (card.file_slices && card.file_slices[k] !== k ? `${card.file_slices[k]} in the file` : null),

    rowOf: (card, t, k) => card.rows.find((row) => row.t === t && row.k === k),

    label(card, tile) {
      const row = this.rowOf(card, tile.t, tile.k) || {};
      const area = (tissue) => (row[tissue] && row[tissue][0] !== null ? `${tissue} ${number(row[tissue][0])}` : null);
      return { row, areas: ['SC', 'GM'].map(area).filter(Boolean), flags: row.flags || [] };
    },

    // What a slice holds, for its caption and, at length, for its title.
    words(card, tile, long) {
      const { row, areas } = this.label(card, tile);
      if (card.kind !== 'brain') return long ? (areas.length ? `${areas.join(', ')} mm\u00b2` : 'no mask') : areas.join(' ') || 'no mask';
      const count = (row.lesions || []).length;
      if (!card.load) return 'no mask';
      if (!count) return long ? 'no lesion' : '\u2013';
      if (!long) return `${count} lesion${count === 1 ? '' : 's'} \u00b7 ${number(row.area_mm2, 0)} mm\u00b2`;
      const named = row.lesions.slice(0, 12).join(', ') + (count > 12 ? ', \u2026' : '');
      return `${count === 1 ? 'lesion' : `${count} lesions:`} ${named} \u00b7 ${number(row.area_mm2, 0)} mm\u00b2`;
    },

    draw(card) {
      this.shown = card;
      const mosaic = $('mosaic');
      mosaic.replaceChildren();
      if (card.status === 'nothing_found') mosaic.append(el('p', { class: 'failure' }, card.error));
      if (card.status === 'failed') {
        mosaic.append(el('p', { class: 'failure' }, `This scan failed: ${card.error || 'no reason given'}`));
        if (card.overview) mosaic.append(QC.overview(card));
        return;
      }
      const tiles = card.tiles.filter((tile) => tile.t === this.volume);
      if (!tiles.length) mosaic.append(el('p', { class: 'empty' }, 'Nothing can be shown of this scan; the reasons stand beside.'));
      if (card.montage && tiles.length) mosaic.append(QC.brain.viewer(card), el('p', { class: 'selection' }, QC.selection(card)));
      for (const tile of tiles) if (!card.montage || card.montage.includes(tile.k)) mosaic.append(this.tile(card, tile));
      QC.windowing.tell();
      this.mark();
    },

    tile(card, tile) {
      const { row, flags } = this.label(card, tile);
      const level = row.level ? ` \u00b7 level ${row.level}` : '';
      const words = flags.map((flag) => QC.flagText(flag));
      return el('button', {
        class: 'tile', 'data-k': tile.k, '--w': card.size[0] * card.mm[0],
        'aria-label': `Slice ${tile.k}${level} ${this.words(card, tile)}${words.length ? '; ' + words.join('; ') : ''}. ${card.montage ? 'Show in the three planes' : 'Enlarge'}`,
        title: [this.inFile(card, tile.k), ...words].filter(Boolean).join('\n') || null, onclick: (event) => (card.montage ? QC.brain.fromTile(event, tile.k) : this.enlarge(tile.k)),
        ondblclick: card.montage ? () => this.enlarge(tile.k) : null,
      }, this.frameOf(card, tile), el('span', { class: 'caption' },
        flags.length ? el('span', { class: 'flag', 'aria-hidden': 'true' }, '\u26a0 ') : null, el('b', {}, String(tile.k)), `${level} ${this.words(card, tile)}`));
    },

    frameOf: (card, tile) => QC.frame(card, tile),

    // Choose a slice in all panels.
    choose(k) {
      this.slice = k;
      this.mark();
      QC.markSlice(k);
    },

    // Choose a lesion: ring it, and show the three planes through its middle; again: no lesion.
    chooseLesion(lesion) {
      this.lesion = this.lesion && this.lesion.id === lesion.id ? null : lesion;
      QC.markLesion(this.lesion);
      QC.beside.tell(this.lesion);
      QC.brain.goTo(lesion);
      QC.brain.refresh();
      document.querySelector('.plane').scrollIntoView({ block: 'nearest' });
    },

    mark() {
      for (const tile of $('mosaic').querySelectorAll('.tile')) tile.classList.toggle('here', Number(tile.dataset.k) === this.slice);
    },

    enlarge(k) { QC.large.open(k); },
    enlargeBy(step) { QC.large.by(step); },

    redraw() {
      QC.showStrip();
      if (this.shown) this.draw(this.shown);
      QC.large.refresh();
    },

    // As large as shows all slices at once, and where that is too small, as many columns as look well.
    fit(card) {
      const count = card.montage ? card.montage.length : card.tiles.filter((tile) => tile.t === this.volume).length;
      if (this.zoomed || !count) return;
      const pane = document.querySelector('.pictures');
      const scrolls = getComputedStyle(pane).overflowY === 'auto';
      const room = $('mosaic').clientWidth || 600, height = scrolls ? pane.clientHeight - 24 : 0;
      const [width, tall] = card.size.map((n, axis) => n * card.mm[axis]);
      // A head needs more room than a cord: small lesions must be seen.
      const most = Math.max(2, Math.round(room / (card.kind === 'brain' ? 180 : 148)));
      let scale = 0;
      for (let columns = 2; columns <= most; columns++) {
        scale = ((room - 8 * (columns - 1)) / columns - 1) / width;
        if (Math.ceil(count / columns) * (scale * tall + 28) <= height) break;
      }
      this.scale(scale);
    },

    scale(value) {
      const scale = Math.max(Number($('zoom').min), Math.min(24, value));
      $('zoom').value = scale;
      document.documentElement.style.setProperty('--scale', scale.toFixed(3));
    },
  };

  QC.selection = (card) => {
    const { of, hidden, counted } = card.selection;
    const all = card.tiles.length, laid = card.montage.length;
    const stack = `${all === of ? `All ${of}` : `${all} of ${of}`} axial slices above${all < of ? '; the others hold no brain' : ''}.`;
    const below = laid === all ? '' : ` Here ${laid} of them.`;
    return stack + below + (hidden ? ` ${hidden} of ${counted} counted lesions ${hidden === 1 ? 'is' : 'are'} on none of these: choose them in the table.` : counted && laid < all ? ' Every counted lesion is on at least one.' : '');
  };

  QC.overview = (card) => {
    const { image, width, height, box } = card.overview;
    const part = box ? el('span', { class: 'box' }) : null;
    if (part) ['left', 'top', 'width', 'height'].forEach((side, n) => { part.style[side] = `${100 * box[n]}%`; });
    return el('div', { class: 'overview' }, el('img', { src: `data:image/webp;base64,${image}`, width, height, alt: box ? 'A whole slice; the frame is the part shown' : 'A slice of the scan' }), part);
  };
})();
