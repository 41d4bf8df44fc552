// How far two raters agree: kappa with its interval, the table of what they said, and where they differ.
(() => {
  const { $, el } = QC;
  const VERDICTS = ['pass', 'fail', 'artefact'], GRADES = [1, 2, 3, 4];

  // Cohen's kappa; with 'quadratic', a disagreement counts by the square of its size (Cohen 1968). Its 95 % interval is
  // that of large samples (Fleiss, Cohen and Everitt, Psychological Bulletin 1969, for kappa that is not 0), and none
  // where the raters never or always differ.
  QC.kappa = (pairs, categories, weights) => {
    const size = categories.length, n = pairs.length;
    const at = new Map(categories.map((name, k) => [name, k]));
    const table = categories.map(() => categories.map(() => 0));
    for (const [a, b] of pairs) table[at.get(a)][at.get(b)]++;
    const weight = (i, j) => (weights === 'quadratic' ? 1 - (i - j) ** 2 / (size - 1) ** 2 : Number(i === j));
    const sum = (value) => categories.reduce((total, _, i) => total + categories.reduce((part, __, j) => part + value(i, j), 0), 0);
    const row = table.map((line) => line.reduce((x, y) => x + y, 0) / n);
    const column = categories.map((_, j) => table.reduce((total, line) => total + line[j], 0) / n);
    const observed = sum((i, j) => weight(i, j) * table[i][j] / n), expected = sum((i, j) => weight(i, j) * row[i] * column[j]);
    if (!n || 1 - expected < 1e-12) return { table, kappa: null, interval: null };
    const kappa = (observed - expected) / (1 - expected);
    const ofRow = row.map((_, i) => categories.reduce((total, __, j) => total + column[j] * weight(i, j), 0));
    const ofColumn = column.map((_, j) => categories.reduce((total, __, i) => total + row[i] * weight(i, j), 0));
    const spread = sum((i, j) => table[i][j] / n * (weight(i, j) * (1 - expected) - (ofRow[i] + ofColumn[j]) * (1 - observed)) ** 2);
    const variance = (spread - (observed * expected - 2 * expected + observed) ** 2) / (n * (1 - expected) ** 4);
    const half = 1.959964 * Math.sqrt(Math.max(variance, 0));
    return { table, kappa, interval: half > 1e-6 ? [Math.max(-1, kappa - half), Math.min(1, kappa + half)] : null };
  };

  const ratersOf = (rows) => [...new Set(rows.map((row) => row.rater))].sort();
  const nameOf = (raters) => raters.map((name) => name || 'no name').join(', ') || 'nobody';

  // Two raters' rows of the same scans: by the page's key, or else by the scan's name if only one has it.
  function paired(first, second) {
    const key = (row) => row.record || row.scan;
    const byKey = new Map(second.map((row) => [key(row), row]));
    const unique = (rows) => { const count = new Map(); for (const row of rows) count.set(row.scan, (count.get(row.scan) || 0) + 1); return (row) => count.get(row.scan) === 1; };
    const [mine, theirs] = [unique(first), unique(second)];
    const byName = new Map(second.filter(theirs).map((row) => [row.scan, row]));
    return first.map((row) => [row, byKey.get(key(row)) || (mine(row) ? byName.get(row.scan) : undefined)]).filter(([, row]) => row);
  }

  // Throws where both are the same rater's, or the same ratings: kappa would be 1 and say nothing.
  QC.agreement = (first, second) => {
    const raters = [ratersOf(first), ratersOf(second)];
    const theirs = new Set(raters[1].map((name) => name.toLowerCase()));
    const same = raters[0].find((name) => name && theirs.has(name.toLowerCase()));
    if (same) throw new Error(`both are ratings of ${same}; compare two raters (a second round needs a name of its own, such as "${same} 2")`);
    const said = (rows) => JSON.stringify(rows.map(({ scan, verdict, rating, notes, time }) => [scan, verdict, rating, notes, time]).sort());
    if (first.length && said(first) === said(second)) throw new Error('both are the same ratings; compare two raters');
    const both = paired(first, second);
    const known = both.filter(([a, b]) => a.hash === b.hash);
    const part = (name, categories, weights) => {
      const pairs = known.filter(([a, b]) => a[name] && b[name]).map(([a, b]) => [a[name], b[name]]);
      return { n: pairs.length, agreement: pairs.length ? pairs.filter(([a, b]) => a === b).length / pairs.length : null, categories, ...QC.kappa(pairs, categories, weights) };
    };
    const differ = (a, b, name) => a[name] && b[name] && a[name] !== b[name];
    return {
      raters: raters.map(nameOf), scans: both.length, different_masks: both.length - known.length,
      verdicts: part('verdict', VERDICTS), ratings: part('rating', GRADES, 'quadratic'),
      disagreements: known.filter(([a, b]) => differ(a, b, 'verdict') || differ(a, b, 'rating')),
    };
  };

  const head = (titles) => el('thead', {}, el('tr', {}, titles.map((text) => el('th', { scope: 'col' }, text))));

  // What each said of the same scans, counted.
  function counts(found, part, title) {
    if (!part.n) return null;
    return el('table', { class: 'counts' }, el('caption', {}, `${title}, rows ${found.raters[0]}, columns ${found.raters[1]}`), head(['said', ...part.categories.map(String)]),
      el('tbody', {}, part.categories.map((name, i) => el('tr', {}, el('th', { scope: 'row' }, String(name)), part.table[i].map((count, j) => el('td', { class: i === j ? 'same' : null }, String(count)))))));
  }

  function show(found) {
    const percent = (x) => (x === null ? '\u2013' : `${(100 * x).toFixed(0)} %`);
    const interval = (part) => (part.interval ? part.interval.map((x) => x.toFixed(2).replace('-', '\u2212')).join(' to ') : '\u2013');
    const row = (name, part) => el('tr', {}, el('td', {}, name), el('td', {}, String(part.n)), el('td', {}, percent(part.agreement)), el('td', {}, part.kappa === null ? 'undefined' : part.kappa.toFixed(3).replace('-', '\u2212')), el('td', {}, interval(part)));
    const said = (row) => [row.verdict, row.rating].filter(Boolean).join(' ');
    return [
      el('p', {}, el('b', {}, found.raters.join(' and ')), `: ${QC.count(found.scans, 'scan')} rated by both${found.different_masks ? `; ${found.different_masks} left out, for they were different masks` : ''}.`),
      el('table', {}, head(['measure', 'scans', 'same', 'kappa', '95 % interval']),
        el('tbody', {}, row('verdict (Cohen\u2019s kappa)', found.verdicts), row('quality 1\u20134 (quadratic weights)', found.ratings))),
      el('p', { class: 'hint' }, 'Interval for large samples (Fleiss, Cohen and Everitt 1969); of few scans it is rough.'),
      el('div', { class: 'row both' }, counts(found, found.verdicts, 'Verdict'), counts(found, found.ratings, 'Quality')),
      found.disagreements.length ? el('h3', {}, 'Where they differ') : null,
      el('ul', { class: 'texts' }, found.disagreements.map(([x, y]) => el('li', {}, `${x.image || x.scan}: ${said(x)} / ${said(y)}`))),
    ].filter(Boolean);
  }

  // The dialog: each side is a rater of this browser, or a file.
  QC.agreementDialog = (scans, store) => {
    const sides = ['A', 'B'].map((side) => ({ who: $(`who${side}`), file: $(`rater${side}`) }));

    async function rowsOf({ who, file }) {
      const [given] = file.files;
      if (given) {
        try { return QC.parseRatings(given.name, await given.text()); } catch (error) { throw new Error(`${given.name} ${error.message}`, { cause: error }); }
      }
      return who.value === '' ? null : QC.ratingRows(scans, store, who.value.slice(1));
    }

    async function draw() {
      const said = $('agreementSaid');
      try {
        const [first, second] = [await rowsOf(sides[0]), await rowsOf(sides[1])];
        said.replaceChildren(...(first && second ? show(QC.agreement(first, second)) : []));
      } catch (error) {
        said.replaceChildren(el('p', { class: 'notice' }, `${error.message[0].toUpperCase()}${error.message.slice(1)}.`));
      }
    }

    for (const { who, file } of sides) {
      who.addEventListener('change', () => { if (who.value) file.value = ''; draw(); });
      file.addEventListener('change', () => { if (file.files.length) who.value = ''; draw(); });
    }
    // A rater's value has a letter before it, for a name may be empty.
    return () => {
      const raters = store.counts();
      for (const { who } of sides) {
        const before = who.value;
        who.replaceChildren(el('option', { value: '' }, 'a file:'), ...raters.map(([name, count]) => el('option', { value: `=${name}` }, `${name || 'no name'} (${count} here)`)));
        who.value = raters.some(([name]) => `=${name}` === before) ? before : '';
      }
      draw();
      $('agreement').showModal();
    };
  };
})();
