"""A model's text as a person reads it, and what it can never do."""

import pytest
import pytest_asyncio
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference, Script

RICH = """# Green chutney

Take **two** bunches of *mint*, ~~no~~ `salt` and [a lemon](https://example.org/lemon).

1. Wash
2. Grind
   - finely
   - slowly

> Do not cook it.

| Spice | Grams |
| :--- | ---: |
| Cumin | 5 |
| Chilli | 2 |

```python
def grind(leaves):
    return "".join(leaves)
```

The heat is $Q = mc\\Delta T$, and in full:

$$
\\int_0^1 x^2 \\, dx = \\frac{1}{3}
$$
"""

PAYLOADS = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<svg onload='window.pwned = 1'></svg>",
    "<iframe srcdoc='<script>parent.pwned = 1</script>'></iframe>",
    "<a href='javascript:window.pwned = 1'>press</a>",
    "[press](javascript:window.pwned=1)",
    "[press](JaVaScRiPt:window.pwned=1)",
    "[press](&#106;avascript:window.pwned=1)",
    "[press](data:text/html,<script>opener.pwned=1</script>)",
    "[press](vbscript:window.pwned=1)",
    "[press](file:///etc/passwd) [press](intent://evil.example) <ssh://evil.example>",
    "![look](javascript:window.pwned=1)",
    "![look](intent://evil.example)",
    "![look](https://evil.example/pixel.png)",
    "<https://evil.example/><style>body { display: none }</style>",
    "[one]: javascript:window.pwned=1\n\n[one]",
    "```html\n<script>window.pwned = 1</script>\n```",
    '```"><img src=x onerror=window.pwned=1>\nx\n```',
    "$\\href{javascript:window.pwned=1}{press}$",
    "$\\url{javascript:window.pwned=1}$ $\\includegraphics{https://evil.example/p.png}$",
    '$\\htmlData{x="><img src=x onerror=window.pwned=1>}{a}$',
    "$\\text{<img src=x onerror=window.pwned=1>}$",
    "<think><img src=x onerror='window.pwned = 1'></think><img src=x onerror='window.pwned = 1'>",
    "<form action='https://evil.example/'><button>press</button></form>",
    "| <img src=x onerror='window.pwned = 1'> |\n| --- |\n| <script>window.pwned = 1</script> |",
]

# Elements that no text may make, and addresses that no link may have.
_BAD = """() => {
  const alive = "script, img, iframe, object, embed, form, style, link, base, meta, video, audio";
  const all = [...document.querySelectorAll(".messages *")];
  const links = [...document.querySelectorAll("a")];
  return [
    ...all.filter((element) => element.matches(alive)),
    ...all.filter((element) => [...element.attributes].some(({ name }) => /^on/i.test(name))),
    ...links.filter((link) => !/^(https?|mailto):$/.test(link.protocol)),
  ].map((element) => element.outerHTML);
}"""


async def check_harmless(tab: Tab) -> None:
    """Nothing of a text has become alive."""
    assert await tab.page.evaluate(_BAD) == []
    assert await tab.page.evaluate("window.pwned") is None


@pytest_asyncio.fixture(loop_scope="session")
async def rich(visit: Visit, auth: AuthServer, past: Past) -> Tab:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Chutney", "How?", RICH)
    return await visit(alice, f"/c/{talk}", permissions=["clipboard-read", "clipboard-write"])


async def test_markdown_is_shown_as_what_it_means(rich: Tab) -> None:
    answer = rich.answer
    await expect(answer.get_by_role("heading", name="Green chutney")).to_be_visible()
    await expect(answer.locator("strong")).to_have_text("two")
    await expect(answer.locator("em")).to_have_text("mint")
    await expect(answer.get_by_role("listitem")).to_have_count(4)
    await expect(answer.locator("blockquote")).to_have_text("Do not cook it.")
    link = answer.get_by_role("link", name="a lemon")
    await expect(link).to_have_attribute("href", "https://example.org/lemon")
    await expect(link).to_have_attribute("target", "_blank")
    await expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")


async def test_a_table_is_a_table(rich: Tab) -> None:
    table = rich.answer.get_by_role("table")
    await expect(table.get_by_role("columnheader")).to_have_text(["Spice", "Grams"])
    await expect(table.get_by_role("cell")).to_have_text(["Cumin", "5", "Chilli", "2"])
    five = table.get_by_role("cell", name="5")
    await expect(five).to_have_css("text-align", "end")


async def test_code_is_coloured_and_can_be_copied(rich: Tab) -> None:
    code = rich.answer.get_by_role("figure")
    await expect(code).to_contain_text("python")
    await expect(code.locator(".hljs-keyword").first).to_have_text("def")
    await code.get_by_role("button", name="Copy code").click()
    copied = await rich.page.evaluate("navigator.clipboard.readText()")
    assert copied == 'def grind(leaves):\n    return "".join(leaves)\n'


