"""Tags in the list, and the list of one tag."""

from datetime import UTC, datetime, timedelta

from tests.browser.past import Past
from tests.browser.tab import Visit, expect
from tests.support.auth import AuthServer
from tests.support.database import Database


async def test_the_list_shows_tags_and_can_be_that_of_one_tag(
    visit: Visit, auth: AuthServer, past: Past, db: Database
) -> None:
    alice = auth.user("alice")
    start = datetime(2026, 3, 1, tzinfo=UTC)
    titles = [f"Talk {number}" for number in range(300)]
    await past.conversations(alice, titles, [start + timedelta(hours=n) for n in range(300)])
    # The list's first page does not reach to the older two.
    await db.execute(
        "UPDATE conversations SET tags = ARRAY['work', 'poems'] "
        "WHERE user_id = $1 AND title IN ('Talk 3', 'Talk 7', 'Talk 299')",
        alice.id,
    )
    await db.execute(
        "UPDATE conversations SET tags = ARRAY['old'] WHERE user_id = $1 AND title = 'Talk 1'",
        alice.id,
    )
    tab = await visit(alice)
    links = tab.page.get_by_role("navigation", name="Conversations").get_by_role("link")
    await expect(links.first).to_have_text("Talk 299work, poems")
    await tab.button("Filter by tag").click()
    tags = tab.page.get_by_role("menuitemradio")
    await expect(tags).to_have_text(["All conversations", "old", "poems", "work"])
    await tab.page.get_by_role("menuitemradio", name="work").click()
    wanted = [f"Talk {number}work, poems" for number in (299, 7, 3)]
    await expect(links).to_have_text(wanted)
    await tab.check_accessible()
    # What changes meanwhile belongs to the list only if it has the tag.
    await tab.ask("A new conversation")
    await expect(tab.answer).to_contain_text("Samosas")
    await expect(links).to_have_text(wanted)
    await tab.button("Show all conversations").click()
    await expect(links.first).to_have_text("A new conversation")
    await expect(links.nth(1)).to_have_text("Talk 299work, poems")
    await expect(links.nth(2)).to_have_text("Talk 298")
    await links.nth(1).click()
    await tab.page.locator("header").get_by_role("button", name="poems").click()
    await expect(links).to_have_text(wanted)
