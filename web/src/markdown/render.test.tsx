import { renderToString } from "preact-render-to-string";
import { describe, expect, test } from "vitest";
import { GrowingMarkdown } from "./blocks";
import { BlockView } from "./render";

/** The HTML of a text, without what is there for looks and screen readers. */
function html(text: string): string {
  return new GrowingMarkdown()
    .update(text, false)
    .map((block) => renderToString(<BlockView block={block} growing={false} />))
    .join("")
    .replaceAll(/ (?:dir|target|rel|role|aria-label|tabindex)="[^"]*"/g, "");
}

const raw = String.raw;
const tex = (source: string) => `<code class="tex">${source}</code>`;
const display = (source: string) => `<code class="tex display">${source}</code>`;
const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const plain = (text: string): [string, string] => [text, `<p>${escaped(text)}</p>`];

describe("emphasis is seen in every script", () => {
  test.each([
    // Latin
    ['It is **"so"**, *not* so', "<p>It is <strong>&quot;so&quot;</strong>, <em>not</em> so</p>"],
    ["**Note:** a *b*c", "<p><strong>Note:</strong> a <em>b</em>c</p>"],
    plain("2**(n-1) and 3**(m-1), snake_case_name, 2 * 3 * 4"),
    // Chinese, Japanese, Korean
    ["这是**“重点”**内容", "<p>这是<strong>“重点”</strong>内容</p>"],
    ["**标题：**内容**重点。**后", "<p><strong>标题：</strong>内容<strong>重点。</strong>后</p>"],
    ["见**（注）**后*“二”*", "<p>见<strong>（注）</strong>后<em>“二”</em></p>"],
    ["これは**「強調」**です", "<p>これは<strong>「強調」</strong>です</p>"],
    ['이것은 **"강조"**는', "<p>이것은 <strong>&quot;강조&quot;</strong>는</p>"],
    ["~~“删”~~了", "<p><s>“删”</s>了</p>"],
    // Arabic, Hebrew
    ["و**«نص»**هو", "<p>و<strong>«نص»</strong>هو</p>"],
    ['ה**"מודל"** ו**(כך)**', "<p>ה<strong>&quot;מודל&quot;</strong> ו<strong>(כך)</strong></p>"],
    ["**ملاحظة:** نص، *مائل*", "<p><strong>ملاحظة:</strong> نص، <em>مائل</em></p>"],
    // Devanagari
    ["**शब्द।**अगला", "<p><strong>शब्द।</strong>अगला</p>"],
    ["यह**“महत्वपूर्ण”**है", "<p>यह<strong>“महत्वपूर्ण”</strong>है</p>"],
    // Cyrillic
    ["слово**«важно»**слово", "<p>слово<strong>«важно»</strong>слово</p>"],
    ["**Итог:** да, *нет*", "<p><strong>Итог:</strong> да, <em>нет</em></p>"],
  ])("%s", (text, expected) => expect(html(text)).toBe(expected));
});

