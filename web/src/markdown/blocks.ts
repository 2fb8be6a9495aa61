// Markdown as it grows: what is finished is parsed once, and only the last block anew.

import { tex } from "@mdit/plugin-tex";
import MarkdownIt from "markdown-it";
import type Token from "markdown-it/lib/token.mjs";

// `html: false`: markup in a message is text. Nothing is ever turned into HTML here anyway: the
// tokens become elements in render.tsx.
const parser = new MarkdownIt({ html: false, linkify: true }).use(tex, {
  delimiters: "all",
  render: () => "",
});
// "file.py" and "example.com" are not links unless somebody says so.
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });

// `- [x] done`: the brackets become a token of their own.
parser.core.ruler.after("inline", "tasks", ({ tokens, Token: Made }) => {
  tokens.forEach(({ content, children }, index) => {
    const item = tokens[index - 2];
    const box = /^\[([ xX])\]\s/.exec(content);
    const first = children?.[0];
    if (!box || item?.type !== "list_item_open" || first?.type !== "text") return;
    item.attrSet("class", "task");
    first.content = first.content.slice(box[0].length - 1);
    const task = new Made("task", "", 0);
    task.markup = box[1]!.toLowerCase();
    children!.unshift(task);
  });
});

/** A paragraph, list, table, … at the top level. The same source gives the same object again. */
export interface Block {
  source: string;
  tokens: Token[];
}

export class GrowingMarkdown {
  private text = "";
  /** Up to here, blocks can no longer change. */
  private finishedTo = 0;
  private finished: Block[] = [];
  private blocks: Block[] = [];
  /** Link definitions seen so far. */
  private env = {};

  /** The blocks of `text`, which usually is the text of the last call and something more. */
  update(text: string): readonly Block[] {
    if (text === this.text) return this.blocks;
    if (!text.startsWith(this.text)) {
      this.finishedTo = 0;
      this.finished = [];
      this.env = {};
    }
    this.text = text;
    const found = split(text.slice(this.finishedTo), this.env);
    // All but the last: what begins a new block has ended the one before.
    for (const block of found.slice(0, -1)) {
      this.finished.push(block);
      this.finishedTo += block.source.length;
    }
    return (this.blocks = [...this.finished, ...found.slice(-1)]);
  }
}

/** The top-level blocks of a text; their sources together are the text. */
function split(text: string, env: object): Block[] {
  const lines = text.split("\n");
  const groups: Token[][] = [];
  let depth = 0;
  for (const token of parser.parse(text, env)) {
    if (depth === 0) groups.push([]);
    groups.at(-1)!.push(token);
    depth += token.nesting;
  }
  const starts = groups.map((tokens) => tokens[0]?.map?.[0] ?? 0);
  return groups.map((tokens, index) => {
    const from = index === 0 ? 0 : starts[index];
    const to = starts[index + 1];
    const source = lines.slice(from, to).join("\n") + (to === undefined ? "" : "\n");
    return { source, tokens };
  });
}
