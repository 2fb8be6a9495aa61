"""Answers of engines with OpenAI's Chat Completions: reasoning, models, going on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.site import Place, ServePage
from tests.browser.tab import Visit, expect
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.openai_engine import ChatScript, OpenAIEngineServer


@pytest.fixture
def engine() -> Iterator[OpenAIEngineServer]:
    with OpenAIEngineServer() as server:
        yield server
        server.drop_unfinished()


@pytest.fixture
def engine_site(serve_page: ServePage, auth: AuthServer, engine: OpenAIEngineServer) -> Place:
    """The page of a service with this engine, which goes on from a given text as vLLM does."""
    engine.lists("small", owned_by="vllm")
    return serve_page(INFERENCE_API="openai", INFERENCE_SERVICE_URL=engine.url)[0]


async def test_reasoning_is_folded_above_the_answer(
    auth: AuthServer, engine: OpenAIEngineServer, engine_site: Place, visit: Visit
) -> None:
    more = Gate("more")
    engine.once(
        ChatScript()
        .reasoning("Two and ", "two is")
        .wait(more)
        .reasoning(" four.")
        .tokens("It is ", "4.")
        .finish()
        .usage()
        .done()
    )
    tab = await visit(auth.user(), site=engine_site)
    await tab.ask("Two and two?")
    thinking = tab.answer.get_by_role("group")
    await expect(thinking).to_contain_text("Thinking")
    await expect(thinking.get_by_role("img", name="in progress")).to_be_visible()
    await expect(tab.text("Two and two is")).to_have_count(0)
    await thinking.get_by_text("Thinking").click()
    await expect(thinking.get_by_text("Two and two is")).to_be_visible()
    await tab.check_accessible()
    more.open()
    await expect(tab.answer).to_contain_text("It is 4.")
    await expect(thinking.get_by_text("Two and two is four.")).to_be_visible()
    await expect(thinking.get_by_role("img")).to_have_count(0)
    await expect(tab.answer).to_contain_text("4 tokens")
    await tab.page.reload()
    await expect(tab.answer).to_contain_text("It is 4.")
    await expect(tab.text("Two and two is four.")).to_have_count(0)
    await tab.answer.get_by_text("Thinking").click()
    await expect(tab.text("Two and two is four.")).to_be_visible()


@pytest.mark.parametrize("how", ["length", "interrupted", "stopped"])
async def test_an_answer_that_ended_early_goes_on(
    auth: AuthServer, engine: OpenAIEngineServer, engine_site: Place, visit: Visit, how: str
) -> None:
    script = ChatScript().tokens("Half", " of")
    if how == "length":
        script.finish("length").usage().done()
    engine.once(script.hang() if how == "stopped" else script)
    tab = await visit(auth.user(), site=engine_site)
    await tab.ask("All of it")
    await expect(tab.answer).to_contain_text("Half of")
    if how == "stopped":
        await tab.button("Stop the answer").click()
    more = Gate("more")
    engine.once(ChatScript().tokens(" it").wait(more).tokens(" all.").finish().usage().done())
    await tab.button("Continue").click()
    await expect(tab.answer.locator(".prose")).to_have_text("Half of it")
    beside = await visit(path=f"/c/{await tab.conversation_id()}", beside=tab, site=engine_site)
    await expect(beside.answer.locator(".prose")).to_have_text("Half of it")
    more.open()
    for each in (tab, beside):
        await expect(each.answer.locator(".prose")).to_have_text("Half of it all.")
        await expect(each.button("Send")).to_be_visible()
        await expect(each.answers).to_have_count(1)
        await expect(each.button("Continue")).to_have_count(0)


async def test_an_engine_that_cannot_go_on_is_said_in_a_sentence(
    auth: AuthServer, engine: OpenAIEngineServer, engine_site: Place, visit: Visit
) -> None:
    engine.lists("small", pricing={})
    engine.once(ChatScript().tokens("Half").finish("length").done())
    tab = await visit(auth.user(), site=engine_site)
    await tab.ask("All of it")
    await expect(tab.answer).to_contain_text("reached its maximum length")
    tab.failed_requests_are_fine = True
    await tab.button("Continue").click()
    await expect(tab.answer).to_contain_text("The model cannot continue this answer.")
    await expect(tab.answer).to_contain_text("Half")
    await expect(tab.button("Send")).to_be_visible()


async def test_each_conversation_has_its_model(
    auth: AuthServer, serve_page: ServePage, tmp_path: Path, visit: Visit
) -> None:
    engines = tmp_path / "engines.toml"
    with OpenAIEngineServer() as near, OpenAIEngineServer() as far:
        near.lists("small", "large")
        far.lists("large")
        engines.write_text(
            f'[[engine]]\nname = "near"\nurl = "{near.url}"\n'
            f'[[engine]]\nname = "far"\nurl = "{far.url}"\n'
        )
        site, _ = serve_page(ENGINES_FILE=str(engines))
        tab = await visit(auth.user(is_admin=False), site=site)
        await tab.button("Model: near/small").click()
        await tab.page.get_by_role("menuitemradio", name="large far").click()
        await tab.ask("Hello")
        await far.call()
        first = await tab.conversation_id()
        await expect(tab.answer).to_contain_text("far/large")
        await tab.button("Model: far/large").click()
        await tab.check_accessible()
        await tab.page.get_by_role("menuitemradio", name="large near").click()
        await expect(tab.button("Model: near/large")).to_be_visible()
        await tab.ask("Again")
        assert (await near.call()).body["model"] == "large"
        await expect(tab.answer).to_contain_text("near/large")
        await tab.answer.get_by_role("button", name="More for this answer").click()
        await tab.page.get_by_role("menuitem", name="Regenerate with far/large").click()
        await expect(tab.answer).to_contain_text("far/large")
        await expect(tab.answer.get_by_role("group", name="Versions")).to_have_text("2/2")
        await expect(tab.button("Model: near/large")).to_be_visible()
        await tab.page.goto("/")
        await expect(tab.button("Model: near/small")).to_be_visible()
        await tab.page.goto(f"/c/{first}")
        await expect(tab.button("Model: near/large")).to_be_visible()
        assert not [call for call in far.others + near.others if call.method == "POST"]
