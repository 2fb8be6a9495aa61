import type { Nodes, Root } from "hast";
import { type ComponentChildren, h, type VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { CopyButton } from "../ui/CopyButton";
import { affordable, later, spend } from "./budget";
import { texts } from "../texts";

/** Up to this size, a growing block is coloured whenever it changes; above, when it has grown by a
 * quarter: the work in total stays proportional to the size. */
const MOST_LIVE_CHARS = 6_000;
const MOST_CHARS = 60_000;
/** The longest line: highlighters search some lines many times. */
const MOST_LINE_CHARS = 5_000;
const MOST_NESTED = 40;

type Highlight = (language: string, text: string) => Root | undefined;
let highlight: Highlight | undefined;
let loading: Promise<void> | undefined;

interface Coloured {
  text: string;
  language: string;
  element: VNode | undefined;
}

interface Source {
  text: string;
  language: string;
  growing: boolean;
}

/** A block of code with its language, a button to copy it, and colours once they are loaded. */
export function Code({ text, language, growing }: Source) {
  const [, render] = useState({});
  const wanted = language !== "" && isReadable(text);
  useEffect(() => {
    if (!wanted || highlight) return;
    loading ??= import("./highlight").then((module) => {
      highlight = module.highlight;
    });
    loading.then(
      () => render({}),
      () => (loading = undefined),
    );
  }, [wanted]);
  const coloured = useColours(text, wanted ? language.toLowerCase() : "", growing);
  return (
    <figure class="code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={text} label={texts.value.answer.copyCode} />
      </figcaption>
      <pre tabIndex={0}>
        <code>
          {coloured?.element}
          {coloured ? text.slice(coloured.text.length) : text}
        </code>
      </pre>
    </figure>
  );
}

/** The highlighted beginning of the text: all of it, unless it is growing or time is short. */
function useColours(text: string, language: string, growing: boolean): Coloured | undefined {
  const [, render] = useState({});
  const kept = useRef<Coloured | undefined>(undefined);
  const usable = () => {
    const known = kept.current;
    return known?.language === language && text.startsWith(known.text) ? known : undefined;
  };
  const colours = () => {
    const tree = highlight!(language, text);
    kept.current = { text, language, element: tree && coloured(tree) };
  };
  const wanted = language !== "" && highlight !== undefined;
  const due = wanted && isDue(usable()?.text.length ?? 0, text.length, growing);
  const postponed = due && !affordable();
  if (due && !postponed) spend(colours);
  useEffect(() => {
    if (postponed) return later(() => (colours(), render({})));
  }, [postponed, language, text]);
  const known = wanted ? usable() : undefined;
  return known?.element && known;
}

/** Whether a text with a highlighted beginning is to be highlighted further. */
function isDue(coloured: number, all: number, growing: boolean): boolean {
  if (coloured === all) return false;
  return !growing || all <= MOST_LIVE_CHARS || all >= coloured * 1.25;
}

function isReadable(text: string): boolean {
  return (
    text.length <= MOST_CHARS && text.split("\n").every(({ length }) => length <= MOST_LINE_CHARS)
  );
}

/** Undefined if scopes are nested too deeply for elements. */
function coloured(tree: Root): VNode | undefined {
  try {
    return h("span", null, colour(tree, 0));
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function colour(node: Nodes, depth: number): ComponentChildren {
  if (depth > MOST_NESTED) throw new RangeError("nested too deeply");
  if (node.type === "text") return node.value;
  if (node.type === "root") return node.children.map((child) => colour(child, depth + 1));
  if (node.type !== "element") return null;
  const names = node.properties["className"];
  const name = Array.isArray(names) ? names.join(" ") : "";
  return h("span", { class: name }, ...node.children.map((child) => colour(child, depth + 1)));
}
