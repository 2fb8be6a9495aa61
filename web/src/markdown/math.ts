// Mathematics between `$…$`, `\(…\)`, `$$…$$` and `\[…\]`, the last two also in mid-line.
//
// Plugins for markdown-it take the last two at the start of a line only, take `$A/$B` for a
// formula, and search the rest of the text again for each delimiter that is never closed.

import type MarkdownIt from "markdown-it";
import type { StateBlock, StateInline } from "markdown-it/index.mjs";

/** A longer formula is text. Bounds the search for a closing delimiter. */
const MOST_CHARS = 10_000;

interface Delimiters {
  open: string;
  close: string;
  display: boolean;
  /** Finds both of them, and everything that a backslash escapes. */
  either: RegExp;
}

const DOLLAR: Delimiters = { open: "$", close: "$", display: false, either: /\\[^]|\$/g };
const DELIMITERS: Delimiters[] = [
  { open: "$$", close: "$$", display: true, either: /\\[^]|\$\$/g },
  { open: "\\[", close: "\\]", display: true, either: /\\[^]/g },
  { open: "\\(", close: "\\)", display: false, either: /\\[^]/g },
];

export function math(parser: MarkdownIt): void {
  const alt = ["paragraph", "reference", "blockquote", "list"];
  parser.block.ruler.before("blockquote", "math_block", block, { alt });
  parser.inline.ruler.before("escape", "math_inline", inline);
}

/** The position of the first of the two delimiters; -1 if there is none. */
function find(text: string, from: number, { open, close, either }: Delimiters): number {
  either.lastIndex = from;
  for (let found = either.exec(text); found; found = either.exec(text)) {
    if (found[0] === open || found[0] === close) return found.index;
    if (found.index - from > MOST_CHARS) return -1;
  }
  return -1;
}

function inline(state: StateInline, silent: boolean): boolean {
  const { src, pos } = state;
  if (src[pos] !== "$" && src[pos] !== "\\") return false;
  const delimiters = DELIMITERS.find(({ open }) => src.startsWith(open, pos)) ?? DOLLAR;
  if (!src.startsWith(delimiters.open, pos)) return false;
  const { open, close, display } = delimiters;
  const start = pos + open.length;
  const end = find(src, start, delimiters);
  if (end === -1 || end + close.length > state.posMax || !src.startsWith(close, end)) return false;
  const source = src.slice(start, end);
  if (source.trim() === "" || (delimiters === DOLLAR && !isFormula(src, pos, end))) return false;
  if (!silent) {
    const token = state.push(display ? "math_block" : "math_inline", "math", 0);
    token.content = source.trim();
    token.markup = open;
  }
  state.pos = end + close.length;
  return true;
}

/**
 * Whether `$…$` is mathematics rather than money, or variables of a shell. As in Pandoc, no space
 * inside and no digit after it. In addition, no letter or digit before it, no letter after it but
 * an ending ("the $n$th"), and no code inside.
 */
function isFormula(text: string, start: number, end: number): boolean {
  if (/\w/.test(text[start - 1] ?? "") || /\s/.test(text[start + 1]!)) return false;
  if (/\s/.test(text[end - 1]!) || text[end + 1] === "$") return false;
  if (!/^(?:\W|(?:st|nd|rd|th|s)\b|$)/.test(text.slice(end + 1, end + 4))) return false;
  return !text.slice(start, end).includes("`");
}

/** A formula on lines of its own. With `open` in the environment, it may lack its end. */
function block(state: StateBlock, startLine: number, endLine: number, silent: boolean): boolean {
  const line = (number: number) =>
    state.src.slice(state.bMarks[number]! + state.tShift[number]!, state.eMarks[number]);
  const start = state.bMarks[startLine]! + state.tShift[startLine]!;
  const delimiters = DELIMITERS.find(
    ({ open, display }) => display && state.src.startsWith(open, start),
  );
  if (!delimiters || state.sCount[startLine]! - state.blkIndent > 3) return false;
  const content: string[] = [];
  let chars = 0;
  let afterBlank = false;
  let closed = false;
  let next = startLine;
  while (next < endLine && !closed) {
    const empty = next > startLine && state.isEmpty(next);
    if (!empty && state.sCount[next]! < state.blkIndent) break;
    const text = (next === startLine ? line(next).slice(2) : line(next)).trimEnd();
    afterBlank ||= empty;
    const end = endOf(text, delimiters, afterBlank);
    if (end === "elsewhere" || (chars += text.length + 1) > MOST_CHARS) return false;
    closed = end === "here";
    content.push(closed ? text.slice(0, -2) : text);
    next += 1;
  }
  const source = content.join("\n").trim();
  const atEnd = next === state.bMarks.length - 1; // the last entry is no line
  const open = !closed && atEnd && (state.env as { open?: boolean }).open === true;
  if (closed ? source === "" : !open) return false;
  if (silent) return true;
  state.line = next;
  const token = state.push("math_block", "math", 0);
  token.block = true;
  token.content = source;
  token.markup = delimiters.open;
  token.map = [startLine, next];
  if (open) token.meta = { open };
  return true;
}

/** Whether a line ends the formula. "elsewhere": it is closed in mid-line, or another one begins. */
function endOf(
  text: string,
  delimiters: Delimiters,
  afterBlank: boolean,
): "here" | "elsewhere" | undefined {
  const last = text.length - delimiters.close.length;
  // What stands in mid-line after a blank line is in another paragraph.
  if (afterBlank) {
    if (text.endsWith(delimiters.close)) return "here";
    return text.startsWith(delimiters.open) ? "elsewhere" : undefined;
  }
  const found = find(text, 0, delimiters);
  if (found === -1) return undefined;
  return found === last && text.endsWith(delimiters.close) ? "here" : "elsewhere";
}