describe("mathematics is told from money and from code", () => {
  test.each([
    ["$x$, the $n$th of \\(y\\)", `<p>${tex("x")}, the ${tex("n")}th of ${tex("y")}</p>`],
    ["设$x$为$y$，$z$는 $n$-й", `<p>设${tex("x")}为${tex("y")}，${tex("z")}는 ${tex("n")}-й</p>`],
    ["前 $$x=1$$ 后 \\[y\\]", `<p>前 ${display("x=1")} 后 ${display("y")}</p>`],
    ["$$x$$", display("x")],
    ["$$x$$ where $$y$$.", `<p>${display("x")} where ${display("y")}.</p>`],
    ["a\n$$\nx\n\ny\n$$\nb", `<p>a</p>${display("x\n\ny")}<p>b</p>`],
    ["$$\nx\n$$ so", `<p>${display("x")} so</p>`],
    [raw`\[a \\[4pt] b\]`, display(raw`a \\[4pt] b`)],
    [raw`- \[x\]`, `<ul><li>${display("x")}</li></ul>`],
    [raw`- so: \[x\] ok`, `<ul><li>so: ${display("x")} ok</li></ul>`],
    ["1. a\n   \\[\n   x\n   \\]\n2. b", `<ol><li>a${display("x")}</li><li>b</li></ol>`],
    ["> $$\n> x\n> $$", `<blockquote>${display("x")}</blockquote>`],
    ["**$x$** *a $y$*", `<p><strong>${tex("x")}</strong> <em>a ${tex("y")}</em></p>`],
    ["`$A` and `$B`", "<p><code>$A</code> and <code>$B</code></p>"],
    ["$5 `x$`", "<p>$5 <code>x$</code></p>"],
    plain("$A/$B, $HOME/bin:$PATH and $A-$B"),
    plain("It is $5 today, $10 tomorrow, $5-$10, ($5)-($10)."),
    plain("100$/мес и 200$/мес, US$5 and HK$6"),
    plain("$$ is money"),
    plain("$$\n\nnever closed"),
    [raw`\$x\$ \\(no\\)`, raw`<p>$x$ \(no\)</p>`],
    ["`\\(x\\)`", raw`<p><code>\(x\)</code></p>`],
  ])("%s", (text, expected) =>
    expect(html(text).replaceAll("</p><p>", "\n\n")).toBe(expected.replaceAll("</p><p>", "\n\n")),
  );
});

describe("tags", () => {
  test.each([
    ["a<br>b<br/>c<br />d", "<p>a<br/>b<br/>c<br/>d</p>"],
    [
      "H<sub>2</sub>O x<sup>**2**</sup> <kbd>Ctrl</kbd>",
      "<p>H<sub>2</sub>O x<sup><strong>2</strong></sup> <kbd>Ctrl</kbd></p>",
    ],
    ["<SUB>a</SUB>", "<p><sub>a</sub></p>"],
    ["|a<br>b|\n|-|", "<table><thead><tr><th>a<br/>b</th></tr></thead></table>"],
    ["*a <sub>b* c</sub>", "<p><em>a &lt;sub>b</em> c&lt;/sub></p>"],
    ["<sub>*a</sub>*", "<p>&lt;sub><em>a&lt;/sub></em></p>"],
    ["<sub><sup>a</sub></sup>", "<p>&lt;sub><sup>a&lt;/sub></sup></p>"],
    plain("<sub>a </sup>"),
    plain("<sub class=a>b</sub >, <b>c</b>, <br onclick=a>, <script>d</script>"),
  ])("%s", (text, expected) =>
    expect(html(text).replace(/<div class="table">(.*)<\/div>/, "$1")).toBe(expected),
  );
});

describe("lists, links and footnotes", () => {
  const box = '<input type="checkbox" disabled/>';
  const done = '<input type="checkbox" checked disabled/>';
  test.each([
    [
      "- [ ] a\n  - [x] b\n- [x]c",
      `<ul><li class="task">${box} a<ul><li class="task">${done} b</li></ul></li><li>[x]c</li></ul>`,
    ],
    ["[a] [b][a]\n\n[a]: https://a.example 'T'", '<p>@"T">a</a> @"T">b</a></p>'],
    [
      "https://a.example/x_y_z。",
      '<p><a href="https://a.example/x_y_z">https://a.example/x_y_z</a>。</p>',
    ],
    ["[a](javascript:b) file.py", "<p>[a](javascript:b) file.py</p>"],
    ["2^[n]", "<p>2^[n]</p>"],
    [
      "a[^x] b[^y] c[^z]\n\n[^y]: B\n[^x]: A\n[^w]: unused",
      '<p>a# b# c[^z]</p><section class="footnotes"><ol><li value="1"><p>A</p></li>' +
        '<li value="2"><p>B</p></li><li value="3"><p>unused</p></li></ol></section>',
    ],
  ])("%s", (text, expected) =>
    expect(
      html(text)
        .replaceAll(/<sup><button[^>]*>\d<\/button><\/sup>/g, "#")
        .replaceAll('<a href="https://a.example" title=', "@"),
    ).toBe(expected),
  );
});

