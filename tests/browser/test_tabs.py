"""Many tabs of one browser: connections are few, and every tab has what it needs."""

import pytest
from playwright.async_api import Request
from tests.browser.tab import Tab, Visit, expect
from tests.browser.watching import check_growing, numbers, shown_texts, watch_answer
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference, Script

pytestmark = pytest.mark.case(61)

# Over HTTP/1.1, Chromium opens this many connections to a host.
CONNECTIONS = 6


async def set_hidden(tab: Tab, hidden: bool) -> None:
    """Tell the page that another tab covers it, or no longer does."""
    await tab.page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_any_number_of_answers_leaves_a_connection_for_a_stop(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    finish = Gate("finish")
    inference.default = Script().tokens("So ", "far").wait(finish).tokens(", so good.").done()
    first = await visit(auth.user())
    tabs = [first, *[await visit(beside=first) for _ in range(CONNECTIONS + 1)]]
    for number, tab in enumerate(tabs):
        await tab.ask(f"Question {number}")
        await expect(tab.answer).to_contain_text("So far")
    for tab in (tabs[-1], tabs[0]):
        await tab.button("Stop the answer").click()
        await expect(tab.answer).to_contain_text("You stopped this answer.")
        await expect(tab.text("cannot be reached")).to_have_count(0)
    finish.open()
    for tab in tabs[1:-1]:
        await expect(tab.answer).to_contain_text("So far, so good.")
        await expect(tab.button("Send")).to_be_visible()


async def test_a_hidden_tab_closes_its_stream_and_goes_on_when_it_is_shown(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    more = Gate("more")
    tokens = numbers(300)
    inference.default = Script().tokens(*tokens[:150]).wait(more).tokens(*tokens[150:]).done()
    tab = await visit(auth.user(), None)
    await tab.page.clock.install()
    await tab.page.goto("/")
    await watch_answer(tab)
    await tab.ask("Count")
    await expect(tab.answer).to_contain_text("n149")
    await set_hidden(tab, True)
    async with tab.page.expect_event("requestfailed", lambda r: r.url.endswith("/messages")):
        await tab.page.clock.run_for(6_000)
    await expect(tab.answer).to_contain_text("n149")
    async with tab.page.expect_request("**/stream") as joined:
        await set_hidden(tab, False)
    assert await (await joined.value).header_value("last-event-id")
    more.open()
    await expect(tab.button("Send")).to_be_visible()
    check_growing(await shown_texts(tab), tokens)


async def test_tabs_of_one_conversation_share_a_stream_and_hand_it_on(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    gates = [Gate("second part"), Gate("third part")]
    tokens = numbers(300)
    script = Script().tokens(*tokens[:100])
    for part, gate in enumerate(gates, 1):
        script.wait(gate).tokens(*tokens[part * 100 : part * 100 + 100])
    inference.default = script.done()
    first = await visit(auth.user())
    await first.ask("Count")
    await expect(first.answer).to_contain_text("n99")
    second = await visit(beside=first, path=None)
    streams: list[Request] = []

    def remember(request: Request) -> None:
        if request.url.endswith("/stream"):
            streams.append(request)

    second.page.on("request", remember)
    await second.page.goto(f"/c/{await first.conversation_id()}")
    await expect(second.answer).to_contain_text("n99")
    await watch_answer(second)
    gates[0].open()
    await expect(second.answer).to_contain_text("n199")
    assert streams == []
    await first.page.close()
    gates[1].open()
    await expect(second.button("Send")).to_be_visible()
    check_growing(await shown_texts(second), tokens)
    handed_on, *later = streams
    assert await handed_on.header_value("last-event-id")
    # A change that came during the answer is looked for at its end, where nothing runs.
    for request in later:
        response = await request.response()
        assert response is not None
        assert response.status == 204
