// The language of the interface: the chosen one, or the browser's.

import { effect } from "@preact/signals";
import { languageOfBrowser, show, texts } from "../texts";
import { language } from "./preferences";
import { toast } from "./say";

/** Starts following the chosen language; resolves when it is shown. */
export function followLanguage(): Promise<void> {
  let showing = Promise.resolve();
  effect(() => {
    showing = show(language.value ?? languageOfBrowser()).catch(() => {
      toast(texts.peek().languageNotLoaded);
    });
  });
  addEventListener("languagechange", () => {
    if (language.peek() === null) void show(languageOfBrowser()).catch(() => undefined);
  });
  return showing;
}
