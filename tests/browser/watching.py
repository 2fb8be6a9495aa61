"""Looking at the page all the time, not just now and then."""

from tests.browser.tab import Tab

# What is shown in the newest answer, each time that it has changed.
_TEXTS = """() => {
  const texts = (window.shownTexts = []);
  const look = () => {
    const answers = document.querySelectorAll('article[aria-label="samosaChaat"]');
    const shown = [...answers].at(-1)?.querySelector(".prose")?.textContent.trim() ?? "";
    if (shown !== "" && shown !== texts.at(-1)) texts.push(shown);
  };
  new MutationObserver(look).observe(document, {
    subtree: true, childList: true, characterData: true,
  });
  look();
}"""

# What a screen reader is told, each time that it is told something.
_SAID = """() => {
  const said = (window.saidTexts = []);
  const regions = () => document.querySelectorAll('[aria-live], [role=status], [role=alert]');
  const told = new Map();
  new MutationObserver(() => {
    for (const region of regions()) {
      const text = region.textContent.trim();
      if (text !== "" && told.get(region) !== text) said.push(text);
      told.set(region, text);
    }
  }).observe(document, { subtree: true, childList: true, characterData: true });
}"""


async def watch_answer(tab: Tab) -> None:
    """From now on, remember every text that the newest answer shows."""
    await tab.page.evaluate(_TEXTS)


async def shown_texts(tab: Tab) -> list[str]:
    """What it has shown, one after the other."""
    texts: list[str] = await tab.page.evaluate("window.shownTexts")
    return texts


async def listen(tab: Tab) -> None:
    """From now on, remember everything that a screen reader would be told."""
    await tab.page.evaluate(_SAID)


async def said_texts(tab: Tab) -> list[str]:
    """What it has been told."""
    said: list[str] = await tab.page.evaluate("window.saidTexts")
    return said


def numbers(count: int, start: int = 0) -> list[str]:
    """Tokens in which every gap, repeat and swap shows, and that Markdown leaves alone."""
    return [f"n{number} " for number in range(start, start + count)]


def check_growing(texts: list[str], whole: list[str]) -> None:
    """Each text shown is the beginning of the whole, and none is shorter than the one before."""
    full = "".join(whole).strip()
    assert texts, "nothing was ever shown"
    for before, text in zip(["", *texts], texts, strict=False):
        assert full.startswith(text), f"never written: …{text[-80:]!r}"
        assert len(text) >= len(before), f"{len(before)} characters became {len(text)}"
    assert texts[-1] == full
