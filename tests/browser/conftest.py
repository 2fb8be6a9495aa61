"""A real Chromium, and the page in it, with the service and scripted neighbours behind it.

One browser for each worker; a window of its own for each test, in which nothing may go wrong that
the test does not expect: no error, no refused policy, no request to anybody else.
"""

import re
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext
from tests.browser.chromium import running_chromium
from tests.browser.past import Past
from tests.browser.site import Place, ServePage, Site
from tests.browser.tab import Tab, Visit, expect, signed_in
from tests.support.auth import Account, AuthServer
from tests.support.database import Database
from tests.support.inference import Inference
from tests.support.service import Service, ServiceWith, StartService

HERE = Path(__file__).parent

expect.set_options(timeout=10_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all of them: that of the browser."""
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let the fixtures know how the test went."""
    report: Any = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


_FAILED = pytest.StashKey[bool]()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A running Chromium; it ends with these tests, so that it takes nothing from others."""
    async with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def shared_site(
    service_with: ServiceWith, auth_server: AuthServer
) -> Iterator[tuple[Place, Service]]:
    site = Site()
    try:
        service = service_with(FRONTEND_URL=site.origin)
        yield site.start(service.port, auth_server.port), service
    finally:
        site.close()


@pytest.fixture
def site(shared_site: tuple[Place, Service], auth: AuthServer, inference: Inference) -> Place:
    """The page, talking to the shared service."""
    return shared_site[0]


@pytest.fixture
def service(shared_site: tuple[Place, Service], auth: AuthServer, inference: Inference) -> Service:
    """The service that the page talks to."""
    return shared_site[1]


@pytest.fixture
def past(db: Database) -> Past:
    """Makes conversations that were there before."""
    return Past(db)


@pytest.fixture
def serve_page(start_service: StartService, auth_server: AuthServer) -> Iterator[ServePage]:
    """Starts a service of the test's own with these variables, and a site for it."""
    sites: list[Site] = []

    def serve(**env: str) -> tuple[Place, Service]:
        site = Site()
        sites.append(site)
        service = start_service({"FRONTEND_URL": site.origin, **env})
        return site.start(service.port, auth_server.port), service

    yield serve
    for site in sites:
        site.close()


async def _close(window: BrowserContext) -> None:
    # A handler of a route may still run; its error would be raised in the next test.
    for page in window.pages:
        await page.unroute_all(behavior="ignoreErrors")
    await window.unroute_all(behavior="ignoreErrors")
    await window.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(
    browser: Browser, site: Place, auth: AuthServer, request: pytest.FixtureRequest
) -> AsyncIterator[Visit]:
    """Opens tabs, and sees to it that nothing went wrong in them."""
    default_site = site
    tabs: list[Tab] = []
    async with AsyncExitStack() as windows:

        async def open_tab(
            account: Account | None = None,
            path: str | None = "/",
            *,
            site: Place | None = None,
            beside: Tab | None = None,
            **options: Any,
        ) -> Tab:
            site = site or default_site
            if beside is None:
                if account is not None:
                    options["storage_state"] = signed_in(site.origin, account)
                # Requests that a service worker makes are out of reach of a test's routes.
                options = {
                    "base_url": site.origin,
                    "locale": "en-GB",
                    "service_workers": "block",
                    **options,
                }
                window: BrowserContext = await browser.new_context(**options)
                window.set_default_timeout(10_000)
                windows.push_async_callback(_close, window)
            else:
                window = beside.context
            tab = Tab(await window.new_page(), site)
            tabs.append(tab)
            if path is not None:
                await tab.page.goto(path)
            return tab

        yield open_tab
        if request.node.stash.get(_FAILED, False):
            for number, tab in enumerate(tabs):
                if tab.page.is_closed():
                    continue
                await tab.picture(
                    f"failed-{re.sub(r'[^a-z0-9]+', '-', request.node.name)}-{number}"
                )
    wrong = [what for tab in tabs for what in tab.wrong]
    assert not wrong, "\n".join(wrong)
