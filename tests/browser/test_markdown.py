"""A model's text as a person reads it, and what it can never do."""

import pytest
import pytest_asyncio
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer
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
