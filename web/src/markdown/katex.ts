// Loaded with the first formula.

import katex from "katex";
import "katex/dist/katex.min.css";

// Depth of elements: a nested group takes up to eight. Browsers crash at one or two thousand.
const MOST_NESTED = 250;
const MOST_ELEMENTS = 20_000;
const MOST_CHARS = 5_000;
// A macro can make millions of elements out of a line.
const DEFINITION = /\\(?:[gex]?def|(?:re)?newcommand|providecommand|(?:future)?let)(?![a-z])/i;

/** Renders the formula into `place`; its source if it is too large or invalid. */
export function render(source: string, place: HTMLElement, display: boolean): void {
  // Not part of the page: an element that is too deep must not get there.
  const formula = document.createElement("span");
  try {
    if (source.length > MOST_CHARS || DEFINITION.test(source)) throw new RangeError("too large");
    katex.render(source, formula, {
      displayMode: display,
      errorColor: "currentcolor",
      strict: "ignore",
      trust: false,
      maxExpand: 300,
      maxSize: 30,
    });
    if (isTooLarge(formula)) throw new RangeError("too large");
    place.replaceChildren(...formula.childNodes);
  } catch {
    showSource(source, place);
  }
}

export function showSource(source: string, place: HTMLElement): void {
  const code = document.createElement("code");
  code.textContent = source;
  place.replaceChildren(code);
}

function isTooLarge(formula: Element): boolean {
  const walker = document.createTreeWalker(formula, NodeFilter.SHOW_ELEMENT);
  let depth = 0;
  let elements = 0;
  for (;;) {
    if (walker.firstChild()) depth += 1;
    else {
      while (!walker.nextSibling()) {
        if (!walker.parentNode()) return false;
        depth -= 1;
      }
    }
    elements += 1;
    if (depth > MOST_NESTED || elements > MOST_ELEMENTS) return true;
  }
}
