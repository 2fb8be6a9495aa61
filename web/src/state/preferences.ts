// The user's choices in this browser.

import { effect, signal } from "@preact/signals";
import { onChange, read, write } from "./storage";
import type { Language } from "../texts";

/** The options of answers; null leaves them to the service. */
export interface Options {
  temperature: number | null;
  max_tokens: number | null;
  top_k: number | null;
  thinking_mode: boolean;
  force_web_search: boolean;
}

export type Theme = "light" | "dark" | "system";

export const DEFAULTS: Options = {
  temperature: null,
  max_tokens: null,
  top_k: null,
  thinking_mode: false,
  force_web_search: false,
};

export const options = kept<Options>("options", DEFAULTS);
/** Whether to notify of the end of an answer while the page is hidden. */
export const notifications = kept<boolean>("notifications", false);
/** null leaves it to the browser. */
export const language = kept<Language | null>("language", null);
export const theme = kept<Theme>("theme", "system");

/** The options as fields of a request: only those that were chosen. */
export function chosen(): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options.peek()).filter(([, value]) => value !== null && value !== false),
  );
}

// public/theme.js does the same before the first paint.
const dark = matchMedia("(prefers-color-scheme: dark)");
const wear = () => {
  const name = theme.value === "system" ? (dark.matches ? "dark" : "light") : theme.value;
  document.documentElement.dataset["theme"] = name;
  // What a phone puts around the page.
  const paper = getComputedStyle(document.documentElement).getPropertyValue("--paper");
  for (const meta of document.querySelectorAll<HTMLMetaElement>("meta[name=theme-color]")) {
    meta.content = paper;
  }
};
effect(wear);
dark.addEventListener("change", wear);

function kept<T>(name: string, fallback: T) {
  const load = (): T => {
    const found = read<T>(name);
    return typeof fallback === "object" && fallback !== null
      ? { ...fallback, ...found }
      : (found ?? fallback);
  };
  const value = signal<T>(load());
  effect(() => write(name, value.value));
  onChange(name, () => {
    value.value = load();
  });
  return value;
}
