// The page's life: list, choice, keys, dialogs.
(() => {
  const { $, el, say, view } = QC;
  const meta = QC.json('meta');
  const scans = meta.scans;
  const byId = new Map(scans.map((scan) => [scan.id, scan]));
  const store = QC.makeStore(meta.page, scans);
  const isIndex = document.body.classList.contains('index');
  const MARKS = { pass: '\u2713', fail: '\u2715', artefact: '\u25d0' };
  const cards = new Map();
  let current = null, order = [], previous = null, reference = null, timer = null, keysOn = true, swapped = false;
  const has = { brain: scans.some((scan) => scan.kind === 'brain') };
  has.cord = !has.brain || scans.some((scan) => scan.kind === 'cord');
  for (const [sort, wanted] of [['sc', has.cord], ['gm', has.cord], ['load', has.brain]]) if (!wanted) document.querySelector(`#sort [value=${sort}]`).remove();
  scans.forEach((scan, n) => { scan.rank = (meta.first ?? 0) + n + 1; });

  // The few last cards stay parsed; the others are text in the page.
  function cardOf(scan) {
    if (!cards.has(scan.id)) {
      if (cards.size > 8) cards.delete(cards.keys().next().value);
      cards.set(scan.id, QC.json(`card-${scan.index}`));
    }
    return cards.get(scan.id);
  }

  // ---------------------------------------------------------------- list

  const why = (scan) => (scan.reasons.length ? scan.reasons.join('; ') : 'nothing stands out');

  function matches(scan) {
    const wanted = $('filter').value;
    const rating = store.get(scan.id);
    const stale = store.isStale(scan.id);
    const verdict = rating && !stale ? rating.verdict : null;
    const rated = rating && !stale && (rating.verdict || rating.rating);
    const shown = { all: true, unrated: !rated, standout: scan.reasons.length > 0, stale, failed: scan.status !== 'ok' };
    if (!(wanted in shown ? shown[wanted] : verdict === wanted)) return false;
    const text = [scan.name, scan.image, scan.id, why(scan), (rating || {}).notes, ...Object.entries(scan.entities).map((pair) => pair.join('-'))].join(' ').toLowerCase();
    return $('search').value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }

  const SORTS = {
    score: (a, b) => a.rank - b.rank,
    name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
    sc: (a, b) => (a.areas[0] ?? -1) - (b.areas[0] ?? -1),
    gm: (a, b) => (a.areas[1] ?? -1) - (b.areas[1] ?? -1),
    load: (a, b) => (b.lesions[1] ?? -1) - (a.lesions[1] ?? -1),
  };

  function markOf(scan) {
    const rating = store.get(scan.id);
    if (!rating) return ['', '', 'not rated'];
    if (store.isStale(scan.id)) return ['\u21bb', 'stale', 'stale rating'];
    const grade = rating.rating ? String(rating.rating) : '';
    return [(MARKS[rating.verdict] || '') + grade, rating.verdict || '', [rating.verdict, grade].filter(Boolean).join(', ') || 'notes only'];
  }

  function drawList() {
    order = scans.filter(matches).sort(SORTS[$('sort').value]);
    const items = order.map((scan) => {
      const [mark, kind, words] = markOf(scan);
      return el('li', {}, el('button', {
        'data-id': scan.id, 'aria-current': scan === current ? 'true' : null, title: why(scan), onclick: () => { closeList(); go(scan); },
      }, el('span', { class: `mark ${kind}`, title: words }, mark), el('span', { class: 'who' }, scan.name),
      el('span', { class: `score ${scan.reasons.length ? 'high' : ''}` }, QC.score(scan)),
      el('span', { class: 'why' }, why(scan))));
    });
    if (!items.length) items.push(el('li', { class: 'empty' }, scans.length ? 'No scan matches.' : 'No scans.'));
    $('scans').replaceChildren(...items);
    drawProgress();
    if (isIndex) drawTable();
  }

  function drawProgress() {
    const rated = scans.filter((scan) => { const r = store.get(scan.id); return r && !store.isStale(scan.id) && (r.verdict || r.rating); }).length;
    const stale = scans.filter((scan) => store.isStale(scan.id)).length;
    const count = (status) => scans.filter((scan) => scan.status === status).length;
    const failed = count('failed'), nothing = count('nothing_found');
    $('progress').textContent = `${rated} of ${scans.length} rated${stale ? ` \u00b7 ${stale} stale` : ''}${failed ? ` \u00b7 ${failed} failed to run` : ''}${nothing ? ` \u00b7 nothing found in ${nothing}` : ''}`;
    $('storageNotice').hidden = store.lasting;
  }

  function refreshItem(scan) {
    const old = document.querySelector(`#scans button[data-id="${CSS.escape(scan.id)}"] .mark`);
    const [mark, kind, words] = markOf(scan);
    if (old) { old.textContent = mark; old.className = `mark ${kind}`; old.title = words; }
    drawProgress();
  }

  function drawTable() {
    const shown = [
      ...(has.cord ? [['SC, mm\u00b2', (scan) => QC.number(scan.areas[0])], ['GM, mm\u00b2', (scan) => QC.number(scan.areas[1])]] : []),
      ...(has.brain ? [['lesions', (scan) => QC.number(scan.lesions[0], 0)], ['load, mL', (scan) => QC.number(scan.lesions[1], 2)]] : []),
    ];
    const columns = ['scan', 'score', ...shown.map(([name]) => name), 'rating', 'why'];
    $('table').hidden = false;
    $('table').replaceChildren(el('table', {}, el('thead', {}, el('tr', {}, columns.map((name) => el('th', { scope: 'col' }, name)))),
      el('tbody', {}, order.map((scan) => el('tr', {}, el('td', {}, el('a', { href: `${scan.at}#${encodeURIComponent(scan.id)}` }, scan.name)),
        el('td', { class: `score ${scan.reasons.length ? 'high' : ''}` }, QC.score(scan)),
        shown.map(([, value]) => el('td', {}, value(scan))), el('td', {}, markOf(scan)[2]), el('td', {}, why(scan)))))));
  }

  function drawPages() {
    if (!meta.pages) return;
    $('pages').hidden = false;
    const link = (name, text) => (name === meta.this ? el('b', {}, text) : el('a', { href: name }, text));
    $('pages').append(link('index.html', 'Index'), ...meta.pages.map((name, n) => link(name, String(n + 1))));
  }

  const closeList = () => { $('listPane').classList.remove('open'); $('listToggle').setAttribute('aria-expanded', 'false'); };

  // ---------------------------------------------------------------- a scan

  function go(scan) {
    if (isIndex) { location.href = `${scan.at}#${encodeURIComponent(scan.id)}`; return; }
    if (document.activeElement === $('notes')) $('notes').blur();
    stopFlicker();
    if (current && current !== scan) previous = current;
    current = scan;
    const card = cardOf(scan);
    view.card = card;
    view.slice = view.lesion = null;
    ranges(card);
    history.replaceState(null, '', `#${encodeURIComponent(scan.id)}`);
    $('name').textContent = scan.name;
    $('about').textContent = about(card);
    $('why').textContent = scan.status === 'ok' ? `Score ${QC.score(scan)}: ${why(scan)}` : '';
    drawVolumes(card);
    drawTissues(card);
    if (card.size) view.fit(card);
    view.draw(card);
    QC.drawSide($('side'), card, scan, meta);
    drawRating();
    drawReference();
    for (const button of document.querySelectorAll('#scans button')) {
      const here = button.dataset.id === scan.id;
      if (here) { button.setAttribute('aria-current', 'true'); button.scrollIntoView({ block: 'nearest' }); } else button.removeAttribute('aria-current');
    }
    document.querySelector('.pictures').scrollTop = 0;
    $('side').scrollTop = 0;
    const at = order.indexOf(scan);
    $('previous').disabled = at === 0;
    $('next').disabled = at === order.length - 1;
  }

  // Heads are ten times as wide as cords: a zoom of one is none of the other.
  function ranges(card) {
    const least = card.kind === 'brain' ? .5 : 2;
    if (Number($('zoom').min) === least) return;
    $('zoom').min = least;
    $('zoom').step = least === 2 ? .5 : .1;
    view.zoomed = false;
  }

  function about(card) {
    if (!card.mm) return card.image;
    const slices = card.tiles.filter((tile) => tile.t === 0).length;
    const size = `, ${card.mm.slice(0, 2).map((s) => QC.number(s, 2)).join(' \u00d7 ')} mm pixels`;
    return `${card.image} \u00b7 ${slices} slice${slices === 1 ? '' : 's'}${card.selection ? ` of ${card.selection.of}, radiological (right is left)` : ''}${size}`;
  }

  function step(by) {
    if (!order.length) return;
    const at = order.indexOf(current);
    const next = at < 0 ? 0 : at + by;
    if (next >= 0 && next < order.length) go(order[next]);
    else say(by > 0 ? 'This is the last scan' : 'This is the first scan');
  }

  function drawVolumes(card) {
    const count = Math.max(0, ...card.tiles.map((tile) => tile.t)) + 1;
    $('volumeLabel').hidden = count < 2;
    if (view.volume >= count) view.volume = 0;
    $('volume').replaceChildren(...Array.from({ length: count }, (_, t) => el('option', { value: t, selected: t === view.volume }, String(t))));
  }

  function drawTissues(card) {
    $('tissues').replaceChildren(...Object.keys(card.masks).map((tissue) => el('button', {
      'aria-pressed': view.tissues[tissue] === false ? 'false' : 'true', '--hue': QC.hueOf(tissue), title: `Show ${tissue}`,
      onclick: (event) => {
        view.tissues[tissue] = view.tissues[tissue] === false;
        QC.press(event.currentTarget, view.tissues[tissue]);
        view.redraw();
      },
    }, tissue)));
  }

  // ---------------------------------------------------------------- rating

  function drawRating() {
    if (!current) return;
    const rating = store.get(current.id) || {};
    const stale = store.isStale(current.id);
    for (const button of document.querySelectorAll('[data-verdict], [data-rating]')) {
      const value = button.dataset.verdict || Number(button.dataset.rating);
      const chosen = value === (button.dataset.verdict ? rating.verdict : rating.rating);
      QC.press(button, chosen && !stale);
      button.classList.toggle('stale-mark', Boolean(chosen && stale));
    }
    if (document.activeElement !== $('notes')) $('notes').value = rating.notes || '';
    $('stale').hidden = !stale;
    if (stale) {
      const was = [rating.verdict, rating.rating].filter(Boolean).join(', ') || 'notes';
      $('stale').textContent = `Stale: the mask has changed since ${rating.rater || 'someone'} rated it (${was}, ${String(rating.time).slice(0, 10)}). Rate it again.`;
    }
    refreshItem(current);
  }

  function rate(fields) {
    if (!current) return;
    const before = store.isStale(current.id) ? {} : store.get(current.id) || {};
    const [name, value] = Object.entries(fields)[0];
    const again = before[name] === value;
    store.rate(current.id, again ? { [name]: null } : fields);
    drawRating();
    say(again ? `${current.name}: taken back` : `${current.name}: ${name === 'rating' ? `quality ${value}` : value}`);
    if (name === 'verdict' && !again && QC.pressed($('advance'))) step(1);
  }

  function keepNotes() {
    if (!current) return;
    const notes = $('notes').value.trim();
    if (notes !== ((store.get(current.id) || {}).notes || '')) {
      if (store.isStale(current.id)) {
        // Notes say nothing about the new mask: the rating stays stale.
        store.merge([[current.id, { ...store.get(current.id), notes }]]);
      } else store.rate(current.id, { notes });
      drawRating();
    }
  }

  function undo() {
    const ids = store.undo();
    if (!ids) { say('Nothing to undo'); return; }
    drawList();
    const scan = byId.get(ids[0]);
    if (ids.length === 1 && scan && !isIndex && scan !== current) go(scan);
    else drawRating();
    say(ids.length === 1 && scan ? `Undone: ${scan.name}` : `Undone: ${ids.length} ratings`);
  }

  // ---------------------------------------------------------------- flicker

  // A cord beside a brain tells nothing.
  const alike = (scan) => scan && scan !== current && (!current.kind || scan.kind === current.kind);
  const referenceScan = () => [reference, previous].find(alike) ?? scans.find((scan) => alike(scan) && scan.status === 'ok');

  function drawReference() {
    const chosen = referenceScan();
    $('reference').replaceChildren(...scans.filter((scan) => alike(scan) && scan.status === 'ok').map((scan) => el('option', { value: scan.id, selected: scan === chosen }, scan.name)));
    $('flicker').disabled = !chosen;
  }

  function swap() {
    const other = referenceScan();
    if (!other || !current) return;
    swapped = !swapped;
    $('banner').hidden = !swapped;
    if (swapped) $('banner').textContent = `Other scan: ${other.name}`;
    const pictures = document.querySelector('.pictures');
    const top = pictures.scrollTop;
    view.draw(swapped ? cardOf(other) : cardOf(current));
    pictures.scrollTop = top;
  }

  function stopFlicker() {
    clearInterval(timer);
    timer = null;
    QC.press($('flicker'), false);
    if (swapped) swap();
  }

  // ---------------------------------------------------------------- export, import, agreement

  const fileStem = () => (store.rater ? `qc_ratings_${store.rater.replace(/[^\w-]+/g, '_')}` : 'qc_ratings');

  function exportAs(kind) {
    store.reread();
    const rows = QC.ratingRows(scans, store);
    if (kind === 'json') QC.download(`${fileStem()}.json`, QC.toJSON(meta, store.rater, rows), 'application/json');
    if (kind === 'csv') QC.download(`${fileStem()}.csv`, QC.toCSV(rows), 'text/csv');
    if (kind === 'fail') QC.download('qc_fail.yml', QC.toYAML(scans, store, 'fail'), 'text/yaml');
    if (kind === 'artifact') QC.download('qc_artifact.yml', QC.toYAML(scans, store, 'artefact'), 'text/yaml');
    const stale = rows.filter((row) => row.stale).length;
    const about = kind === 'json' || kind === 'csv' ? `${rows.length} ratings exported` : 'Exported';
    say(stale ? `${about}; ${stale} stale ${kind === 'json' || kind === 'csv' ? 'are marked so' : 'left out'}` : about);
  }

  async function importFiles(files) {
    const entries = [], said = [];
    for (const file of files) {
      try {
        const found = QC.readImport(file.name, await file.text(), scans, store);
        entries.push(...found.entries);
        said.push(`${file.name}: ${found.entries.length} imported${found.unknown ? `, ${found.unknown} of scans that are not here` : ''}${found.older ? `, ${found.older} older than those here` : ''}.`);
      } catch (error) {
        said.push(`${file.name} ${error.message}.`);
      }
    }
    store.merge(entries);
    $('importSaid').textContent = said.join(' ');
    $('importFile').value = '';
    drawList();
    drawRating();
  }

  async function drawAgreement() {
    const said = $('agreementSaid');
    const [a] = $('raterA').files, [b] = $('raterB').files;
    if (!a) { said.replaceChildren(); return; }
    try {
      const first = QC.parseRatings(a.name, await a.text());
      const second = b ? QC.parseRatings(b.name, await b.text()) : { rows: QC.ratingRows(scans, store) };
      const found = QC.agreement(first.rows, second.rows);
      const percent = (x) => (x === null ? '\u2013' : `${(100 * x).toFixed(0)} %`);
      const row = (name, part, kappa) => el('tr', {}, el('td', {}, name), el('td', {}, String(part.n)), el('td', {}, percent(part.agreement)), el('td', {}, kappa === null ? 'undefined' : kappa.toFixed(3)));
      said.replaceChildren(
        el('p', {}, `${found.scans} scans rated by both${found.different_masks ? `; ${found.different_masks} left out, for they were different masks` : ''}.`),
        el('table', {}, el('thead', {}, el('tr', {}, ['', 'scans', 'same', 'kappa'].map((t) => el('th', { scope: 'col' }, t)))),
          el('tbody', {}, row('verdict (Cohen\u2019s kappa)', found.verdicts, found.verdicts.kappa), row('quality 1\u20134 (quadratic weights)', found.ratings, found.ratings.weighted_kappa))),
        el('ul', { class: 'texts' }, found.disagreements.map(([x, y]) => el('li', {}, `${x.image || x.scan}: ${[x.verdict, x.rating].filter(Boolean).join(' ')} / ${[y.verdict, y.rating].filter(Boolean).join(' ')}`))));
    } catch (error) {
      said.replaceChildren(el('p', { class: 'notice' }, `The file ${error.message}.`));
    }
  }

  // ---------------------------------------------------------------- keys and buttons

  function toggle(id, apply) {
    const button = $(id);
    const run = () => { QC.press(button, !QC.pressed(button)); apply(QC.pressed(button)); };
    button.addEventListener('click', run);
    return run;
  }

  const root = document.body.classList;
  const overlay = toggle('overlay', (on) => root.toggle('no-overlay', !on));
  const fill = toggle('fill', (on) => root.toggle('filled', on));
  toggle('smooth', (on) => root.toggle('smooth', on));
  toggle('advance', () => {});
  const zoomTo = (scale) => { view.zoomed = true; view.scale(scale); };
  const zoomBy = (factor) => zoomTo(Number($('zoom').value) * factor);
  const setVariable = (name, value) => document.documentElement.style.setProperty(name, value);

  const KEYS = {
    j: () => step(1), ArrowDown: () => step(1), ArrowRight: () => step(1),
    k: () => step(-1), ArrowUp: () => step(-1), ArrowLeft: () => step(-1),
    p: () => rate({ verdict: 'pass' }), f: () => rate({ verdict: 'fail' }), a: () => rate({ verdict: 'artefact' }),
    1: () => rate({ rating: 1 }), 2: () => rate({ rating: 2 }), 3: () => rate({ rating: 3 }), 4: () => rate({ rating: 4 }),
    0: () => { if (current) { store.clear(current.id); drawRating(); say(`${current.name}: cleared`); } },
    n: () => $('notes').focus(), u: undo, o: overlay, c: fill, x: swap,
    '+': () => zoomBy(1.2), '=': () => zoomBy(1.2), '-': () => zoomBy(1 / 1.2),
    '/': () => { $('listPane').classList.add('open'); $('search').focus(); $('search').select(); },
    '?': () => $('help').showModal(),
  };
  const INDEX_KEYS = ['u', '/', '?'];
  const LARGE_KEYS = { ArrowRight: () => view.enlargeBy(1), ArrowDown: () => view.enlargeBy(1), ArrowLeft: () => view.enlargeBy(-1), ArrowUp: () => view.enlargeBy(-1), o: overlay, c: fill };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.closest('input, textarea, select');
    if (typing) {
      if ((event.key === 'Escape' || event.key === 'Enter') && typing.matches('#search, #notes, #rater')) {
        event.preventDefault();
        typing.blur();
        $('card').focus({ preventScroll: true });
      }
      return;
    }
    const single = event.key.length === 1;
    if (single && !keysOn) return;
    if ($('large').open) {
      if (Object.hasOwn(LARGE_KEYS, event.key)) { event.preventDefault(); LARGE_KEYS[event.key](); }
      return;
    }
    if (document.querySelector('dialog[open]')) return;
    // A focused panel that scrolls keeps its arrows.
    if (!single && event.target.closest('.scroll')) return;
    const key = single ? event.key.toLowerCase() : event.key;
    if (!Object.hasOwn(KEYS, key) || (isIndex && !INDEX_KEYS.includes(key))) return;
    event.preventDefault();
    KEYS[key]();
  }

  function listen() {
    document.addEventListener('keydown', onKey);
    $('previous').addEventListener('click', () => step(-1));
    $('next').addEventListener('click', () => step(1));
    for (const button of document.querySelectorAll('[data-verdict]')) button.addEventListener('click', () => rate({ verdict: button.dataset.verdict }));
    for (const button of document.querySelectorAll('[data-rating]')) button.addEventListener('click', () => rate({ rating: Number(button.dataset.rating) }));
    $('notes').addEventListener('change', keepNotes);
    $('rater').value = store.rater;
    $('rater').addEventListener('change', () => { store.rater = $('rater').value.trim(); });
    $('undo').addEventListener('click', undo);
    for (const id of ['search', 'filter', 'sort']) $(id).addEventListener('input', drawList);
    $('listToggle').addEventListener('click', () => $('listToggle').setAttribute('aria-expanded', String($('listPane').classList.toggle('open'))));
    $('opacity').addEventListener('input', () => setVariable('--opacity', $('opacity').value / 100));
    $('zoom').addEventListener('input', () => zoomTo(Number($('zoom').value)));
    $('volume').addEventListener('input', () => { view.volume = Number($('volume').value); view.redraw(); QC.drawSide($('side'), view.card, current, meta); });
    $('reference').addEventListener('input', () => { reference = byId.get($('reference').value); });
    $('flicker').addEventListener('click', () => {
      if (timer) { stopFlicker(); return; }
      QC.press($('flicker'), true);
      swap();
      timer = setInterval(swap, 700);
    });
    for (const name of ['help', 'exchange', 'agreement']) $(`${name}Open`).addEventListener('click', () => $(name).showModal());
    for (const button of document.querySelectorAll('[data-export]')) button.addEventListener('click', () => exportAs(button.dataset.export));
    $('importFile').addEventListener('change', () => importFiles([...$('importFile').files]));
    for (const id of ['raterA', 'raterB']) $(id).addEventListener('change', drawAgreement);
    $('keysOn').addEventListener('change', () => { keysOn = $('keysOn').checked; });
    $('largePrevious').addEventListener('click', () => view.enlargeBy(-1));
    $('largeNext').addEventListener('click', () => view.enlargeBy(1));
    // Another tab with this page may have rated meanwhile.
    addEventListener('storage', () => { store.reread(); drawList(); drawRating(); });
    addEventListener('resize', () => { if (view.card && view.card.size) view.fit(view.card); });
    addEventListener('hashchange', () => { const scan = fromHash(); if (scan && scan !== current) go(scan); });
  }

  function fromHash() {
    try { return byId.get(decodeURIComponent(location.hash.slice(1))); } catch { return undefined; }
  }

  listen();
  drawPages();
  drawList();
  if (isIndex || !scans.length) {
    $('card').hidden = true;
    if (!scans.length) { $('table').hidden = false; $('table').append(el('p', { class: 'empty' }, 'There are no scans on this page yet.')); }
  } else go(fromHash() || order[0]);
})();
