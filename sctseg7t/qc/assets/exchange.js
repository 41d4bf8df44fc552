// Ratings out of and into the page, and how far two raters agree.
(() => {
  const FORMAT = 'sct7t-qc-ratings';
  const COLUMNS = ['scan', 'image', 'hash', 'verdict', 'rating', 'notes', 'rater', 'time', 'stale'];
  const VERDICTS = ['pass', 'fail', 'artefact'];

  QC.ratingRows = (scans, store) => scans.filter((scan) => !store.isEmpty(store.get(scan.id))).map((scan) => {
    const found = store.get(scan.id);
    return {
      scan: scan.id, image: scan.image, hash: found.hash, verdict: found.verdict, rating: found.rating,
      notes: found.notes, rater: found.rater, time: found.time, stale: store.isStale(scan.id),
    };
  });

  QC.toJSON = (meta, rater, rows) => JSON.stringify(
    { format: FORMAT, version: 1, page: meta.page, title: meta.title, rater, exported: new Date().toISOString(), ratings: rows }, null, 1);

  // A cell that a spreadsheet would take for a formula is written with an apostrophe before it.
  const cell = (value) => {
    let text = value === null || value === undefined ? '' : String(value);
    if (/^'*[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  QC.toCSV = (rows) => [COLUMNS, ...rows.map((row) => COLUMNS.map((name) => row[name]))].map((line) => line.map(cell).join(',')).join('\n') + '\n';

  // Plain where YAML reads a plain word as itself, else quoted; JSON strings are YAML strings.
  const word = (text) => (/^[A-Za-z0-9_][A-Za-z0-9_./+-]*$/.test(text) && !/^([\d.eE+_-]+|0x[\da-f]+|null|true|false|yes|no|on|off|y|n)$/i.test(text)
    ? text : JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029\ufeff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`));

  // The lists that SCT's own QC page exports, for its manual correction and for -exclude.
  QC.toYAML = (scans, store, verdict) => {
    const chosen = scans.filter((scan) => (store.get(scan.id) || {}).verdict === verdict && !store.isStale(scan.id));
    const lines = [];
    for (const [heading, tissue] of [['FILES_SEG', 'SC'], ['FILES_GMSEG', 'GM'], ['FILES_LESION', 'LESION']]) {
      const listed = chosen.filter((scan) => scan.tissues.includes(tissue) || (tissue === 'SC' && !scan.tissues.includes('GM') && !scan.tissues.includes('LESION')));
      if (!listed.length) continue;
      lines.push(`${heading}:`);
      for (const scan of listed) {
        const notes = store.get(scan.id).notes.replace(/\s+/g, ' ').trim();
        lines.push(`- ${word(scan.image)}${notes ? `  # ${notes}` : ''}`);
      }
    }
    return lines.length ? lines.join('\n') + '\n' : '{}\n';
  };

  function parseCSV(text) {
    const rows = [[]];
    let value = '', quoted = false;
    const source = text.replace(/^\ufeff/, '');
    for (let i = 0; i < source.length; i++) {
      const c = source[i];
      if (quoted) {
        if (c === '"' && source[i + 1] === '"') { value += '"'; i++; }
        else if (c === '"') quoted = false;
        else value += c;
      } else if (c === '"') quoted = true;
      else if (c === ',' || c === '\n') {
        rows[rows.length - 1].push(value);
        value = '';
        if (c === '\n') rows.push([]);
      } else if (c !== '\r' || source[i + 1] !== '\n') value += c;
    }
    rows[rows.length - 1].push(value);
    const [header, ...lines] = rows.filter((row) => row.length > 1);
    if (!header || !header.includes('scan')) throw new Error('has no column "scan": not an export of this page');
    return lines.map((line) => Object.fromEntries(header.map((name, n) => {
      const text = line[n] ?? '';
      return [name, /^'+[=+\-@\t\r]/.test(text) ? text.slice(1) : text];
    })));
  }

  function parseYAML(text) {
    const names = new Map();
    for (const line of text.split(/\r?\n/)) {
      const match = /^\s*-\s+("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^#]*?)\s*(?:\s#\s*(.*))?$/.exec(line);
      if (!match || !match[1]) continue;
      let name = match[1];
      if (name.startsWith('"')) name = JSON.parse(name);
      else if (name.startsWith("'")) name = name.slice(1, -1).replaceAll("''", "'");
      names.set(name, match[2] || '');
    }
    return names;
  }

  const clean = (row) => {
    const grade = Number(row.rating);
    return {
      scan: String(row.scan ?? ''), image: String(row.image ?? ''), hash: String(row.hash ?? ''),
      verdict: VERDICTS.includes(row.verdict) ? row.verdict : null,
      rating: [1, 2, 3, 4].includes(grade) ? grade : null,
      notes: String(row.notes ?? '').slice(0, 2000), rater: String(row.rater ?? '').slice(0, 80), time: String(row.time ?? ''),
    };
  };

  // Ratings in an export of this page, JSON or CSV.
  QC.parseRatings = (name, text) => {
    if (/\.csv$/i.test(name)) return { rater: '', rows: parseCSV(text).map(clean) };
    let found;
    try { found = JSON.parse(text); } catch { throw new Error('is not JSON'); }
    if (!found || found.format !== FORMAT || !Array.isArray(found.ratings)) throw new Error('is not an export of this page');
    return { rater: String(found.rater || ''), rows: found.ratings.filter((row) => row && typeof row === 'object').map(clean) };
  };

  // Returns [[scan id, rating]] to merge, and how many rows belong to no scan here.
  QC.readImport = (name, text, scans, store) => {
    const byId = new Map(scans.map((scan) => [scan.id, scan]));
    const byImage = new Map();
    for (const scan of scans) byImage.set(scan.image, byImage.has(scan.image) ? null : scan);
    const entries = [];
    let unknown = 0;
    if (/\.ya?ml$/i.test(name)) {
      const verdict = /artifact|artefact/i.test(name) ? 'artefact' : 'fail';
      const time = new Date().toISOString();
      for (const [image, notes] of parseYAML(text)) {
        const listed = scans.filter((scan) => scan.image === image.split('/').pop());
        if (!listed.length) unknown++;
        for (const scan of listed) {
          const before = store.isStale(scan.id) ? null : store.get(scan.id);
          entries.push([scan.id, { rating: null, rater: store.rater, ...before, notes: notes || (before || {}).notes || '', verdict, hash: scan.hash, time }]);
        }
      }
      return { entries, unknown, older: 0 };
    }
    let older = 0;
    for (const row of QC.parseRatings(name, text).rows) {
      // A scan may have moved since: then its image's name tells, if it is the only one of that name.
      const scan = byId.get(row.scan) || byImage.get(row.image);
      if (!scan) { unknown++; continue; }
      const mine = store.get(scan.id);
      if (mine && !store.isStale(scan.id) && mine.time > row.time) { older++; continue; }
      const { verdict, rating, notes, hash, rater, time } = row;
      entries.push([scan.id, { verdict, rating, notes, hash, rater, time }]);
    }
    return { entries, unknown, older };
  };

  // Cohen's kappa; with weights 'quadratic', a disagreement counts by the square of its size (Cohen 1968).
  QC.kappa = (pairs, categories, weights) => {
    const size = categories.length;
    const at = new Map(categories.map((name, n) => [name, n]));
    const table = categories.map(() => categories.map(() => 0));
    for (const [a, b] of pairs) table[at.get(a)][at.get(b)]++;
    const rows = table.map((row) => row.reduce((x, y) => x + y, 0));
    const columns = categories.map((_, n) => table.reduce((sum, row) => sum + row[n], 0));
    let observed = 0, expected = 0;
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) {
      const weight = weights === 'quadratic' ? (i - j) ** 2 / (size - 1) ** 2 : Number(i !== j);
      observed += weight * table[i][j];
      expected += weight * rows[i] * columns[j] / pairs.length;
    }
    return pairs.length && expected > 0 ? 1 - observed / expected : null;
  };

  QC.agreement = (first, second) => {
    const other = new Map(second.map((row) => [row.scan, row]));
    const both = first.filter((row) => other.has(row.scan)).map((row) => [row, other.get(row.scan)]);
    const same = both.filter(([a, b]) => a.hash === b.hash);
    const verdicts = same.filter(([a, b]) => a.verdict && b.verdict);
    const grades = same.filter(([a, b]) => a.rating && b.rating);
    const share = (pairs, name) => (pairs.length ? pairs.filter(([a, b]) => a[name] === b[name]).length / pairs.length : null);
    return {
      scans: both.length, different_masks: both.length - same.length,
      verdicts: { n: verdicts.length, agreement: share(verdicts, 'verdict'), kappa: QC.kappa(verdicts.map(([a, b]) => [a.verdict, b.verdict]), VERDICTS) },
      ratings: { n: grades.length, agreement: share(grades, 'rating'), weighted_kappa: QC.kappa(grades.map(([a, b]) => [a.rating, b.rating]), [1, 2, 3, 4], 'quadratic') },
      disagreements: same.filter(([a, b]) => (a.verdict && b.verdict && a.verdict !== b.verdict) || (a.rating && b.rating && a.rating !== b.rating)),
    };
  };

  QC.download = (name, text, type) => {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const link = QC.el('a', { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  };
})();
