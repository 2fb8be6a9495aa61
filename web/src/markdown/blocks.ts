// Incremental parsing of growing Markdown: finished blocks once, only the last block again.

import type { Token } from "markdown-it/index.mjs";
import { type Env, groups, partial, whole } from "./parser";

/** A paragraph, list, table, … at the top level. An unchanged block stays the same object. */
export interface Block {
  tokens: Token[];
}

export class GrowingMarkdown {
  private text = "";
  private growing = false;
  private blocks: Block[] = [];
  /** Up to here, blocks can no longer change, except by definitions that come later. */
  private finishedTo = 0;
  private finished: Block[] = [];
  /** The link definitions up to there. */
  private references: object = {};
  /** The end of the last complete line that was parsed. */
  private seenTo = 0;

  /**
   * Return the blocks of `text`, which usually is the text of the last call and something more.
   *
   * With `growing`, more of it is coming: links and footnotes whose definition comes after them
   * may still be unresolved. Without, the blocks are those of the whole text.
   */
  update(text: string, growing: boolean): readonly Block[] {
    text = text.replace(/\r\n?/g, "\n");
    if (text === this.text && growing === this.growing) return this.blocks;
    if (!growing || !text.startsWith(this.text)) this.forget();
    this.text = text;
    this.growing = growing;
    if (growing) {
      this.finish();
      const env: Env = { references: Object.create(this.references) as object, open: true };
      const open = groups(partial.parse(text.slice(this.finishedTo), env));
      return (this.blocks = [...this.finished, ...open.map((tokens) => ({ tokens }))]);
    }
    const before = this.blocks;
    return (this.blocks = groups(parse(text)).map((tokens, index) => {
      const known = before[index];
      return known && fingerprint(known.tokens) === fingerprint(tokens) ? known : { tokens };
    }));
  }

  private forget(): void {
    this.finishedTo = this.seenTo = 0;
    this.finished = [];
    this.references = {};
  }

  /** Finishes the blocks before the last one, as far as lines are complete: `#` may become `#tag`. */
  private finish(): void {
    const end = this.text.lastIndexOf("\n") + 1;
    if (end <= this.seenTo) return;
    this.seenTo = end;
    const lines = this.text.slice(this.finishedTo, end);
    const tokens: Token[] = [];
    const looking: Env = { references: Object.create(this.references) as object, open: true };
    partial.block.parse(lines, partial, looking, tokens);
    const found = groups(tokens);
    // A formula whose end is missing may turn out to be more of the paragraph before it.
    if ((found.at(-1)?.[0]?.meta as { open?: boolean } | null)?.open) found.pop();
    const last = found.at(-1)?.find(({ map }) => map)?.map?.[0] ?? 0;
    if (last === 0) return;
    const source = lines.split("\n").slice(0, last).join("\n") + "\n";
    // Only now definitions count: the one that stands in the last line could still be longer.
    const env: Env = { references: this.references };
    for (const tokens of groups(partial.parse(source, env))) this.finished.push({ tokens });
    this.finishedTo += source.length;
  }
}

function parse(text: string): Token[] {
  const env: Env = { references: {} };
  const tokens = whole.parse(text, env);
  return env.tooManyNotes ? partial.parse(text, { references: {} }) : tokens;
}

const SHOWN = ["type", "tag", "nesting", "content", "markup", "info", "hidden", "attrs"].concat(
  ["meta", "id", "subId", "label", "open", "children"], // the parts of `meta`, and what is inside
);

/** All visible text of these tokens. */
function fingerprint(tokens: Token[]): string {
  return JSON.stringify(tokens, SHOWN);
}
