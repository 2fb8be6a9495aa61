"""Which model answers, how it answers, and loading another one."""

from typing import Any

import pytest
from tests.browser.tab import Tab, Visit, expect
from tests.support.auth import AuthServer
from tests.support.gates import Gate
from tests.support.inference import Inference


def model(tag: str, *, loaded: bool = False, available: bool = True) -> dict[str, Any]:
    return {
        "model_tag": tag,
        "source": "local",
        "path": f"/models/{tag}",
        "available": available,
        "loaded": loaded,
    }


@pytest.fixture
def two_models(inference: Inference) -> None:
    models = [model("d20", loaded=True), model("d32"), model("d99", available=False)]
    inference.models = (200, {"current_model": "d20", "models": models})


def entry(tab: Tab, name: str) -> Any:
    return tab.page.get_by_role("menuitemradio", name=name)


async def test_anybody_sees_which_model_answers(
    visit: Visit, auth: AuthServer, two_models: None
) -> None:
    tab = await visit(auth.user(is_admin=False))
    await tab.button("Model: d20").click()
    await expect(entry(tab, "d20")).to_be_checked()
    for other in ("d32", "d99"):
        await expect(entry(tab, other)).to_be_disabled()
    await expect(tab.text("An administrator can load another model.")).to_be_visible()


async def test_an_admin_loads_another_model_and_sees_how_long_it_takes(
    visit: Visit, auth: AuthServer, inference: Inference, two_models: None
) -> None:
    loaded = Gate("loaded")
    tab = await visit(auth.user(is_admin=True))
    await tab.button("Model: d20").click()
    await expect(entry(tab, "d99")).to_be_disabled()
    await expect(entry(tab, "d32")).to_be_enabled()
    inference.models_gate = loaded
    await entry(tab, "d32").click()
    await expect(tab.page.get_by_role("progressbar", name="Loading d32")).to_be_visible()
    await expect(tab.text("Loading d32…").first).to_be_visible()
    models = [model("d20"), model("d32", loaded=True)]
    inference.models = (200, {"current_model": "d32", "models": models})
    loaded.open()
    await expect(tab.button("Model: d32")).to_be_visible()
    await expect(tab.text("d32 is ready.")).to_be_visible()
    swaps = [call for call in inference.others if call.path == "/models/swap"]
    assert [call.body for call in swaps] == [{"model_tag": "d32"}]


async def test_a_model_that_cannot_be_loaded_says_why(
    visit: Visit, auth: AuthServer, inference: Inference, two_models: None
) -> None:
    tab = await visit(auth.user(is_admin=True))
    tab.failed_requests_are_fine = True
    inference.swap = (500, {"detail": "out of memory"})
    await tab.button("Model: d20").click()
    await entry(tab, "d32").click()
    await expect(tab.text("d32 was not loaded:").first).to_be_visible()
    await expect(tab.button("Model: d20")).to_be_visible()


async def test_without_models_one_can_still_read(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    inference.models = (500, b"")
    tab = await visit(auth.user())
    tab.failed_requests_are_fine = True
    await expect(tab.button("Model: not known")).to_have_text("No model")
    await expect(tab.composer).to_be_visible()


async def test_settings_go_with_the_message_and_are_remembered(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user())
    await tab.button("Answer settings").click()
    dialog = tab.page.get_by_role("dialog", name="Settings")
    for name, value in (("Temperature", "0.3"), ("Maximum length", "256")):
        await dialog.get_by_role("checkbox", name=f"default {name.lower()}").uncheck()
        await dialog.get_by_role("slider", name=name, exact=True).fill(value)
    await dialog.get_by_role("button", name="Close").click()
    await expect(dialog).to_have_count(0)
    await tab.page.reload()
    await tab.ask("Hello")
    call = await inference.call()
    assert (call.body["temperature"], call.body["max_tokens"]) == (0.3, 256)
    await expect(tab.button("Send")).to_be_visible()
    await tab.button("Answer settings").click()
    await dialog.get_by_role("button", name="Reset to the defaults").click()
    await tab.page.keyboard.press("Escape")
    await tab.ask("Again")
    plain = await inference.call(1)
    assert "temperature" not in plain.body


async def test_thinking_first_is_asked_for(
    visit: Visit, auth: AuthServer, inference: Inference
) -> None:
    tab = await visit(auth.user())
    await tab.button("Think first").click()
    await expect(tab.button("Think first")).to_have_attribute("aria-pressed", "true")
    await tab.ask("What is two and two?")
    assert "step by step" in (await inference.call()).contents[-1]


async def test_the_model_is_named_with_each_answer(
    visit: Visit, auth: AuthServer, two_models: None
) -> None:
    tab = await visit(auth.user())
    await expect(tab.button("Model: d20")).to_be_visible()
    await tab.ask("Hello")
    await expect(tab.answer).to_contain_text("d20 · 4 tokens")
