// Markdown as models write it: CommonMark with tables, footnotes, task lists, mathematics and a few
// tags. A text that is too deep or too large for a browser is shown as source.

import { footnote, type FootNoteEnv } from "@mdit/plugin-footnote";
import MarkdownIt from "markdown-it";
import cjkFriendly from "markdown-it-cjk-friendly";
import type { StateBlock, StateCore, StateInline, Token } from "markdown-it/index.mjs";
import { math } from "./math";

/** Of an address that is not marked up. */
const MOST_ADDRESS_CHARS = 2_000;
/** Depth of nested containers: a list counts twice. */
const MOST_NESTED = 40;
/** Of a paragraph: some marks take time that grows with the square of it. */
const MOST_PARAGRAPH_CHARS = 50_000;
/** Of a block at the top level, and of a text: the weight of its tokens, about one an element. */
const MOST_BLOCK_WEIGHT = 10_000;
const MOST_WEIGHT = 60_000;
const WEIGHTS: Record<string, number> = { fence: 20, code_block: 20, footnote_ref: 5 };
/** Of all formulas, and for each one what it costs however short it is. */
const MOST_FORMULA_CHARS = 60_000;
const FORMULA_CHARS = 30;

export interface Env {
  /** Link definitions by label. */
  references: object;
  /** More of the text is coming: a formula may lack its end. */
  open?: boolean;
  /** Set by the parser: there are too many footnotes to show them as such. */
  tooManyNotes?: boolean;
}

/** A parser of whole texts. */
export const whole = make();
/** A parser of parts of a text. Footnotes stay where they are defined. */
export const partial = make().disable(["footnote_ref", "footnoteTail", "footnote_unused"]);

function make(): MarkdownIt {
  // Markup in a message is text. Nothing is ever turned into HTML here anyway: the tokens become
  // elements in render.tsx.
  const parser = new MarkdownIt({ html: false, linkify: true })
    .use(cjkFriendly)
    .use(wordsOfAllScripts)
    .use(math)
    .use(footnote);
  // `2^[n]` is not a footnote.
  parser.disable("footnoteInline");
  // "file.py" and "example.com" are not links without a scheme or markup.
  parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
  boundLinks(parser);
  parser.core.ruler.after("inline", "tasks", tasks);
  parser.core.ruler.before("footnoteTail", "footnote_unused", keepUnused);
  parser.core.ruler.after("block", "large_paragraphs", largeParagraphs);
  parser.core.ruler.push("many_formulas", manyFormulas);
  parser.core.ruler.push("large_blocks", largeBlocks);
  parser.block.ruler.before("table", "deep", deep);
  parser.inline.ruler.before("autolink", "tag", tag);
  return parser;
}

/**
 * Lets `**` begin and end between a letter and a punctuation mark: `ה**"מודל"**`, `**शब्द।**अगला`.
 * CommonMark takes words to be set apart by spaces. Not for ASCII: `2**(n-1)` is no emphasis.
 */
function wordsOfAllScripts(parser: MarkdownIt): void {
  const State = parser.inline.State;
  parser.inline.State = class extends State {
    override scanDelims(start: number, canSplitWord: boolean) {
      const found = super.scanDelims(start, canSplitWord);
      const sides = [this.src[start - 1] ?? " ", this.src[start + found.length] ?? " "];
      const relaxed =
        canSplitWord &&
        found.length > 1 &&
        sides.some((side) => LETTER_BEYOND_ASCII.test(side)) &&
        !sides.some((side) => /\s/.test(side));
      return relaxed ? { ...found, can_open: true, can_close: true } : found;
    }
  };
}

const LETTER_BEYOND_ASCII = /(?![a-z])[\p{L}\p{M}]/iu;

/** Ends an address: no space follows these. */
const CJK_PUNCTUATION = /[\u3000-\u303f\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f“”]/;

/** Bounds how much is searched for the end of an address, each time that one begins. */
function boundLinks({ linkify }: MarkdownIt): void {
  const atStart = linkify.matchAtStart.bind(linkify);
  const test = linkify.test.bind(linkify);
  linkify.matchAtStart = (text) => {
    const found = atStart(text.slice(0, MOST_ADDRESS_CHARS).split(CJK_PUNCTUATION, 1)[0]!);
    return found && found.lastIndex < MOST_ADDRESS_CHARS ? found : null;
  };
  // Asked for what the other one does not find, such as mailto:.
  linkify.test = (text) => text.length <= MOST_ADDRESS_CHARS && test(text);
}

/**
 * `- [x] done`: the brackets become a checkbox. The plugins for it search all items of the list
 * before this one.
 */
