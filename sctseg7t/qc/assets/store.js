// Ratings: kept in this browser under the page's id, each rater's apart, each with the hash of the masks that it is about.
QC.makeStore = (pageId, scans) => {
  const KEY = `sct7t-qc:${pageId}`, PAST = `${KEY}:undo`, STEPS = 200;
  const hashes = new Map(scans.map((scan) => [scan.id, scan.hash]));
  let rater = '', asked = false, raters = new Map();
  let past = [], lasting = true;

  const isEmpty = (rating) => !rating || (!rating.verdict && !rating.rating && !rating.notes);
  const of = (name) => { if (!raters.has(name)) raters.set(name, new Map()); return raters.get(name); };
  const isObject = (value) => value !== null && typeof value === 'object';

  function read() {
    if (!lasting) return;
    try {
      const found = JSON.parse(localStorage.getItem(KEY) || 'null');
      if (!isObject(found)) return;
      rater = String(found.rater || '');
      asked = Boolean(found.asked);
      raters = new Map();
      for (const [name, ratings] of Object.entries(found.raters || {})) raters.set(name, new Map(Object.entries(ratings)));
      // As pages of version 0.1.0 kept them: all raters' together.
      for (const [id, rating] of Object.entries(found.ratings || {})) of(String(rating.rater || rater)).set(id, rating);
    } catch {
      lasting = false;
    }
  }

  function keep() {
    try {
      const plain = Object.fromEntries([...raters].map(([name, ratings]) => [name, Object.fromEntries(ratings)]));
      localStorage.setItem(KEY, JSON.stringify({ rater, asked, raters: plain }));
      sessionStorage.setItem(PAST, JSON.stringify(past.slice(-STEPS)));
    } catch {
      lasting = false;
    }
  }

  function readPast() {
    try { past = JSON.parse(sessionStorage.getItem(PAST) || '[]'); } catch { past = []; }
  }

  const get = (id, name = rater) => raters.get(name)?.get(id) ?? null;
  const isStale = (id, name = rater) => !isEmpty(get(id, name)) && get(id, name).hash !== hashes.get(id);

  // Change some ratings, [rater, scan, rating or null], as one step that undo takes back.
  function change(entries, remember = true, joined = false) {
    read();
    const before = entries.map(([name, id]) => [name, id, get(id, name)]);
    if (joined && past.length) past[past.length - 1].unshift(...before);
    else if (remember) past.push(before);
    for (const [name, id, rating] of entries) {
      if (isEmpty(rating)) of(name).delete(id);
      else of(name).set(id, rating);
    }
    keep();
  }

  read();
  readPast();
  keep();
  return {
    get, isStale, isEmpty,
    get lasting() { return lasting; },
    get rater() { return rater; },
    // Whether the rater has a name, or has said to have none.
    get named() { return Boolean(rater) || asked; },
    // Who has rated here, and how many scans of those that are there.
    counts: () => [...raters].map(([name, ratings]) => [name, [...ratings.keys()].filter((id) => hashes.has(id)).length]).filter(([, count]) => count),
    reread: read,

    // Another rater's ratings take the place of those in view; those made without a name become the first name's.
    // Returns how many these are.
    call(name) {
      read();
      const nameless = of(''), own = of(name);
      const adopted = name && !rater && !own.size ? nameless.size : 0;
      if (adopted) {
        for (const [id, rating] of nameless) own.set(id, { ...rating, rater: name });
        nameless.clear();
      }
      if (name !== rater) past = [];
      rater = name;
      asked = true;
      keep();
      return adopted;
    },

    // A change of one scan's rating. A stale verdict or grade is not carried over to the new mask; notes are.
    rate(id, fields) {
      const before = get(id);
      const base = isStale(id) ? { notes: before.notes } : before || {};
      const rating = { verdict: null, rating: null, notes: '', ...base, ...fields };
      change([[rater, id, { ...rating, hash: hashes.get(id), rater, time: new Date().toISOString() }]]);
    },
    clear(id) { if (get(id)) change([[rater, id, null]]); },
    // `joined`: with the change before it, one step.
    merge(entries, joined = false) { if (entries.length) change(entries, true, joined); },
    undo() {
      read();
      const step = past.pop();
      if (!step) return null;
      change(step, false);
      return [...new Set(step.map(([, id]) => id))];
    },
  };
};
