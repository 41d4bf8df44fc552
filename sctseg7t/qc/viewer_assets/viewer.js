'use strict';
// One scan in NiiVue, with its masks and the table of its lesions; the QC page that opened it follows, and leads.
(() => {
  const $ = (id) => document.getElementById(id);
  const key = location.hash.slice(1);
  const opener = window.opener;
  let viewer, card;

  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  // A volume's file calls this; it is a script, which a page that was opened from a folder may load.
  window.sct7tVolume = async (volume) => {
    card = volume;
    document.title = volume.name;
    $('name').textContent = volume.name;
    $('about').textContent = 'radiological: the patient\u2019s right is on the left';
    viewer = new niivue.Niivue({ isRadiologicalConvention: true, backColor: [0, 0, 0, 1], crosshairWidth: 0.6, crosshairColor: [0.42, 0.7, 1, 0.8], sagittalNoseLeft: true, show3Dcrosshair: true, dragMode: 1, loadingText: '' });
    await viewer.attachToCanvas($('canvas'));
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    const add = async (data, options) => viewer.addVolume(await niivue.NVImage.loadFromBase64({ base64: data, name: 'volume.nii.gz', ...options }));
    await add(volume.image, { colormap: 'gray', cal_min: volume.range[0], cal_max: volume.range[1] });
    for (const { name, colour, data } of volume.masks) {
      viewer.addColormap(name, { R: [0, colour[0], colour[0]], G: [0, colour[1], colour[1]], B: [0, colour[2], colour[2]], A: [0, 255, 255], I: [0, 1, 255] });
      await add(data, { colormap: name, cal_min: 0.5, cal_max: 1, opacity: 0.6 });
    }
    viewer.onLocationChange = onMove;
    drawLayers();
    drawLesions();
    window.addEventListener('message', (event) => {
      if (event.source === opener && event.data && event.data.sct7t === 'lesion' && event.data.key === key) goTo(event.data.id);
    });
    if (opener) opener.postMessage({ sct7t: 'ready', key }, '*');
    document.body.dataset.ready = 'yes';
  };

  function drawLayers() {
    $('layers').replaceChildren(...card.masks.map(({ name, colour }, n) => {
      const box = el('input', { type: 'checkbox', checked: '' });
      box.addEventListener('change', setOpacity);
      box.dataset.layer = n + 1;
      const mark = el('i', {});
      mark.style.background = `rgb(${colour})`;
      return el('label', {}, box, mark, name);
    }));
  }

  function setOpacity() {
    for (const box of $('layers').querySelectorAll('input')) viewer.setOpacity(Number(box.dataset.layer), box.checked ? $('opacity').value / 100 : 0);
  }

  function drawLesions() {
    $('side').hidden = !card.lesions.length;
    $('lesions').replaceChildren(...card.lesions.map(({ id, counted, volume_mm3: volume, diameter_mm: diameter, location: place }) => {
      const row = el('tr', { class: counted ? null : 'small', 'data-lesion': id }, el('td', {}, el('button', {}, String(id))), el('td', {}, volume.toFixed(volume < 100 ? 1 : 0)), el('td', {}, diameter.toFixed(1)), el('td', {}, (place || '\u2013').replaceAll('_', ' ')));
      row.addEventListener('click', () => { goTo(id); tell(id); });
      return row;
    }));
  }

  function goTo(id) {
    const lesion = card.lesions.find((one) => one.id === id);
    if (!lesion) return;
    viewer.scene.crosshairPos = viewer.mm2frac(lesion.mm);
    viewer.updateGLVolume();
    viewer.createOnLocationChange();
  }

  const tell = (id) => { if (opener) opener.postMessage({ sct7t: 'lesion', key, id }, '*'); };

  function mark(id) {
    for (const row of $('lesions').children) {
      const here = Number(row.dataset.lesion) === id;
      row.classList.toggle('here', here);
      if (here) row.scrollIntoView({ block: 'nearest' });
    }
  }

  let last = 0;
  function onMove(data) {
    const [x, y, z] = data.mm;
    const [image, ...layers] = data.values;
    $('where').textContent = `${[x, y, z].map((v) => v.toFixed(1)).join(', ')} mm \u00b7 ${image ? Number(image.value.toPrecision(5)) : '\u2013'}`;
    if (!card.lesions.length) return;
    const id = Math.round(layers[0] ? layers[0].value : 0);
    mark(id);
    if (id && id !== last) tell(id);
    last = id;
  }

  $('opacity').addEventListener('input', setOpacity);
  $('planes').addEventListener('input', () => viewer.setSliceType(Number($('planes').value)));
  if (/^[0-9a-f]{32}$/.test(key)) document.body.append(el('script', { src: `volumes/${key}.js` }));
  else $('about').textContent = 'Open this from the QC page.';
  window.addEventListener('hashchange', () => location.reload());
})();
