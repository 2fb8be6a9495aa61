// The language of the interface: that of the browser, or the one that was chosen.

import { effect } from "@preact/signals";
import { languageOfBrowser, show, texts } from "../texts";
import { language } from "./preferences";
import { toast } from "./say";

/** Shows the language that is wanted, from now on; resolves when it is shown. */
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
