"""Answers that run or end while somebody looks elsewhere."""

import pytest
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.browser.test_tabs import set_hidden
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.waiting import eventually

# A browser that asks the person, who gives this answer, and remembers what was shown.
_NOTIFICATIONS = """(() => {
  window.asked = 0;
  window.notified = [];
  window.Notification = class {
    static permission = "default";
    static async requestPermission() {
      window.asked += 1;
      return (this.permission = "%s");
    }
    constructor(title, { body }) {
      window.notified.push([title, body]);
    }
  };
})()"""

# Holds back what the change feed delivers, from `hold()` to `release()`.
_SLOW_FEED = """(() => {
  let held = Promise.resolve();
  window.hold = () => void (held = new Promise((resolve) => (window.release = resolve)));
  const request = window.fetch;
  window.fetch = async (input, init) => {
    const response = await request(input, init);
    if (!String(input.url ?? input).endsWith("/api/changes") || !response.ok) return response;
    const transform = async (chunk, feed) => (await held, feed.enqueue(chunk));
    return new Response(response.body.pipeThrough(new TransformStream({ transform })), response);
  };
})()"""


async def test_the_list_marks_answers_that_run_and_those_that_were_not_seen(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "One?", "One.")
    phone = await visit(alice, None)
    async with phone.page.expect_response("**/api/changes"):
        await phone.page.goto("/")
    beside = await visit(beside=phone)
    rows = [tab.page.get_by_role("listitem").filter(has_text="Talk") for tab in (phone, beside)]
    more = Gate("more")
    inference.default = Script().tokens("So far").wait(more).tokens(", so good.").done()
    desk = await visit(alice, f"/c/{talk}")
    await desk.ask("Two?")
    for row in rows:
        await expect(row.get_by_role("img", name="answering")).to_be_visible()
    more.open()
    for row in rows:
        await expect(row.get_by_role("img", name="new answer")).to_be_visible()
        await expect(row.get_by_role("img", name="answering")).to_have_count(0)
    await phone.check_accessible()
    await phone.page.reload()
    await expect(rows[0].get_by_role("img", name="new answer")).to_be_visible()
    await rows[0].get_by_role("link").click()
    await expect(phone.answer).to_contain_text("So far, so good.")
    for row in rows:
        await expect(row.get_by_role("img")).to_have_count(0)
    # Where it is in sight it is seen at once, in all tabs.
    inference.default = Script().tokens("Another").done()
    await desk.ask("Three?")
    await expect(phone.answer).to_contain_text("Another")
    await expect(phone.button("Send")).to_be_visible()
    await expect(desk.button("Send")).to_be_visible()
    for row in rows:
        await expect(row.get_by_role("img")).to_have_count(0)


async def switch_on(tab: Tab) -> None:
    """Choose notifications in the settings."""
    await tab.button("Answer settings").click()
    await tab.page.get_by_role("checkbox", name="Tell me when an answer ends").click()


async def test_an_end_out_of_sight_is_notified_and_none_that_was_seen_before(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user("alice"), None)
    await tab.page.clock.install()
    await tab.page.add_init_script(_NOTIFICATIONS % "granted")
    await tab.page.add_init_script(_SLOW_FEED)
    async with tab.page.expect_response("**/api/changes"):
        await tab.page.goto("/")
    assert await tab.page.evaluate("window.asked") == 0
    await switch_on(tab)
    assert await tab.page.evaluate("window.asked") == 1
    await tab.page.keyboard.press("Escape")
    inference.default = Script().tokens("In sight").done()
    await tab.page.evaluate("hold()")
    await tab.ask("First")
    await expect(tab.button("Send")).to_be_visible()
    more = Gate("more")
    inference.default = Script().tokens("So far").wait(more).cut()
    await tab.ask("Second")
    await expect(tab.answer).to_contain_text("So far")
    await set_hidden(tab, True)
    await tab.page.clock.fast_forward(6_000)
    await tab.page.evaluate("release()")
    more.open()

    async def notified() -> bool:
        shown: list[object] = await tab.page.evaluate("window.notified")
        assert shown in ([], [["An answer has ended early", "First"]])
        return len(shown) == 1

    await eventually(notified)


@pytest.mark.parametrize("answer", ["denied", "default"])
async def test_notifications_stay_off_without_a_permission(
    visit: Visit, auth: AuthServer, answer: str
) -> None:
    tab = await visit(auth.user("alice"), None)
    await tab.page.add_init_script(_NOTIFICATIONS % answer)
    await tab.page.goto("/")
    await switch_on(tab)
    await expect(tab.text("The browser does not allow notifications")).to_be_visible()
    box = tab.page.get_by_role("checkbox", name="Tell me when an answer ends")
    await expect(box).not_to_be_checked()
