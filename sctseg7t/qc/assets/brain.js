// A brain: every axial slice, and the sagittal and coronal cuts through one point, from one picture in the card.
(() => {
  const { $, el, svg, number } = QC;
  // A lesion no wider than this on a plane has a circle around it: an outline would hide it.
  const SMALL_MM = 3, CLEAR_MM = 2, NEAR_MM = 3;
  // Volumes of the last scans looked at; each is some megabytes.
  const volumes = new Map();

  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

  async function inflate(base64) {
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream('deflate'));
    return new Int32Array(await new Response(stream).arrayBuffer());
  }

  // Gray values of all slices, (k, row, column) from the top left of the screen; null without a picture.
  async function decode(stack) {
    if (!stack) return null;
    const image = new Image();
    image.src = `data:image/webp;base64,${stack.image}`;
    await image.decode();
    const sheet = el('canvas', { width: image.width, height: image.height });
    const context = sheet.getContext('2d', { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { width, height, count, columns } = stack;
    const values = new Uint8Array(width * height * count);
    for (let n = 0; n < count; n++) {
      const { data } = context.getImageData((n % columns) * width, Math.floor(n / columns) * height, width, height);
      for (let i = 0, at = n * width * height; i < width * height; i++) values[at + i] = data[4 * i];
    }
    return values;
  }

  async function readRuns(base64) {
    const flat = await inflate(base64), count = flat.length / 5;
    const [k, row, column, length, id] = [0, 1, 2, 3, 4].map((n) => flat.subarray(n * count, (n + 1) * count));
    return { k, row, column, length, id, count };
  }

  // The volume of a card, once: { values, runs } when they are there, and what waits for them.
  function volumeOf(card) {
    if (!volumes.has(card.id)) {
      if (volumes.size > 1) volumes.delete(volumes.keys().next().value);
      const volume = { values: null, runs: null, fresh: null, times: {}, ready: null };
      const times = Object.entries(card.times || {}).map(async ([name, stack]) => { volume.times[name] = await decode(stack); });
      const fresh = card.fresh ? readRuns(card.fresh) : null;
      volume.ready = Promise.all([decode(card.stack), readRuns(card.runs), fresh, ...times]).then(([values, runs, own]) => {
        Object.assign(volume, { values, runs, fresh: own });
      });
      volumes.set(card.id, volume);
    }
    return volumes.get(card.id);
  }

  // ---------------------------------------------------------------- planes

  // Axes are c: patient's right to left, r: anterior to posterior, k: slice, inferior to superior.
  const PLANES = {
    axial: { across: 'c', down: 'r', through: 'k', title: 'Axial', marks: { r: 'R', l: 'L', a: 'A', p: 'P' } },
    coronal: { across: 'c', down: 'k', through: 'r', title: 'Coronal', marks: { r: 'R', l: 'L', a: 'S', p: 'I' } },
    sagittal: { across: 'r', down: 'k', through: 'c', title: 'Sagittal', marks: { r: 'A', l: 'P', a: 'S', p: 'I' } },
  };

  // Length, first index and mm of a voxel of each axis.
  function axesOf(card) {
    const ks = card.tiles.map((tile) => tile.k);
    return {
      c: { n: card.size[0], first: 0, mm: card.mm[0] }, r: { n: card.size[1], first: 0, mm: card.mm[1] },
      k: { n: ks.length, first: ks[0] ?? 0, mm: card.mm[2] },
    };
  }

  // Column and row on a plane of a voxel; slices go up the screen.
  const place = (axis, index, name) => (name === 'k' ? axis.first + axis.n - 1 - index : index);

  // Gray values of a plane into a canvas at the resolution of the picture.
  function paint(canvas, card, volume, plane, index) {
    const time = volume.times[QC.brain.time] ? QC.brain.time : null, values = time ? volume.times[time] : volume.values;
    const { width, height, count, first } = time ? card.times[time] : card.stack, { c, r } = axesOf(card);
    const pixel = { c: (v) => Math.min(width - 1, Math.floor((v + .5) * width / c.n)), r: (v) => Math.min(height - 1, Math.floor((v + .5) * height / r.n)) };
    const size = { c: width, r: height, k: count };
    const nx = size[plane.across], ny = size[plane.down];
    canvas.width = nx;
    canvas.height = ny;
    const picture = new ImageData(nx, ny);
    const step = { c: 1, r: width, k: width * height };
    const start = plane.through === 'k' ? (index - first) * step.k : pixel[plane.through](index) * step[plane.through];
    for (let y = 0, at = 0; y < ny; y++) {
      const from = start + (plane.down === 'k' ? ny - 1 - y : y) * step[plane.down];
      for (let x = 0; x < nx; x++, at += 4) {
        const v = values[from + x * step[plane.across]];
        picture.data[at] = picture.data[at + 1] = picture.data[at + 2] = v;
        picture.data[at + 3] = 255;
      }
    }
    canvas.getContext('2d').putImageData(picture, 0, 0);
  }

  // Lesion of every voxel of a plane, 0 outside.
  function idsOn(card, runs, plane, index) {
    const axes = axesOf(card), across = axes[plane.across], down = axes[plane.down];
    const ids = new Int32Array(across.n * down.n);
    for (let n = 0; n < runs.count; n++) {
      const k = runs.k[n], r = runs.row[n], c = runs.column[n], end = c + runs.length[n];
      if (plane.through === 'k') {
        if (k === index) ids.fill(runs.id[n], r * across.n + c, r * across.n + end);
      } else if (plane.through === 'r') {
        if (r === index) ids.fill(runs.id[n], place(down, k, 'k') * across.n + c, place(down, k, 'k') * across.n + end);
      } else if (c <= index && index < end) ids[place(down, k, 'k') * across.n + r] = runs.id[n];
    }
    return ids;
  }

  // Box of each lesion on a plane: id to [column, row, end column, end row].
  function boxesOf(ids, nx) {
    const boxes = new Map();
    for (let at = 0; at < ids.length; at++) {
      if (!ids[at]) continue;
      const x = at % nx, y = Math.floor(at / nx);
      const box = boxes.get(ids[at]);
      if (!box) boxes.set(ids[at], [x, y, x + 1, y + 1]);
      else { box[0] = Math.min(box[0], x); box[2] = Math.max(box[2], x + 1); box[3] = y + 1; }
    }
    return boxes;
  }

  // The outline along voxel borders as an SVG path, turning right where four borders meet.
  function outline(inside, nx, ny) {
    const at = (x, y) => x >= 0 && y >= 0 && x < nx && y < ny && inside(y * nx + x);
    const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];
    const edges = new Map();
    const add = (x, y, way) => { const key = y * (nx + 1) + x; edges.set(key, (edges.get(key) || 0) | (1 << way)); };
    for (let y = 0; y < ny; y++) for (let x = 0; x < nx; x++) {
      if (!at(x, y)) continue;
      if (!at(x, y - 1)) add(x, y, 0);
      if (!at(x + 1, y)) add(x + 1, y, 1);
      if (!at(x, y + 1)) add(x + 1, y + 1, 2);
      if (!at(x - 1, y)) add(x, y + 1, 3);
    }
    let text = '';
    for (const start of edges.keys()) {
      while (edges.get(start)) {
        let key = start, way = 31 - Math.clz32(edges.get(start) & -edges.get(start)), runs = [];
        do {
          edges.set(key, edges.get(key) & ~(1 << way));
          const last = runs[runs.length - 1];
          if (last && last[0] === way) last[1]++; else runs.push([way, 1]);
          key += STEPS[way][0] + STEPS[way][1] * (nx + 1);
          const ways = edges.get(key) || 0;
          way = [(way + 1) % 4, way, (way + 3) % 4].find((next) => ways & (1 << next));
        } while (way !== undefined);
        text += `M${start % (nx + 1)} ${Math.floor(start / (nx + 1))}${runs.map(([turn, n]) => `${turn % 2 ? 'v' : 'h'}${turn < 2 ? n : -n}`).join('')}z`;
      }
    }
    return text;
  }

  // Outlines, circles around small lesions, and the ring of the chosen one.
  function drawLesions(drawing, card, volume, plane, index) {
    const axes = axesOf(card), { mm: sx, n: nx } = axes[plane.across], { mm: sy, n: ny } = axes[plane.down];
    const ids = idsOn(card, volume.runs, plane, index), boxes = boxesOf(ids, nx);
    const isSmall = (id) => { const [x, y, right, bottom] = boxes.get(id); return Math.max((right - x) * sx, (bottom - y) * sy) <= SMALL_MM; };
    const small = new Set([...boxes.keys()].filter(isSmall));
    const parts = [];
    const circle = (id, air, kind) => {
      const [x, y, right, bottom] = boxes.get(id);
      const radius = Math.max((right - x) * sx, (bottom - y) * sy) / 2 + air;
      return svg('ellipse', { class: kind, '--hue': QC.hueOf('LESION'), cx: (x + right) / 2, cy: (y + bottom) / 2, rx: radius / sx, ry: radius / sy });
    };
    if (QC.view.tissues.LESION !== false && boxes.size) {
      parts.push(svg('path', { class: 'LESION', '--hue': QC.hueOf('LESION'), d: outline((at) => ids[at] && !small.has(ids[at]), nx, ny) }));
      parts.push(svg('path', { class: 'LESION tiny', '--hue': QC.hueOf('LESION'), d: outline((at) => small.has(ids[at]), nx, ny) }));
      for (const id of small) parts.push(circle(id, CLEAR_MM, 'small'));
    }
    if (volume.fresh && QC.view.tissues.NEWLESION !== false) {
      const own = idsOn(card, volume.fresh, plane, index), at = boxesOf(own, nx);
      for (const [x, y, right, bottom] of at.values()) {
        const radius = Math.max((right - x) * sx, (bottom - y) * sy) / 2 + 2 * CLEAR_MM;
        parts.push(svg('ellipse', { class: 'fresh', cx: (x + right) / 2, cy: (y + bottom) / 2, rx: radius / sx, ry: radius / sy }));
      }
    }
    const chosen = QC.view.lesion && card === QC.view.card ? QC.view.lesion.id : 0;
    if (boxes.has(chosen)) parts.push(circle(chosen, 2 * CLEAR_MM, 'ring'));
    drawing.replaceChildren(...parts);
    return { ids, boxes };
  }

  // The lesion at a point of a plane, or the nearest within reach; 0 if there is none.
  function lesionAt(ids, nx, x, y, sx, sy) {
    let best = 0, least = NEAR_MM ** 2;
    for (let at = 0; at < ids.length; at++) {
      if (!ids[at]) continue;
      const dx = Math.max(0, Math.abs((at % nx) + .5 - x) - .5) * sx, dy = Math.max(0, Math.abs(Math.floor(at / nx) + .5 - y) - .5) * sy;
      if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; best = ids[at]; }
    }
    return best;
  }

  // A picture of a plane with what is found on it. `onPick` gets the voxel pointed at and the lesion there.
  function frameOf(card, plane, index, onPick) {
    const axes = axesOf(card), across = axes[plane.across], down = axes[plane.down];
    const frame = el('span', { class: 'frame', '--w': across.n * across.mm, '--h': down.n * down.mm });
    const canvas = el('canvas', { width: 1, height: 1 });
    const drawing = svg('svg', { viewBox: `0 0 ${across.n} ${down.n}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    frame.append(canvas, drawing, ...Object.entries(plane.marks).map(([side, text]) => el('span', { class: `side-mark ${side}`, 'aria-hidden': 'true' }, text)));
    const volume = volumeOf(card);
    let found = null;
    frame.show = (at) => {
      index = at;
      const draw = () => {
        if (at !== index) return;
        if (volume.values) paint(canvas, card, volume, plane, at);
        found = drawLesions(drawing, card, volume, plane, at);
      };
      if (volume.runs) draw(); else volume.ready.then(draw);
    };
    frame.pick = (event) => {
      if (!found) return;
      const box = frame.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * across.n, y = (event.clientY - box.top) / box.height * down.n;
      const inside = (value, n) => Math.max(0, Math.min(n - 1, Math.floor(value)));
      const lesion = event.buttons ? 0 : lesionAt(found.ids, across.n, x, y, across.mm, down.mm);
      onPick({ [plane.across]: inside(x, across.n), [plane.down]: plane.down === 'k' ? place(down, inside(y, down.n), 'k') : inside(y, down.n), [plane.through]: index }, lesion);
    };
    frame.show(index);
    return frame;
  }

  // ---------------------------------------------------------------- the viewer

  const lesionOf = (card, id) => {
    const column = Object.fromEntries((card.lesion_columns || []).map((name, n) => [name, n]));
    const row = (card.lesions || []).find((values) => values[column.id] === id);
    return row ? { id, k: row[column.slice], c: row[column.at][0], r: row[column.at][1] } : null;
  };

  QC.brain = {
    // One viewer at a time: what it shows, and where.
    card: null, at: null, frames: {}, lesionOf,
    // What is shown of a follow-up: the scan itself (null), now, before or difference; and whether it flickers.
    time: null, flicker: 0,

    showTime(time) {
      clearInterval(this.flicker);
      this.flicker = 0;
      if (time === 'flicker') this.flicker = setInterval(() => this.setTime(this.time === 'now' ? 'before' : 'now'), 500);
      this.setTime(time === 'flicker' ? 'now' : time);
      document.querySelectorAll('.times button').forEach((button) => button.setAttribute('aria-pressed', button.value === (time || 'scan')));
    },

    setTime(time) { this.time = time; if (document.querySelector('.viewer')) this.refresh(); },

    // Buttons that choose the time, and the way from new lesion to new lesion; null for a scan without a baseline.
    times(card) {
      if (!card.times) return null;
      const words = { scan: 'Scan', now: 'Follow-up', before: 'Baseline', difference: 'Difference', flicker: 'Flicker' };
      const press = (value) => this.showTime(value === 'scan' ? null : value);
      const made = Object.entries(words).map(([value, text]) => el('button', { value, 'aria-pressed': String(value === (this.flicker ? 'flicker' : this.time || 'scan')), onclick: () => press(value) }, text));
      const found = (card.new || []).length;
      const text = found ? `Next new lesion (${found})` : 'Nothing is new';
      return el('p', { class: 'times' }, ...made, el('button', { class: 'next-new', disabled: found ? null : '', onclick: () => this.nextNew() }, text));
    },

    nextNew() {
      const rows = this.card.new || [];
      if (!rows.length) return;
      this.newest = ((this.newest ?? -1) + 1) % rows.length;
      const column = Object.fromEntries(this.card.new_columns.map((name, n) => [name, n])), row = rows[this.newest];
      this.go({ c: row[column.at][0], r: row[column.at][1], k: row[column.slice] });
    },

    // An axial slice as a tile or an enlarged picture.
    frame(card, tile) {
      const frame = frameOf(card, PLANES.axial, tile.k, (at, lesion) => QC.brain.go(at, lesion));
      frame.addEventListener('click', (event) => frame.pick(event));
      return frame;
    },

    // The three planes with their slider.
    viewer(card) {
      if (this.card !== card) {
        const { c, r } = axesOf(card);
        const first = lesionOf(card, 1);
        this.card = card;
        this.newest = undefined;
        clearInterval(this.flicker);
        Object.assign(this, { flicker: 0, time: null });
        this.at = first ? { c: first.c, r: first.r, k: first.k } : { c: Math.floor(c.n / 2), r: Math.floor(r.n / 2), k: card.montage[Math.floor(card.montage.length / 2)] };
      }
      const [axial, coronal, sagittal] = Object.entries(PLANES).map(([name, plane]) => this.pane(card, name, plane));
      const slider = el('input', { type: 'range', id: 'sliceAt', min: card.tiles[0].k, max: card.tiles[card.tiles.length - 1].k, step: 1, 'aria-label': 'Axial slice', oninput: () => this.go({ k: Number(slider.value) }) });
      const made = el('div', { class: 'viewer', 'data-range': card.stack ? card.stack.range.join(' ') : null },
        el('div', { class: 'planes' }, axial, el('p', { class: 'where' }, slider, el('span', { id: 'where' }), el('span', { class: 'hint', id: 'shownRange' }), QC.beside.button(card)), this.times(card)),
        el('div', { class: 'planes' }, coronal, sagittal));
      this.fit(card, made);
      this.mark(made);
      return made;
    },

    pane(card, name, plane) {
      const frame = frameOf(card, plane, this.at[plane.through], (at, lesion) => this.go(at, lesion));
      this.frames[name] = frame;
      const lines = [el('i', { class: 'cross v' }), el('i', { class: 'cross h' })];
      frame.append(...lines);
      frame.cross = lines;
      const pane = el('div', { class: 'plane', 'data-plane': name, tabindex: 0, role: 'slider', 'aria-orientation': 'vertical', 'aria-label': `${plane.title} slice` }, frame);
      frame.addEventListener('pointerdown', (event) => {
        if (event.button === 2) { QC.windowing.drag(event, frame); return; }
        frame.setPointerCapture(event.pointerId);
        frame.pick(event);
      });
      frame.addEventListener('pointermove', (event) => { if (event.buttons === 1) frame.pick(event); });
      frame.addEventListener('click', (event) => frame.pick(event));
      frame.addEventListener('contextmenu', (event) => event.preventDefault());
      frame.addEventListener('dblclick', () => QC.view.enlarge(this.at.k));
      pane.addEventListener('wheel', (event) => { event.preventDefault(); this.step(plane.through, event.deltaY < 0 ? 1 : -1); }, { passive: false });
      pane.addEventListener('keydown', (event) => {
        const by = { ArrowUp: 1, ArrowRight: 1, PageUp: 5, ArrowDown: -1, ArrowLeft: -1, PageDown: -5 }[event.key];
        if (!by || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        this.step(plane.through, by);
      });
      return pane;
    },

    // By slices of an axis; those of the coronal and sagittal planes as far as one axial slice is thick.
    step(axis, by) {
      const axes = axesOf(this.card), thick = Math.max(1, Math.round(Math.min(...Object.values(axes).map((a) => a.mm)) / axes[axis].mm));
      // Up is superior, to the front, and to the patient's left.
      this.go({ [axis]: this.at[axis] + (axis === 'r' ? -by : by) * thick });
    },

    // Move to a point, in part or in whole; choose the lesion there, if any.
    go(at, lesion = 0) {
      const axes = axesOf(this.card);
      for (const [name, value] of Object.entries(at)) this.at[name] = Math.max(axes[name].first, Math.min(axes[name].first + axes[name].n - 1, value));
      const chosen = lesion ? lesionOf(this.card, lesion) : null;
      if (chosen && (QC.view.lesion || {}).id !== lesion) { QC.view.lesion = chosen; QC.markLesion(chosen); QC.beside.tell(chosen); this.refresh(); }
      QC.view.slice = this.at.k;
      QC.view.mark();
      QC.markSlice(this.at.k);
      this.show();
    },

    // From a slice laid out: its picture has told the point that was clicked, if any.
    fromTile(event, k) {
      if (!event.detail) this.go({ k });
      clearTimeout(this.scrolling);
      // Not before a second click can come: it means something else.
      if (event.detail < 2) this.scrolling = setTimeout(() => document.querySelector('.viewer')?.scrollIntoView({ block: 'nearest' }), 400);
    },

    // To a lesion's middle.
    goTo(lesion) { if (this.card && lesion) this.go({ c: lesion.c, r: lesion.r, k: lesion.k }); },

    nextLesion(by) {
      const ids = (this.card.lesions || []).map((values) => values[0]);
      if (!ids.length) return;
      const now = QC.view.lesion ? ids.indexOf(QC.view.lesion.id) : by > 0 ? -1 : 0;
      QC.view.chooseLesion(lesionOf(this.card, ids[(now + by + ids.length) % ids.length]));
      const row = document.querySelector('#side .lesions tr.here');
      if (row) row.scrollIntoView({ block: 'nearest' });
    },

    show() {
      for (const [name, plane] of Object.entries(PLANES)) if (this.frames[name]) this.frames[name].show(this.at[plane.through]);
      this.mark();
    },

    // Draw the rings of all pictures again.
    refresh() {
      for (const tile of $('mosaic').querySelectorAll('.tile')) tile.querySelector('.frame').show(Number(tile.dataset.k));
      if (QC.large.isOpen) $('largeFrame').firstChild.show(this.at.k);
      this.show();
    },

    mark(viewer = document) {
      const axes = axesOf(this.card);
      for (const [name, plane] of Object.entries(PLANES)) {
        const frame = this.frames[name];
        const part = (axis) => (place(axes[axis], this.at[axis], axis) + .5) / axes[axis].n;
        frame.cross[0].style.left = `${100 * part(plane.across)}%`;
        frame.cross[1].style.top = `${100 * part(plane.down)}%`;
        const { n, first } = axes[plane.through];
        for (const [key, value] of [['valuemin', first], ['valuemax', first + n - 1], ['valuenow', this.at[plane.through]]]) frame.parentElement.setAttribute(`aria-${key}`, value);
      }
      viewer.querySelector('#sliceAt').value = this.at.k;
      viewer.querySelector('#where').textContent = `Slice ${this.at.k} \u00b7 ${QC.view.words(this.card, { t: 0, k: this.at.k }, true)}`;
    },

    // The two other planes below each other or beside each other, whichever is larger; on a phone below the axial one.
    fit(card, viewer) {
      const room = ($('mosaic').clientWidth || 600) - 24, { c, r, k } = axesOf(card);
      const [w, d, h] = [c.n * c.mm, r.n * r.mm, k.n * k.mm];
      const pane = document.querySelector('.pictures');
      const tall = getComputedStyle(pane).overflowY === 'auto' ? Math.max(240, pane.clientHeight - 56) : innerHeight * .8;
      const narrow = room < 540;
      const below = Math.min(room / (w + Math.max(w, d)), (tall - 8) / (2 * h), (tall - 50) / d);
      const beside = Math.min((room - 8) / (2 * w + d), (tall - 50) / d, tall / h);
      viewer.style.setProperty('--scale', (narrow ? room / (w + d) : Math.max(below, beside)).toFixed(3));
      viewer.querySelector('.plane').style.setProperty('--scale', narrow ? (room / w).toFixed(3) : 'inherit');
      viewer.classList.toggle('narrow-view', narrow);
      viewer.classList.toggle('below', !narrow && below > beside);
    },
  };

  // ---------------------------------------------------------------- keys and wheel

  const KEYS = { s: () => QC.brain.step('k', 1), i: () => QC.brain.step('k', -1), l: () => QC.brain.nextLesion(1), L: () => QC.brain.nextLesion(-1) };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !$('keysOn').checked) return;
    if (!Object.hasOwn(KEYS, event.key) || event.target.closest('input:not([type=range]), textarea, select')) return;
    if (!QC.view.card || !QC.view.card.montage || document.querySelector('dialog[open]:not(#large)')) return;
    event.preventDefault();
    KEYS[event.key]();
    if ($('large').open) QC.view.enlarge(QC.brain.at.k);
  });
  $('largeFrame').addEventListener('wheel', (event) => {
    // What is larger than the window scrolls.
    if ($('largeScroll').scrollHeight > $('largeScroll').clientHeight + 2) return;
    event.preventDefault();
    QC.view.enlargeBy(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  addEventListener('resize', () => { const viewer = document.querySelector('.viewer'); if (viewer) QC.brain.fit(QC.brain.card, viewer); });
})();
