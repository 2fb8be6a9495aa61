"""What the page loads, and from where."""

import gzip

from playwright.async_api import Response
from tests.browser.tab import Visit, expect
from tests.support.auth import AuthServer
from tests.support.inference import Inference

MOST_SCRIPT_BYTES = 150_000


async def test_it_needs_little_to_begin(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user(), None)
    scripts: list[Response] = []

    def remember(response: Response) -> None:
        if response.request.resource_type == "script":
            scripts.append(response)

    tab.page.on("response", remember)
    await tab.page.goto("/")
    await tab.ask("Hello")
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    assert scripts
    loaded = 0
    for script in scripts:
        assert await script.header_value("content-encoding") == "gzip", script.url
        loaded += len(gzip.compress(await script.body()))
    assert loaded < MOST_SCRIPT_BYTES


async def test_a_second_visit_loads_nothing_that_is_there(visit: Visit, auth: AuthServer) -> None:
    tab = await visit(auth.user())
    await expect(tab.composer).to_be_visible()
    second = await visit(beside=tab, path=None)
    responses: list[Response] = []
    second.page.on("response", lambda response: responses.append(response))
    await second.page.goto("/")
    await expect(second.composer).to_be_visible()
    ours = [response for response in responses if response.url.startswith(tab.site.origin)]
    assert len(ours) > 3
    sent = [r.url for r in ours if (await r.request.sizes())["responseBodySize"] > 0]
    assert sent == []


async def test_the_browser_itself_refuses_what_the_page_must_not_do(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user())
    await expect(tab.composer).to_be_visible()
    await tab.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.pwned = 1";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", '<img src=x onerror="window.pwned = 1">');
          fetch("https://evil.example/").catch(() => (window.refused = true));
        }"""
    )
    await tab.page.wait_for_function("window.refused")
    assert await tab.page.evaluate("window.pwned") is None
    refusals = [what for what in tab.wrong if "Content Security Policy" in what]
    assert len(refusals) >= 2
    tab.wrong.clear()
