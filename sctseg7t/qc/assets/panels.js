// The right side: why a scan stands out, its curves, its numbers, its doubts, where it comes from.
(() => {
  const { el, svg, number } = QC;
  const FLAGS = {
    locator_unsure: "the cord's place is unsure", touches_window_edge: "touches the window's edge",
    touches_image_edge: "cut by the image's border", sc_area_jump: 'SC area jumps from its neighbours',
    sc_area_implausible: 'SC area is not plausible', gm_sc_ratio_implausible: 'GM/SC ratio is not plausible',
    gm_contrast_low: 'GM cannot be told from WM', past_cord_end: 'past the end of the cord',
    contrast_unusual: 'not the contrast that the model knows',
    empty_SC: 'no SC', empty_GM: 'no GM', empty_WM: 'no WM',
  };
  QC.flagText = (flag) => (Object.hasOwn(FLAGS, flag) ? FLAGS[flag] : flag.replaceAll('_', ' '));

  const section = (title, ...children) => el('section', {}, el('h3', {}, title), children);

  QC.drawSide = (side, card, scan, meta) => {
    side.replaceChildren(...[reasons(scan, meta), doubts(card), followup(card), load(card), curves(card, meta), QC.strip(card), summary(card, scan, meta), lesions(card), numbers(card), origin(card)].filter(Boolean));
  };

  QC.markLesion = (lesion) => {
    for (const row of document.querySelectorAll('#side .lesions tr[data-lesion]')) row.classList.toggle('here', Boolean(lesion) && Number(row.dataset.lesion) === lesion.id);
  };

  QC.markSlice = (k) => {
    QC.markStrip(k);
    for (const row of document.querySelectorAll('#side table:not(.lesions) tr[data-k]')) row.classList.toggle('here', Number(row.dataset.k) === k);
    for (const line of document.querySelectorAll('#side .now')) {
      const x = line.dataset[`x${k}`];
      line.setAttribute('visibility', x ? 'visible' : 'hidden');
      if (x) { line.setAttribute('x1', x); line.setAttribute('x2', x); }
    }
  };

  function reasons(scan, meta) {
    const rank = `${scan.rank} of ${meta.scans.length}`;
    if (scan.status !== 'ok') return section(`${scan.status === 'failed' ? 'Run failed' : 'Nothing found'} \u00b7 ${rank}`, el('ul', { class: 'reasons' }, scan.reasons.map((text) => el('li', {}, text))));
    const list = scan.reasons.length
      ? el('ul', { class: 'reasons' }, scan.reasons.map((text) => el('li', {}, text)))
      : el('ul', { class: 'reasons plain' }, el('li', {}, closest(scan, meta)));
    return el('section', {}, el('h3', {}, `Outlier score \u00b7 ${rank}`), el('p', { class: `big score ${scan.reasons.length ? 'high' : ''}` }, QC.score(scan)), list);
  }

  function closest(scan, meta) {
    const [name] = Object.entries(scan.z).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))[0] || [];
    if (!name) return 'No check failed. With fewer than five scans nothing is compared with the cohort.';
    return `Nothing stands out. Furthest from the cohort: ${meta.measures[name].label} (robust z ${QC.signed(scan.z[name])}).`;
  }

  function doubts(card) {
    const texts = [...card.problems, ...card.warnings];
    if (!texts.length) return null;
    return section('Warnings', el('ul', { class: 'texts' }, texts.map((text) => el('li', {}, text))));
  }

  function curves(card, meta) {
    const rows = card.rows.filter((row) => row.t === QC.view.volume);
    const plots = ['SC', 'GM'].filter((tissue) => rows.some((row) => row[tissue])).map((tissue) => plot(tissue, rows, meta.band[tissue]));
    if (!plots.length) return null;
    const band = meta.band.SC || meta.band.GM;
    return section('CSA per slice, mm\u00b2', plots,
      el('p', { class: 'hint' }, band ? 'Band: 5\u201395 % of the cohort, dashed: its median, by relative place in the stack.' : 'A cohort band needs five scans.'));
  }

  function plot(tissue, rows, band) {
    const W = 328, H = 112, left = 32, right = 6, top = 8, bottom = 18;
    const last = Math.max(...rows.map((row) => row.k), 1);
    const value = (row) => (row[tissue] ? row[tissue][0] : null);
    const values = [...rows.map(value), ...(band ? [...band.low, ...band.high] : [])].filter((v) => v !== null);
    if (!values.length) return el('p', { class: 'dim' }, `${tissue}: empty`);
    const span = Math.max(...values) - Math.min(...values) || 1;
    const low = Math.max(0, Math.min(...values) - .12 * span), high = Math.max(...values) + .12 * span;
    const x = (k) => left + (W - left - right) * k / last;
    const y = (v) => top + (H - top - bottom) * (1 - (v - low) / (high - low));
    const at = (px, v) => `${px.toFixed(1)},${y(v).toFixed(1)}`;
    const parts = [svg('path', { class: 'axis', d: `M${left} ${top}V${H - bottom}H${W - right}` })];
    if (band) {
      const known = band.at.map((p, n) => n).filter((n) => band.median[n] !== null);
      const px = (n) => x(band.at[n] * last);
      parts.push(svg('polygon', { class: 'band', points: [...known.map((n) => at(px(n), band.high[n])), ...known.reverse().map((n) => at(px(n), band.low[n]))].join(' ') }));
      parts.push(svg('polyline', { class: 'median', points: known.reverse().map((n) => at(px(n), band.median[n])).join(' ') }));
    }
    const now = svg('line', { class: 'now', y1: top, y2: H - bottom, visibility: 'hidden' });
    for (const row of rows) now.dataset[`x${row.k}`] = x(row.k).toFixed(1);
    parts.push(now);
    let run = [];
    const runs = [run];
    for (const row of rows) if (value(row) === null) runs.push(run = []); else run.push(at(x(row.k), value(row)));
    for (const points of runs) if (points.length > 1) parts.push(svg('polyline', { class: 'line', points: points.join(' ') }));
    for (const row of rows) {
      const flags = (row.flags || []).map(QC.flagText);
      const title = svg('title', {}, `slice ${row.k}: ${value(row) === null ? 'empty' : number(value(row)) + ' mm\u00b2'}${flags.length ? '; ' + flags.join('; ') : ''}`);
      if (value(row) !== null) parts.push(svg('circle', { class: flags.length ? 'dot flagged' : 'dot', cx: x(row.k), cy: y(value(row)), r: flags.length ? 3.4 : 2.2 }));
      const width = (W - left - right) / last;
      parts.push(svg('rect', { class: 'hit', x: x(row.k) - width / 2, y: top, width, height: H - top - bottom, onclick: () => QC.view.choose(row.k) }, title));
    }
    const text = (px, py, words, anchor) => svg('text', { x: px, y: py, 'text-anchor': anchor }, words);
    parts.push(text(left - 4, y(high) + 8, number(high, high < 20 ? 1 : 0), 'end'), text(left - 4, y(low), number(low, high < 20 ? 1 : 0), 'end'));
    parts.push(text(left, H - 5, '0 (inferior)', 'start'), text(W - right, H - 5, String(last), 'end'), text(left + 5, top + 8, tissue, 'start'));
    const known = rows.map(value).filter((v) => v !== null);
    return svg('svg', {
      class: 'plot', viewBox: `0 0 ${W} ${H}`, role: 'img', '--hue': QC.hueOf(tissue),
      'aria-label': `${tissue} area from slice 0 to ${last}: ${known.length ? `${number(Math.min(...known))} to ${number(Math.max(...known))} mm\u00b2` : 'empty'}; all values are in the table`,
    }, parts);
  }

  const place = (name) => (name === 'juxtacortical_cortical' ? '(juxta)cortical' : name.replaceAll('_', ' '));

  // A brain's lesions all in all.
  function load(card) {
    if (!card.load) return null;
    const { n_lesions: count, n_small: small, n_large: large, load_ml: ml, min_diameter_mm: limit, locations } = card.load;
    const rows = Object.entries(locations);
    return section('Lesions', el('div', { class: 'figures' }, el('span', {}, el('b', { class: 'big' }, String(count)), count === 1 ? ' lesion' : ' lesions'), el('span', {}, el('b', { class: 'big' }, number(ml, ml < 10 ? 2 : 1)), ' mL')),
      count ? el('p', { class: 'hint' }, `of ${number(limit, 0)} mm and more; ${large} of them of 10 mm\u00b3 and more.`) : null,
      small ? el('p', { class: 'hint' }, `${small} more below ${number(limit, 0)} mm: in the volume, not in the count.`) : null,
      rows.length ? el('table', {}, el('thead', {}, el('tr', {}, ['location', 'lesions', 'mL'].map((t) => el('th', { scope: 'col' }, t)))),
        el('tbody', {}, rows.map(([name, [n, volume]]) => el('tr', {}, el('td', {}, place(name)), el('td', {}, String(n)), el('td', {}, number(volume, 2))))))
        : count + small ? el('p', { class: 'hint' }, 'Their locations are not known.') : null);
  }

  // What is new since the baseline; a click goes there.
  function followup(card) {
    if (!card.followup) return null;
    const total = card.followup, count = (name) => Number(total[name] || 0);
    const all = (card.new || []).map((values) => Object.fromEntries(card.new_columns.map((name, n) => [name, values[n]])));
    const row = (one) => el('tr', { onclick: () => QC.brain.go({ c: one.at[0], r: one.at[1], k: one.slice }) },
      el('td', {}, el('button', { 'aria-label': `Show new lesion ${one.id} on slice ${one.slice}` }, String(one.id))), el('td', {}, one.kind), el('td', {}, number(one.volume_mm3, 0)),
      el('td', {}, QC.number(one.change, 2)), el('td', {}, one.location ? place(one.location) : '\u2013'), el('td', {}, String(one.slice)));
    return section('Since the baseline', el('div', { class: 'figures' }, el('span', {}, el('b', { class: 'big' }, String(count('n_new'))), count('n_new') === 1 ? ' new lesion' : ' new lesions'), el('span', {}, el('b', { class: 'big' }, String(count('n_enlarging'))), ' grown')),
      el('p', { class: 'hint' }, `Of both times: ${count('n_lesions_stable')} stable, ${count('n_lesions_grown')} grown, ${count('n_lesions_shrunk')} shrunk; ${count('n_lesions_vanished')} vanished.`),
      all.length ? el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Each new lesion' }, el('table', { class: 'new-lesions' }, el('thead', {}, el('tr', {}, ['id', 'kind', 'mm\u00b3', 'change', 'location', 'slice'].map((t) => el('th', { scope: 'col' }, t)))), el('tbody', {}, all.map(row)))) : null);
  }

  function lesions(card) {
    if (!card.lesions || !card.lesions.length) return null;
    const all = card.lesions.map((values) => Object.fromEntries(card.lesion_columns.map((name, n) => [name, values[n]])));
    const total = card.load.n_lesions + card.load.n_small;
    const flagged = all.some((lesion) => lesion.flags.length), doubted = all.some((lesion) => (lesion.spread ?? null) !== null);
    const hints = [total > all.length ? `The ${all.length} largest of ${total}; the others are not outlined either.` : null, card.load.n_small ? 'Gray: small, not counted.' : null].filter(Boolean);
    const row = (lesion) => {
      const k = lesion.slice;
      const name = el('button', { 'aria-label': `Show lesion ${lesion.id} on slice ${k}` }, String(lesion.id));
      return el('tr', { class: lesion.counted ? null : 'small', 'data-lesion': lesion.id, 'data-k': k, onclick: () => QC.view.chooseLesion({ id: lesion.id, k, c: lesion.at[0], r: lesion.at[1] }) },
        el('td', {}, name), el('td', {}, number(lesion.volume_mm3, lesion.volume_mm3 < 100 ? 1 : 0)), el('td', {}, number(lesion.diameter_mm)), el('td', {}, lesion.location ? place(lesion.location) : '\u2013'),
        doubted ? el('td', {}, number(lesion.spread, 2)) : null, el('td', {}, String(k)), flagged ? el('td', { class: 'flag' }, lesion.flags.map(QC.flagText).join('; ')) : null);
    };
    return section('Each lesion, the largest first', el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Numbers of each lesion' },
      el('table', { class: 'lesions' }, el('thead', {}, el('tr', {}, ['id', 'mm\u00b3', 'mm', 'location', ...(doubted ? ['spread'] : []), 'slice', ...(flagged ? ['flags'] : [])].map((t) => el('th', { scope: 'col' }, t)))), el('tbody', {}, all.map(row)))),
      hints.length ? el('p', { class: 'hint' }, hints.join(' ')) : null);
  }

  function summary(card, scan, meta) {
    const measures = Object.entries(meta.measures).filter(([name]) => name in card.measured);
    if (!measures.length) return null;
    const row = ([name, { label, median }]) => {
      const z = scan.z[name];
      return el('tr', {}, el('td', {}, label), el('td', {}, card.measured[name]), el('td', {}, median ?? '\u2013'),
        el('td', { class: Math.abs(z) >= 3.5 ? 'score high' : null }, z === undefined ? '\u2013' : QC.signed(z)));
    };
    return section('This scan and its cohort', el('table', { class: 'cohort' }, el('thead', {}, el('tr', {}, ['measure', 'scan', 'median', 'z'].map((t) => el('th', { scope: 'col' }, t)))),
      el('tbody', {}, measures.map(row))));
  }

  // Areas of all tissues, then whatever else is measured of the cord.
  function numbers(card) {
    const rows = card.rows.filter((row) => row.t === QC.view.volume);
    if (!rows.length || !card.columns) return null;
    const index = Object.fromEntries(card.columns.map(([name], n) => [name, n]));
    const pick = (row, tissue, name) => (row[tissue] ? row[tissue][index[name]] : null);
    const area = (row, tissue) => pick(row, tissue, 'area_mm2');
    const has = (tissue) => rows.some((row) => row[tissue]);
    const shown = [['slice', (row) => row.k, 0]];
    if (card.file_slices) shown.push(['in file', (row) => card.file_slices[row.k] ?? null, 0]);
    if (rows.some((row) => row.level)) shown.push(['level', (row) => row.level ?? null, 0]);
    if (has('SC')) shown.push(['SC', (row) => area(row, 'SC'), 1], ['SC corr.', (row) => pick(row, 'SC', 'area_corrected_mm2'), 1]);
    for (const tissue of ['GM', 'WM']) if (has(tissue)) shown.push([tissue, (row) => area(row, tissue), 1]);
    if (has('SC') && has('GM')) shown.push(['GM/SC', (row) => (area(row, 'SC') && area(row, 'GM') ? area(row, 'GM') / area(row, 'SC') : null), 3]);
    const main = has('SC') ? 'SC' : 'GM';
    for (const [name, title, digits] of card.columns) if (!name.startsWith('area_') && name !== 'spread') shown.push([title, (row) => pick(row, name.startsWith('gm_') ? 'GM' : main, name), digits]);
    for (const tissue of ['SC', 'GM']) if (rows.some((row) => (pick(row, tissue, 'spread') ?? null) !== null)) shown.push([`${tissue} spread`, (row) => pick(row, tissue, 'spread'), 3]);
    const body = rows.map((row) => el('tr', { 'data-k': row.k, onclick: () => QC.view.choose(row.k) },
      shown.map(([, value, digits]) => el('td', {}, number(value(row), digits))), el('td', { class: 'flag' }, (row.flags || []).map(QC.flagText).join('; '))));
    return section('Slices (areas in mm\u00b2)', el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Numbers of each slice' },
      el('table', {}, el('thead', {}, el('tr', {}, shown.map(([name]) => el('th', { scope: 'col' }, name)), el('th', { scope: 'col' }, 'flags'))), el('tbody', {}, body))));
  }

  function origin(card) {
    const from = card.provenance;
    const named = (thing) => (thing ? [thing.id ?? thing.name ?? thing.source, thing.version].filter(Boolean).join(' ') : null);
    const changed = Object.entries(from.options || {}).filter(([, value]) => value !== null && value !== false).map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`);
    const masks = Object.entries(card.masks).map(([tissue, mask]) => [tissue, `${mask.file} \u00b7 ${mask.corrected ? 'CORRECTED by hand' : mask.changed ? 'CHANGED after it was written' : mask.verified ? 'as it was written' : 'no hash to compare with'}${mask.soft ? ' \u00b7 soft, outlined at 0.5' : ''} \u00b7 sha256 ${(mask.sha256 || '\u2013').slice(0, 16)}`]);
    const prepared = Object.entries(from.brain || {}).filter(([, value]) => typeof value !== 'object').map(([name, value]) => `${name.replaceAll('_', ' ')} ${value}`);
    const others = Object.entries(from.inputs || {}).filter(([role]) => role !== 'scan').map(([role, given]) => [role, `${given.file} \u00b7 sha256 ${(given.sha256 || '\u2013').slice(0, 16)}`]);
    const seconds = Object.values(from.seconds || {}).reduce((sum, s) => sum + Number(s), 0);
    const facts = [
      ['scan', card.image], ['sha256', ((from.input || {}).sha256 || '').slice(0, 16)], ...others, ['record', card.id],
      ['pixel', card.mm ? `${card.mm.slice(0, 2).map((s) => number(s, 2)).join(' \u00d7 ')} mm, slices ${number(card.mm[2], 2)} mm` : null], ...masks,
      ['model', named(from.model)], ['locator', card.kind === 'brain' ? null : named(from.locator)], ['brain', prepared.join(', ')], ['tool', named(from.tool)], ['device', [from.device, from.threads ? QC.count(from.threads, 'thread') : null].filter(Boolean).join(', ')],
      ['options', changed.join(', ')], ['finished', from.finished], ['time', seconds ? `${number(seconds)} s` : null],
      ['software', Object.entries(from.software || {}).map((pair) => pair.join(' ')).join(', ')],
    ].filter(([, value]) => value);
    const entities = Object.entries(card.entities).map(([key, value]) => `${key}-${value}`).join(' ');
    return el('details', { open: true }, el('summary', {}, 'Provenance'), card.overview && card.status !== 'failed' ? QC.overview(card) : null,
      el('dl', { class: 'facts' }, [...(entities ? [['BIDS', entities]] : []), ...facts].flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, String(value))])));
  }
})();
