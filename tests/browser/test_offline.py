"""The page without a network, and across a deploy: what the service worker keeps."""

import contextlib
import json
from pathlib import Path

import pytest
from tests.browser.past import Past
from tests.browser.site import Place, Site
from tests.browser.tab import Tab, Visit, expect
from tests.browser.test_loading import next_build
from tests.support.auth import AuthServer
from tests.support.service import ServiceWith, StartService
from tests.support.waiting import eventually

from chat_api.frontend import BUILT

_SERVED = """new Promise((resolve) => {
  if (navigator.serviceWorker.controller) resolve();
  else navigator.serviceWorker.addEventListener("controllerchange", () => resolve());
})"""

# The new version has all its files, and has taken over.
_REPLACED = """async () => {
  const { installing, waiting } = await navigator.serviceWorker.getRegistration();
  return (await caches.keys()).length === 2 && installing === null && waiting === null;
}"""

_KEPT = """async () => {
  const kept = [];
  for (const name of await caches.keys()) {
    const requests = await (await caches.open(name)).keys();
    kept.push(...requests.map(({ url }) => new URL(url).pathname));
  }
  return kept;
}"""


async def keeps_the_page(tab: Tab) -> None:
    """Wait until the service worker has all files, and serves this tab."""
    await tab.page.evaluate(_SERVED)


@pytest.mark.case(73)
async def test_without_a_network_the_page_opens_and_says_so(
    visit: Visit, auth: AuthServer, past: Past, service_with: ServiceWith
) -> None:
    # On the origin of the API, whose responses must not be kept.
    place = Place(service_with(SERVE_WEB="true").url)
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, f"/c/{talk}", site=place, service_workers="allow")
    await keeps_the_page(tab)
    await tab.page.reload()
    await expect(tab.answer).to_be_visible()
    await tab.composer.fill("A draft")
    kept: list[str] = await tab.page.evaluate(_KEPT)
    files = {f"/{path.relative_to(BUILT).as_posix()}" for path in BUILT.rglob("*")}
    assert {"/", "/config.json"} < set(kept) < {"/", "/config.json", *files}
    tab.failed_requests_are_fine = True
    await tab.context.set_offline(True)
    await tab.page.reload()
    banner = tab.page.get_by_role("alert").filter(has_text="Nothing is lost")
    await expect(banner).to_contain_text("The service cannot be reached.")
    await tab.page.goto("/")
    await expect(tab.composer).to_be_visible()
    await tab.context.set_offline(False)
    await tab.page.goto(f"/c/{talk}")
    await expect(tab.composer).to_have_value("A draft")
    await expect(tab.answer).to_be_visible()


@pytest.mark.case(74)
async def test_a_deploy_replaces_the_page_and_leaves_open_tabs_their_parts(
    visit: Visit, auth: AuthServer, start_service: StartService, tmp_path: Path
) -> None:
    with contextlib.closing(Site()) as site:
        service = start_service(FRONTEND_URL=site.origin)
        place = site.start(service.port, auth.port)
        tab = await visit(auth.user("alice"), site=place, service_workers="allow")
        await keeps_the_page(tab)
        site.deploy(next_build(tmp_path / "page"))
        # A part that this tab has not loaded, and that the server does not have any more.
        await tab.button("Answer settings").click()
        await expect(tab.page.get_by_role("dialog", name="Settings")).to_be_visible()
        await tab.page.keyboard.press("Escape")
        new = await visit(beside=tab, site=place)
        await expect(new.composer).to_be_visible()
        entry = "document.querySelector('script[type=module]').src"
        assert await new.page.evaluate(entry) != await tab.page.evaluate(entry)

        async def replaced() -> bool:
            return bool(await new.page.evaluate(_REPLACED))

        await eventually(replaced)
        await tab.page.keyboard.press("Control+/")
        await expect(tab.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        latest = await new.page.evaluate(entry)
        new.failed_requests_are_fine = tab.failed_requests_are_fine = True

        async def opens_the_new_one() -> bool:
            await new.page.reload()
            return bool(await new.page.evaluate(entry) == latest)

        await new.context.set_offline(True)
        await eventually(opens_the_new_one)
        await expect(new.composer).to_be_visible()


async def test_the_browser_can_install_the_page(visit: Visit, auth: AuthServer) -> None:
    tab = await visit(auth.user(), service_workers="allow")
    await keeps_the_page(tab)
    devtools = await tab.context.new_cdp_session(tab.page)
    manifest = await devtools.send("Page.getAppManifest")
    assert manifest["errors"] == []
    found = await devtools.send("Page.getInstallabilityErrors")
    errors = {error["errorId"] for error in found["installabilityErrors"]}
    assert errors <= {"in-incognito"}, "the window of a test is a private one"
    for icon in json.loads(manifest["data"])["icons"]:
        width, _, height = icon["sizes"].partition("x")
        drawn = await tab.page.evaluate(
            """async (address) => {
              const image = new Image();
              image.src = address;
              await image.decode();
              return [image.naturalWidth, image.naturalHeight];
            }""",
            icon["src"],
        )
        assert icon["sizes"] == "any" or drawn == [int(width), int(height)]
