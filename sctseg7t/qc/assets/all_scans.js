// All scans at once: a plot of each measure by group, whose dots open the scan, and the table of all.
(() => {
  const { $, el, svg } = QC;
  const H = 230, TOP = 10, BOTTOM = 36, LEFT = 44, RADIUS = 3.6;

  // Round numbers between two ends, about five.
  function ticks(low, high) {
    const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= raw);
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high + step * 1e-6; n++) found.push(n * step);
    return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (String(step / power).includes('.') ? 1 : 0))];
  }

  function quantile(values, part) {
    const at = part * (values.length - 1), low = Math.floor(at);
    return values[low] + (at - low) * ((values[low + 1] ?? values[low]) - values[low]);
  }

  // Dots of about the same height stand beside each other.
  function spread(dots, width) {
    const rows = new Map();
    for (const dot of dots) {
      const row = Math.round(dot.y / (2 * RADIUS));
      if (!rows.has(row)) rows.set(row, []);
      rows.get(row).push(dot);
    }
    for (const row of rows.values()) {
      const step = Math.min(2 * RADIUS, width / row.length);
      row.forEach((dot, n) => { dot.dx = (n - (row.length - 1) / 2) * step; });
    }
  }

  function strip(measure, parts, page, room) {
    const shown = parts.map(([name, scans]) => [name, scans.filter((scan) => Number.isFinite(scan.values[measure.name]))]);
    const values = shown.flatMap(([, scans]) => scans.map((scan) => scan.values[measure.name]));
    if (!values.length) return null;
    const each = Math.max(58, Math.min(170, (room - LEFT - 10) / shown.length)), W = LEFT + 10 + each * shown.length;
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const air = .06 * (high - low) || Math.abs(high) * .05 || 1;
    [low, high] = [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
    const y = (value) => TOP + (H - TOP - BOTTOM) * (1 - (value - low) / (high - low));
    const [marks, digits] = ticks(low, high);
    const title = `${measure.label}${measure.unit ? `, ${measure.unit}` : ''}`;
    const nodes = marks.flatMap((value) => [svg('path', { class: 'grid', d: `M${LEFT} ${y(value)}H${W}` }), svg('text', { x: LEFT - 5, y: y(value) + 4, 'text-anchor': 'end' }, value.toFixed(digits))]);
    const said = [];
    shown.forEach(([name, scans], n) => {
      const x = LEFT + each * (n + .5), own = scans.map((scan) => scan.values[measure.name]).sort((a, b) => a - b);
      nodes.push(svg('text', { x, y: H - 19, 'text-anchor': 'middle', class: 'name' }, name.length > each / 6.5 ? `${name.slice(0, Math.floor(each / 6.5) - 1)}\u2026` : name, svg('title', {}, name)));
      nodes.push(svg('text', { x, y: H - 5, 'text-anchor': 'middle' }, `n = ${own.length}`));
      if (!own.length) return;
      const [first, middle, third] = [.25, .5, .75].map((part) => quantile(own, part));
      if (own.length > 2) nodes.push(svg('rect', { class: 'quartiles', x: x - each * .36, y: y(third), width: each * .72, height: Math.max(1, y(first) - y(third)) }));
      nodes.push(svg('path', { class: 'middle', d: `M${x - each * .36} ${y(middle)}h${each * .72}` }));
      said.push(`${name}: ${own.length}, median ${QC.number(middle, measure.digits)}`);
      const dots = scans.map((scan) => ({ scan, y: y(scan.values[measure.name]) }));
      spread(dots, each * .9);
      // What stands out lies above the others.
      for (const { scan, y: height, dx } of dots.sort((a, b) => Math.sign(a.scan.reasons.length) - Math.sign(b.scan.reasons.length))) {
        const verdict = page.list.ratingOf(scan).verdict || '';
        const text = `${scan.name}: ${QC.number(scan.values[measure.name], measure.digits)}${measure.unit ? ` ${measure.unit}` : ''}\n${page.list.markOf(scan)[2]}; ${page.list.why(scan)}`;
        nodes.push(svg('a', { href: page.placeOf(scan), tabindex: -1, onclick: (event) => { event.preventDefault(); page.go(scan); } },
          svg('circle', { class: `${scan.reasons.length ? 'out' : ''} ${verdict}`, 'data-id': scan.id, cx: x + dx, cy: height, r: RADIUS }, svg('title', {}, text))));
      }
    });
    return el('figure', {}, el('figcaption', {}, title),
      svg('svg', { class: 'strip', viewBox: `0 0 ${W} ${H}`, width: W, height: H, role: 'group', 'aria-label': `${title}. ${said.join('; ')}. All values are in the table below.` }, nodes));
  }

  function byGroup(scans, column, values) {
    if (!column) return [['all', scans]];
    return values.map((value) => [value || 'not known', scans.filter((scan) => (scan.groups[column] ?? '') === value)]).filter(([, own]) => own.length);
  }

  function drawPlots(scans, page) {
    const column = $('plotGroup').value, { values } = page.meta.groups.find(({ name }) => name === column) || {};
    const parts = byGroup(scans.filter((scan) => scan.status === 'ok'), column, values);
    const known = page.meta.plotted.filter(({ name }) => scans.some((scan) => Number.isFinite(scan.values[name])));
    // Three beside each other where there is room.
    const across = ($('plots').clientWidth || 900), room = Math.max(240, across / Math.min(3, known.length || 1) - 26);
    const plots = known.map((measure) => strip(measure, parts, page, room)).filter(Boolean);
    $('plots').replaceChildren(...plots);
    $('plotHint').hidden = !plots.length;
  }

  function drawTable(scans, page) {
    const { list } = page, sort = $('sort').value;
    const columns = [
      { key: 'name', label: 'scan', of: (scan) => el('a', { href: page.placeOf(scan), title: scan.name, onclick: (event) => { event.preventDefault(); page.go(scan); } }, list.short(scan)) },
      ...page.meta.groups.map(({ name }) => ({ key: `group:${name}`, label: name, of: (scan) => scan.groups[name] || '' })),
      { key: 'score', label: 'score', of: (scan) => QC.score(scan), high: true },
      ...page.meta.plotted.map(({ name, label, unit, digits }) => ({ key: name, label: unit ? `${label}, ${unit}` : label, of: (scan) => QC.number(scan.values[name], digits) })),
      { key: 'rating', label: 'rating', of: (scan) => list.markOf(scan)[2] },
      { label: 'notes', of: (scan) => (page.store.get(scan.id) || {}).notes || '', words: true },
      { label: 'why', of: (scan) => list.why(scan), words: true },
    ];
    const head = columns.map(({ key, label, words }) => el('th', { scope: 'col', class: words ? 'words' : null, 'aria-sort': key === sort ? (list.falls() ? 'descending' : 'ascending') : null },
      key ? el('button', { onclick: () => { list.sortBy(key); $('all').querySelector('[aria-sort] button').focus(); } }, label, key === sort ? el('span', { 'aria-hidden': 'true' }, ` ${list.arrow()}`) : null) : label));
    $('all').replaceChildren(el('thead', {}, el('tr', {}, head)),
      el('tbody', {}, scans.map((scan) => el('tr', {}, columns.map(({ of, high, words }) => el('td', { class: high ? `score ${scan.reasons.length ? 'high' : ''}` : words ? 'words' : null }, of(scan)))))));
  }

  let page = null;
  QC.allScans = {
    get isOpen() { return document.body.classList.contains('all-scans'); },

    make(given) {
      page = given;
      const parting = page.meta.groups.filter(({ values }) => values);
      $('plotGroup').append(el('option', { value: '' }, 'no groups'), ...parting.map(({ name }) => el('option', { value: name }, name)));
      $('plotGroup').parentNode.hidden = !parting.length;
      const kept = page.settings.get('plotGroup', parting[0]?.name);
      if ([...$('plotGroup').options].some((option) => option.value === kept)) $('plotGroup').value = kept;
      $('plotGroup').addEventListener('input', () => { page.settings.set('plotGroup', $('plotGroup').value); this.draw(page.list.order); });
      // A scan's dots in all plots light up together.
      $('plots').addEventListener('pointerover', (event) => {
        const id = event.target.dataset.id;
        for (const dot of $('plots').querySelectorAll('circle')) dot.classList.toggle('lit', dot.dataset.id === id);
      });
    },

    draw(scans) {
      if (!page || !this.isOpen) return;
      drawPlots(scans, page);
      drawTable(scans, page);
    },
  };
})();
