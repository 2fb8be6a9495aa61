// Announcements for screen readers, and short messages on the screen.

import { signal } from "@preact/signals";

/** The content of the polite live region. */
export const announcement = signal("");

export function announce(text: string): void {
  announcement.value = text;
}

export interface Toast {
  id: number;
  text: string;
  action?: { label: string; run: () => void };
}

export const toasts = signal<Toast[]>([]);

let last = 0;

/** Shows a message for a while, in a live region; returns a function that removes it earlier. */
export function toast(
  text: string,
  options: { action?: Toast["action"]; ms?: number } = {},
): () => void {
  const { action, ms = 6_000 } = options;
  const shown: Toast = { id: ++last, text, ...(action && { action }) };
  const end = () => {
    clearTimeout(timer);
    toasts.value = toasts.value.filter((one) => one !== shown);
  };
  const timer = setTimeout(end, ms);
  toasts.value = [...toasts.value, shown].slice(-3);
  return end;
}
