"""Asking, and what becomes of the answer."""

import re

import pytest
from playwright.async_api import Route
from tests.browser.past import Past
from tests.browser.tab import Visit, expect
from tests.browser.watching import (
    check_growing,
    listen,
    numbers,
    said_texts,
    shown_texts,
    watch_answer,
)
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service
from tests.support.waiting import eventually


async def test_an_answer_is_shown_as_it_is_written(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    more = Gate("more")
    inference.default = Script().tokens("Samosas ", "are ").wait(more).tokens("triangles.").done()
    tab = await visit(auth.user())
    await tab.ask("What are samosas?")
    await expect(tab.answer).to_contain_text("Samosas are")
    await expect(tab.answer).to_have_attribute("aria-busy", "true")
    await expect(tab.button("Stop the answer")).to_be_visible()
    await expect(tab.questions).to_have_text("What are samosas?")
    await expect(tab.composer).to_be_empty()
    more.open()
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    await expect(tab.answer).not_to_have_attribute("aria-busy", "true")
    await expect(tab.button("Send")).to_be_visible()
    assert await past.messages(await tab.conversation_id()) == [
        ("user", "What are samosas?", "complete"),
        ("assistant", "Samosas are triangles.", "complete"),
    ]


async def test_a_conversation_has_the_title_of_its_first_message(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user())
    await tab.ask("How hot is the oil?\nFor samosas.")
    conversations = tab.page.get_by_role("navigation", name="Conversations")
    await expect(conversations.get_by_role("link", name="How hot is the oil?")).to_be_visible()
    await expect(tab.page).to_have_title(re.compile(r"How hot is the oil\?.* samosaChaat"))


async def test_a_conversation_goes_on(visit: Visit, auth: AuthServer, inference: Inference) -> None:
    tab = await visit(auth.user())
    await tab.ask("One?")
    await expect(tab.answers).to_have_count(1)
    await expect(tab.button("Send")).to_be_visible()
    await tab.ask("Two?")
    await expect(tab.answers).to_have_count(2)
    await expect(tab.button("Send")).to_be_visible()
    await expect(tab.questions).to_have_text(["One?", "Two?"])
    assert (await inference.call(1)).contents[-1] == "Two?"


async def test_no_token_is_shown_twice_or_left_out(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tokens = numbers(400)
    inference.default = Script().tokens(*tokens).done()
    tab = await visit(auth.user())
    await watch_answer(tab)
    await tab.ask("Count")
    await expect(tab.button("Send")).to_be_visible()
    await expect(tab.answer).to_contain_text("n399")
    check_growing(await shown_texts(tab), tokens)


async def test_an_answer_is_stopped_by_a_button(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    inference.default = Script().tokens("As far ", "as this").hang()
    tab = await visit(auth.user())
    await tab.ask("Go on without end")
    await expect(tab.answer).to_contain_text("As far as this")
    await tab.button("Stop the answer").click()
    await expect(tab.answer).to_contain_text("You stopped this answer.")
    await expect(tab.button("Send")).to_be_visible()
    await (await inference.call()).gone.wait()
    assert (await past.messages(await tab.conversation_id()))[-1] == (
        "assistant",
        "As far as this",
        "stopped",
    )


async def test_an_answer_is_stopped_by_the_escape_key_before_its_first_token(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    inference.default = Script().head().hang()
    tab = await visit(auth.user())
    await tab.ask("Say nothing")
    await expect(tab.answer).to_have_attribute("aria-busy", "true")
    call = await inference.call()
    await tab.page.keyboard.press("Escape")
    await expect(tab.answer).to_contain_text("You stopped this answer before it began.")
    await call.gone.wait()
    assert (await past.messages(await tab.conversation_id()))[-1] == ("assistant", "", "stopped")


async def test_an_answer_is_regenerated(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "What?", "The old answer")
    inference.default = Script().tokens("The new ", "one").done()
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.answer).to_contain_text("The old answer")
    await tab.button("Regenerate").click()
    await expect(tab.answer).to_contain_text("The new one")
    await expect(tab.answers).to_have_count(1)
    await expect(tab.text("The old answer")).to_have_count(0)
    await expect(tab.button("Send")).to_be_visible()
    assert [content for _, content, _ in await past.messages(talk)] == ["What?", "The new one"]


async def test_a_regeneration_that_fails_leaves_the_old_one(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "What?", "The old answer")
    inference.default = Script().tokens("Half of ").cut()
    tab = await visit(alice, f"/c/{talk}")
    await tab.button("Regenerate").click()
    await expect(tab.answer).to_contain_text("This is the previous answer")
    await expect(tab.answer).to_contain_text("The old answer")
    await expect(tab.text("Half of")).to_have_count(0)
    assert [content for _, content, _ in await past.messages(talk)] == ["What?", "The old answer"]


async def test_a_failed_answer_says_so_and_can_be_tried_again(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.once(Script().status(500))
    inference.default = Script().tokens("Now it works").done()
    tab = await visit(auth.user())
    await tab.ask("Are you well?")
    await expect(tab.answer).to_contain_text("This answer failed.")
    await tab.button("Try again").click()
    await expect(tab.answer).to_contain_text("Now it works")
    await expect(tab.text("This answer failed.")).to_have_count(0)
    await expect(tab.questions).to_have_count(1)


async def test_an_answer_that_is_cut_off_says_so_and_keeps_what_there_is(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.once(Script().tokens("Half ", "of it").cut())
    inference.default = Script().tokens("All of it").done()
    tab = await visit(auth.user())
    await tab.ask("Tell me")
    await expect(tab.answer).to_contain_text("Half of it")
    await expect(tab.answer).to_contain_text("This answer was cut off, and ends here.")
    await tab.page.reload()
    await expect(tab.answer).to_contain_text("Half of it")
    await tab.button("Regenerate").click()
    await expect(tab.answer).to_contain_text("All of it")


async def test_a_message_that_was_not_accepted_is_kept_and_sent_again(
    visit: Visit, auth: AuthServer, inference: Inference, service: Service, past: Past
) -> None:
    finish = Gate("finish")
    inference.on("phone", Script().tokens("For the phone").wait(finish).done())
    inference.on("desk", Script().tokens("For the desk").done())
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Before", "Before that")
    tab = await visit(alice, None)
    tab.failed_requests_are_fine = True
    await tab.without_feed()
    # Once it has looked for a running answer, it does not know of the phone's.
    async with tab.page.expect_response("**/stream"):
        await tab.page.goto(f"/c/{talk}")
    await expect(tab.answer).to_contain_text("Before that")
    async with Client(service.url, alice) as phone, phone.send(talk, "From the phone") as stream:
        await stream.until("token")
        await tab.ask("From the desk")
        await expect(tab.messages.get_by_role("alert")).to_contain_text("Not sent.")
        finish.open()
        await stream.rest()
    await expect(tab.text("For the phone")).to_be_visible()
    await tab.button("Send again").click()
    await expect(tab.answer).to_contain_text("For the desk")
    await expect(tab.questions).to_have_text(["Before", "From the phone", "From the desk"])
    assert [content for _, content, _ in await past.messages(talk)][2:] == [
        "From the phone",
        "For the phone",
        "From the desk",
        "For the desk",
    ]


async def test_a_message_that_was_not_accepted_can_be_edited_or_dropped(
    visit: Visit, auth: AuthServer, inference: Inference, service: Service, past: Past
) -> None:
    inference.default = Script().tokens("For the phone").hang()
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Before", "Before that")
    tab = await visit(alice, None)
    tab.failed_requests_are_fine = True
    await tab.without_feed()
    # Once it has looked for a running answer, it does not know of the phone's.
    async with tab.page.expect_response("**/stream"):
        await tab.page.goto(f"/c/{talk}")
    await expect(tab.answer).to_contain_text("Before that")
    async with Client(service.url, alice) as phone, phone.send(talk, "From the phone") as stream:
        await stream.until("token")
        await tab.ask("A slip of the pen")
        await tab.button("Edit").click()
        await expect(tab.composer).to_have_value("A slip of the pen")
        await expect(tab.questions.filter(has_text="A slip")).to_have_count(0)
    await tab.button("Stop the answer").click()
    await expect(tab.answer).to_contain_text("You stopped this answer.")


async def test_a_question_without_an_answer_can_be_answered(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Anybody there?")
    tab = await visit(alice, f"/c/{talk}")
    await expect(tab.text("This message has no answer.")).to_be_visible()
    await tab.button("Get an answer").click()
    await expect(tab.answer).to_contain_text("Samosas are triangles.")


async def test_enter_sends_and_shift_enter_makes_a_line(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user())
    await expect(tab.composer).to_be_focused()
    await tab.page.keyboard.type("One")
    await tab.page.keyboard.press("Shift+Enter")
    await tab.page.keyboard.type("Two")
    await tab.page.keyboard.press("Enter")
    assert (await inference.call()).contents == ["One\nTwo"]
    await expect(tab.questions).to_have_count(1)


async def test_nothing_is_sent_where_nothing_is_written_or_too_much(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user())
    await tab.ask(" \n ")
    await expect(tab.button("Send")).to_be_disabled()
    await tab.ask("ü" * 8_001)
    await expect(tab.button("Send")).to_be_disabled()
    await expect(tab.text("8,001 of 8,000 characters")).to_be_visible()
    await tab.ask("🥟" * 8_000)
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    assert len(inference.calls) == 1


async def test_a_screen_reader_is_told_when_an_answer_begins_and_ends_and_no_more(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.default = Script().tokens(*numbers(200)).done()
    tab = await visit(auth.user())
    await listen(tab)
    await tab.ask("Count")
    await expect(tab.answer).to_contain_text("n199")
    await expect(tab.button("Send")).to_be_visible()
    await eventually(lambda: said_texts(tab))
    assert await said_texts(tab) == ["Answering", "Answer complete"]


async def test_thoughts_are_folded_away(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.default = Script().tokens("<think>Hm, round ", "or not?", "</think>", "No.").done()
    tab = await visit(auth.user())
    await tab.ask("Are they round?")
    await expect(tab.answer).to_contain_text("No.")
    await expect(tab.text("Hm, round or not?")).to_be_hidden()
    await tab.text("Thinking").click()
    await expect(tab.text("Hm, round or not?")).to_be_visible()


@pytest.mark.case(61)
async def test_an_empty_answer_says_so_and_can_be_regenerated(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.once(Script().done())
    inference.default = Script().tokens("Now there is one").done()
    tab = await visit(auth.user())
    await tab.ask("Say something")
    await expect(tab.answer).to_contain_text("This answer is empty.")
    await tab.button("Regenerate").click()
    await expect(tab.answer).to_contain_text("Now there is one")
    await expect(tab.text("This answer is empty.")).to_have_count(0)


@pytest.mark.case(61)
async def test_an_answer_is_copied_where_the_clipboard_is_refused(
    visit: Visit, auth: AuthServer
) -> None:
    tab = await visit(auth.user())
    await tab.ask("Hello")
    await expect(tab.button("Send")).to_be_visible()
    refuse = "() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }"
    await tab.page.evaluate(refuse)
    await tab.button("Copy the answer").click()
    await tab.composer.focus()
    await tab.page.keyboard.press("Control+v")
    await expect(tab.composer).to_have_value("Samosas are triangles.")
    # Where even that is refused, it says what to do.
    await tab.page.evaluate("() => { document.execCommand = () => false; }")
    await tab.button("Copy the answer").click()
    await expect(tab.text("does not allow copying")).to_be_visible()


@pytest.mark.case(61)
async def test_an_event_that_cannot_be_read_is_not_asked_for_again_and_again(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.default = Script().tokens("So far").hang()
    tab = await visit(auth.user())
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    await tab.ask("Go on")
    await expect(tab.answer).to_contain_text("So far")

    async def garble(route: Route) -> None:
        headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/event-stream"}
        await route.fulfill(headers=headers, body='id: 9\ndata: {"token":\n\n')

    await tab.page.route("**/stream", garble)
    await tab.page.evaluate("dispatchEvent(new Event('online'))")
    trouble = tab.messages.get_by_role("alert")
    await expect(trouble).to_contain_text("cannot read")
    await expect(tab.answer).to_contain_text("So far")
    assert sum(url.endswith("/stream") for url in asked) == 1
    await tab.page.unroute_all(behavior="ignoreErrors")
    await trouble.get_by_role("button", name="Try again").click()
    await expect(tab.answer).to_have_attribute("aria-busy", "true")
    await tab.button("Stop the answer").click()
    await expect(tab.answer).to_contain_text("You stopped this answer.")


async def test_an_idea_begins_a_conversation(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user("samosa-fan"))
    await expect(tab.page.get_by_role("heading", name="samosa-fan")).to_be_visible()
    await tab.button(re.compile("^Explain")).click()
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    assert "sourdough" in (await inference.call()).contents[-1]
