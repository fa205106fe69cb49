import { signal } from '@preact/signals';

export interface Notice {
  text: string;
  tone: 'info' | 'error';
  action?: { label: string; run: () => void } | undefined;
}

export const notice = signal<Notice | null>(null);
/** What screen readers are told. */
export const announcement = signal('');

const SHOWN = 6_000;
let timer: ReturnType<typeof setTimeout> | undefined;

export function tell(text: string, more: Partial<Omit<Notice, 'text'>> = {}, shown = SHOWN) {
  notice.value = { text, tone: 'info', ...more };
  clearTimeout(timer);
  timer = setTimeout(dismiss, shown);
}

export function dismiss() {
  clearTimeout(timer);
  notice.value = null;
}

export function say(text: string) {
  // The same words again are heard again.
  announcement.value = '';
  setTimeout(() => {
    announcement.value = text;
  }, 30);
}