async def test_an_answer_is_copied_as_it_was_written(rich: Tab) -> None:
    await rich.button("Copy the answer").click()
    assert await rich.page.evaluate("navigator.clipboard.readText()") == RICH


async def test_formulas_are_set(rich: Tab) -> None:
    formulas = rich.answer.locator(".katex")
    await expect(formulas).to_have_count(2)
    await expect(rich.answer.locator(".katex-display")).to_have_count(1)
    # For a screen reader they are MathML.
    await expect(formulas.locator("math").first).to_contain_text("Q")
    await rich.page.wait_for_function(
        "[...document.fonts].some(({ family, status }) => "
        "family.includes('KaTeX') && status === 'loaded')"
    )


async def test_money_is_no_formula(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "How much?", "It is $5 today and $10 tomorrow.")
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer).to_contain_text("It is $5 today and $10 tomorrow.")
    await expect(tab.answer.locator(".katex")).to_have_count(0)


async def test_markdown_that_is_not_finished_is_shown_as_it_grows(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    pieces = [RICH[start : start + 7] for start in range(0, len(RICH), 7)]
    inference.default = Script().tokens(*pieces).done()
    tab = await visit(auth.user())
    await tab.ask("How?")
    await expect(tab.button("Send")).to_be_visible()
    await expect(tab.answer.locator(".katex")).to_have_count(2)
    grown = await tab.answer.locator(".prose").inner_text()
    await tab.page.reload()
    await expect(tab.answer.locator(".katex")).to_have_count(2)
    assert await tab.answer.locator(".prose").inner_text() == grown


async def test_what_a_person_writes_is_shown_as_it_is(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user())
    await tab.ask("**Not bold**\n\n  <b>nor this</b> 🥟 שלום")
    shown = tab.questions.last
    await expect(shown).to_contain_text("**Not bold**")
    await expect(shown).to_contain_text("<b>nor this</b> 🥟 שלום")
    await expect(shown.locator("b, strong")).to_have_count(0)


@pytest.mark.parametrize("way", ["streamed", "kept"])
async def test_no_text_ever_comes_alive(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past, way: str
) -> None:
    alice = auth.user("alice")
    whole = "\n\n".join(PAYLOADS) + "\n\nThat was all."
    if way == "streamed":
        pieces = [whole[start : start + 5] for start in range(0, len(whole), 5)]
        inference.default = Script().tokens(*pieces).done()
        tab = await visit(alice)
        await tab.ask("\n".join(PAYLOADS))
    else:
        talk = await past.conversation(alice, PAYLOADS[0], whole, whole)
        tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer).to_contain_text("That was all.")
    await expect(tab.button("Send")).to_be_visible()
    await expect(tab.answer.locator(".katex").first).to_be_attached()
    await check_harmless(tab)


@pytest.mark.parametrize("payload", PAYLOADS[:5])
async def test_no_title_ever_comes_alive(
    visit: Visit, auth: AuthServer, past: Past, payload: str
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, payload, "Hello", "Hi")
    tab = await visit(alice, f"/c/{talk}")
    sidebar = tab.page.get_by_role("navigation", name="Conversations")
    await expect(sidebar.get_by_role("link", name=payload, exact=True)).to_be_visible()
    await expect(tab.page.get_by_role("heading", level=1)).to_have_text(payload)
    await tab.page.keyboard.press("Control+k")
    await expect(tab.page.get_by_role("option", name=payload)).to_be_visible()
    await tab.page.keyboard.press("Escape")
    await tab.button(f"More for {payload}").click()
    await tab.page.get_by_role("menuitem", name="Delete").click()
    await expect(tab.text(f"Deleted “{payload}”")).to_be_visible()
    await check_harmless(tab)


