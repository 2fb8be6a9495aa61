"""What the page loads, and from where."""

import contextlib
import gzip
import re
import shutil
from pathlib import Path

import pytest
from playwright.async_api import Response, Route
from tests.browser.site import Site
from tests.browser.tab import Visit, expect
from tests.support.auth import AuthServer
from tests.support.inference import Inference
from tests.support.service import StartService

from chat_api.frontend import BUILT

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


def next_build(folder: Path) -> Path:
    """Another version of the page: the same, but every hashed file has another name."""
    shutil.copytree(BUILT, folder)
    hashes = {path.stem.rpartition("-")[2] for path in (folder / "assets").iterdir()}
    for path in [folder / "index.html", folder / "sw.js", *(folder / "assets").glob("*.*s")]:
        text = path.read_text("utf-8")
        text = re.sub(r'"version":"(\w+)"', lambda found: f'"version":"{found[1][::-1]}"', text)
        for old in hashes:
            text = text.replace(f"-{old}.", f"-{old[::-1]}.")
        path.write_text(text, "utf-8")
    for path in list((folder / "assets").iterdir()):
        name, _, old = path.stem.rpartition("-")
        path.rename(path.with_name(f"{name}-{old[::-1]}{path.suffix}"))
    return folder


@pytest.mark.case(61)
async def test_two_versions_behind_one_proxy_are_never_a_blank_page(
    visit: Visit,
    auth: AuthServer,
    inference: Inference,
    start_service: StartService,
    tmp_path: Path,
) -> None:
    with contextlib.closing(Site()) as site:
        service = start_service(FRONTEND_URL=site.origin)
        builds = (BUILT, next_build(tmp_path / "page"))
        place = site.start(service.port, auth.port, builds)
        for number in range(4):
            tab = await visit(auth.user(f"user-{number}"), None, site=place)
            tab.failed_requests_are_fine = True
            await tab.page.goto("/")
            await expect(tab.composer).to_be_visible(timeout=30_000)
            coloured = "getComputedStyle(document.querySelector('.frame')).display"
            assert await tab.page.evaluate(coloured) == "grid"
            await tab.page.close()


@pytest.mark.case(61)
async def test_a_page_whose_files_are_gone_says_so(visit: Visit, auth: AuthServer) -> None:
    tab = await visit(auth.user(), None)
    tab.failed_requests_are_fine = True

    async def gone(route: Route) -> None:
        await route.fulfill(status=404, content_type="text/html", body="<h1>Not found</h1>")

    await tab.page.route(re.compile(r"/assets/index-.*\.js$"), gone)
    await tab.page.goto("/")
    await expect(tab.page.get_by_role("alert")).to_contain_text(
        "could not be loaded", timeout=60_000
    )
    await tab.page.unroute_all(behavior="ignoreErrors")
    await tab.button("Load it again").click()
    await expect(tab.composer).to_be_visible()


@pytest.mark.case(61)
async def test_a_page_without_its_configuration_says_so_and_tries_again(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user(), None)
    tab.failed_requests_are_fine = True

    async def refuse(route: Route) -> None:
        await route.fulfill(status=503, body="")

    await tab.page.route("**/config.json", refuse)
    await tab.page.goto("/")
    await expect(tab.page.get_by_role("alert")).to_contain_text("could not be set up")
    await tab.page.unroute_all(behavior="ignoreErrors")
    await tab.button("Try again").click()
    await expect(tab.composer).to_be_visible()
