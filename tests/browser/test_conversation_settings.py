"""What is set for one conversation: instructions, options, tags."""

from tests.browser.past import Past
from tests.browser.tab import Visit, expect
from tests.support.auth import AuthServer
from tests.support.inference import Inference


async def test_instructions_options_and_tags_are_of_one_conversation(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "One?", "One.")
    other = await past.conversation(alice, "Other", "One?", "One.")
    tab = await visit(alice, f"/c/{talk}")
    await tab.button("Settings of this conversation").click()
    dialog = tab.page.get_by_role("dialog", name="This conversation")
    await dialog.get_by_role("textbox", name="Instructions").fill("Answer in verse.")
    await dialog.get_by_role("checkbox", name="default temperature").uncheck()
    await dialog.get_by_role("slider", name="Temperature", exact=True).fill("0.3")
    await dialog.get_by_role("textbox", name="Tags").fill("work, poems, work")
    await tab.check_accessible()
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_have_count(0)
    await expect(tab.button("Settings of this conversation (changed)")).to_be_visible()
    for tag in ("work", "poems"):
        await expect(tab.page.locator("header").get_by_role("button", name=tag)).to_be_visible()
    await tab.check_accessible()
    await tab.ask("Two?")
    call = await inference.call()
    assert "Answer in verse." in call.contents[0]
    assert call.body["temperature"] == 0.3
    await expect(tab.button("Send")).to_be_visible()
    await tab.page.goto(f"/c/{other}")
    await expect(tab.button("Settings of this conversation")).to_be_visible()
    await tab.page.goto(f"/c/{talk}")
    await tab.button("Settings of this conversation (changed)").click()
    await expect(dialog.get_by_role("textbox", name="Instructions")).to_have_value(
        "Answer in verse."
    )
    await dialog.get_by_role("textbox", name="Instructions").fill("")
    await dialog.get_by_role("checkbox", name="default temperature").check()
    await dialog.get_by_role("textbox", name="Tags").fill("")
    await dialog.get_by_role("button", name="Save").click()
    await expect(tab.button("Settings of this conversation")).to_be_visible()


async def test_what_was_not_saved_stays_in_the_dialog(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "One?", "One.")
    tab = await visit(alice, f"/c/{talk}")
    tab.failed_requests_are_fine = True
    await tab.page.route(
        f"**/api/conversations/{talk}",
        lambda route: (
            route.fulfill(status=500, body="")
            if route.request.method == "PATCH"
            else route.fallback()
        ),
    )
    await tab.button("Settings of this conversation").click()
    dialog = tab.page.get_by_role("dialog", name="This conversation")
    await dialog.get_by_role("textbox", name="Instructions").fill("Answer in verse.")
    await dialog.get_by_role("button", name="Save").click()
    await expect(tab.text("Not saved:").first).to_be_attached()
    await expect(dialog.get_by_role("textbox", name="Instructions")).to_have_value(
        "Answer in verse."
    )