describe("what is too deep or too large is shown as it is written", () => {
  const repeat = (text: string, length = 100_000) =>
    text.repeat(Math.ceil(length / text.length)).slice(0, length);
  const depth = (shown: string) => {
    let deepest = 0;
    let now = 0;
    for (const [tag] of shown.matchAll(/<\/?[a-z][^>]*>/g)) {
      now += tag.startsWith("</") ? -1 : tag.endsWith("/>") ? 0 : 1;
      deepest = Math.max(deepest, now);
    }
    return deepest;
  };

  test.each([
    ["quotes", `${repeat("> ", 20_000)}end`],
    ["lists", `${repeat("- ", 20_000)}end`],
    ["lists in quotes", `${repeat("> 1. ", 20_000)}end`],
    ["footnotes", `${repeat("[^a]: ", 20_000)}end`],
    ["emphasis", `${repeat("*a _b ", 60_000)}end${repeat("_ c* ", 60_000)}`],
    ["tags", `${repeat("<sub>", 20_000)}end${repeat("</sub>", 24_000)}`],
  ])("%s", (_, text) => {
    const shown = html(text);
    expect(depth(shown)).toBeLessThan(100);
    expect(shown.replaceAll(/<[^>]*>/g, "")).toContain("end");
  });

  test.each([
    ["table", `${repeat("a|", 200)}\n${repeat("-|", 200)}\n${repeat("a\n")}`],
    ["list", repeat("- a\n")],
    ["paragraph", repeat("*a* ")],
    ["quote", repeat("> a\n> - b\n")],
  ])("a large %s", (_, text) => {
    const shown = html(`# b\n\n${text}\n\n# b`);
    expect(shown.match(/<\w/g)!.length).toBeLessThan(30_000);
    expect(shown.replaceAll(/<\/?(?:p|h2)[^>]*>/g, "\n")).toContain(escaped(text.slice(0, 800)));
    expect(shown).toMatch(/^<h2 [^]*<p>[^]*<\/p><h2 [^>]*>b<\/h2>$/);
  });

  test.each([
    ["paragraphs", "a1\n\n"],
    ["blocks of code", "```\na1\n```\n"],
    ["footnotes", "a[^1]\n\n[^1]: b\n\n"],
  ])("many %s", (_, text) => {
    const all = [...Array(25_000).keys()].map((n) => text.replaceAll("1", `${n}`)).join("");
    const shown = html(all);
    expect(shown.match(/<\w/g)!.length).toBeLessThan(60_000);
    expect(shown).toContain("24999"); // the text is there all the same
  });

  test("formulas without number", () => {
    const tokens = new GrowingMarkdown()
      .update(repeat("$x$\n\n"), false)
      .flatMap(({ tokens }) => tokens);
    const set = tokens
      .flatMap(({ children }) => children ?? [])
      .filter(({ meta }) => meta === null);
    expect(set.length).toBeLessThan(3_000);
  });

  // What takes time that grows with the square of this length fails by the time limit.
  const length = 300_000;
  test.each(
    [
      "[",
      "![",
      "[a](",
      "[](",
      "[^",
      "^[",
      "*a ",
      "**a _b ",
      "a**b",
      "~~a ",
      "`",
      "``` ",
      "<",
      "<a",
      "&",
    ]
      .concat([
        "http://a.b/(",
        "http://a.b/?",
        "http://",
        "mailto:a@",
        "- a\n",
        "- [ ] a\n",
        "a|b\n",
        "|",
      ])
      .concat([
        "$",
        "$a",
        "$$a\n",
        "$$a\n\nx$$ y\n\n",
        "\\(a",
        "\\[a\n",
        "\\[a\n\n",
        "> $$\n",
        "[a\n",
        "[a]:\n",
      ])
      .concat([
        "[^1]: a\n",
        "[a]: b\n\n",
        "a\n",
        "a\n\n",
        "\\",
        "“**",
        "这**”",
        "- > - > a\n",
        "<sub>",
        "\r",
      ]),
  )("300,000 characters of %j are read in linear time", { timeout: 10_000 }, (text) => {
    new GrowingMarkdown().update(repeat(text, length), false);
  });
});
