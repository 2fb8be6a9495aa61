// A search in titles and messages that follows the input.

import { batch, signal } from "@preact/signals";
import type { Found } from "../api";
import { api, refused } from "./service";
import { explain } from "./explain";

const PAGE = 20;
/** The most results that are loaded; a narrower query finds the others. */
export const MOST_FOUND = 200;
const MOST_CHARS = 200;
/** A search starts when no key was pressed for this time. */
const PAUSE_MS = 150;

export class Search {
  readonly found = signal<Found[]>([]);
  readonly searching = signal(false);
  readonly problem = signal("");
  private query = "";
  private cursor: string | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Sets the query; a blank one ends the search. */
  change(text: string): void {
    clearTimeout(this.timer);
    this.query = [...text.trim()].slice(0, MOST_CHARS).join("");
    this.cursor = null;
    batch(() => {
      this.problem.value = "";
      this.searching.value = this.query !== "";
      if (this.query === "") this.found.value = [];
    });
    if (this.query !== "")
      this.timer = setTimeout(() => void this.load(this.query, false), PAUSE_MS);
  }

  /** The next page, if there is one. */
  more(): void {
    if (this.searching.peek() || this.cursor === null) return;
    if (this.found.peek().length >= MOST_FOUND) return;
    this.searching.value = true;
    void this.load(this.query, true);
  }

  private async load(query: string, further: boolean): Promise<void> {
    try {
      const cursor = further ? (this.cursor ?? undefined) : undefined;
      const page = await api.search({ q: query, limit: PAGE, cursor });
      if (query !== this.query) return;
      this.cursor = page.next_cursor;
      this.found.value = further ? [...this.found.peek(), ...page.items] : page.items;
    } catch (error) {
      if (query !== this.query) return;
      refused(error);
      this.problem.value = explain(error);
      if (!further) this.found.value = [];
    }
    this.searching.value = false;
  }

  end(): void {
    clearTimeout(this.timer);
    this.query = "";
  }
}

/** A text in pieces, with the matches marked. `matches` are in code points. */
export function pieces(
  text: string,
  matches: readonly (readonly [number, number])[],
): { text: string; match: boolean }[] {
  const points = [...text];
  const found: { text: string; match: boolean }[] = [];
  let at = 0;
  const add = (to: number, match: boolean) => {
    if (to > at) found.push({ text: points.slice(at, to).join(""), match });
    at = Math.max(at, to);
  };
  for (const [start, end] of [...matches].sort(([one], [other]) => one - other)) {
    add(start, false);
    add(end, true);
  }
  add(points.length, false);
  return found;
}
