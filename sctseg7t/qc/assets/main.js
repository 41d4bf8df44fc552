// The page's life: the scan shown, its rating, export and import, keys.
(() => {
  const { $, el, say, view } = QC;
  const meta = QC.json('meta');
  // Those of all pages of the set; the cards of some are on this one.
  const scans = meta.scans;
  const byId = new Map(scans.map((scan) => [scan.id, scan]));
  const store = QC.makeStore(meta.page, scans);
  const settings = QC.makeSettings(meta.page);
  const isIndex = document.body.classList.contains('index');
  const cards = new Map();
  let current = null, previous = null, reference = null, timer = null, swapped = false;
  scans.forEach((scan, n) => { scan.rank = n + 1; });
  const isHere = (scan) => !scan.at || scan.at === meta.this;
  const placeOf = (scan) => `${isHere(scan) ? '' : scan.at}#${encodeURIComponent(scan.id)}`;
  const list = QC.makeList({ meta, scans, store, settings, go });

  // The few last cards stay parsed; the others are text in the page.
  function cardOf(scan) {
    if (!cards.has(scan.id)) {
      if (cards.size > 8) cards.delete(cards.keys().next().value);
      cards.set(scan.id, QC.json(`card-${scan.index}`));
    }
    return cards.get(scan.id);
  }

  function drawPages() {
    if (!meta.pages) return;
    $('pages').hidden = false;
    const link = (name, text, label) => (name === meta.this ? el('b', { 'aria-current': 'page' }, text) : el('a', { href: name, 'aria-label': label }, text));
    $('pages').append(link('index.html', 'Index'), ...meta.pages.map((name, n) => link(name, String(n + 1), `Page ${n + 1}`)));
  }

  const closeList = () => { $('listPane').classList.remove('open'); $('listToggle').setAttribute('aria-expanded', 'false'); };

  // ---------------------------------------------------------------- a scan

  function go(scan) {
    closeList();
    if (!isHere(scan)) { location.href = placeOf(scan); return; }
    if (document.activeElement === $('notes')) $('notes').blur();
    showOverview(false);
    stopFlicker();
    if (current && current !== scan) previous = current;
    const before = view.card, slice = view.slice;
    current = scan;
    const card = cardOf(scan);
    view.card = card;
    view.slice = view.lesion = null;
    ranges(card);
    history.replaceState(null, '', placeOf(scan));
    $('name').textContent = scan.name;
    $('about').replaceChildren(scan.corrected.length ? el('b', { class: 'corrected' }, `corrected by hand: ${scan.corrected.join(', ')}`) : '', scan.corrected.length ? ' \u00b7 ' : '', about(card));
    $('why').textContent = scan.status === 'ok' ? `Score ${QC.score(scan)}: ${list.why(scan)}` : '';
    drawVolumes(card);
    drawTissues(card);
    if (card.size) view.fit(card);
    view.draw(card);
    QC.drawSide($('side'), card, scan, meta);
    drawRating();
    drawReference();
    list.mark(scan);
    document.querySelector('.pictures').scrollTop = 0;
    $('side').scrollTop = 0;
    $('previous').disabled = !list.beyond(-1);
    $('next').disabled = !list.beyond(1);
    if (before) QC.large.follow(before, slice);
  }

  // Heads are ten times as wide as cords: a zoom of one is none of the other.
  function ranges(card) {
    const least = card.kind === 'brain' ? .5 : 2;
    $('zoom').min = least;
    $('zoom').step = least === 2 ? .5 : .1;
    const kept = settings.get(`zoom:${card.kind}`);
    view.zoomed = Number.isFinite(kept);
    if (view.zoomed) view.scale(kept);
  }

  function about(card) {
    if (!card.mm) return card.image;
    const slices = card.tiles.filter((tile) => tile.t === 0).length;
    const size = `, ${card.mm.slice(0, 2).map((s) => QC.number(s, 2)).join(' \u00d7 ')} mm pixels`;
    return `${card.image} \u00b7 ${QC.count(slices, 'slice')}${card.selection ? ` of ${card.selection.of}, radiological (right is left)` : ''}${size}`;
  }

  function step(by) {
    const next = list.beyond(by);
    if (!next) {
      const filtered = list.order.length < scans.length ? ' that matches' : '';
      say(list.order.length ? `This is the ${by > 0 ? 'last' : 'first'} scan${filtered}` : 'No scan matches');
      return;
    }
    go(next);
    const at = list.order.indexOf(next) + 1;
    QC.announce(`${next.name}, ${at} of ${list.order.length}, ${list.markOf(next)[2]}. ${next.status === 'ok' ? `Score ${QC.score(next)}` : QC.score(next)}: ${list.why(next)}`);
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
        settings.set('tissues', view.tissues);
        view.redraw();
      },
    }, tissue)));
  }

  function showOverview(on) {
    if (isIndex || QC.allScans.isOpen === on) return;
    document.body.classList.toggle('all-scans', on);
    QC.press($('overviewOpen'), on);
    if (on) QC.allScans.draw(list.order);
    else if (view.card && view.card.size) view.fit(view.card);
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
    drawArtefacts(stale ? {} : rating);
    if (document.activeElement !== $('notes')) $('notes').value = rating.notes || '';
    const was = [rating.verdict, rating.artefacts, rating.rating && `quality ${rating.rating}`].filter(Boolean).join(', ') || 'notes';
    const day = String(rating.time).slice(0, 10);
    $('stale').hidden = !stale;
    if (stale) $('stale').textContent = `Stale: the mask has changed since ${rating.rater || 'someone'} rated it (${was}, ${day}). Rate it again.`;
    $('rated').textContent = store.isEmpty(rating) ? 'Not rated.' : `${stale ? 'Stale rating' : 'Rated'}: ${was}${rating.rater ? ` by ${rating.rater}` : ''}, ${day}. ${rating.notes}`;
    list.refresh(current);
  }

  // Of what kinds an artefact is, once the verdict says that there is one.
  const ARTEFACTS = ['motion', 'ghosting', 'wrap-around', 'susceptibility', 'noise', 'coverage'];

  function drawArtefacts({ verdict, artefacts }) {
    const chosen = new Set((artefacts || '').split(';').filter(Boolean));
    $('artefacts').hidden = verdict !== 'artefact';
    $('artefacts').replaceChildren(...[...new Set([...ARTEFACTS, ...chosen])].map((kind) => el('button', {
      'aria-pressed': String(chosen.has(kind)),
      onclick: () => { chosen[chosen.has(kind) ? 'delete' : 'add'](kind); rate({ artefacts: [...chosen].join(';') }); },
    }, kind)));
  }

  // Whoever rates first says who it is; then the rating is made.
  let waiting = null;

  function asRater(then) {
    if (store.named) { then(); return; }
    waiting = then;
    $('whoName').value = '';
    $('who').showModal();
    $('whoName').focus();
  }

  function listenWho() {
    $('who').querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      const then = waiting, name = event.submitter && event.submitter.value === 'nobody' ? '' : $('whoName').value.trim();
      waiting = null;
      $('who').close();
      callRater(name);
      then();
    });
    $('who').addEventListener('close', () => {
      if (!waiting) return;
      waiting = null;
      drawRating();
      say('Not rated: it was not said by whom');
    });
  }

  function callRater(name) {
    const before = store.rater;
    const kept = before === name ? 0 : new Map(store.counts()).get(before) || 0;
    const adopted = store.call(name);
    showRater();
    list.draw();
    drawRating();
    const own = new Map(store.counts()).get(name) || 0;
    if (adopted) say(`${QC.count(adopted, 'rating')} made so far ${adopted === 1 ? 'is' : 'are'} now ${name}\u2019s`);
    else if (name !== before && (kept || own)) say(`${name || 'No name'}: ${QC.count(own, 'rating')}${kept ? `; ${before || 'no name'}\u2019s ${kept} ${kept === 1 ? 'is' : 'are'} kept apart` : ''}`);
  }

  const refresh = () => { showRater(); list.draw(); drawRating(); };

  function showRater() {
    $('rater').value = store.rater;
    $('raters').replaceChildren(...store.counts().filter(([name]) => name).map(([name]) => el('option', { value: name })));
  }

  function rate(fields) {
    const scan = current;
    if (!scan) return;
    asRater(() => {
      const before = store.isStale(scan.id) ? {} : store.get(scan.id) || {};
      const [name, value] = Object.entries(fields)[0];
      const again = before[name] === value;
      // Another verdict has no kinds of artefact.
      const given = { ...(again ? { [name]: null } : fields), ...(name === 'verdict' ? { artefacts: '' } : {}) };
      store.rate(scan.id, given);
      drawRating();
      say(again ? `${scan.name}: taken back` : `${scan.name}: ${name === 'rating' ? `quality ${value}` : value || 'artefact'}`);
      if (name === 'verdict' && !again && QC.pressed($('advance'))) step(1);
    });
  }

  function keepNotes() {
    const scan = current, notes = $('notes').value.trim();
    if (!scan || notes === ((store.get(scan.id) || {}).notes || '')) return;
    asRater(() => {
      // Notes say nothing about a new mask: a stale rating stays stale.
      if (store.isStale(scan.id)) store.merge([[store.rater, scan.id, { ...store.get(scan.id), notes }]]);
      else store.rate(scan.id, { notes });
      drawRating();
      list.refresh(scan);
    });
  }

  function clear() {
    if (!current) return;
    store.clear(current.id);
    drawRating();
    say(`${current.name}: cleared`);
  }

  function undo() {
    const ids = store.undo();
    if (!ids) { say('Nothing to undo'); return; }
    list.draw();
    const scan = byId.get(ids[0]);
    if (ids.length === 1 && scan && !isIndex && scan !== current) go(scan);
    else drawRating();
    say(ids.length === 1 && scan ? `Undone: ${scan.name}` : `Undone: ${QC.count(ids.length, 'rating')}`);
  }

  // ---------------------------------------------------------------- flicker

  // A cord beside a brain tells nothing, and another page's cards are not here.
  const alike = (scan) => scan && scan !== current && isHere(scan) && (!current.kind || scan.kind === current.kind);
  const referenceScan = () => [reference, previous].find(alike) ?? scans.find((scan) => alike(scan) && scan.status === 'ok');

  function drawReference() {
    const chosen = referenceScan();
    $('reference').replaceChildren(...scans.filter((scan) => alike(scan) && scan.status === 'ok').map((scan) => el('option', { value: scan.id, selected: scan === chosen }, scan.name)));
    $('flicker').disabled = !chosen;
  }

  // The line over the slices is always there, so that nothing moves when what it says changes.
  function drawBanner(other) {
    $('banner').classList.toggle('notice', Boolean(other));
    $('banner').textContent = other ? `Other scan: ${other.name}` : 'Seen from below: the patient\u2019s right is on the left.';
  }

  function swap() {
    const other = referenceScan();
    if (!other || !current) return;
    swapped = !swapped;
    drawBanner(swapped ? other : null);
    const pictures = document.querySelector('.pictures');
    const top = pictures.scrollTop;
    view.draw(swapped ? cardOf(other) : cardOf(current));
    pictures.scrollTop = top;
    QC.large.refresh();
  }

  function stopFlicker() {
    clearInterval(timer);
    timer = null;
    QC.press($('flicker'), false);
    if (swapped) swap();
  }

  // ---------------------------------------------------------------- keys and buttons

  const root = document.body.classList;
  const setVariable = (name, value) => document.documentElement.style.setProperty(name, value);

  // A button that is on or off, as it was when the page was last seen.
  function toggle(id, apply, otherwise = false) {
    const set = (on) => { QC.press($(id), on); apply(on); };
    const run = () => { set(!QC.pressed($(id))); settings.set(id, QC.pressed($(id))); };
    set(Boolean(settings.get(id, otherwise)));
    $(id).addEventListener('click', run);
    return run;
  }

  function slider(id, apply) {
    const kept = settings.get(id);
    if (Number.isFinite(kept)) { $(id).value = kept; apply(kept); }
    $(id).addEventListener('input', () => { const value = Number($(id).value); settings.set(id, value); apply(value); });
  }

  const overlay = toggle('overlay', (on) => root.toggle('no-overlay', !on), true);
  const fill = toggle('fill', (on) => root.toggle('filled', on));
  toggle('smooth', (on) => root.toggle('smooth', on));
  toggle('advance', () => {});

  function zoomTo(scale) {
    view.zoomed = true;
    view.scale(scale);
    settings.set(`zoom:${view.card.kind}`, Number($('zoom').value));
  }
  const zoomBy = (factor) => { if (QC.large.isOpen) QC.large.zoomBy(factor); else if (view.card) zoomTo(Number($('zoom').value) * factor); };

  const RATING_KEYS = {
    j: () => step(1), k: () => step(-1), u: undo, n: () => $('notes').focus(), 0: clear,
    p: () => rate({ verdict: 'pass' }), f: () => rate({ verdict: 'fail' }), a: () => rate({ verdict: 'artefact' }),
    1: () => rate({ rating: 1 }), 2: () => rate({ rating: 2 }), 3: () => rate({ rating: 3 }), 4: () => rate({ rating: 4 }),
    o: overlay, c: fill, x: swap, '+': () => zoomBy(1.2), '=': () => zoomBy(1.2), '-': () => zoomBy(1 / 1.2),
  };
  const PAGE_KEYS = {
    u: undo, t: () => showOverview(!QC.allScans.isOpen), '?': () => $('help').showModal(),
    '/': () => { $('listPane').classList.add('open'); $('search').focus(); $('search').select(); },
  };
  const SCAN_KEYS = {
    ...RATING_KEYS, ...PAGE_KEYS,
    ArrowDown: () => step(1), ArrowRight: () => step(1), ArrowUp: () => step(-1), ArrowLeft: () => step(-1),
  };
  const LARGE_KEYS = {
    ...RATING_KEYS,
    ArrowRight: () => QC.large.by(1), ArrowDown: () => QC.large.by(1), ArrowLeft: () => QC.large.by(-1), ArrowUp: () => QC.large.by(-1),
  };

  function keysNow() {
    if (QC.large.isOpen && document.querySelectorAll('dialog[open]').length === 1) return LARGE_KEYS;
    if (document.querySelector('dialog[open]')) return {};
    return isIndex || QC.allScans.isOpen ? { ...PAGE_KEYS, Escape: () => showOverview(false) } : SCAN_KEYS;
  }

  // What was last used: a slider or a menu that the mouse has touched takes no keys.
  let pointed = false;

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === 'Tab') pointed = false;
    // The focus leaves a dialog a moment after it was closed.
    const box = event.target.closest(':is(input, textarea, select):not(dialog:not([open]) *)');
    if (box && !box.matches('[type=range], [type=checkbox], select')) {
      if ((event.key === 'Escape' || event.key === 'Enter') && box.matches('#search, #notes, #rater')) {
        event.preventDefault();
        box.blur();
        (QC.large.isOpen ? $('largeScroll') : $('card')).focus({ preventScroll: true });
      }
      return;
    }
    const single = event.key.length === 1;
    if (single && !settings.get('keys', true)) return;
    if (box && !pointed && (!single || box.matches('select'))) return;
    // A focused panel that scrolls keeps its arrows.
    if (!single && event.target.closest('.scroll, [role=separator]')) return;
    const key = single ? event.key.toLowerCase() : event.key, keys = keysNow();
    if (!Object.hasOwn(keys, key)) return;
    event.preventDefault();
    if (box) box.blur();
    keys[key]();
  }

  function listen() {
    document.addEventListener('keydown', onKey);
    listenWho();
    document.addEventListener('pointerdown', () => { pointed = true; }, true);
    document.addEventListener('change', (event) => { if (pointed && event.target.matches('select, [type=range]')) event.target.blur(); });
    $('previous').addEventListener('click', () => step(-1));
    $('next').addEventListener('click', () => step(1));
    for (const button of document.querySelectorAll('[data-verdict]')) button.addEventListener('click', () => rate({ verdict: button.dataset.verdict }));
    for (const button of document.querySelectorAll('[data-rating]')) button.addEventListener('click', () => rate({ rating: Number(button.dataset.rating) }));
    $('notes').addEventListener('change', keepNotes);
    $('rater').addEventListener('change', () => callRater($('rater').value.trim()));
    $('undo').addEventListener('click', undo);
    $('overviewOpen').addEventListener('click', () => showOverview(!QC.allScans.isOpen));
    for (const [button, pane] of [['listToggle', 'listPane'], ['toolsToggle', 'tools']]) $(button).addEventListener('click', () => $(button).setAttribute('aria-expanded', String($(pane).classList.toggle('open'))));
    slider('opacity', (value) => setVariable('--opacity', value / 100));
    QC.windowing.set(settings.get('windowing') || {});
    QC.windowing.changed = ({ window, level }) => settings.set('windowing', { window, level });
    $('zoom').addEventListener('input', () => zoomTo(Number($('zoom').value)));
    $('fit').addEventListener('click', () => { view.zoomed = false; settings.set(`zoom:${view.card.kind}`, null); view.fit(view.card); });
    $('volume').addEventListener('input', () => { view.volume = Number($('volume').value); view.redraw(); QC.drawSide($('side'), view.card, current, meta); });
    $('reference').addEventListener('input', () => { reference = byId.get($('reference').value); });
    $('flicker').addEventListener('click', () => {
      if (timer) { stopFlicker(); return; }
      QC.press($('flicker'), true);
      swap();
      timer = setInterval(swap, 700);
    });
    const agreement = QC.agreementDialog(scans, store);
    const exchange = QC.exchangeDialog({ meta, scans, store, changed: refresh });
    for (const [name, open] of [['help', () => $('help').showModal()], ['exchange', exchange], ['agreement', agreement]]) $(`${name}Open`).addEventListener('click', open);
    $('keysOn').checked = settings.get('keys', true);
    $('keysOn').addEventListener('change', () => settings.set('keys', $('keysOn').checked));
    // Another tab with this page may have rated meanwhile.
    addEventListener('storage', () => { store.reread(); refresh(); });
    const refit = () => { if (view.card && view.card.size) view.fit(view.card); };
    addEventListener('resize', refit);
    QC.resizePanes(settings, refit);
    QC.followTheme(settings);
    addEventListener('hashchange', () => { const scan = fromHash(); if (scan && scan !== current) go(scan); });
  }

  function fromHash() {
    try { return byId.get(decodeURIComponent(location.hash.slice(1))); } catch { return undefined; }
  }

  Object.assign(view.tissues, settings.get('tissues', {}));
  listen();
  showRater();
  drawPages();
  drawBanner(null);
  QC.allScans.make({ meta, list, store, settings, go, placeOf });
  if (isIndex || !scans.length) document.body.classList.add('all-scans');
  list.draw();
  if (isIndex || !scans.length) {
    $('overviewOpen').hidden = true;
    if (!scans.length) $('plots').append(el('p', { class: 'empty' }, 'There are no scans on this page yet.'));
  } else go([fromHash(), ...list.order, ...scans].find((scan) => scan && isHere(scan)));
})();
