"""Devices keep in step by the change feed, which one tab of a browser reads."""

import pytest
from playwright.async_api import Request, Route
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service

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


@pytest.mark.case(102)
async def test_a_change_while_an_earlier_one_is_loaded_is_shown(
    visit: Visit, auth: AuthServer, past: Past, service: Service
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, LINK, "One?", "One.", "Two?", "Two.", "Three?", "Three.")
    phone = await visit(alice, None)
    async with phone.page.expect_response("**/api/changes"):
        await phone.page.goto(f"/c/{talk}")
    await expect(phone.questions).to_have_count(3)
    asked: list[str] = []
    read, release = Gate("read"), Gate("released")

    async def hold(route: Route) -> None:
        asked.append(route.request.url)
        response = await route.fetch()
        if len(asked) == 1:
            read.open()
            await release.wait()
        await route.fulfill(response=response)

    await phone.page.route(f"**/api/conversations/{talk}?*", hold)
    url = f"/api/conversations/{talk}"
    async with Client(service.url, alice) as desk:
        ids = [message["id"] for message in await desk.messages(talk)]
        assert (await desk.delete(f"{url}/messages/{ids[4]}")).status_code == 204
        await read.wait()
        assert (await desk.delete(f"{url}/messages/{ids[2]}")).status_code == 204
        await desk.patch(url, json={"title": "Shorter"})
    await expect(phone.page.get_by_role("link", name="Shorter")).to_be_visible()
    release.open()
    await expect(phone.questions).to_have_text(["One?"])


@pytest.mark.case(102)
async def test_a_change_while_an_answer_is_read_is_shown_at_its_end(
    visit: Visit, auth: AuthServer, inference: Inference, service: Service
) -> None:
    alice = auth.user("alice")
    desk = await visit(alice, None)
    async with Client(service.url, alice) as phone:
        talk = (await phone.create(title=LINK))["id"]
        for text in ("First", "Changed"):
            await phone.ask(talk, text, parent_id=None)
        async with desk.page.expect_response("**/api/changes"):
            await desk.page.goto(f"/c/{talk}")
        await expect(desk.questions).to_have_text(["Changed2/2"])
        end = Gate("the end")
        inference.once(Script().tokens("So far").wait(end).tokens(", so good.").done())
        await desk.ask("Next")
        await expect(desk.answer).to_contain_text("So far")
        url = f"/api/conversations/{talk}"
        shown = (await phone.messages(talk))[0]
        versions = (await phone.get(f"{url}/messages/{shown['id']}/versions")).json()["items"]
        assert (await phone.delete(f"{url}/messages/{versions[0]['id']}")).status_code == 204
        await phone.patch(url, json={"title": "Shorter"})
    await expect(desk.page.get_by_role("link", name="Shorter")).to_be_visible()
    end.open()
    await expect(desk.answer).to_contain_text("So far, so good.")
    await expect(desk.questions).to_have_text(["Changed", "Next"])
