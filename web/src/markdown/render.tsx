// Markdown tokens as elements. No HTML text is made on the way, so none can be injected.

import { type ComponentChildren, Fragment, h } from "preact";
import { memo } from "../ui/memo";
import type Token from "markdown-it/lib/token.mjs";
import type { Block } from "./blocks";
import { Code } from "./Code";
import { Tex } from "./Tex";

/** One block. `growing`: more of it may come. */
export const BlockView = memo(
  ({ block, growing }: { block: Block; growing: boolean }) => (
    <>{elements(block.tokens, growing)}</>
  ),
  (before, after) => before.block === after.block && before.growing === after.growing,
);

// The conversation's title is the page's only h1. How large a heading looks is up to its class.
const tagOf = (tag: string) => (tag === "h1" ? "h2" : tag);
// Arabic beside English: each of these by its own writing.
const OWN_DIRECTION = /^(p|ul|ol|blockquote|table)$/;
const SAFE_ADDRESS = /^(https?:|mailto:)/i;

interface Open {
  token: Token | undefined;
  children: ComponentChildren[];
}

function elements(tokens: Token[], growing: boolean): ComponentChildren[] {
  const open: Open[] = [{ token: undefined, children: [] }];
  const add = (child: ComponentChildren) => open.at(-1)!.children.push(child);
  for (const token of tokens) {
    if (token.nesting === 1) open.push({ token, children: [] });
    else if (token.nesting === -1) {
      const { token: opening, children } = open.pop()!;
      add(element(opening!, children));
    } else add(leaf(token, growing));
  }
  return open[0]!.children;
}

function element(token: Token, children: ComponentChildren[]): ComponentChildren {
  const attribute = (name: string) => token.attrGet(name) ?? undefined;
  if (token.hidden) return h(Fragment, null, ...children); // a paragraph of a tight list
  switch (token.type) {
    case "heading_open":
      return h(
        tagOf(token.tag),
        { dir: "auto", class: `level-${token.tag.slice(1)}` },
        ...children,
      );
    case "table_open":
      return (
        <div class="table" tabIndex={0} role="group" aria-label="Table">
          <table dir="auto">{...children}</table>
        </div>
      );
    case "th_open":
    case "td_open": {
      const side = /text-align:(\w+)/.exec(attribute("style") ?? "")?.[1];
      return h(token.tag, { class: side && `align-${side}` }, ...children);
    }
    case "list_item_open":
      return <li class={attribute("class")}>{...children}</li>;
    case "ordered_list_open":
      return h("ol", { dir: "auto", start: attribute("start") }, ...children);
    case "link_open": {
      const address = attribute("href") ?? "";
      if (!SAFE_ADDRESS.test(address)) return h(Fragment, null, ...children);
      return (
        <a
          href={address}
          title={attribute("title")}
          target="_blank"
          rel="noopener noreferrer nofollow"
        >
          {...children}
        </a>
      );
    }
    default:
      return h(token.tag, OWN_DIRECTION.test(token.tag) ? { dir: "auto" } : null, ...children);
  }
}

function leaf(token: Token, growing: boolean): ComponentChildren {
  switch (token.type) {
    case "inline":
      return h(Fragment, null, ...elements(token.children ?? [], growing));
    case "text":
    case "text_special":
      return token.content;
    case "task":
      return (
        <input
          type="checkbox"
          checked={token.markup === "x"}
          disabled
          aria-label={token.markup === "x" ? "done" : "to do"}
        />
      );
    case "code_inline":
      return <code>{token.content}</code>;
    case "fence":
    case "code_block":
      return (
        <Code
          text={token.content}
          language={token.info.trim().split(/\s/)[0] ?? ""}
          growing={growing}
        />
      );
    case "math_inline":
      return <Tex source={token.content} display={false} />;
    case "math_block":
      return <Tex source={token.content} display={true} />;
    case "softbreak":
      return "\n";
    case "hardbreak":
      return <br />;
    case "hr":
      return <hr />;
    case "image": {
      // Not loaded: an address in an answer must not learn who reads it.
      const address = token.attrGet("src") ?? "";
      const text = token.content || address;
      return SAFE_ADDRESS.test(address) ? (
        <a href={address} target="_blank" rel="noopener noreferrer nofollow">
          {text}
        </a>
      ) : (
        text
      );
    }
    default:
      return token.content;
  }
}
