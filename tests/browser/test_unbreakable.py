"""Reloads, tabs, lost networks and services: nothing shown twice, nothing missed, nothing lost."""

import contextlib
import random

import pytest
from playwright.async_api import Route
from tests.browser.past import Past
from tests.browser.site import ServePage, Site
from tests.browser.tab import Visit, expect
from tests.browser.watching import check_growing, numbers, shown_texts, watch_answer
from tests.support.auth import AuthServer
from tests.support.balancer import BadNetwork
from tests.support.client import Client
from tests.support.gates import Gate
from tests.support.inference import Inference, Script
from tests.support.service import Service, StartService
from tests.support.waiting import eventually

ENDED = "n299"


async def test_a_reload_in_mid_answer_joins_it_where_it_was(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    more = Gate("more")
    tokens = numbers(300)
    inference.default = Script().tokens(*tokens[:150]).wait(more).tokens(*tokens[150:]).done()
    tab = await visit(auth.user())
    await tab.ask("Count")
    await expect(tab.answer).to_contain_text("n149")
    await tab.conversation_id()
    await tab.page.reload()
    await expect(tab.answer).to_contain_text("n149")
    await expect(tab.answer).to_have_attribute("aria-busy", "true")
    await watch_answer(tab)
    more.open()
    await expect(tab.button("Send")).to_be_visible()
    check_growing(await shown_texts(tab), tokens)
    assert len(inference.calls) == 1


async def test_a_reload_while_the_question_is_on_its_way_asks_it_once(
    visit: Visit, auth: AuthServer, inference: Inference, service: Service, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk")
    tab = await visit(alice, f"/c/{talk}")
    tab.failed_requests_are_fine = True
    held = Gate("the request is held")

    # The question reaches the service, its answer never reaches the page.
    async def lose(route: Route) -> None:
        key = await route.request.header_value("idempotency-key")
        async with Client(service.url, alice) as other:
            headers = {"idempotency-key": key or ""}
            async with other.send(talk, "Only once", headers=headers) as stream:
                await stream.until("start")
        held.open()

    await tab.page.route("**/messages", lose)
    await tab.ask("Only once")
    await held.wait()
    await tab.page.unroute("**/messages")
    await tab.page.reload()
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    await expect(tab.questions).to_have_text("Only once")
    assert [role for role, _, _ in await past.messages(talk)] == ["user", "assistant"]


async def test_two_tabs_show_the_same_answer_growing(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    more = Gate("more")
    tokens = numbers(300)
    inference.default = Script().tokens(*tokens[:150]).wait(more).tokens(*tokens[150:]).done()
    first = await visit(auth.user())
    await first.ask("Count")
    await expect(first.answer).to_contain_text("n149")
    second = await visit(beside=first, path=f"/c/{await first.conversation_id()}")
    await expect(second.answer).to_contain_text("n149")
    for tab in (first, second):
        await watch_answer(tab)
    more.open()
    for tab in (first, second):
        await expect(tab.button("Send")).to_be_visible()
        check_growing(await shown_texts(tab), tokens)


async def test_a_question_of_one_tab_shows_up_in_the_other(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Before", "Yes?")
    first = await visit(alice, f"/c/{talk}")
    second = await visit(beside=first, path=f"/c/{talk}")
    await expect(second.answers).to_have_count(1)
    await expect(first.answers).to_have_count(1)
    await second.ask("And now?")
    for tab in (first, second):
        await expect(tab.answers).to_have_count(2)
        await expect(tab.answer).to_contain_text("Samosas are triangles.")
        await expect(tab.questions).to_have_text(["Before", "And now?"])


async def test_a_stop_in_one_tab_is_seen_in_the_other(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.default = Script().tokens("So far").hang()
    first = await visit(auth.user())
    await first.ask("Go on")
    await expect(first.answer).to_contain_text("So far")
    second = await visit(beside=first, path=f"/c/{await first.conversation_id()}")
    await expect(second.answer).to_contain_text("So far")
    await second.button("Stop the answer").click()
    for tab in (first, second):
        await expect(tab.answer).to_contain_text("You stopped this answer.")


async def test_an_answer_goes_on_while_one_looks_at_another_conversation(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    await past.conversation(alice, "Other", "Hello", "I am the other one")
    more = Gate("more")
    tokens = numbers(300)
    inference.default = Script().tokens(*tokens[:150]).wait(more).tokens(*tokens[150:]).done()
    tab = await visit(alice)
    await tab.ask("Count")
    await expect(tab.answer).to_contain_text("n149")
    await tab.page.get_by_role("link", name="Other", exact=True).click()
    await expect(tab.answer).to_contain_text("I am the other one")
    await expect(tab.text("n149")).to_have_count(0)
    more.open()
    await tab.page.get_by_role("link", name="Count", exact=True).click()
    await expect(tab.answer).to_contain_text(ENDED)
    await expect(tab.answer.locator(".prose")).to_have_text("".join(tokens).strip())


async def test_a_lost_network_says_so_and_nothing_is_missed(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    gates = [Gate(f"part {number}") for number in range(3)]
    tokens = numbers(300)
    script = Script().tokens(*tokens[:75])
    for part, gate in enumerate(gates, 1):
        script.wait(gate).tokens(*tokens[part * 75 : part * 75 + 75])
    inference.default = script.done()
    tab = await visit(auth.user())
    tab.failed_requests_are_fine = True
    await watch_answer(tab)
    await tab.ask("Count")
    for part, gate in enumerate(gates, 1):
        await expect(tab.answer).to_contain_text(f"n{part * 75 - 1}")
        await tab.context.set_offline(True)
        await expect(tab.text("You are offline.")).to_be_visible()
        gate.open()
        await gate_passed(inference, tokens[part * 75 + 74])
        await tab.context.set_offline(False)
        await expect(tab.text("You are offline.")).to_have_count(0)
    await expect(tab.button("Send")).to_be_visible()
    check_growing(await shown_texts(tab), tokens)
    assert len(inference.calls) == 1


async def gate_passed(inference: Inference, token: str) -> None:
    """Wait until the model has written this token."""
    call = await inference.call()
    await eventually(lambda: token in call.sent)


async def test_a_message_written_without_a_network_is_sent_when_it_is_back(
    visit: Visit, auth: AuthServer, inference: Inference, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, f"/c/{talk}")
    tab.failed_requests_are_fine = True
    await expect(tab.answers).to_have_count(1)
    await tab.context.set_offline(True)
    await tab.ask("Out of the tunnel")
    await expect(tab.text("You are offline.")).to_be_visible()
    await expect(tab.questions).to_have_text(["Hello", "Out of the tunnel"])
    await tab.context.set_offline(False)
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    assert [content for _, content, _ in await past.messages(talk)] == [
        "Hello",
        "Hi",
        "Out of the tunnel",
        "Samosas are triangles.",
    ]


@pytest.mark.case(61)
async def test_a_message_that_begins_a_conversation_is_sent_when_the_network_is_back(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user())
    tab.failed_requests_are_fine = True
    await tab.context.set_offline(True)
    await tab.ask("Out of the tunnel")
    await expect(tab.text("Your message is kept. It is sent when")).to_be_visible()
    await expect(tab.composer).to_have_value("Out of the tunnel")
    await tab.context.set_offline(False)
    await expect(tab.answer).to_contain_text("Samosas are triangles.")
    await expect(tab.questions).to_have_text("Out of the tunnel")


# The service is away until the page says that it is, and is back before the page is painted.
_AWAY_FOR_AN_INSTANT = """() => {
    const real = window.fetch
    let away = true
    window.fetch = (url, options) => {
        if (away) return Promise.reject(new TypeError("away"))
        if (String(url).endsWith("/api/health")) return Promise.resolve(new Response("{}"))
        return real(url, options)
    }
    const look = () => {
        if (!away || !document.body.textContent.includes("It is sent when")) return
        away = false
        dispatchEvent(new Event("online"))
    }
    const everything = {subtree: true, childList: true, characterData: true}
    new MutationObserver(look).observe(document.body, everything)
}"""


@pytest.mark.case(61)
async def test_a_message_is_sent_though_the_network_is_back_at_once(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user())
    await tab.page.evaluate(_AWAY_FOR_AN_INSTANT)
    await tab.ask("Out of the tunnel")
    await expect(tab.answer).to_contain_text("Samosas are triangles.")


async def test_a_service_that_dies_and_comes_back_goes_on_with_the_answer(
    auth: AuthServer,
    inference: Inference,
    serve_page: ServePage,
    visit: Visit,
    fresh_database_url: str,
) -> None:
    tokens = numbers(300)
    inference.once(Script().tokens(*tokens[:150]).hang())
    inference.default = Script().tokens(*tokens).done()
    # No other process of the run may take the generation over: its settings are others.
    site, service = serve_page(LEASE_SECONDS="2", DATABASE_URL=fresh_database_url)
    tab = await visit(auth.user(), site=site)
    tab.failed_requests_are_fine = True
    await tab.ask("Count")
    await expect(tab.answer).to_contain_text("n149")
    service.kill()
    await expect(tab.text("The service cannot be reached.")).to_be_visible()
    await expect(tab.answer).to_contain_text("n149")
    await tab.button(
        "Try now"
    ).click()  # fails; when the service is back, the page reconnects by itself
    service.start()
    await expect(tab.answer).to_contain_text(ENDED, timeout=30_000)
    await expect(tab.button("Send")).to_be_visible()
    await expect(tab.text("cannot be reached")).to_have_count(0)
    await expect(tab.answer.locator(".prose")).to_have_text("".join(tokens).strip())


async def test_a_page_opened_while_the_service_is_down_comes_to_life_with_it(
    auth: AuthServer, past: Past, serve_page: ServePage, visit: Visit
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi there")
    site, service = serve_page()
    service.kill()
    tab = await visit(alice, f"/c/{talk}", site=site)
    tab.failed_requests_are_fine = True
    await expect(tab.text("The service cannot be reached.").first).to_be_visible()
    service.start()
    await expect(tab.answer).to_contain_text("Hi there", timeout=20_000)
    await expect(tab.page.get_by_role("link", name="Talk", exact=True)).to_be_visible()


async def test_a_draft_outlives_reloads_and_other_conversations(
    visit: Visit, auth: AuthServer, past: Past
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice)
    await tab.composer.fill("For a new one")
    await tab.page.get_by_role("link", name="Talk", exact=True).click()
    await expect(tab.answer).to_contain_text("Hi")
    await expect(tab.composer).to_be_empty()
    await tab.composer.fill("For this\none")
    await tab.page.reload()
    await expect(tab.composer).to_have_value("For this\none")
    await tab.page.get_by_role("link", name="New conversation", exact=True).click()
    await expect(tab.composer).to_have_value("For a new one")
    await tab.page.close()
    again = await visit(beside=tab, path=f"/c/{talk}")
    await expect(again.composer).to_have_value("For this\none")


async def test_an_answer_of_another_device_is_joined_when_one_comes_back(
    visit: Visit, auth: AuthServer, inference: Inference, service: Service, past: Past
) -> None:
    finish = Gate("finish")
    inference.default = Script().tokens("From ", "afar").wait(finish).tokens(", done.").done()
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, None)
    await tab.page.clock.install()
    await tab.page.goto(f"/c/{talk}")
    await expect(tab.answers).to_have_count(1)
    async with Client(service.url, alice) as phone, phone.send(talk, "From the phone") as stream:
        await stream.until("token")
        await tab.page.clock.run_for(30_000)
        await expect(tab.answer).to_contain_text("From afar")
        finish.open()
        await expect(tab.answer).to_contain_text("From afar, done.")
        await stream.rest()


async def test_a_network_that_breaks_again_and_again_costs_nothing(
    visit: Visit,
    auth: AuthServer,
    inference: Inference,
    start_service: StartService,
    pytestconfig: pytest.Config,
) -> None:
    chance = random.Random(pytestconfig.getoption("hypothesis_seed"))
    tokens = numbers(400)
    script = Script()
    for start in range(0, 400, 10):
        script.tokens(*tokens[start : start + 10]).pause(0.05)
    inference.default = script.done()
    site = Site()
    with contextlib.closing(site):
        service = start_service(FRONTEND_URL=site.origin)
        async with BadNetwork(service.port, lambda: chance.randrange(6_000)) as network:
            tab = await visit(auth.user(), site=site.start(network.port, auth.port))
            tab.failed_requests_are_fine = True
            await watch_answer(tab)
            await tab.ask("Count")
            await expect(tab.answer).to_contain_text("n399", timeout=40_000)
            await expect(tab.button("Send")).to_be_visible()
            check_growing(await shown_texts(tab), tokens)
            assert network.cut >= 3
            await tab.page.close()
    assert len(inference.calls) == 1


async def test_a_connection_that_died_without_a_word_is_given_up(
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
    async with tab.page.expect_request("**/stream") as joined:
        # A heartbeat comes every fifteen seconds; not one of them has come for a minute.
        await tab.page.clock.fast_forward(60_000)
    assert await (await joined.value).header_value("last-event-id")
    more.open()
    await expect(tab.button("Send")).to_be_visible()
    check_growing(await shown_texts(tab), tokens)


@pytest.mark.parametrize("is_noticed", [True, False], ids=["while it is typed", "when it is sent"])
async def test_a_conversation_deleted_elsewhere_says_so_and_loses_nothing_typed(
    visit: Visit, auth: AuthServer, service: Service, past: Past, is_noticed: bool
) -> None:
    alice = auth.user("alice")
    talk = await past.conversation(alice, "Talk", "Hello", "Hi")
    tab = await visit(alice, None)
    tab.failed_requests_are_fine = True
    if not is_noticed:
        await tab.without_feed()
    await tab.page.goto(f"/c/{talk}")
    await expect(tab.answer).to_contain_text("Hi")
    await tab.composer.fill("Are you there?")
    async with Client(service.url, alice) as phone:
        assert (await phone.delete(f"/api/conversations/{talk}")).status_code == 204
    if not is_noticed:
        await tab.composer.press("Enter")
    await expect(tab.text("This conversation is no longer there.")).to_be_visible()
    await expect(tab.page.get_by_role("link", name="Talk", exact=True)).to_have_count(0)
    # What was written for it is not lost.
    await tab.page.get_by_role("main").get_by_role("button", name="New conversation").click()
    await expect(tab.composer).to_have_value("Are you there?")
