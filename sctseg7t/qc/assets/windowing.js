// Window and level: a linear transfer of the gray values shown, the same for every picture of the page.
(() => {
  const { $, svg } = QC;
  const WHOLE = { window: 1, level: .5 };
  const channels = ['R', 'G', 'B'].map((name) => svg(`feFunc${name}`, { type: 'linear' }));
  document.body.append(svg('svg', { class: 'filters', 'aria-hidden': 'true' },
    svg('filter', { id: 'transfer', x: 0, y: 0, width: '100%', height: '100%', 'color-interpolation-filters': 'sRGB' }, svg('feComponentTransfer', {}, channels))));

  QC.windowing = {
    ...WHOLE,

    // Parts of the range of gray values that is in the pictures: the width of the window, and its middle.
    set({ window = this.window, level = this.level }) {
      this.window = Math.max(.02, Math.min(2, window));
      this.level = Math.max(0, Math.min(1, level));
      // Black is level - window / 2, white level + window / 2.
      for (const channel of channels) {
        channel.setAttribute('slope', 1 / this.window);
        channel.setAttribute('intercept', .5 - this.level / this.window);
      }
      const changed = this.window !== WHOLE.window || this.level !== WHOLE.level;
      document.body.classList.toggle('windowed', changed);
      $('window').value = 100 * this.window;
      $('level').value = 100 * this.level;
      $('windowReset').disabled = !changed;
      this.tell();
      this.changed?.(this);
    },

    // The intensities of the scan that are black and white now, where the card knows them.
    tell() {
      const viewer = document.querySelector('.viewer[data-range]');
      if (!viewer) return;
      const [low, high] = viewer.dataset.range.split(' ').map(Number);
      const at = (part) => QC.number(low + (high - low) * part, high - low < 10 ? 2 : 0);
      $('shownRange').textContent = `shown: ${at(this.level - this.window / 2)} to ${at(this.level + this.window / 2)}`;
    },

    // With the right button: to the side the window, up and down the level.
    drag(event, frame) {
      const { clientX, clientY } = event, { window, level } = this;
      const move = (now) => this.set({ window: window * 2 ** ((now.clientX - clientX) / 150), level: level + (now.clientY - clientY) / 400 });
      frame.setPointerCapture(event.pointerId);
      frame.addEventListener('pointermove', move);
      frame.addEventListener('pointerup', () => frame.removeEventListener('pointermove', move), { once: true });
    },
  };

  $('window').addEventListener('input', () => QC.windowing.set({ window: $('window').value / 100 }));
  $('level').addEventListener('input', () => QC.windowing.set({ level: $('level').value / 100 }));
  $('windowReset').addEventListener('click', () => QC.windowing.set(WHOLE));
})();
