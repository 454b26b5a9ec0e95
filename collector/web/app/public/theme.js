// Runs before the first paint, so that the chosen theme never flashes the other one.
try {
  var theme = localStorage.getItem('sidetone-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch (e) {
  // Storage is blocked: the system's theme holds.
}
