// The dialog of exports and imports: what is written, what a file adds, in words.
(() => {
  const { $, say } = QC;

  // `changed` is called when ratings have come in. Returns what opens the dialog.
  QC.exchangeDialog = ({ meta, scans, store, changed }) => {
    const fileStem = () => (store.rater ? `qc_ratings_${store.rater.replace(/[^\w-]+/g, '_')}` : 'qc_ratings');

    function exportAs(kind) {
      store.reread();
      const rows = QC.ratingRows(scans, store), ratings = kind === 'json' || kind === 'csv';
      if (kind === 'json') QC.download(`${fileStem()}.json`, QC.toJSON(meta, store.rater, rows), 'application/json');
      if (kind === 'csv') QC.download(`${fileStem()}.csv`, QC.toCSV(rows), 'text/csv');
      if (kind === 'fail') QC.download('qc_fail.yml', QC.toYAML(scans, store, 'fail'), 'text/yaml');
      if (kind === 'artifact') QC.download('qc_artifact.yml', QC.toYAML(scans, store, 'artefact'), 'text/yaml');
      const stale = rows.filter((row) => row.stale).length;
      const verdict = { fail: 'fail', artifact: 'artefact' }[kind];
      const about = ratings ? `${QC.count(rows.length, 'rating')} exported` : `${QC.count(rows.filter((row) => row.verdict === verdict && !row.stale).length, 'scan')} exported`;
      say(stale ? `${about}; ${stale} stale ${stale === 1 ? 'is' : 'are'} ${ratings ? 'marked so' : 'left out'}` : about);
    }

    function openExchange() {
      const count = QC.ratingRows(scans, store).length, pages = (meta.pages || []).length;
      $('exchangeAbout').textContent = `${store.rater ? `${store.rater}\u2019s ` : ''}${QC.count(count, 'rating')} of ${QC.count(scans.length, 'scan')}${pages ? `, on all ${pages} pages` : ''}.`;
      $('exchange').showModal();
    }

    async function importFiles(files) {
      const said = [];
      let joined = false;
      // One by one: a later file may add to what an earlier one holds.
      for (const file of files) {
        try {
          const found = QC.readImport(file.name, await file.text(), scans, store);
          const [first, ...others] = new Set(found.entries.map(([rater]) => rater));
          // In a browser that knows nobody yet, whose file it is continues here.
          if (!store.named && !store.counts().length && first && !others.length) store.call(first);
          store.merge(found.entries, joined);
          joined ||= found.entries.length > 0;
          const strangers = [first, ...others].filter((name) => name && name !== store.rater);
          said.push(`${file.name}: ${found.entries.length} imported${found.unknown ? `, ${found.unknown} of scans that are not here` : ''}${found.older ? `, ${found.older} older than those here` : ''}.${strangers.length ? ` Those of ${strangers.join(', ')} are seen when that is the rater.` : ''}`);
        } catch (error) {
          said.push(`${file.name} ${error.message}.`);
        }
      }
      $('importSaid').textContent = said.join(' ');
      $('importFile').value = '';
      changed();
    }

    for (const button of document.querySelectorAll('[data-export]')) button.addEventListener('click', () => exportAs(button.dataset.export));
    $('importFile').addEventListener('change', () => importFiles([...$('importFile').files]));
    return openExchange;
  };
})();
