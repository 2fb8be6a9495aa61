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
    refused = await tab.page.evaluate(
        """async () => {
          const tries = {
            html: () => (document.createElement("p").innerHTML = "<b>text</b>"),
            more: () => document.body.insertAdjacentHTML("beforeend", "<b>text</b>"),
            inline: () => (document.createElement("script").textContent = "window.pwned = 1"),
            code: () => setTimeout("window.pwned = 1"),
            script: () => (document.createElement("script").src = "https://evil.example/"),
            foreign: () => fetch("https://evil.example/"),
          };
          const refused = [];
          for (const [name, attempt] of Object.entries(tries)) {
            try {
              await attempt();
            } catch {
              refused.push(name);
            }
          }
          return refused;
        }"""
    )
    assert refused == ["html", "more", "inline", "code", "script", "foreign"]
    assert await tab.page.evaluate("window.pwned") is None
    assert all("blocked" in what or "violates" in what for what in tab.wrong), tab.wrong
    tab.wrong.clear()
