"""Devices keep in step by the change feed, which one tab of a browser reads."""

import pytest
from playwright.async_api import Request
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference, Script

LINK = "Talk"


def feeds(tab: Tab) -> list[str]:
    """The addresses of the change feed that the tab asks for, from now on."""
    asked: list[str] = []

    def remember(request: Request) -> None:
        if request.url.endswith("/api/changes"):
            asked.append(request.url)

    tab.page.on("request", remember)
    return asked


async def test_another_device_sees_what_changes_at_once(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    await past.conversation(alice, LINK, "One?", "One.")
    desk, phone = await visit(alice), await visit(alice, None)
    async with phone.page.expect_response("**/api/changes"):
        await phone.page.goto("/")
    # Nothing is polled: whatever is seen comes by the feed.
    await phone.page.evaluate("window.setInterval = () => 0")
    listed = phone.page.get_by_role("navigation", name="Conversations")
    more = Gate("more")
    inference.default = Script().tokens("So far").wait(more).tokens(", so good.").done()
    await desk.ask("A question of the desk")
    await listed.get_by_role("link", name="A question of the desk").click()
    await expect(phone.answer).to_contain_text("So far")
    more.open()
    await expect(phone.answer).to_contain_text("So far, so good.")
    await expect(desk.button("Send")).to_be_visible()
    inference.default = Script().tokens("Another").done()
    await desk.ask("Next")
    await expect(phone.questions).to_have_text(["A question of the desk", "Next"])
    await expect(phone.answer).to_contain_text("Another")


@pytest.mark.parametrize("closed", ["reader", "other"])
async def test_one_tab_reads_the_feed_for_all(
    visit: Visit, auth: AuthServer, past: Past, closed: str
) -> None:
    alice = auth.user("alice")
    first = await visit(alice, None)
    async with first.page.expect_response("**/api/changes"):
        await first.page.goto("/")
    second = await visit(beside=first, path=None)
    asked = feeds(second)
    await second.page.goto("/")
    await expect(second.composer).to_be_visible()
    desk = await visit(alice)
    await desk.ask("A question of the desk")
    for tab in (first, second):
        link = tab.page.get_by_role("link", name="A question of the desk")
        await expect(link).to_be_visible()
    assert asked == []
    if closed == "reader":
        async with second.page.expect_response("**/api/changes"):
            await first.page.close()
        left = second
    else:
        await second.page.close()
        left = first
    await expect(desk.button("Send")).to_be_visible()
    await desk.page.goto("/")
    await desk.ask("And a second")
    await expect(left.page.get_by_role("link", name="And a second")).to_be_visible()
