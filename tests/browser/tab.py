"""One tab of a browser, as a person sees it: by roles and names."""

import json
import re
from pathlib import Path
from typing import Any, Protocol

from playwright.async_api import (
    BrowserContext,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Request,
    Route,
    expect,
)
from tests.browser.site import Place
from tests.support.auth import Account

PICTURES = Path(__file__).parent / "pictures"
_AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
_SETTLED = """async () => {
  const ends = ({ effect }) => effect.getComputedTiming().iterations !== Infinity;
  const moving = document.getAnimations().filter(ends);
  await Promise.allSettled([document.fonts.ready, ...moving.map(({ finished }) => finished)]);
}"""
_NO_WORKER = "Service Worker registration blocked by Playwright"
_REQUEST_FAILED = re.compile(r"^Failed to load resource")


def signed_in(origin: str, account: Account) -> dict[str, Any]:
    """The state of a browser in which somebody has signed in (Playwright's `storage_state`)."""
    session = {"token": account.token, "user": account.user}
    kept = [{"name": "samosachaat.session", "value": json.dumps(session)}]
    return {"cookies": [], "origins": [{"origin": origin, "localStorage": kept}]}


class Tab:
    """A tab, and what went wrong in it: nothing may, unless the test says so."""

    def __init__(self, page: Page, site: Place) -> None:
        self.page = page
        self.site = site
        self.wrong: list[str] = []
        """Errors of the page, refused policies, and requests to places that are not ours."""
        self.failed_requests_are_fine = False
        """Where a test cuts the network or the service refuses, the browser says so."""
        self._origins = {site.origin, *(f"http://localhost:{port}" for port in site.neighbours)}
        page.on("pageerror", self._on_error)
        page.on("console", self._on_console)
        page.on("request", self._on_request)

    def _on_error(self, error: Error) -> None:
        self.wrong.append(f"uncaught: {error}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        if self.failed_requests_are_fine and _REQUEST_FAILED.match(message.text):
            return
        if message.text == _NO_WORKER:
            return
        self.wrong.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        origin = "/".join(request.url.split("/", 3)[:3])
        if origin not in self._origins and not request.url.startswith(("data:", "blob:", "about:")):
            self.wrong.append(f"a request to {request.url}")

    @property
    def context(self) -> BrowserContext:
        """The browser window that it is in, with whatever it remembers."""
        return self.page.context

    # What a person sees.

    @property
    def composer(self) -> Locator:
        """Where one types."""
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def form(self) -> Locator:
        """All that belongs to typing and sending."""
        return self.page.get_by_role("form", name="Your message", exact=True)

    @property
    def messages(self) -> Locator:
        """The part of the page that holds the conversation."""
        return self.page.get_by_role("region", name="Messages", exact=True)

    @property
    def questions(self) -> Locator:
        """What the person has said."""
        return self.messages.get_by_role("article", name="You", exact=True)

    @property
    def answers(self) -> Locator:
        """What the model has said."""
        return self.messages.get_by_role("article", name="samosaChaat", exact=True)

    @property
    def answer(self) -> Locator:
        """The newest answer."""
        return self.answers.last

    async def ask(self, text: str) -> None:
        """Type it and send it."""
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def without_feed(self) -> None:
        """Let the page hear nothing of what happens elsewhere."""
        await self._answer("**/api/changes*", 404)

    async def expire(self, what: str = "**/api/**") -> None:
        """Let the sign-in have expired for these requests, until `page.unroute_all`."""
        await self._answer(what, 401)

    async def _answer(self, what: str, status: int) -> None:
        async def fulfill(route: Route) -> None:
            headers = {"Access-Control-Allow-Origin": "*"}
            await route.fulfill(status=status, headers=headers, body="")

        await self.page.route(what, fulfill)

    async def conversation_id(self) -> str:
        """Of the open conversation, as soon as the address names one."""
        await self.page.wait_for_url("**/c/*")
        return self.page.url.rpartition("/")[2]

    def button(self, name: str | re.Pattern[str]) -> Locator:
        """A button of that name (whole, unless it is a pattern)."""
        return self.page.get_by_role("button", name=name, exact=isinstance(name, str))

    def text(self, text: str | re.Pattern[str]) -> Locator:
        """Whatever shows that text."""
        return self.page.get_by_text(text)

    async def settle(self) -> None:
        """Wait until whatever moves to its place has got there, and the letters are loaded."""
        await self.page.evaluate(_SETTLED)

    async def picture(self, name: str) -> None:
        """Keep a screenshot among the artefacts."""
        await self.settle()
        PICTURES.mkdir(exist_ok=True)
        await self.page.screenshot(path=PICTURES / f"{name}.png")

    async def check_accessible(self) -> None:
        """Nothing that axe calls serious or critical."""
        await self.settle()
        # Not as a <script>, which the page's policy would refuse.
        await self.page.evaluate(_AXE.read_text())
        found = await self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        serious = [
            f"{violation['id']}: {violation['help']}: {node['html'][:200]}"
            for violation in found["violations"]
            if violation["impact"] in {"serious", "critical"}
            for node in violation["nodes"]
        ]
        assert not serious, "\n".join(serious)


class Visit(Protocol):
    """Opens a tab in a window of its own (or in that of `beside`).

    Signed in as `account`; with None, signed out. `options` are Playwright's for a new context.
    """

    async def __call__(
        self,
        account: Account | None = ...,
        path: str | None = ...,
        *,
        site: Place | None = ...,
        beside: Tab | None = ...,
        **options: Any,
    ) -> Tab: ...


__all__ = ["PICTURES", "Tab", "Visit", "expect", "signed_in"]
