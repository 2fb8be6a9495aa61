"""Editing, versions of messages, and deleting one."""

from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer
from tests.support.inference import Inference, Script


async def ask(tab: Tab, text: str) -> None:
    await tab.ask(text)
    await expect(tab.questions.last).to_contain_text(text)
    await expect(tab.button("Send")).to_be_visible()


async def edit(tab: Tab, number: int, text: str) -> None:
    question = tab.questions.nth(number)
    await question.hover()
    await question.get_by_role("button", name="Edit this message").click()
    await tab.page.get_by_role("textbox", name="New text").fill(text)
    await tab.check_accessible()
    await tab.button("Send the new text").click()


async def test_an_edited_message_is_a_version_and_the_old_one_can_be_shown_again(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    for text in ("One.", "Two.", "Other."):
        inference.once(Script().tokens(text).done())
    tab = await visit(auth.user())
    await ask(tab, "First")
    await ask(tab, "Second")
    await edit(tab, 0, "Changed")
    await expect(tab.answer).to_contain_text("Other.")
    await expect(tab.questions).to_have_text(["Changed2/2"])
    assert (await inference.call(2)).contents == ["Changed"]
    beside = await visit(beside=tab, path=f"/c/{await tab.conversation_id()}")
    await expect(beside.questions).to_have_text(["Changed2/2"])
    await tab.button("Previous version").click()
    for each in (tab, beside):
        await expect(each.questions).to_have_text(["First1/2", "Second"])
        await expect(each.answer).to_contain_text("Two.")
    await expect(tab.button("Previous version")).to_be_disabled()
    await tab.check_accessible()
    await tab.page.reload()
    await expect(tab.questions).to_have_text(["First1/2", "Second"])


async def test_a_message_that_is_not_sent_by_an_edit_leaves_the_old_one(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user())
    await ask(tab, "First")
    await tab.page.route("**/messages", lambda route: route.fulfill(status=403, body="no"))
    tab.failed_requests_are_fine = True
    await edit(tab, 0, "Changed")
    await expect(tab.messages.get_by_role("alert")).to_contain_text("Not sent.")
    await expect(tab.questions.first).to_have_text("First")
    await expect(tab.answers).to_have_count(1)
    await tab.page.unroute_all(behavior="ignoreErrors")
    await tab.button("Send again").click()
    await expect(tab.questions).to_have_text(["Changed2/2"])


async def test_any_answer_is_regenerated_as_a_version(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    for text in ("One.", "Two.", "Another."):
        inference.once(Script().tokens(text).done())
    tab = await visit(auth.user())
    await ask(tab, "First")
    await ask(tab, "Second")
    await tab.answers.first.get_by_role("button", name="More for this answer").click()
    await tab.page.get_by_role("menuitem", name="Regenerate this answer").click()
    await expect(tab.answers).to_have_count(1)
    await expect(tab.answer).to_contain_text("Another.")
    await expect(tab.answer.get_by_role("group", name="Versions")).to_have_text("2/2")
    await tab.button("Previous version").click()
    await expect(tab.answers).to_have_count(2)
    await expect(tab.answers.first).to_contain_text("One.")


async def test_a_message_is_deleted_with_what_follows(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "One?", "One.", "Two?", "Two.")
    tab = await visit(alice, f"/c/{talk}")
    await tab.questions.nth(1).hover()
    await tab.questions.nth(1).get_by_role("button", name="Delete this message").click()
    dialog = tab.page.get_by_role("dialog", name="Delete this message?")
    await expect(dialog).to_be_visible()
    await tab.check_accessible()
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(tab.questions).to_have_count(2)
    await tab.questions.nth(1).hover()
    await tab.questions.nth(1).get_by_role("button", name="Delete this message").click()
    await dialog.get_by_role("button", name="Delete", exact=True).click()
    await expect(tab.questions).to_have_text(["One?"])
    await expect(tab.answers).to_have_count(1)
    assert [text for _, text, _ in await past.messages(talk)] == ["One?", "One."]
