export type Theme = 'auto' | 'light' | 'dark';

const KEY = 'sidetone-theme';

function stored(): Theme {
  try {
    const v = localStorage.getItem(KEY);
    return v === 'light' || v === 'dark' ? v : 'auto';
  } catch {
    return 'auto';
  }
}

/** Light, dark, or what the system says. `version` grows when colours changed. */
class ThemeState {
  choice = $state<Theme>(stored());
  version = $state(0);

  next(): void {
    this.choice = this.choice === 'auto' ? 'light' : this.choice === 'light' ? 'dark' : 'auto';
    if (this.choice === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.choice;
    try {
      if (this.choice === 'auto') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, this.choice);
    } catch {
      // Storage is blocked: the choice holds until the page is closed.
    }
    this.version++;
  }

  start(): () => void {
    const media = matchMedia('(prefers-color-scheme: dark)');
    const change = () => this.version++;
    media.addEventListener('change', change);
    return () => media.removeEventListener('change', change);
  }
}

export const theme = new ThemeState();
