// The texts of the interface, one file per language. English is there at once; the others are loaded
// when they are wanted.

import { batch, signal } from "@preact/signals";
import { en } from "./en";

/** Every language has all of these. */
export type Texts = typeof en;

/** The available languages, by their own names. */
export const LANGUAGES = { en: "English", de: "Deutsch", hi: "हिन्दी" } as const;
export type Language = keyof typeof LANGUAGES;

const LOADERS: Record<Language, () => Promise<Texts>> = {
  en: () => Promise.resolve(en),
  de: async () => (await import("./de")).de,
  hi: async () => (await import("./hi")).hi,
};

/** The texts in the shown language. */
export const texts = signal<Texts>(en);
const shown = signal<Language>("en");
let wanted: Language = "en";

const ofTag = (tag: string) => tag.split("-")[0]!.toLowerCase();

/** The first of the browser's languages that is available. */
export function languageOfBrowser(): Language {
  const found = navigator.languages.map(ofTag).find((name) => name in LANGUAGES);
  return (found as Language | undefined) ?? "en";
}

/** Shows the interface in this language. Rejects if its texts cannot be loaded. */
export async function show(language: Language): Promise<void> {
  wanted = language;
  const loaded = await LOADERS[language]();
  if (wanted !== language) return;
  batch(() => {
    shown.value = language;
    texts.value = loaded;
  });
  document.documentElement.lang = language;
  document.documentElement.dir = loaded.dir;
}

/** The language, and where the browser names one, the country, for numbers and dates. */
export function locale(): string {
  const language = shown.value;
  const tags = globalThis.navigator?.languages ?? [];
  return tags.find((tag) => ofTag(tag) === language && isTag(tag)) ?? language;
}

/** Some browsers name a language that `Intl` refuses, such as "en-US@posix". */
function isTag(text: string): boolean {
  try {
    return Intl.getCanonicalLocales(text).length > 0;
  } catch {
    return false;
  }
}

export function number(value: number, options: Intl.NumberFormatOptions = {}): string {
  return value.toLocaleString(locale(), options);
}
