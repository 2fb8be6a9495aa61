"""Sending: by any finger and keyboard, through any proxy, once."""

import pytest
from playwright.async_api import Request, Route
from tests.browser.past import Past
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference, Script

pytestmark = pytest.mark.case(61)

ANYBODY = {"Access-Control-Allow-Origin": "*"}
REFUSALS = [
    (400, {}, "could not understand"),
    (403, {}, "does not allow this"),
    (413, {}, "too large"),
    (503, {"Retry-After": "3600"}, "Try again in 60 minutes"),
]


async def refuse(tab: Tab, url: str, method: str, status: int, headers: dict[str, str]) -> None:
    """From now on a proxy refuses these requests, without a word of the API's."""
    tab.failed_requests_are_fine = True

    async def answer(route: Route) -> None:
        if route.request.method != method:
            await route.fallback()
            return
        await route.fulfill(
            status=status,
            headers={**ANYBODY, "Access-Control-Expose-Headers": "Retry-After", **headers},
            content_type="text/html",
            body="<html><h1>No</h1></html>",
        )

    await tab.page.route(url, answer)


def stops(tab: Tab) -> list[Request]:
    """The requests for a stop from now on."""
    found: list[Request] = []

    def remember(request: Request) -> None:
        if request.url.endswith("/stop"):
            found.append(request)

    tab.page.on("request", remember)
    return found


