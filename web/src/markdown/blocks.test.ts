import { expect, test } from "vitest";
import { GrowingMarkdown } from "./blocks";

test("the sources of the blocks together are the text", () => {
  const text = "# Title\n\nText\n\n- one\n- two\n\n```js\nlet x\n\n";
  const blocks = new GrowingMarkdown().update(text);
  expect(blocks.map(({ source }) => source).join("")).toBe(text);
});
