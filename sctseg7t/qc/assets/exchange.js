// Ratings out of and into the page.
(() => {
  const FORMAT = 'sct7t-qc-ratings';
  // `scan`, `participant_id` and `session_id` are those of the cohort's tables; `record` is the page's own key.
  const COLUMNS = ['scan', 'participant_id', 'session_id', 'image', 'verdict', 'artefacts', 'rating', 'notes', 'rater', 'time', 'stale', 'hash', 'record'];
  const VERDICTS = ['pass', 'fail', 'artefact'];

  QC.ratingRows = (scans, store, rater = store.rater) => scans.filter((scan) => !store.isEmpty(store.get(scan.id, rater))).map((scan) => {
    const found = store.get(scan.id, rater);
    const entity = (key) => (scan.entities[key] ? `${key}-${scan.entities[key]}` : '');
    return {
      scan: scan.name, participant_id: entity('sub'), session_id: entity('ses'), image: scan.image,
      verdict: found.verdict, artefacts: found.artefacts || '', rating: found.rating, notes: found.notes, rater: found.rater, time: found.time,
      stale: store.isStale(scan.id, rater), hash: found.hash, record: scan.id,
    };
  });

  QC.toJSON = (meta, rater, rows) => JSON.stringify(
    { format: FORMAT, version: 2, page: meta.page, title: meta.title, rater, exported: new Date().toISOString(), ratings: rows }, null, 1);

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

  const clean = (row, rater) => {
    const grade = Number(row.rating);
    return {
      scan: String(row.scan ?? ''), record: String(row.record ?? ''), image: String(row.image ?? ''), hash: String(row.hash ?? ''),
      verdict: VERDICTS.includes(row.verdict) ? row.verdict : null,
      rating: [1, 2, 3, 4].includes(grade) ? grade : null,
      artefacts: String(row.artefacts ?? '').slice(0, 200),
      notes: String(row.notes ?? '').slice(0, 2000), rater: String(row.rater || rater).trim().slice(0, 80), time: String(row.time ?? ''),
    };
  };

  // Rows of an export of this page, JSON or CSV.
  QC.parseRatings = (name, text) => {
    if (/\.csv$/i.test(name)) return parseCSV(text).map((row) => clean(row, ''));
    let found;
    try { found = JSON.parse(text); } catch { throw new Error('is not JSON'); }
    if (!found || found.format !== FORMAT || !Array.isArray(found.ratings)) throw new Error('is not an export of this page');
    return found.ratings.filter((row) => row && typeof row === 'object').map((row) => clean(row, found.rater || ''));
  };

  // A thing by each of its keys; null for a key that two have.
  function byKey(things, key) {
    const found = new Map();
    for (const thing of things) found.set(key(thing), found.has(key(thing)) ? null : thing);
    return found;
  }

  // The scan that a row is about: a page made elsewhere has other keys, but scans of the same names.
  const finder = (scans) => {
    const maps = [['record', byKey(scans, (scan) => scan.id)], ['scan', byKey(scans, (scan) => scan.id)], ['scan', byKey(scans, (scan) => scan.name)], ['image', byKey(scans, (scan) => scan.image)]];
    return (row) => { for (const [name, map] of maps) if (map.get(row[name])) return map.get(row[name]); return null; };
  };

  // What a file holds: [rater, scan id, rating] to merge, how many rows are of no scan here, and how many older than
  // what is known.
  QC.readImport = (name, text, scans, store) => {
    const entries = [];
    let unknown = 0, older = 0;
    if (/\.ya?ml$/i.test(name)) {
      const verdict = /artifact|artefact/i.test(name) ? 'artefact' : 'fail';
      const time = new Date().toISOString();
      for (const [image, notes] of parseYAML(text)) {
        const listed = scans.filter((scan) => scan.image === image.split('/').pop());
        if (!listed.length) unknown++;
        for (const scan of listed) {
          const before = store.isStale(scan.id) ? null : store.get(scan.id);
          entries.push([store.rater, scan.id, { rating: null, rater: store.rater, ...before, notes: notes || (before || {}).notes || '', verdict, hash: scan.hash, time }]);
        }
      }
      return { entries, unknown, older };
    }
    const find = finder(scans);
    for (const row of QC.parseRatings(name, text)) {
      const scan = find(row);
      if (!scan) { unknown++; continue; }
      const rater = row.rater || store.rater;
      const known = store.get(scan.id, rater);
      if (known && !store.isStale(scan.id, rater) && known.time > row.time) { older++; continue; }
      const { verdict, artefacts, rating, notes, hash, time } = row;
      entries.push([rater, scan.id, { verdict, artefacts, rating, notes, hash, rater, time }]);
    }
    return { entries, unknown, older };
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