async def test_a_double_click_sends_once_and_stops_nothing(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    for path in ("/", f"/c/{talk}"):
        more = Gate("more")
        inference.default = Script().tokens("So ", "far").wait(more).tokens(", so good.").done()
        tab = await visit(alice, path)
        asked = stops(tab)
        await tab.composer.fill("Twice as fast")
        await tab.button("Send").dblclick()
        await expect(tab.answer).to_contain_text("So far")
        await expect(tab.button("Stop the answer")).to_be_enabled()
        more.open()
        await expect(tab.answer).to_contain_text("So far, so good.")
        await expect(tab.questions.last).to_have_text("Twice as fast")
        await expect(tab.text("Not sent.")).to_have_count(0)
        assert asked == []
    assert len(inference.calls) == 2


async def test_a_stop_while_the_message_is_on_its_way_stops_its_answer(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    inference.default = Script().head().hang()
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer).to_contain_text("Hi")
    held, arrive = Gate("the message is on its way"), Gate("the message arrives")

    async def delay(route: Route) -> None:
        held.open()
        await arrive.wait()
        await route.continue_()

    await tab.page.route("**/messages", delay)
    await tab.ask("Go on")
    await held.wait()
    await tab.button("Stop the answer").click()
    await expect(tab.text("Stopping…")).to_be_visible()
    arrive.open()
    await expect(tab.answer).to_contain_text("You stopped this answer before it began.")
    await expect(tab.text("Not sent.")).to_have_count(0)
    assert [status for *_, status in await past.messages(talk)][-1] == "stopped"


@pytest.mark.parametrize(("status", "headers", "sentence"), REFUSALS)
async def test_a_refusal_without_a_word_is_a_sentence_and_the_next_message_goes_ahead(
    visit: Visit,
    auth: AuthServer,
    inference: Inference,
    past: Past,
    status: int,
    headers: dict[str, str],
    sentence: str,
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer).to_contain_text("Hi")
    await refuse(tab, "**/messages", "POST", status, headers)
    await tab.ask("Refused")
    await expect(tab.messages.get_by_role("alert")).to_contain_text("Not sent.")
    await expect(tab.messages.get_by_role("alert")).to_contain_text(sentence)
    await expect(tab.button("Send")).to_be_visible()
    await tab.page.unroute_all(behavior="ignoreErrors")
    await tab.ask("Accepted")
    await expect(tab.answers).to_have_count(2)
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    # The refused one is still there, also after a reload.
    await tab.page.reload()
    await tab.button("Send again").click()
    await expect(tab.answers).to_have_count(3)
    await expect(tab.questions).to_have_text(["Hello", "Accepted", "Refused"])


@pytest.mark.parametrize(("status", "headers", "sentence"), REFUSALS)
async def test_a_list_and_a_beginning_refused_without_a_word_say_so(
    visit: Visit,
    auth: AuthServer,
    inference: Inference,
    status: int,
    headers: dict[str, str],
    sentence: str,
) -> None:
    tab = await visit(auth.user(), None)
    await refuse(tab, "**/api/conversations*", "GET", status, headers)
    await refuse(tab, "**/api/conversations", "POST", status, headers)
    await tab.page.goto("/")
    conversations = tab.page.get_by_role("navigation", name="Conversations")
    await expect(conversations).to_contain_text(sentence)
    await tab.ask("To begin with")
    await expect(tab.form.get_by_role("alert")).to_contain_text(sentence)
    await expect(tab.composer).to_have_value("To begin with")
    await tab.page.unroute_all(behavior="ignoreErrors")
    await conversations.get_by_role("button", name="Try again").click()
    await expect(conversations).to_contain_text("Your conversations appear here.")
    await tab.form.get_by_role("button", name="Try again").click()
    await expect(tab.answer).to_contain_text("Samosas are triangles.")


async def test_a_page_in_place_of_an_answer_is_no_answer(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user())
    tab.failed_requests_are_fine = True
    await expect(tab.composer).to_be_visible()

    async def portal(route: Route) -> None:
        await route.fulfill(headers=ANYBODY, content_type="text/html", body="<h1>Welcome</h1>")

    # As that of a hotel's network, with status 200.
    await tab.page.route("**/api/conversations", portal)
    await tab.ask("Anybody there?")
    await expect(tab.form.get_by_role("alert")).to_contain_text("answered in its place")
    await tab.page.unroute_all(behavior="ignoreErrors")
    await tab.page.route("**/messages", portal)
    await tab.form.get_by_role("button", name="Try again").click()
    await expect(tab.answer).to_contain_text("answered in its place")
    await tab.page.unroute_all(behavior="ignoreErrors")
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    assert len(inference.calls) == 1


async def test_an_answer_that_a_proxy_withholds_is_shown_as_it_is_saved(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    more = Gate("more")
    inference.default = Script().tokens("So ", "far").wait(more).tokens(", so good.").done()
    tab = await visit(auth.user(), None)
    tab.failed_requests_are_fine = True
    await tab.page.clock.install()

    # A response goes on when it is complete.
    async def withhold(route: Route) -> None:
        await route.fulfill(response=await route.fetch())

    await tab.page.route("**/messages", withhold)
    await tab.page.route("**/stream", withhold)
    await tab.page.goto("/")
    await tab.ask("Are you there?")
    await inference.call()
    await tab.page.clock.run_for(12_000)
    await expect(tab.answer).to_contain_text("So far")
    await expect(tab.answer).to_contain_text("delivers the answer late")
    await tab.page.clock.run_for(25_000)
    await expect(tab.questions).to_have_text(["Are you there?"])
    more.open()
    await expect(tab.answer).to_contain_text("So far, so good.")
    await expect(tab.button("Send")).to_be_visible()
    await expect(tab.questions).to_have_text(["Are you there?"])
    await expect(tab.answers).to_have_count(1)


async def test_the_keyboard_of_a_phone_writes_new_lines(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user(), has_touch=True, is_mobile=True)
    await tab.composer.press_sequentially("One")
    await tab.composer.press("Enter")
    await tab.composer.press_sequentially("Two")
    await expect(tab.composer).to_have_value("One\nTwo")
    await expect(tab.composer).to_have_attribute("enterkeyhint", "enter")
    await tab.button("Send").tap()
    assert (await inference.call()).contents == ["One\nTwo"]


async def test_a_text_from_right_to_left_is_written_and_listed_so(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user())
    await tab.composer.fill("مرحبا بالسمبوسة")
    direction = "element => getComputedStyle(element).direction"
    assert await tab.composer.evaluate(direction) == "rtl"
    await tab.button("Send").click()
    heading = tab.page.get_by_role("heading", level=1)
    await expect(heading).to_have_text("مرحبا بالسمبوسة")
    assert await heading.evaluate(direction) == "rtl"
    listed = tab.page.get_by_role("link", name="مرحبا بالسمبوسة").locator("span")
    assert await listed.evaluate(direction) == "rtl"


@pytest.mark.parametrize("marks", [{"isComposing": True}, {"keyCode": 229}])
async def test_the_enter_of_an_input_method_sends_nothing(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past, marks: dict[str, object]
) -> None:
    alice = auth.user("alice")
    await past.conversation(alice, "Talk")
    tab = await visit(alice)
    await tab.composer.fill("にほん")
    press = """(field, marks) => field.dispatchEvent(new KeyboardEvent(
      "keydown", { key: "Enter", bubbles: true, cancelable: true, ...marks }))"""
    await tab.composer.evaluate(press, marks)
    await expect(tab.composer).to_have_value("にほん")
    await tab.page.get_by_role("link", name="Talk", exact=True).press("F2")
    title = tab.page.get_by_role("textbox", name="New title")
    await title.evaluate(press, marks)
    await expect(title).to_be_focused()
    assert inference.calls == []
