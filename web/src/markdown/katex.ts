// Loaded with the first formula.

import katex from "katex";
import "katex/dist/katex.min.css";

export function render(source: string, place: HTMLElement, display: boolean): void {
  try {
    katex.render(source, place, {
      displayMode: display,
      errorColor: "currentcolor",
      strict: "ignore",
      trust: false,
      maxExpand: 300,
      maxSize: 30,
    });
  } catch {
    place.textContent = source;
  }
}