function tasks({ tokens, Token }: StateCore): void {
  tokens.forEach(({ content, children }, index) => {
    const item = tokens[index - 2];
    const box = /^\[([ xX])\]\s/.exec(content);
    const first = children?.[0];
    if (!box || item?.type !== "list_item_open" || first?.type !== "text") return;
    item.attrSet("class", "task");
    first.content = first.content.slice(box[0].length - 1);
    const task = new Token("task", "", 0);
    task.markup = box[1]!.toLowerCase();
    children!.unshift(task);
  });
}

/** Keeps the footnotes that nothing refers to: the plugin would drop their text. */
function keepUnused(state: StateCore): void {
  const { footnotes } = state.env as Partial<FootNoteEnv>;
  for (const [key, index] of Object.entries(footnotes?.refs ?? {})) {
    if (index >= 0) continue;
    footnotes!.list ??= [];
    footnotes!.refs![key] = footnotes!.list.push({ label: key.slice(1), count: 0 }) - 1;
  }
}

/** Shows too deeply nested text as source; markdown-it itself would drop it. */
function deep(state: StateBlock, startLine: number, endLine: number, silent: boolean): boolean {
  if (silent || state.level < MOST_NESTED) return false;
  let next = startLine + 1;
  while (next < endLine && (state.isEmpty(next) || state.sCount[next]! >= state.blkIndent)) next++;
  const token = state.push("source", "", 0);
  token.content = state.getLines(startLine, next, state.blkIndent, false).trimEnd();
  token.map = [startLine, next];
  state.line = next;
  return true;
}

/** Runs before the text of paragraphs is parsed. */
function largeParagraphs({ tokens }: StateCore): void {
  for (const token of tokens)
    if (token.type === "inline" && token.content.length > MOST_PARAGRAPH_CHARS) token.type = "text";
}

function manyFormulas({ tokens }: StateCore): void {
  let chars = 0;
  for (const token of tokens.flatMap((token) => [token, ...(token.children ?? [])])) {
    if (!token.type.startsWith("math")) continue;
    chars += token.content.length + FORMULA_CHARS;
    if (chars > MOST_FORMULA_CHARS) token.meta = { open: true };
  }
}

/** The tokens of each block at the top level. */
export function groups(tokens: Token[]): Token[][] {
  const found: Token[][] = [];
  let depth = 0;
  for (const token of tokens) {
    if (depth === 0) found.push([]);
    found.at(-1)!.push(token);
    depth += token.nesting;
  }
  return found;
}

/** Replaces too large blocks by their source, and neighbouring ones by a single block. */
function largeBlocks(state: StateCore): void {
  const env = state.env as Env;
  const blocks = groups(state.tokens);
  let total = 0;
  const large = blocks.map((block) => {
    const weight = weightOf(block);
    return weight > MOST_BLOCK_WEIGHT || (total += weight) > MOST_WEIGHT;
  });
  if (!large.includes(true)) return;
  const lines = state.src.split("\n");
  const kept: Token[][] = [];
  const sources: Token[] = [];
  let end = lines.length;
  for (let index = blocks.length - 1; index >= 0; index--) {
    const block = blocks[index]!;
    const notes = block[0]!.type === "footnote_block_open"; // not where it is defined
    if (notes && large[index]) env.tooManyNotes = true;
    const start = notes ? end : (block.find(({ map }) => map)?.map?.[0] ?? end);
    if (!large[index] || notes) kept.push(block);
    else if (large[index + 1] && sources.length > 0) sources.at(-1)!.map![0] = start;
    else {
      const source = new state.Token("source", "", 0);
      source.map = [start, end];
      sources.push(source);
      kept.push([source]);
    }
    end = start;
  }
  for (const source of sources)
    source.content = lines
      .slice(...source.map!)
      .join("\n")
      .trimEnd();
  state.tokens = kept.reverse().flat();
}

function weightOf(tokens: Token[]): number {
  let weight = 0;
  for (const { type, children } of tokens)
    weight += (WEIGHTS[type] ?? 1) + (children ? weightOf(children) : 0);
  return weight;
}

/** `<br>`, `<sub>`, `<sup>` and `<kbd>`, without attributes: render.tsx pairs them. */
function tag(state: StateInline, silent: boolean): boolean {
  if (state.src[state.pos] !== "<") return false;
  const found = /^<(?:br\s?\/?|\/?(sub|sup|kbd))>/i.exec(state.src.slice(state.pos, state.pos + 8));
  if (!found) return false;
  if (!silent) {
    const token = state.push(found[1] ? "tag" : "hardbreak", found[1]?.toLowerCase() ?? "br", 0);
    token.content = found[0];
  }
  state.pos += found[0].length;
  return true;
}
