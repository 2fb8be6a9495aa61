"""The list of conversations, and what is done to them."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Locator, Request, Route
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.service import Service
from tests.support.waiting import eventually

NOW = datetime.now(UTC)


def conversations(tab: Tab) -> Locator:
    return tab.page.get_by_role("navigation", name="Conversations")


def conversation(tab: Tab, title: str) -> Locator:
    return conversations(tab).get_by_role("link", name=title, exact=True)


async def choose(tab: Tab, title: str, what: str) -> None:
    """An entry of the menu beside a conversation."""
    await tab.button(f"More for {title}").click()
    await tab.page.get_by_role("menuitem", name=what).click()


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
async def test_conversations_are_grouped_by_the_day_where_one_lives(
    visit: Visit, auth: AuthServer, past: Past, zone: str
) -> None:
    alice = auth.user("alice")
    # Half past one at night in India, and ten o'clock the evening before in New York.
    await past.conversation(alice, "Green chutney", at=datetime(2026, 3, 10, 20, 0, tzinfo=UTC))
    await past.conversation(alice, "Red chutney", at=datetime(2026, 3, 10, 3, 0, tzinfo=UTC))
    await past.conversation(alice, "Long ago", at=datetime(2025, 1, 9, 12, 0, tzinfo=UTC))
    tab = await visit(alice, None, timezone_id=zone)
    await tab.page.clock.set_fixed_time(datetime(2026, 3, 10, 22, 30, tzinfo=UTC))
    await tab.page.goto("/")
    for day, title in (
        ("Today", "Green chutney"),
        ("Yesterday", "Red chutney"),
        ("9 January 2025", "Long ago"),
    ):
        group = conversations(tab).get_by_role("region", name=day)
        await expect(group.get_by_role("link")).to_have_text(title)


async def test_older_ones_come_while_one_scrolls(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    titles = [f"Talk {number}" for number in range(130)]
    at = [NOW - timedelta(hours=number) for number in range(130)]
    await past.conversations(alice, titles, at)
    tab = await visit(alice)
    links = conversations(tab).get_by_role("link", name="Talk")
    await expect(links.first).to_have_text("Talk 0")
    assert await links.count() < 130
    await conversations(tab).hover()

    async def all_there() -> bool:
        await tab.page.mouse.wheel(0, 3000)
        return await links.count() == 130

    await eventually(all_there)
    assert [text.strip() for text in await links.all_inner_texts()] == titles


async def test_a_new_conversation_is_begun(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    old = await past.conversation(alice, "The old one", "Hello", "Hello to you")
    tab = await visit(alice, f"/c/{old}")
    await expect(tab.text("Hello to you")).to_be_visible()
    await tab.page.get_by_role("link", name="New conversation", exact=True).click()
    await expect(tab.text("Hello to you")).to_have_count(0)
    await expect(tab.page).to_have_url("/")
    await expect(tab.composer).to_be_focused()


async def test_a_conversation_is_opened_and_the_browsers_back_leads_back(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    first = await past.conversation(alice, "First", "Mint?", "Mint is a herb.")
    await past.conversation(alice, "Second", "Tamarind?", "Tamarind is a fruit.")
    tab = await visit(alice, f"/c/{first}")
    await conversation(tab, "Second").click()
    await expect(tab.text("Tamarind is a fruit.")).to_be_visible()
    await expect(tab.text("Mint is a herb.")).to_have_count(0)
    await tab.page.go_back()
    await expect(tab.text("Mint is a herb.")).to_be_visible()
    await expect(conversation(tab, "First")).to_have_attribute("aria-current", "page")


async def test_a_conversation_is_renamed(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Untitled", "Hello", "Hi")
    tab = await visit(alice)
    await choose(tab, "Untitled", "Rename")
    title = tab.page.get_by_role("textbox", name="New title")
    await expect(title).to_be_focused()
    await title.fill("Samosas & <b>chutney</b> 🥟")
    await title.press("Enter")
    await expect(conversation(tab, "Samosas & <b>chutney</b> 🥟")).to_be_focused()

    async def renamed() -> bool:
        return await past.title(talk) == "Samosas & <b>chutney</b> 🥟"

    await eventually(renamed)


async def test_a_renaming_is_given_up(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "As it was")
    tab = await visit(alice)
    await choose(tab, "As it was", "Rename")
    await tab.page.get_by_role("textbox", name="New title").fill("Something else")
    await tab.page.keyboard.press("Escape")
    await expect(conversation(tab, "As it was")).to_be_focused()
    assert await past.title(talk) == "As it was"


async def test_a_favourite_has_a_place_of_its_own(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "The best")
    tab = await visit(alice)
    await choose(tab, "The best", "Add to favourites")
    favourites = conversations(tab).get_by_role("region", name="Favourites")
    await expect(favourites.get_by_role("link")).to_have_text("The best")
    await eventually(lambda: past.is_favourite(talk))
    await tab.page.reload()
    await expect(favourites.get_by_role("link")).to_have_text("The best")
    await choose(tab, "The best", "Remove from favourites")
    await expect(favourites).to_have_count(0)
    await expect(conversation(tab, "The best")).to_be_visible()


async def test_a_favourite_of_long_ago_is_found_without_scrolling(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    at = [NOW - timedelta(minutes=number) for number in range(60)]
    await past.conversations(alice, [f"Talk {number}" for number in range(60)], at)
    await past.conversation(alice, "Far down", at=NOW - timedelta(days=400), favourite=True)
    tab = await visit(alice)
    favourites = conversations(tab).get_by_role("region", name="Favourites")
    await expect(favourites.get_by_role("link")).to_have_text("Far down")


async def test_a_deletion_can_be_undone(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Not this one", "Hello", "Still here")
    tab = await visit(alice, f"/c/{talk}")
    await choose(tab, "Not this one", "Delete")
    await expect(conversation(tab, "Not this one")).to_have_count(0)
    await expect(tab.page).to_have_url("/")
    await tab.button("Undo").click()
    await conversation(tab, "Not this one").click()
    await expect(tab.text("Still here")).to_be_visible()
    assert await past.title(talk) == "Not this one"


async def test_a_deletion_is_carried_out_when_nobody_undoes_it(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Go away")
    await past.conversation(alice, "Stay")
    tab = await visit(alice, None)
    await tab.page.clock.install()
    await tab.page.goto("/")
    await choose(tab, "Go away", "Delete")
    await expect(tab.button("Undo")).to_be_visible()
    assert await past.title(talk) == "Go away"
    await tab.page.clock.fast_forward(60_000)

    async def gone() -> bool:
        return await past.title(talk) is None

    await eventually(gone)
    await expect(tab.button("Undo")).to_have_count(0)
    await expect(conversation(tab, "Stay")).to_be_visible()


async def test_a_deletion_is_carried_out_when_the_tab_is_closed(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Go away")
    tab = await visit(alice)
    await choose(tab, "Go away", "Delete")
    await expect(tab.button("Undo")).to_be_visible()
    await tab.page.close(run_before_unload=True)

    async def gone() -> bool:
        return await past.title(talk) is None

    await eventually(gone)


async def test_what_happens_elsewhere_shows_up_when_one_comes_back(
    visit: Visit, auth: AuthServer, service: Service
) -> None:
    alice = auth.user("alice")
    tab = await visit(alice, None)
    await tab.page.clock.install()
    await tab.page.goto("/")
    await expect(conversations(tab)).to_contain_text("Your conversations appear here.")
    async with Client(service.url, alice) as phone:
        await phone.create(title="From the phone")
    await tab.page.clock.fast_forward(60_000)
    await expect(conversation(tab, "From the phone")).to_be_visible()


async def test_a_conversation_is_found_by_its_title(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    at = [NOW - timedelta(days=number) for number in range(90)]
    await past.conversations(alice, [f"Talk {number}" for number in range(90)], at)
    await past.conversation(
        alice, "Where to eat", "Where?", "In the old town.", at=NOW - timedelta(days=300)
    )
    tab = await visit(alice)
    await expect(conversation(tab, "Talk 0")).to_be_visible()
    await tab.page.keyboard.press("Control+k")
    # Without looking whether it is there already, as people type.
    await tab.page.keyboard.type("eat")
    await expect(tab.page.get_by_role("combobox")).to_have_value("eat")
    await expect(tab.page.get_by_role("option", name="Where to eat")).to_be_visible()
    await tab.page.keyboard.press("Enter")
    await expect(tab.text("In the old town.")).to_be_visible()


@pytest.mark.case(61)
async def test_a_thousand_conversations_are_few_requests_and_few_elements(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    at = [NOW - timedelta(hours=number) for number in range(1_000)]
    await past.conversations(alice, [f"Talk {number}" for number in range(1_000)], at)
    await past.conversation(alice, "Far down", at=NOW - timedelta(days=400), favourite=True)
    tab = await visit(alice, None)
    asked: list[str] = []

    def remember(request: Request) -> None:
        if request.method == "GET" and "/api/conversations?" in request.url:
            asked.append("favourites" if "favorited=true" in request.url else "list")

    tab.page.on("request", remember)
    await tab.page.goto("/")
    favourites = conversations(tab).get_by_role("region", name="Favourites")
    await expect(favourites.get_by_role("link")).to_have_text("Far down")
    await expect(conversation(tab, "Talk 0")).to_be_visible()
    await tab.page.keyboard.press("Control+k")
    await expect(tab.page.get_by_role("option", name="Talk 0")).to_be_visible()
    # The list may have been looked at once more, where this took long.
    assert (asked.count("favourites"), asked.count("list")) in {(1, 1), (1, 2)}
    await tab.page.keyboard.press("Escape")
    await conversations(tab).hover()

    async def at_the_end() -> bool:
        await tab.page.mouse.wheel(0, 20_000)
        return await conversation(tab, "Talk 999").count() == 1

    await eventually(at_the_end, 60)
    # The last page may have come after the last turn of the wheel.
    await tab.page.mouse.wheel(0, 20_000)
    await expect(conversation(tab, "Talk 999")).to_be_in_viewport()
    assert await tab.page.evaluate("document.querySelectorAll('*').length") < 6_000
    # From one to the next with the keys, where rows are drawn and left out.
    await conversation(tab, "Talk 999").focus()
    for _ in range(3):
        await tab.page.keyboard.press("ArrowUp")
    await expect(conversation(tab, "Talk 996")).to_be_focused()
    await conversations(tab).evaluate("list => list.scrollTo(0, 0)")
    await expect(conversation(tab, "Talk 0")).to_be_in_viewport()
    assert await conversation(tab, "Talk 999").count() == 0


@pytest.mark.case(61)
async def test_a_message_is_found_by_its_words(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    await past.conversation(
        alice, "Dinner", "🥟 What goes with it?", "Try tamarind 🥭 paste, or a green chutney."
    )
    await past.conversation(alice, "Breakfast", "And now?", "Toast.")
    tab = await visit(alice)
    await expect(conversation(tab, "Dinner")).to_be_visible()
    await tab.page.keyboard.press("Control+k")
    await tab.page.keyboard.type("paste tamar")
    option = tab.page.get_by_role("option", name="Dinner")
    await expect(option).to_contain_text("tamarind 🥭 paste")
    await expect(option.locator("mark")).to_have_text(["tamar", "paste"])
    await tab.page.keyboard.press("Enter")
    await expect(tab.answer).to_contain_text("Try tamarind")


@pytest.mark.case(94)
async def test_a_found_version_that_is_not_shown_is_shown(
    visit: Visit, auth: AuthServer, service: Service
) -> None:
    alice = auth.user("alice")
    async with Client(service.url, alice) as client:
        conversation_id = (await client.create(title="Dinner"))["id"]
        await client.ask(conversation_id, "What goes with tamarind?")
        await client.ask(conversation_id, "What goes with chutney?", parent_id=None)
    tab = await visit(alice)
    await conversation(tab, "Dinner").click()
    await expect(tab.text("What goes with chutney?")).to_be_visible()
    await tab.page.keyboard.press("Control+k")
    await tab.page.keyboard.type("tamarind")
    await expect(tab.page.get_by_role("option", name="Dinner")).to_contain_text("tamarind")
    await tab.page.keyboard.press("Enter")
    await expect(tab.text("What goes with tamarind?")).to_be_visible()
    await expect(tab.text("What goes with chutney?")).to_have_count(0)


@pytest.mark.case(61)
async def test_a_search_that_fails_says_so(visit: Visit, auth: AuthServer, past: Past) -> None:
    alice = auth.user("alice")
    await past.conversation(alice, "Dinner")
    tab = await visit(alice)
    tab.failed_requests_are_fine = True
    await expect(conversation(tab, "Dinner")).to_be_visible()

    async def refuse(route: Route) -> None:
        headers = {"Access-Control-Allow-Origin": "*"}
        await route.fulfill(status=503, headers=headers, body="<html>")

    await tab.page.route("**/api/search?*", refuse)
    await tab.page.keyboard.press("Control+k")
    await tab.page.keyboard.type("din")
    dialog = tab.page.get_by_role("dialog")
    await expect(dialog.get_by_role("alert")).to_contain_text("not available")
    # What is known without it is found all the same.
    await expect(dialog.get_by_role("option", name="Dinner")).to_be_visible()


async def test_a_conversation_of_somebody_else_is_not_shown(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    bobs = await past.conversation(auth.user("bob"), "Bob's", "Psst", "Secret of Bob's")
    tab = await visit(auth.user("alice"))
    tab.failed_requests_are_fine = True
    await tab.page.goto(f"/c/{bobs}")
    await expect(tab.text("no longer there")).to_be_visible()
    await expect(tab.text("Secret")).to_have_count(0)
