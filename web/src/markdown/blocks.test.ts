import fc from "fast-check";
import { expect, test } from "vitest";
import { type Block, GrowingMarkdown } from "./blocks";

/** What is seen of blocks: their tokens, without positions. */
function seen(blocks: readonly Block[]): unknown {
  return JSON.parse(
    JSON.stringify(blocks, (key, value: unknown) => (key === "map" ? undefined : value)),
  );
}

function whole(text: string, growing = false): unknown {
  return seen(new GrowingMarkdown().update(text, growing));
}

/** The blocks at the end, after the text has come in these pieces. */
function streamed(pieces: string[]): unknown {
  const markdown = new GrowingMarkdown();
  let text = "";
  for (const piece of pieces) markdown.update((text += piece), true);
  return seen(markdown.update(text, false));
}

const PARTS = [
  ["word", " ", "\n", "\n\n", "  ", "    ", "\t", "\r\n", "\r", "# ", "#", "=\n", "---\n", "> "],
  [
    "- ",
    "1. ",
    "10) ",
    "- [x] ",
    "```\n",
    "~~~js\n",
    "`",
    "*",
    "**",
    "_",
    "~~",
    "\\",
    "<",
    "<sub>",
  ],
  ["</sub>", "<br>", "&amp;", "|", "a|b\n", "-|-\n", "$", "$$", "\\(", "\\)", "\\[", "\\]", "x^2"],
  ["https://a.example", "[a]", "[b](c)", "![d](e)", "“重点”", "שלום", "नमस्ते।", "👩‍👩‍👧", "\u0000"],
].flat();
const DEFINITIONS = [
  "[a]: https://a.example 'T'\n",
  "[word]: /b\n",
  "[^1]: note\n",
  "[^1]",
  "[^a]:",
];

const text = (parts: string[]) =>
  fc.array(fc.constantFrom(...parts), { maxLength: 40 }).map((found) => found.join(""));

/** Cuts a text at these places. */
function cut(text: string, places: number[]): string[] {
  const ends = [...new Set(places.map((place) => place % (text.length + 1)))].sort((a, b) => a - b);
  return [...ends, text.length].map((end, index) => text.slice(ends[index - 1] ?? 0, end));
}

test("however a text is cut, what has been streamed is what the whole is", () => {
  const places = fc.array(fc.nat(), { maxLength: 20 });
  fc.assert(
    fc.property(text([...PARTS, ...DEFINITIONS]), places, (all, places) => {
      expect(streamed(cut(all, places))).toEqual(whole(all));
    }),
    { numRuns: 500 },
  );
});

test("while a text grows, its blocks are those of what is there", () => {
  fc.assert(
    fc.property(text(PARTS), (all) => {
      const markdown = new GrowingMarkdown();
      for (let end = 1; end <= all.length; end++) {
        const blocks = seen(markdown.update(all.slice(0, end), true));
        expect(blocks).toEqual(whole(all.slice(0, end), true));
      }
    }),
    { numRuns: 300 },
  );
});

test.each([
  ["a link", "See [a].\n\n# Next\n\n[a]: https://example.org/long 'A title'\n\nEnd."],
  ["a link before its use", "[a]: https://example.org/long\n  'A title'\n\nSee [a].\n\n# Next\n"],
  ["two definitions of one link", "[a]: https://one.example\n[a]: https://two.example\n\n[a]\n\n"],
  ["a footnote", "Text[^n] and [^m].\n\n# Next\n\n[^n]: It is *so*.\n\n    And so.\n\n[^m]: Yes\n"],
  ["a footnote before its use", "[^n]: It is\n\n- [^n]\n- [^n]\n\nEnd"],
])("the definition of %s is not taken half-arrived", (_, all) => {
  const expected = whole(all);
  for (let at = 0; at <= all.length; at++)
    expect(streamed([all.slice(0, at), all.slice(at)])).toEqual(expected);
  expect(streamed([...all])).toEqual(expected);
});

test("what has not changed at the end is the same object", () => {
  const markdown = new GrowingMarkdown();
  const all = "# Title\n\nSee [a].\n\n```js\nlet x;\n```\n\n[a]: https://example.org\n";
  const growing = [...markdown.update(all, true)];
  const ended = markdown.update(all, false);
  expect(ended.map((block, index) => block === growing[index])).toEqual([true, false, true]);
});

test("a text that replaces the one before is read from its start", () => {
  const markdown = new GrowingMarkdown();
  markdown.update("[a]: https://old.example\n\nOne\n\nTwo\n\n", true);
  expect(seen(markdown.update("Other [a]\n\n", true))).toEqual(whole("Other [a]\n\n", true));
});
