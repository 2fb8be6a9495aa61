import type { Nodes, Root } from "hast";
import { type ComponentChildren, h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CopyButton } from "../ui/CopyButton";

// More than that is coloured when it is finished, not again for every token.
const MOST_LIVE_CHARS = 6_000;
const MOST_CHARS = 60_000;

type Highlight = (language: string, text: string) => Root | undefined;
let highlight: Highlight | undefined;
let loading: Promise<void> | undefined;

/** A block of code with its language, a button to copy it, and colours once they are loaded. */
export function Code({
  text,
  language,
  growing,
}: {
  text: string;
  language: string;
  growing: boolean;
}) {
  const [, loaded] = useState(false);
  const wanted = language !== "" && text.length < (growing ? MOST_LIVE_CHARS : MOST_CHARS);
  useEffect(() => {
    if (!wanted || highlight) return;
    loading ??= import("./highlight").then((module) => {
      highlight = module.highlight;
    });
    loading.then(
      () => loaded(true),
      () => (loading = undefined),
    );
  }, [wanted]);
  const tree = wanted ? highlight?.(language.toLowerCase(), text) : undefined;
  return (
    <figure class="code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={text} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{tree ? coloured(tree) : text}</code>
      </pre>
    </figure>
  );
}

function coloured(node: Nodes): ComponentChildren {
  if (node.type === "text") return node.value;
  if (node.type === "root") return node.children.map(coloured);
  if (node.type !== "element") return null;
  const names = node.properties["className"];
  return h(
    "span",
    { class: Array.isArray(names) ? names.join(" ") : "" },
    ...node.children.map(coloured),
  );
}
