// Markdown tokens as elements. No HTML text is made on the way, so none can be injected.

import { type ComponentChildren, Fragment, h } from "preact";
import { memo } from "../ui/memo";
import type { Token } from "markdown-it/index.mjs";
import type { Block } from "./blocks";
import { Code } from "./Code";
import { Tex } from "./Tex";
import { texts } from "../texts";

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

/** The depth of nested emphasis above which the marks are shown instead. */
const MOST_NESTED = 40;

interface Open {
  token: Token | undefined;
  children: ComponentChildren[];
}

function elements(tokens: Token[], growing: boolean): ComponentChildren[] {
  const open: Open[] = [{ token: undefined, children: [] }];
  const add = (child: ComponentChildren) => open.at(-1)!.children.push(child);
  /** Ends the innermost one. A tag that was not closed is text. */
  const end = () => {
    const { token, children } = open.pop()!;
    if (token!.type === "tag") add([token!.content, children]);
    else add(element(token!, children));
  };
  let flat = 0;
  for (const token of tokens) {
    if (token.nesting === 1 && open.length > MOST_NESTED) {
      flat += 1;
      add(token.markup);
    } else if (token.nesting === -1 && flat > 0) {
      flat -= 1;
      add(token.markup);
    } else if (token.nesting === 1) {
      open.push({ token, children: [] });
    } else if (token.nesting === -1) {
      while (open.at(-1)!.token!.type === "tag") end();
      end();
    } else if (token.type === "tag") {
      tag(token, open, add);
    } else add(leaf(token, growing));
  }
  while (open.length > 1) end();
  return open[0]!.children;
}

/** `<sub>` opens an element if it is not too deep; `</sub>` closes it, where it is the innermost. */
function tag(token: Token, open: Open[], add: (child: ComponentChildren) => void): void {
  const innermost = open.at(-1)!.token;
  if (token.content[1] !== "/" && open.length <= MOST_NESTED) open.push({ token, children: [] });
  else if (token.content[1] === "/" && innermost?.type === "tag" && innermost.tag === token.tag) {
    const { children } = open.pop()!;
    add(h(token.tag, null, children));
  } else add(token.content);
}

function element(token: Token, children: ComponentChildren[]): ComponentChildren {
  const attribute = (name: string) => token.attrGet(name) ?? undefined;
  if (token.hidden) return h(Fragment, null, children); // a paragraph of a tight list
  switch (token.type) {
    case "heading_open":
      return h(
        tagOf(token.tag),
        { dir: "auto", class: `level-${token.tag.slice(1)}` },
        ...children,
      );
    case "table_open":
      return (
        <div class="table" tabIndex={0} role="group" aria-label={texts.value.answer.table}>
          <table dir="auto">{children}</table>
        </div>
      );
    case "th_open":
    case "td_open": {
      const side = /text-align:(\w+)/.exec(attribute("style") ?? "")?.[1];
      return h(token.tag, { class: side && `align-${side}` }, children);
    }
    case "list_item_open":
      return h("li", { class: attribute("class") }, children);
    case "footnote_block_open":
    case "footnote_reference_open":
      return <Footnotes token={token}>{children}</Footnotes>;
    case "footnote_open":
      return h("li", { value: footnote(token).id + 1 }, children);
    case "ordered_list_open":
      return h("ol", { dir: "auto", start: attribute("start") }, children);
    case "link_open": {
      const address = attribute("href") ?? "";
      if (!SAFE_ADDRESS.test(address)) return h(Fragment, null, children);
      return (
        <a
          href={address}
          title={attribute("title")}
          target="_blank"
          rel="noopener noreferrer nofollow"
        >
          {children}
        </a>
      );
    }
    default:
      return h(token.tag, OWN_DIRECTION.test(token.tag) ? { dir: "auto" } : null, children);
  }
}

function leaf(token: Token, growing: boolean): ComponentChildren {
  switch (token.type) {
    case "inline":
      return h(Fragment, null, ...elements(token.children ?? [], growing));
    case "text":
    case "text_special":
      return token.content;
    case "task": {
      const checked = token.markup === "x";
      const name = checked ? "done" : "to do";
      return <input type="checkbox" checked={checked} disabled aria-label={name} />;
    }
    case "source":
      return <p dir="auto">{token.content}</p>;
    case "footnote_ref":
      return <FootnoteLink number={footnote(token).id + 1} />;
    case "footnote_anchor":
      return null;
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
    case "math_block": {
      const display = token.type === "math_block";
      const { open } = (token.meta ?? {}) as { open?: boolean };
      return <Tex source={token.content} display={display} asSource={open === true} />;
    }
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

function footnote(token: Token): { id: number; label?: string } {
  return token.meta as { id: number; label?: string };
}

/** All footnotes at the end; while the text grows, each one where it is defined. */
function Footnotes({ token, children }: { token: Token; children?: ComponentChildren }) {
  const single = token.type === "footnote_reference_open";
  const number = parseInt(footnote(token)?.label ?? "", 10);
  return (
    <section class="footnotes" aria-label={texts.value.answer.footnotes}>
      <ol>{single ? <li value={number > 0 ? number : undefined}>{children}</li> : children}</ol>
    </section>
  );
}

/** Scrolls to the footnote. Not a link, because its address would change the open conversation. */
function FootnoteLink({ number }: { number: number }) {
  const show = ({ currentTarget }: Event) =>
    (currentTarget as Element)
      .closest(".prose")
      ?.querySelector(`.footnotes li[value="${number}"]`)
      ?.scrollIntoView({ block: "center", behavior: "smooth" });
  return (
    <sup>
      <button type="button" class="link" aria-label={`Footnote ${number}`} onClick={show}>
        {number}
      </button>
    </sup>
  );
}