async def test_no_name_of_a_model_or_a_person_ever_comes_alive(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    payload = "<img src=x onerror='window.pwned=1'>"
    model = {"source": payload, "path": "/", "available": True, "loaded": True}
    inference.models = (
        200,
        {"current_model": payload, "models": [{"model_tag": payload, **model}]},
    )
    tab = await visit(auth.user(payload, token="a-token-of-somebody-odd"))
    await tab.button(f"Model: {payload}").click()
    await expect(tab.page.get_by_role("menuitemradio", name=payload)).to_be_visible()
    await check_harmless(tab)


@pytest.mark.case(67)
@pytest.mark.parametrize("size", [1, 3, 1000], ids=["token", "few", "whole"])
async def test_definitions_are_not_taken_half_arrived(
    visit: Visit, auth: AuthServer, inference: Inference, size: int
) -> None:
    text = (
        "# One\n\nSee [the book] and a note[^n].\n\n# Two\n\n[the book]: https://example.org/long\n"
        "\n[^n]: It is long.\n\nThe end."
    )
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    inference.default = Script().tokens(*pieces).done()
    tab = await visit(auth.user())
    await tab.ask("How?")
    await expect(tab.button("Send")).to_be_visible()
    link = tab.answer.get_by_role("link", name="the book")
    await expect(link).to_have_attribute("href", "https://example.org/long")
    await expect(tab.answer.get_by_role("region", name="Footnotes")).to_have_text("It is long.")
    await tab.answer.get_by_role("button", name="Footnote 1").click()
    await expect(tab.answer.locator(".prose")).not_to_contain_text("[")


def _nested(before: str, after: str, times: int) -> str:
    return "$$" + before * times + "x" + after * times + "$$"


@pytest.mark.case(67)
@pytest.mark.parametrize(
    "text",
    [
        _nested("x^{", "}", 200),
        _nested("\\sqrt{", "}", 200),
        _nested("\\frac{1}{", "}", 200),
        _nested("\\begin{matrix}", "\\end{matrix}", 200),
        _nested("\\overline{", "}", 1_000),
        "$$\\def\\a#1{" + "#1" * 1_000 + "}\\a{" + "x" * 2_000 + "}$$",
    ],
    ids=["powers", "roots", "fractions", "matrices", "lines", "macro"],
)
async def test_a_formula_that_is_too_large_is_shown_as_its_source(
    visit: Visit, auth: AuthServer, past: Past, text: str
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "How?", f"{text}\n\nThe end.\n\n$y$")
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer.locator(".katex")).to_have_count(1)
    await expect(tab.answer.locator(".tex.display code")).to_have_text(text.strip("$"))


@pytest.mark.case(67)
@pytest.mark.parametrize(
    "text",
    [
        "> " * 50_000,
        "- [ ] a\n" * 12_500,
        "```js\nlet x\n```\n" * 6_250,
        "```js\n" + "(`${\n" * 20_000 + "```",
        "$x$ " * 25_000,
        "*a _b " * 8_000 + "c_ d* " * 8_000,
        "a\n\n" * 33_333,
    ],
    ids=["quotes", "tasks", "code", "templates", "formulas", "emphasis", "paragraphs"],
)
async def test_hostile_markdown_does_not_block_the_page(
    visit: Visit, auth: AuthServer, past: Past, text: str
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "How?", f"The start.\n\n{text}\n\nThe end.")
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer).to_contain_text("The end.")
    await tab.composer.fill("Still here")
    await expect(tab.composer).to_have_value("Still here")


# What Chrome's page translation does: text moves into <font> elements, where it is not translated.
_TRANSLATE = """() => {
  const closed = "[translate=no], .notranslate, script, style, textarea";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const text of texts) {
    if (!text.data.trim() || text.parentElement.closest(closed)) continue;
    const font = document.createElement("font");
    text.replaceWith(font);
    font.textContent = text.data;
  }
}"""


@pytest.mark.case(67)
async def test_a_translated_page_shows_an_answer_that_grows(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    for said in ("First", "Second"):
        gates = [Gate("more"), Gate("the end")]
        script = Script().tokens(f"{said} **word** and").wait(gates[0]).tokens(" more\n\n- one")
        inference.default = script.wait(gates[1]).tokens(" item\n").done()
        if said == "First":
            tab = await visit(auth.user())
            await tab.ask("How?")
        else:  # where the translated answer stood
            await tab.button("Regenerate").click()
        text = tab.answer.locator(".prose")
        await expect(text).to_have_text(f"{said} word and")
        await expect(tab.answer).to_have_attribute("translate", "no")
        for gate in gates:
            await tab.page.evaluate(_TRANSLATE)
            gate.open()
            await expect(text).to_contain_text("one" if gate is gates[0] else "one item")
        await expect(tab.button("Send")).to_be_visible()
        await expect(text).to_have_text(f"{said} word and moreone item")
        await expect(tab.answer).not_to_have_attribute("translate", "no")
        await tab.page.evaluate(_TRANSLATE)
        await expect(text.locator("font").first).to_be_attached()


async def test_a_large_block_of_code_keeps_its_colours(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    line = "const number = 12345; // a comment\n"
    gate = Gate("the end")
    script = Script().tokens("```js\n", *[line * 40] * 12).wait(gate)
    inference.default = script.tokens(line, "```\n").done()
    tab = await visit(auth.user())
    await tab.ask("How?")
    keywords = tab.answer.locator(".hljs-keyword")
    await expect(keywords.nth(300)).to_be_attached()
    gate.open()
    await expect(keywords).to_have_count(481)


async def test_a_task_list_inside_another_is_indented(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    text = "- [ ] one\n  - [x] two\n    - [ ] three\n- four"
    talk = await past.conversation(alice, "Talk", "How?", text)
    tab = await visit(alice, f"/c/{talk}")
    boxes = tab.answer.get_by_role("checkbox")
    await expect(boxes).to_have_count(3)
    sides = [
        box["x"] for box in [await boxes.nth(index).bounding_box() for index in range(3)] if box
    ]
    assert sides[0] + 10 < sides[1]
    assert sides[1] + 10 < sides[2]
