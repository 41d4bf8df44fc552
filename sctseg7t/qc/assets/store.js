// Ratings: kept in this browser under the page's id, each with the hash of the masks that it is about.
QC.makeStore = (pageId, scans) => {
  const KEY = `sct7t-qc:${pageId}`;
  const hashes = new Map(scans.map((scan) => [scan.id, scan.hash]));
  const past = [];
  let state = { rater: '', ratings: {} };
  let lasting = true;

  function read() {
    try {
      const found = JSON.parse(localStorage.getItem(KEY) || 'null');
      if (found && typeof found === 'object' && found.ratings) state = { rater: String(found.rater || ''), ratings: found.ratings };
    } catch {
      lasting = false;
    }
  }

  function keep() {
    try {
      localStorage.setItem(KEY, JSON.stringify(state));
    } catch {
      lasting = false;
    }
  }

  const isEmpty = (rating) => !rating || (!rating.verdict && !rating.rating && !rating.notes);
  const get = (id) => (Object.hasOwn(state.ratings, id) ? state.ratings[id] : null);
  const isStale = (id) => !isEmpty(get(id)) && get(id).hash !== hashes.get(id);

  function put(id, rating) {
    if (isEmpty(rating)) delete state.ratings[id];
    else state.ratings[id] = rating;
  }

  // Change some ratings as one step that undo takes back.
  function change(entries, remember = true) {
    read();
    if (remember) past.push(entries.map(([id]) => [id, get(id)]));
    for (const [id, rating] of entries) put(id, rating);
    keep();
  }

  read();
  keep();
  return {
    get, isStale, isEmpty,
    get lasting() { return lasting; },
    get rater() { return state.rater; },
    set rater(name) { read(); state.rater = name; keep(); },
    all: () => Object.entries(state.ratings).filter(([id]) => hashes.has(id)),
    reread: read,

    // A change of one scan's rating. A stale verdict or grade is not carried over to the new mask; notes are.
    rate(id, fields) {
      const before = get(id);
      const base = isStale(id) ? { notes: before.notes } : before || {};
      const rating = { verdict: null, rating: null, notes: '', ...base, ...fields };
      change([[id, { ...rating, hash: hashes.get(id), rater: state.rater, time: new Date().toISOString() }]]);
    },
    clear(id) { if (get(id)) change([[id, null]]); },
    merge(entries) { if (entries.length) change(entries); },
    undo() {
      const step = past.pop();
      if (!step) return null;
      change(step, false);
      return step.map(([id]) => id);
    },
  };
};
