// The list of all scans of the set: filters, order, and what became of each.
QC.makeList = ({ meta, scans, store, settings, go }) => {
  const { $, el } = QC;
  const MARKS = { pass: '\u2713', fail: '\u2715', artefact: '\u25d0' };
  const compared = scans.some((scan) => scan.compared);
  let current = null, order = [];

  // What all names share tells nobody anything.
  const common = (() => {
    const [first, ...others] = scans.map((scan) => scan.name.split('_'));
    return new Set(others.length ? first.filter((part) => others.every((parts) => parts.includes(part))) : []);
  })();
  const short = (scan) => scan.name.split('_').filter((part) => !common.has(part)).join('_') || scan.name;

  function why(scan) {
    if (scan.reasons.length) return scan.reasons.join('; ');
    if (scan.compared) return 'nothing stands out';
    const count = scans.filter((other) => other.kind === scan.kind && other.status === 'ok').length;
    return count < 5 ? `not compared (${QC.count(count, 'scan')})` : 'not compared';
  }

  function ratingOf(scan) {
    const rating = store.get(scan.id);
    return rating && !store.isStale(scan.id) ? rating : {};
  }

  function markOf(scan) {
    const rating = store.get(scan.id);
    if (!rating) return ['', '', 'not rated'];
    if (store.isStale(scan.id)) return ['\u21bb', 'stale', 'stale rating'];
    const grade = rating.rating ? String(rating.rating) : '';
    return [(MARKS[rating.verdict] || '') + grade, rating.verdict || '', [rating.verdict, rating.artefacts, grade].filter(Boolean).join(', ') || 'notes only'];
  }

  // ---------------------------------------------------------------- filters

  const FILTERS = {
    all: () => true,
    unrated: (scan) => { const { verdict, rating } = ratingOf(scan); return !verdict && !rating; },
    standout: (scan) => scan.reasons.length > 0,
    stale: (scan) => store.isStale(scan.id),
    failed: (scan) => scan.status !== 'ok',
    corrected: (scan) => scan.corrected.length > 0,
    ...Object.fromEntries(Object.keys(MARKS).map((verdict) => [verdict, (scan) => ratingOf(scan).verdict === verdict])),
  };

  function matches(scan) {
    if (!FILTERS[$('filter').value](scan)) return false;
    const group = $('group').value;
    if (group) {
      const [column, value] = JSON.parse(group);
      if ((scan.groups[column] ?? '') !== value) return false;
    }
    const wanted = $('search').value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!wanted.length) return true;
    const entities = Object.entries(scan.entities).map((pair) => pair.join('-'));
    const text = [scan.name, scan.image, scan.id, why(scan), (store.get(scan.id) || {}).notes, ...entities, ...Object.values(scan.groups)].join(' ').toLowerCase();
    return wanted.every((word) => text.includes(word));
  }

  function fillGroups() {
    const parts = meta.groups.filter(({ values }) => values).map(({ name, values }) => el('optgroup', { label: name },
      values.map((value) => el('option', { value: JSON.stringify([name, value]) }, `${name}: ${value || 'not known'}`))));
    $('group').append(...parts);
    $('group').hidden = !parts.length;
  }

  // ---------------------------------------------------------------- order

  const text = (a, b) => a.localeCompare(b, undefined, { numeric: true });
  const SORTS = [
    // Ranks rise as scores fall.
    { key: 'score', label: 'Most unusual', of: (scan) => scan.rank, falls: true },
    { key: 'name', label: 'Name', of: (scan) => scan.name },
    ...meta.plotted.map(({ name, label }) => ({ key: name, label, of: (scan) => scan.values[name] })),
    { key: 'rating', label: 'Rating', of: (scan) => { const { verdict, rating } = ratingOf(scan); return verdict || rating ? `${verdict || ''}${rating || ''}` : null; } },
    ...meta.groups.map(({ name }) => ({ key: `group:${name}`, label: name, of: (scan) => scan.groups[name] || null })),
  ];

  // What has no value comes last, whichever way round.
  function sorted() {
    const { of } = SORTS.find(({ key }) => key === $('sort').value), way = settings.get('down') ? -1 : 1;
    const value = new Map(scans.map((scan) => [scan, of(scan) ?? null]));
    return [...scans].sort((first, second) => {
      const [a, b] = [value.get(first), value.get(second)];
      if (a === null || b === null) return Number(a === null) - Number(b === null) || first.rank - second.rank;
      return way * (typeof a === 'string' ? text(a, b) : a - b) || first.rank - second.rank;
    });
  }

  const falls = () => Boolean(SORTS.find(({ key }) => key === $('sort').value).falls) !== Boolean(settings.get('down'));
  const arrow = () => (falls() ? '\u2193' : '\u2191');

  function sortBy(key) {
    if ($('sort').value === key) settings.set('down', !settings.get('down'));
    else { $('sort').value = key; settings.set('down', false); settings.set('sort', key); }
    draw();
  }

  // ---------------------------------------------------------------- drawing

  function item(scan) {
    const [mark, kind, words] = markOf(scan);
    const here = scan === current;
    return el('li', {}, el('button', {
      'data-id': scan.id, 'data-name': scan.name, 'aria-current': here ? 'true' : null, tabindex: here ? 0 : -1, title: `${scan.name}\n${scan.corrected.length ? `corrected by hand: ${scan.corrected.join(', ')}\n` : ''}${why(scan)}`, onclick: () => go(scan),
    }, el('span', { class: `mark ${kind}`, 'aria-hidden': 'true' }, mark), el('span', { class: 'who' }, short(scan), scan.corrected.length ? el('b', { class: 'corrected' }, ' corrected') : null),
    el('span', { class: `score ${scan.reasons.length ? 'high' : ''}` }, QC.score(scan)),
    el('span', { class: 'why' }, why(scan)),
    el('span', { class: 'unseen words' }, words)));
  }

  function draw() {
    const all = sorted();
    order = all.filter(matches);
    const items = order.map(item);
    if (!items.length) items.push(el('li', { class: 'empty' }, scans.length ? 'No scan matches.' : 'No scans.'));
    $('scans').replaceChildren(...items);
    keepOneStop();
    $('direction').textContent = arrow();
    QC.press($('direction'), settings.get('down'));
    $('shown').hidden = order.length === scans.length;
    $('shownText').textContent = `${order.length} of ${scans.length} shown`;
    drawProgress();
    QC.allScans.draw(order);
  }

  // Of the entries one is a stop of the tabulator; the others are a step of j or k away.
  function keepOneStop() {
    if (!$('scans').querySelector('[tabindex="0"]')) $('scans').querySelector('button')?.setAttribute('tabindex', 0);
  }

  function drawProgress() {
    const rated = scans.filter((scan) => !FILTERS.unrated(scan)).length;
    const stale = scans.filter(FILTERS.stale).length;
    const with_ = (status) => scans.filter((scan) => scan.status === status).length;
    const failed = with_('failed'), nothing = with_('nothing_found'), page = (meta.pages || []).indexOf(meta.this) + 1;
    $('progress').textContent = [
      page ? `page ${page} of ${meta.pages.length}` : null, `${rated} of ${scans.length} rated`, stale ? `${stale} stale` : null,
      failed ? `${failed} failed to run` : null, nothing ? `nothing found in ${nothing}` : null,
      scans.length && !compared ? 'not compared' : null,
    ].filter(Boolean).join(' \u00b7 ');
    $('storageNotice').hidden = store.lasting;
  }

  fillGroups();
  if (!scans.some(FILTERS.corrected)) $('filter').querySelector('[value=corrected]').remove();
  $('sort').append(...SORTS.map(({ key, label }) => el('option', { value: key }, label)));
  for (const id of ['filter', 'group', 'sort', 'search']) {
    const kept = settings.get(id), box = $(id);
    // An option that is gone leaves the first.
    if (typeof kept === 'string' && (id === 'search' || [...box.options].some((option) => option.value === kept))) box.value = kept;
    box.addEventListener('input', () => { settings.set(id, box.value); draw(); });
  }
  $('direction').addEventListener('click', () => { settings.set('down', !settings.get('down')); draw(); });
  $('showAll').addEventListener('click', () => {
    for (const [id, value] of [['filter', 'all'], ['group', ''], ['search', '']]) { $(id).value = value; settings.set(id, value); }
    draw();
  });

  return {
    draw, sortBy, falls, arrow, why, short, markOf, ratingOf,
    get order() { return order; },

    // The next scan that matches, also where the one shown does not (any more).
    beyond(by) {
      const all = sorted(), at = all.indexOf(current);
      return (by > 0 ? all.slice(at + 1) : all.slice(0, Math.max(at, 0)).reverse()).find(matches) || null;
    },

    mark(scan) {
      const focused = $('scans').contains(document.activeElement);
      current = scan;
      for (const button of $('scans').querySelectorAll('button')) {
        const here = button.dataset.id === scan.id;
        button.setAttribute('tabindex', here ? 0 : -1);
        if (!here) { button.removeAttribute('aria-current'); continue; }
        button.setAttribute('aria-current', 'true');
        button.scrollIntoView({ block: 'nearest' });
        if (focused) button.focus();
      }
      keepOneStop();
    },

    refresh(scan) {
      const button = $('scans').querySelector(`button[data-id="${CSS.escape(scan.id)}"]`);
      const [mark, kind, words] = markOf(scan);
      if (button) {
        const place = button.querySelector('.mark');
        place.textContent = mark;
        place.className = `mark ${kind}`;
        button.querySelector('.words').textContent = words;
      }
      if (matches(scan) !== Boolean(button)) draw();
      else drawProgress();
    },
  };
};
