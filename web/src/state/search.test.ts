import { beforeAll, expect, test, vi } from "vitest";

let pieces: typeof import("./search").pieces;

beforeAll(async () => {
  vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => undefined });
  vi.stubGlobal("addEventListener", () => undefined);
  ({ pieces } = await import("./search"));
});

test.each([
  ["none", "Green chutney", [], ["Green chutney"]],
  ["one within", "Green chutney", [[6, 9]], ["Green ", "[chu]", "tney"]],
  ["code points", "🥟🥟 samosa", [[3, 6]], ["🥟🥟 ", "[sam]", "osa"]],
  [
    "side by side and overlapping",
    "abcdef",
    [
      [2, 4],
      [0, 3],
    ],
    ["[abc]", "[d]", "ef"],
  ],
  ["past the end", "ab", [[1, 9]], ["a", "[b]"]],
] as [string, string, [number, number][], string[]][])("matches: %s", (_, text, matches, shown) => {
  const found = pieces(text, matches).map((piece) =>
    piece.match ? `[${piece.text}]` : piece.text,
  );
  expect(found).toEqual(shown);
});
