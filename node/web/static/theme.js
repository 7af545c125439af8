// Sets the theme before the first paint. A classic script in <head> on purpose:
// it blocks rendering, so a red-light screen never shows a frame of another
// theme. The theme is the only thing the page keeps in local storage.
(() => {
  'use strict';
  const KEY = 'outrider.theme';
  const CANVAS = { day: '#f3f4ef', night: '#0e1312', red: '#000000' };
  const root = document.documentElement;
  const light = matchMedia('(prefers-color-scheme: light)');

  const stored = () => {
    try {
      const v = localStorage.getItem(KEY);
      return v === 'day' || v === 'night' || v === 'red' ? v : 'auto';
    } catch {
      return 'auto'; // storage is off: follow the system
    }
  };
  const apply = (choice) => {
    const theme = choice === 'auto' ? (light.matches ? 'day' : 'night') : choice;
    root.dataset.theme = theme;
    root.dataset.themeChoice = choice;
    const meta = document.querySelector('meta[name="theme-color"]');
    if (meta) meta.content = CANVAS[theme];
  };
  let choice = stored();
  apply(choice);
  light.addEventListener('change', () => apply(choice));
  addEventListener('outrider:theme', (e) => {
    choice = e.detail;
    try {
      if (choice === 'auto') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, choice);
    } catch { /* the choice then lasts until the page is closed */ }
    apply(choice);
  });
})();
